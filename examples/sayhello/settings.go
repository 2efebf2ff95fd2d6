package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/joho/godotenv"
)

// The callback server's port; --callback-port overrides it.
const defaultCallbackPort = 9090

// With real Google the platform's URL is part of what is registered there, so it is fixed.
const (
	fixedAddr   = "127.0.0.1:7080"
	fixedDemo   = "127.0.0.1:7081"
	fixedFolder = ".sayhello"
)

// Settings is what flags, environment and .env say.
type Settings struct {
	Backend       string // "embedded", "aws", or the URL of a running platform
	Data          string // embedded: data folder; empty is a temporary one
	Addr          string // embedded: where the platform listens
	DemoProvider  string // URL of a demo provider that runs beside the platform at Backend
	Keep          bool
	AutoConsent   bool
	Terminal      bool // a person sits there: stdin and stdout are terminals
	Timeout       time.Duration
	Name          string // of workload identity, gateway and provider
	MCPVersion    string
	Region        string
	RoleARN       string
	LogLevel      slog.Level
	EnvFile       string
	CallbackPort  int
	CallbackURL   string // the return URL of consents
	CallbackTLS   [2]string
	CallbackAllow []netip.Prefix
	Google        struct{ ClientID, ClientSecret string }
	UserToken     string
	Inbound       struct{ DiscoveryURL, ClientID, ClientSecret string }
}

// readSettings reads .env, the environment and the flags; flags win, then the
// environment, then the file.
func readSettings(args []string, terminal bool, help io.Writer) (*Settings, error) {
	s := &Settings{Terminal: terminal}
	flags := flag.NewFlagSet("sayhello", flag.ContinueOnError)
	flags.SetOutput(help)
	flags.Usage = func() {
		fmt.Fprintln(help, "sayhello: an agent greets you by the name in your account, after you allowed it.\n\nExamples:\n  go run ./examples/sayhello                     everything on this machine, with a demo provider\n  go run ./examples/sayhello --auto-consent      the same, and the demo person consents by itself\n  go run ./examples/sayhello --backend http://127.0.0.1:7080   a platform that is running\n  go run ./examples/sayhello --backend aws       Amazon Bedrock AgentCore itself\n\nFlags:")
		flags.PrintDefaults()
	}
	flags.StringVar(&s.Backend, "backend", "embedded", "embedded, aws, or the `URL` of a running onbehalf serve")
	flags.StringVar(&s.Data, "data", "", "embedded: keep the data in this `folder` (default: a temporary one)")
	flags.StringVar(&s.Addr, "addr", "", "embedded: `address` the platform listens on (default 127.0.0.1:0, with Google "+fixedAddr+")")
	flags.StringVar(&s.DemoProvider, "demo-provider", "", "`URL` of the demo provider of a platform that runs with --dev")
	flags.BoolVar(&s.Keep, "keep", false, "leave gateway, provider and workload identity for the next run")
	auto := flags.Bool("auto-consent", false, "let the demo person sign in and allow, over HTTP (default without a terminal; =false waits for you)")
	flags.DurationVar(&s.Timeout, "timeout", 10*time.Minute, "how long to wait for consent")
	flags.StringVar(&s.Name, "name", "sayhello", "`name` of what is created")
	flags.StringVar(&s.MCPVersion, "mcp-version", "2025-11-25", "MCP `version` to speak: 2025-11-25 or 2026-07-28")
	flags.StringVar(&s.EnvFile, "env-file", ".env", "`file` with settings")
	flags.IntVar(&s.CallbackPort, "callback-port", defaultCallbackPort, "`port` of the callback server")
	flags.StringVar(&s.CallbackTLS[0], "callback-tls-cert", "", "certificate `file`, for a callback server with TLS")
	flags.StringVar(&s.CallbackTLS[1], "callback-tls-key", "", "key `file` of that certificate")
	allow := flags.String("callback-allow", "", "`CIDR`s, comma separated, that may reach the callback server (default: all that can)")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, &ConfigurationError{Problem{What: fmt.Sprintf("unknown argument %q", flags.Arg(0)), Hint: "sayhello --help lists the flags."}}
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })

	file, err := godotenv.Read(s.EnvFile)
	if err != nil && (set["env-file"] || !errors.Is(err, fs.ErrNotExist)) {
		return nil, &ConfigurationError{Problem{What: s.EnvFile + " cannot be read", Cause: err, Hint: "Copy examples/sayhello/.env.example and fill it in."}}
	}
	value := func(name string) string {
		if v, ok := os.LookupEnv(name); ok {
			return v
		}
		return file[name]
	}
	s.Region = or(value("AWS_REGION"), "us-east-1")
	s.Google.ClientID, s.Google.ClientSecret = value("GOOGLE_CLIENT_ID"), value("GOOGLE_CLIENT_SECRET")
	s.UserToken = value("USER_TOKEN")
	s.Inbound.DiscoveryURL, s.Inbound.ClientID, s.Inbound.ClientSecret = value("INBOUND_DISCOVERY_URL"), value("INBOUND_CLIENT_ID"), value("INBOUND_CLIENT_SECRET")
	s.RoleARN = value("GATEWAY_ROLE_ARN")
	s.CallbackURL = value("CALLBACK_URL")
	if err := s.LogLevel.UnmarshalText([]byte(or(value("LOG_LEVEL"), "WARN"))); err != nil {
		return nil, &ConfigurationError{Problem{What: "LOG_LEVEL is none of DEBUG, INFO, WARN, ERROR"}}
	}
	if s.CallbackAllow, err = prefixes(*allow); err != nil {
		return nil, err
	}
	s.fixGoogle(set["data"])
	s.AutoConsent = *auto
	if !set["auto-consent"] { // a pipe must not wait for a person, unless it says that one is there
		s.AutoConsent = !terminal && s.usesDemo()
	}
	return s, s.check()
}

// fixGoogle keeps what Google has to know about (port, provider) the same from run to run.
func (s *Settings) fixGoogle(dataGiven bool) {
	if s.Google.ClientID == "" || s.Backend != "embedded" {
		return
	}
	s.Addr = or(s.Addr, fixedAddr)
	if !dataGiven {
		s.Data = fixedFolder
	}
}

func (s *Settings) check() error {
	complain := func(what, hint string) error { return &ConfigurationError{Problem{What: what, Hint: hint}} }
	if (s.Google.ClientID == "") != (s.Google.ClientSecret == "") {
		return complain("only one of GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET is set", "Set both, or neither to use the demo provider.")
	}
	if s.Backend != "embedded" && s.Backend != "aws" {
		if u, err := url.Parse(s.Backend); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return complain(fmt.Sprintf("--backend %q is neither embedded, aws nor a URL", s.Backend), "For a platform on this machine: --backend http://127.0.0.1:7080")
		}
	}
	if s.Google.ClientID == "" && !s.usesDemo() {
		return complain("no provider to ask for a name", "Set GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET, or with a platform that runs with --dev: --demo-provider http://127.0.0.1:7081")
	}
	if s.AutoConsent && !s.usesDemo() {
		return complain("--auto-consent plays the demo person only", "Leave it out: Google asks you yourself.")
	}
	if s.Backend != "embedded" && s.DemoProvider == "" && s.UserToken == "" && (s.Inbound.DiscoveryURL == "" || s.Inbound.ClientID == "") {
		return complain("nobody is signed in", "Set USER_TOKEN to an ID token, or INBOUND_DISCOVERY_URL and INBOUND_CLIENT_ID to sign in at your provider.")
	}
	if s.Backend == "aws" && s.RoleARN == "" {
		return complain("GATEWAY_ROLE_ARN is not set", "AWS runs a gateway under an IAM role that you name.")
	}
	if (s.CallbackTLS[0] == "") != (s.CallbackTLS[1] == "") {
		return complain("--callback-tls-cert and --callback-tls-key go together", "")
	}
	if s.MCPVersion != "2025-11-25" && s.MCPVersion != "2026-07-28" {
		return complain(fmt.Sprintf("--mcp-version %q is not spoken here", s.MCPVersion), "Use 2025-11-25 or 2026-07-28.")
	}
	return nil
}

// usesDemo reports whether the demo provider stands in for Google.
func (s *Settings) usesDemo() bool {
	return s.Google.ClientID == "" && (s.Backend == "embedded" || s.DemoProvider != "")
}

// demoSignIn reports whether the user's own sign-in is the demo provider's.
func (s *Settings) demoSignIn() bool {
	return s.UserToken == "" && s.Inbound.DiscoveryURL == "" && (s.Backend == "embedded" || s.DemoProvider != "")
}

// firstGoogleRun reports whether the redirect URIs may not be registered at Google yet, and remembers that they were shown.
func (s *Settings) firstGoogleRun() (first bool, shown func()) {
	folder := or(s.Data, fixedFolder)
	mark := filepath.Join(folder, "redirect-uris-shown")
	_, err := os.Stat(mark)
	return err != nil, func() {
		_ = os.MkdirAll(folder, 0o700)
		_ = os.WriteFile(mark, nil, 0o600)
	}
}

func prefixes(list string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			address, addrErr := netip.ParseAddr(item)
			if addrErr != nil {
				return nil, &ConfigurationError{Problem{What: fmt.Sprintf("--callback-allow: %q is neither an address nor a CIDR", item)}}
			}
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		out = append(out, prefix)
	}
	return out, nil
}

func or(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}
