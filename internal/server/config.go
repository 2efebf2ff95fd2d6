package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Config is everything an operator may set. The zero value of each field is
// safe; Defaults fills in what is left empty. The struct tags are those of the
// command line (flags and environment) and of the YAML file, so that a setting
// has one name in all three.
type Config struct {
	Addr           string        `name:"addr" yaml:"addr" env:"ONBEHALF_ADDR" placeholder:"HOST:PORT" help:"Address to listen on. Port 0 picks a free port and keeps it for the data folder. Default 127.0.0.1:7080."`
	Data           string        `name:"data" yaml:"data" env:"ONBEHALF_DATA" type:"path" placeholder:"DIR" help:"Folder for the database, the key-encryption key and the root credentials; each replica has its own. Default ~/.local/share/onbehalf."`
	DatabaseURL    secret.Text   `name:"database-url" yaml:"database-url" env:"ONBEHALF_DATABASE_URL" placeholder:"URL" help:"PostgreSQL 15 or newer instead of a file: postgres://user@host:5432/database, for any number of replicas. It is a secret: prefer the environment or the settings file, or leave the password to PGPASSWORD or ~/.pgpass."`
	KeyFile        string        `name:"key-file" yaml:"key-file" env:"ONBEHALF_KEY_FILE" type:"path" placeholder:"FILE" help:"Key-encryption key. Replicas of one database share one. A first start makes it where it is missing. Default: key-encryption-key in the data folder."`
	KeyWrapper     string        `name:"key-wrapper" yaml:"key-wrapper" env:"ONBEHALF_KEY_WRAPPER" placeholder:"WRAPPER" help:"Key-encryption key that is not a file of the data folder's: transit:URL#KEY (OpenBao, Vault), awskms:ARN[@ENDPOINT] or file:PATH. Options follow with commas: token-file=, token-env=, mount=, namespace=, credentials-file=, profile=, credentials-env=, ca-file=."`
	KMSKeys        []string      `name:"kms-key" yaml:"kms-key" env:"ONBEHALF_KMS_KEY" sep:";" placeholder:"ARN=WRAPPER" help:"Key that the account in the ARN may choose for its vault with SetTokenVaultCMK, and what it is; WRAPPER as in --key-wrapper, or gone when the key was destroyed. Repeatable."`
	PublicURL      string        `name:"public-url" yaml:"public-url" env:"ONBEHALF_PUBLIC_URL" placeholder:"URL" help:"The URL that clients and browsers use; every minted URL starts with it. Must be https unless it is loopback. Default: the listener."`
	TLSCert        string        `name:"tls-cert" yaml:"tls-cert" env:"ONBEHALF_TLS_CERT" type:"path" placeholder:"FILE" help:"Certificate chain, PEM."`
	TLSKey         string        `name:"tls-key" yaml:"tls-key" env:"ONBEHALF_TLS_KEY" type:"path" placeholder:"FILE" help:"The certificate's private key, PEM."`
	TrustedProxies []string      `name:"trusted-proxy" yaml:"trusted-proxy" env:"ONBEHALF_TRUSTED_PROXY" sep:"," placeholder:"CIDR" help:"Address range of a proxy in front that ends TLS and whose X-Forwarded-For is believed. Repeatable."`
	Dev            bool          `name:"dev" yaml:"dev" env:"ONBEHALF_DEV" help:"Start the demo identity provider beside the platform and trust it. Loopback listeners only."`
	DemoAddr       string        `name:"demo-addr" yaml:"demo-addr" env:"ONBEHALF_DEMO_ADDR" placeholder:"HOST:PORT" help:"With --dev: address of the demo identity provider. Default 127.0.0.1:7081; with port 0 in --addr, a free port that is kept for the data folder."`
	TrustedIssuers []string      `name:"trusted-issuer" yaml:"trusted-issuer" env:"ONBEHALF_TRUSTED_ISSUER" sep:";" placeholder:"URL=AUD[,AUD]" help:"OpenID issuer whose tokens for these audiences name users in GetWorkloadAccessTokenForJWT and CompleteResourceTokenAuth. Repeatable."`
	EgressAllow    []string      `name:"egress-allow" yaml:"egress-allow" env:"ONBEHALF_EGRESS_ALLOW" sep:"," placeholder:"HOST-OR-CIDR:PORT" help:"Private address that providers and targets may have. Repeatable."`
	SecretSources  []Declaration `name:"secret-source" yaml:"secret-source" env:"ONBEHALF_SECRET_SOURCE" sep:";" placeholder:"name=NAME,kind=KIND,…" help:"Where client secrets and API keys of an account may lie that providers name as EXTERNAL: kind env (prefix), file (folder), vault (address, mount, prefix, token-file) or secretsmanager (region, aws-account, prefix, credentials-file). account=ID where it is not --account. None by default. Repeatable."`
	SigningKeys    []string      `name:"signing-key" yaml:"signing-key" env:"ONBEHALF_SIGNING_KEY" sep:";" placeholder:"ARN=KEY" help:"What the ARN of a KMS key stands for that clients of the account in the ARN sign with (PRIVATE_KEY_JWT): file:PATH (PEM), secret:SECRETID#JSONKEY (as EXTERNAL secrets), or awskms:KEYARN[@ENDPOINT],credentials-file=FILE. Repeatable."`
	SignIns        []string      `name:"sign-in" yaml:"sign-in" env:"ONBEHALF_SIGN_IN" sep:";" placeholder:"URL=CLIENT-ID[,SECRET-FILE]" help:"The platform's own client at an OpenID issuer, with which the hosted completion page /connect/done asks who sits at the browser. The start prints the redirect URL to register. Repeatable."`
	Limits         []string      `name:"limit" yaml:"limit" env:"ONBEHALF_LIMIT" sep:"," placeholder:"FAMILY=PER-SECOND" help:"Requests per second of one user or role, in a family of calls: workload-tokens, resource-tokens and invoke (200), completions (100), control-read and control-write (20); open-gateway (200) is per address. FAMILY=off takes one away, off all. Counted per process. Repeatable."`
	Region         string        `name:"region" yaml:"region" env:"ONBEHALF_REGION" placeholder:"REGION" help:"AWS region name in ARNs and signatures. Default us-east-1."`
	Account        string        `name:"account" yaml:"account" env:"ONBEHALF_ACCOUNT" placeholder:"ID" help:"12-digit account that the first start creates. Default 000000000000."`
	MetricsAddr    string        `name:"metrics-addr" yaml:"metrics-addr" env:"ONBEHALF_METRICS_ADDR" placeholder:"HOST:PORT" help:"Address on which Prometheus finds /metrics, over plain HTTP: loopback, or an address of an inner network. Default none."`
	LogLevel       string        `name:"log-level" yaml:"log-level" env:"ONBEHALF_LOG_LEVEL" placeholder:"LEVEL" help:"debug, info, warn or error. Default info."`
	LogFormat      string        `name:"log-format" yaml:"log-format" env:"ONBEHALF_LOG_FORMAT" placeholder:"FORMAT" help:"text or json. Default text."`

	Webhook           string `name:"webhook" yaml:"webhook" env:"ONBEHALF_WEBHOOK" placeholder:"URL" help:"Receiver of signed events: consents given and denied, and grants that need consent. https, or http on loopback; its address may be private. Default none."`
	WebhookSecretFile string `name:"webhook-secret-file" yaml:"webhook-secret-file" env:"ONBEHALF_WEBHOOK_SECRET_FILE" type:"path" placeholder:"FILE" help:"What events are signed with: whsec_ and base64, as in Standard Webhooks. The same on all replicas."`

	AgentEgressAllow    []string `name:"agent-egress-allow" yaml:"agent-egress-allow" env:"ONBEHALF_AGENT_EGRESS_ALLOW" sep:"," placeholder:"HOST-OR-CIDR:PORT" help:"What hosted agents may reach, and nothing else: a name, an address or a range, also *.example.com:443 and *:443; host.onbehalf.internal:PORT is this machine. Default: any public address on ports 80 and 443. Repeatable."`
	AgentMaxSessions    int      `name:"agent-max-sessions" yaml:"agent-max-sessions" env:"ONBEHALF_AGENT_MAX_SESSIONS" placeholder:"COUNT" help:"Sessions of hosted agents that run here at once. Default 1000."`
	AgentNewSessions    int      `name:"agent-new-sessions" yaml:"agent-new-sessions" env:"ONBEHALF_AGENT_NEW_SESSIONS" placeholder:"PER-MINUTE" help:"Sessions that one user or role may begin in a minute. Default 600."`
	AgentMemory         string   `name:"agent-memory" yaml:"agent-memory" env:"ONBEHALF_AGENT_MEMORY" placeholder:"SIZE" help:"Memory of one session, its files included. Default 2GiB."`
	AgentDisk           string   `name:"agent-disk" yaml:"agent-disk" env:"ONBEHALF_AGENT_DISK" placeholder:"SIZE" help:"Size of each folder that a session may write to. Default 512MiB."`
	AgentCPU            float64  `name:"agent-cpu" yaml:"agent-cpu" env:"ONBEHALF_AGENT_CPU" placeholder:"PROCESSORS" help:"Processors that one session may use. Default 2."`
	AgentProcesses      int      `name:"agent-processes" yaml:"agent-processes" env:"ONBEHALF_AGENT_PROCESSES" placeholder:"COUNT" help:"Processes and threads of one session. Default 512."`
	AgentSessionsShared bool     `name:"agent-sessions-shared" yaml:"agent-sessions-shared" env:"ONBEHALF_AGENT_SESSIONS_SHARED" help:"As at AWS, whoever may invoke an agent may use anybody's session by its id. Without it a session is used by the principal and user who opened it."`
	UnsafeAgents        bool     `name:"unsafe-agents-without-isolation" yaml:"unsafe-agents-without-isolation" env:"ONBEHALF_UNSAFE_AGENTS_WITHOUT_ISOLATION" help:"Where this machine has no namespaces: run hosted agents as plain processes, which can read the platform's files and each other's. For trying things out with your own agents alone."`

	SettingsFile string `kong:"-" yaml:"-"` // of --config, which no tenant may read; set by the command
	Version      string `kong:"-" yaml:"-"` // of the software, told to MCP clients; set by the command, not by people
}

// The defaults of a first start: one machine, one account, loopback.
const (
	DefaultAddr     = "127.0.0.1:7080"
	DefaultDemoAddr = "127.0.0.1:7081"
	DefaultRegion   = "us-east-1"
	DefaultAccount  = "000000000000"
)

// DefaultData is where a person's own installation keeps its data.
func DefaultData() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "onbehalf")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "onbehalf-data"
	}
	return filepath.Join(home, ".local", "share", "onbehalf")
}

// WithDefaults fills in what was left empty.
func (c Config) WithDefaults() Config {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Addr, DefaultAddr)
	set(&c.Data, DefaultData())
	set(&c.Region, DefaultRegion)
	set(&c.Account, DefaultAccount)
	set(&c.LogLevel, "info")
	set(&c.LogFormat, "text")
	if c.Dev && c.DemoAddr == "" {
		c.DemoAddr = DefaultDemoAddr
		if _, port, err := net.SplitHostPort(c.Addr); err == nil && port == "0" {
			c.DemoAddr = "127.0.0.1:0"
		}
	}
	return c
}

// Check says what is wrong with a configuration, naming the setting, before anything is opened.
func (c Config) Check() error {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return fmt.Errorf("--addr %q is not HOST:PORT", c.Addr)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return fmt.Errorf("--tls-cert and --tls-key go together: one of them is missing")
	}
	if err := c.checkDatabaseURL(); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(c.MetricsAddr); c.MetricsAddr != "" && err != nil {
		return fmt.Errorf("--metrics-addr %q is not HOST:PORT", c.MetricsAddr)
	}
	if err := c.checkWebhook(); err != nil {
		return err
	}
	var level slog.Level
	if level.UnmarshalText([]byte(c.LogLevel)) != nil {
		return fmt.Errorf("--log-level %q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("--log-format %q is neither text nor json", c.LogFormat)
	}
	if _, err := c.proxies(); err != nil {
		return err
	}
	if _, err := c.issuers(); err != nil {
		return err
	}
	if _, err := c.rates(); err != nil {
		return err
	}
	if _, err := c.signIns(); err != nil {
		return err
	}
	if _, err := c.keys(); err != nil {
		return err
	}
	if _, err := c.secretSources(); err != nil {
		return err
	}
	if _, err := c.signingKeys(); err != nil {
		return err
	}
	if err := c.checkAgents(); err != nil {
		return err
	}
	outside, err := egress.New(egress.Options{Allow: c.EgressAllow})
	if err != nil {
		return errors.New(fault.Of(err).Message) // it names the setting
	}
	outside.Close()
	if len(c.Account) != 12 || strings.Trim(c.Account, "0123456789") != "" {
		return fmt.Errorf("--account %q is not a 12-digit account id; in a YAML file it needs quotes", c.Account)
	}
	if !regionName.MatchString(c.Region) {
		return fmt.Errorf("--region %q cannot be part of an ARN: use up to 20 lower-case letters, digits and hyphens, as in us-east-1", c.Region)
	}
	if c.Dev {
		demoHost, _, err := net.SplitHostPort(c.DemoAddr)
		if err != nil {
			return fmt.Errorf("--demo-addr %q is not HOST:PORT", c.DemoAddr)
		}
		if !loopback(host) || !loopback(demoHost) {
			return fmt.Errorf("--dev listens on loopback only, so that nobody else can sign in as a demo person; remove --dev or listen on 127.0.0.1")
		}
		if u, err := url.Parse(c.PublicURL); c.PublicURL != "" && (err != nil || !loopback(u.Hostname())) {
			return fmt.Errorf("--dev is for loopback only, also behind a proxy: remove --dev or --public-url %s", c.PublicURL)
		}
	}
	return c.checkPublicURL(host)
}

func (c Config) checkDatabaseURL() error {
	if url := c.DatabaseURL.Reveal(); url != "" && !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return fmt.Errorf("--database-url does not begin with postgres://") // and is not quoted: it is a secret
	}
	return nil
}

func (c Config) checkPublicURL(listenHost string) error {
	if c.PublicURL == "" {
		if loopback(listenHost) {
			return nil
		}
		return fmt.Errorf("--addr %s is reachable from other machines: set --public-url https://… and either --tls-cert and --tls-key or --trusted-proxy", c.Addr)
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("--public-url %q is not of the form https://host[:port]", c.PublicURL)
	}
	if u.Scheme == "http" && loopback(u.Hostname()) {
		if c.TLSCert != "" {
			return fmt.Errorf("--public-url %s says http, but --tls-cert makes the listener speak https", c.PublicURL)
		}
		if !loopback(listenHost) {
			return fmt.Errorf("--addr %s is reachable from other machines, and --public-url %s would let them speak http with it: listen on 127.0.0.1, or set --public-url https://…", c.Addr, c.PublicURL)
		}
		return nil
	}
	if u.Scheme != "https" {
		return fmt.Errorf("--public-url %s must be https: tokens and consents travel through it", c.PublicURL)
	}
	if c.TLSCert == "" && len(c.TrustedProxies) == 0 {
		return fmt.Errorf("--public-url is https: set --tls-cert and --tls-key, or name the proxy that ends TLS with --trusted-proxy")
	}
	return nil
}

func (c Config) proxies() ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, raw := range c.TrustedProxies {
		prefix, err := netip.ParsePrefix(raw)
		if err != nil {
			addr, addrErr := netip.ParseAddr(raw)
			if addrErr != nil {
				return nil, fmt.Errorf("--trusted-proxy %q is neither an address nor a CIDR", raw)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

func (c Config) issuers() ([]auth.TrustedIssuer, error) {
	var issuers []auth.TrustedIssuer
	for _, raw := range c.TrustedIssuers {
		issuer, err := auth.ParseTrustedIssuer(raw)
		if err != nil {
			return nil, fmt.Errorf("--trusted-issuer: %s", fault.Of(err).Message)
		}
		if u, err := url.Parse(issuer.URL); err != nil || u.Scheme != "https" && !(c.Dev && loopback(u.Hostname())) {
			return nil, fmt.Errorf("--trusted-issuer %s must be https: its keys decide who a user is", issuer.URL)
		}
		issuers = append(issuers, issuer)
	}
	return issuers, nil
}

func (c Config) rates() (map[string]float64, error) {
	rates, err := auth.ParseRates(c.Limits)
	if err != nil {
		return nil, fmt.Errorf("--limit: %s", fault.Of(err).Message)
	}
	return rates, nil
}

// regionName is what the models' patterns for ARNs have in common.
var regionName = regexp.MustCompile(`^[a-z0-9-]{1,20}$`)

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
