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
	"slices"
	"strings"
	"time"

	"github.com/joho/godotenv"
)

// What is created is called so; --name overrides it.
const defaultName = "sayhello"

// The callback server's port; --callback-port overrides it.
const defaultCallbackPort = 9090

// The backends that are no URL.
const (
	backendEmbedded = "embedded"
	backendAWS      = "aws"
)

// With real Google the platform's URL is part of what is registered there, so
// address and data stay the same from run to run. The data alone does with --keep.
const (
	fixedAddr   = "127.0.0.1:7080"
	fixedFolder = ".sayhello"
)

// Settings is what flags, environment and .env say.
type Settings struct {
	Backend         string // backendEmbedded, backendAWS, or the URL of a running platform
	Data            string // embedded: data folder; empty is a temporary one
	Addr            string // embedded: where the platform listens
	DemoProvider    string // URL of a demo provider that runs beside the platform at Backend
	Keep            bool
	AutoConsent     bool
	Terminal        bool // a person sits there
	Timeout         time.Duration
	Name            string // of workload identity, gateway and provider
	MCPVersion      string
	Region          string
	RoleARN         string
	LogLevel        slog.Level
	EnvFile         string
	CallbackPort    int
	CallbackBaseURL string // where browsers reach the callback server; empty: it finds out
	CallbackTLS     [2]string
	CallbackAllow   []netip.Prefix
	Google          struct{ ClientID, ClientSecret string }
	UserToken       string
	Inbound         struct{ DiscoveryURL, ClientID, ClientSecret string }
	AWS             map[string]string // AWS_ variables that .env has and the environment lacks
}

const usage = `sayhello: an agent greets you by the name in your account, after you allowed it.

Examples:
  go run ./examples/sayhello                     everything on this machine, with a demo provider
  go run ./examples/sayhello --auto-consent      the same, and the demo person consents by itself
  go run ./examples/sayhello --backend http://127.0.0.1:7080 --demo-provider http://127.0.0.1:7081
                                                 a platform that runs with --dev
  go run ./examples/sayhello --backend aws       Amazon Bedrock AgentCore itself

Flags:`

// readSettings reads the flags, the environment and .env. Flags win, then the
// environment, then the file. flag.ErrHelp when help was asked for and given.
func readSettings(p process) (*Settings, error) {
	s := &Settings{Terminal: p.terminal}
	flags := flag.NewFlagSet("sayhello", flag.ContinueOnError)
	flags.Usage = func() {}
	flags.SetOutput(io.Discard) // an error is told once, by main
	flags.StringVar(&s.Backend, "backend", backendEmbedded, "embedded, aws, or the `URL` of a running onbehalf serve")
	flags.StringVar(&s.Data, "data", "", "embedded: keep the data in this `folder` (default: a temporary one; with Google or --keep "+fixedFolder+")")
	flags.StringVar(&s.Addr, "addr", "", "embedded: `address` the platform listens on (default 127.0.0.1:0, with Google "+fixedAddr+")")
	flags.StringVar(&s.DemoProvider, "demo-provider", "", "`URL` of the demo provider of a platform that runs with --dev")
	flags.BoolVar(&s.Keep, "keep", false, "leave gateway, provider and workload identity for the next run")
	flags.BoolVar(&s.AutoConsent, "auto-consent", false, "let the demo person sign in and allow, over HTTP (default without a terminal)")
	flags.DurationVar(&s.Timeout, "timeout", 10*time.Minute, "how long to wait for consent")
	flags.StringVar(&s.Name, "name", defaultName, "`name` of what is created")
	flags.StringVar(&s.MCPVersion, "mcp-version", "2025-11-25", "MCP `version` to speak: 2025-11-25 or 2026-07-28")
	flags.StringVar(&s.EnvFile, "env-file", ".env", "`file` with settings")
	flags.IntVar(&s.CallbackPort, "callback-port", defaultCallbackPort, "`port` of the callback server; 0 picks a free one")
	flags.StringVar(&s.CallbackTLS[0], "callback-tls-cert", "", "certificate `file`, for a callback server with TLS")
	flags.StringVar(&s.CallbackTLS[1], "callback-tls-key", "", "key `file` of that certificate")
	allow := flags.String("callback-allow", "", "`CIDR`s, comma separated, that may reach the callback server (default: all that can)")
	if err := flags.Parse(p.args); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(p.out)
		fmt.Fprintln(p.out, usage)
		flags.PrintDefaults()
		return nil, err
	} else if err != nil {
		return nil, &ConfigurationError{Problem{What: err.Error(), Hint: hintFlags}}
	}
	if flags.NArg() > 0 {
		return nil, &ConfigurationError{Problem{What: fmt.Sprintf("unknown argument %q", flags.Arg(0)), Hint: hintFlags}}
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })

	if err := s.readEnvironment(p, given["env-file"]); err != nil {
		return nil, err
	}
	if err := s.readCallback(p, given["callback-port"], *allow); err != nil {
		return nil, err
	}
	if s.Google.ClientID != "" && s.Backend == backendEmbedded {
		if s.Addr == "" {
			s.Addr = fixedAddr
		}
	}
	if s.embedded() && !given["data"] && (s.Keep || s.Google.ClientID != "") {
		s.Data = fixedFolder // a temporary folder keeps nothing
	}
	if !given["auto-consent"] { // a pipe must not wait for a person, unless it says that one is there
		s.AutoConsent = !p.terminal && s.playable()
	}
	return s, s.check()
}

// readEnvironment takes in the environment and, behind it, the file.
func (s *Settings) readEnvironment(p process, named bool) error {
	file, err := godotenv.Read(s.EnvFile)
	if err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		return &ConfigurationError{Problem{What: s.EnvFile + " cannot be read", Cause: withoutContent(err), Hint: "Copy examples/sayhello/.env.example and fill it in: NAME=value, one to a line."}}
	}
	value := s.lookup(p, file)
	s.Region = or(value("AWS_REGION"), "us-east-1")
	s.Google.ClientID, s.Google.ClientSecret = value("GOOGLE_CLIENT_ID"), value("GOOGLE_CLIENT_SECRET")
	s.UserToken = value("USER_TOKEN")
	s.Inbound.DiscoveryURL, s.Inbound.ClientID, s.Inbound.ClientSecret = value("INBOUND_DISCOVERY_URL"), value("INBOUND_CLIENT_ID"), value("INBOUND_CLIENT_SECRET")
	s.RoleARN = value("GATEWAY_ROLE_ARN")
	if err := s.LogLevel.UnmarshalText([]byte(or(value("LOG_LEVEL"), "WARN"))); err != nil {
		return &ConfigurationError{Problem{What: "LOG_LEVEL is none of DEBUG, INFO, WARN, ERROR", Hint: "LOG_LEVEL=DEBUG shows each step and request id."}}
	}
	s.CallbackBaseURL = value("CALLBACK_URL")
	return nil
}

// lookup gives the value of a variable. The AWS SDK reads the environment by
// itself; what only the file has is kept for OpenBackend, but not beside
// credentials that the environment chooses.
func (s *Settings) lookup(p process, file map[string]string) func(string) string {
	s.AWS = map[string]string{}
	chosen := slices.ContainsFunc([]string{"AWS_ACCESS_KEY_ID", "AWS_PROFILE"}, func(name string) bool {
		v, _ := p.lookup(name)
		return v != ""
	})
	for name, v := range file {
		if _, set := p.lookup(name); !set && !chosen && strings.HasPrefix(name, "AWS_") {
			s.AWS[name] = v
		}
	}
	return func(name string) string {
		if v, ok := p.lookup(name); ok {
			return v
		}
		return file[name]
	}
}

// readCallback sets where browsers reach the callback server, and its port. On
// this machine CALLBACK_URL's port is the server's, unless a flag says another;
// elsewhere something in front of the server leads to its port.
func (s *Settings) readCallback(p process, portGiven bool, allow string) (err error) {
	if s.CallbackAllow, err = prefixes(allow); err != nil {
		return err
	}
	if s.CallbackPort < 0 || s.CallbackPort > 65535 {
		return &ConfigurationError{Problem{What: fmt.Sprintf("--callback-port %d is no port", s.CallbackPort), Hint: "0 picks a free one."}}
	}
	raw := s.CallbackBaseURL
	if raw == "" {
		return nil
	}
	hint := fmt.Sprintf("Use http://localhost:%d%s, or leave it out.", defaultCallbackPort, pathCallback)
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") || !strings.HasSuffix(u.Path, pathCallback) {
		return &ConfigurationError{Problem{What: "CALLBACK_URL is not a URL that ends in " + pathCallback, Hint: hint}}
	}
	if !isLoopbackHost(u.Hostname()) {
		if u.Scheme != "https" {
			return &ConfigurationError{Problem{What: "CALLBACK_URL is not https, and not on this machine", Hint: hint}}
		}
		s.CallbackBaseURL = strings.TrimSuffix(raw, pathCallback)
		return nil
	}
	if (u.Scheme == "https") != (s.CallbackTLS[0] != "") {
		return &ConfigurationError{Problem{What: "CALLBACK_URL is " + u.Scheme + ", and the callback server is not", Hint: "--callback-tls-cert and --callback-tls-key make it https."}}
	}
	if !portGiven {
		if s.CallbackPort = portOf(u); s.CallbackPort == 0 {
			return &ConfigurationError{Problem{What: "CALLBACK_URL has no usable port", Hint: hint}}
		}
	}
	s.CallbackBaseURL = "" // the server says localhost and its port, as the person does, but for the name
	if u.Hostname() != "localhost" && s.CallbackPort != 0 {
		s.CallbackBaseURL = fmt.Sprintf("%s://%s:%d", u.Scheme, bracketed(u.Hostname()), s.CallbackPort)
	}
	return nil
}

// withoutContent is the error of a file whose lines may be secrets, without them.
func withoutContent(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path
	}
	return errors.New("a line in it is not NAME=value")
}

// seen reports which of these lines a file lacks; remember adds them to it.
func seen(path string, lines []string) (missing []string, remember func() error) {
	content, _ := os.ReadFile(path) // without one, all are missing
	known := strings.Split(string(content), "\n")
	missing = slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return slices.Contains(known, line) })
	return missing, func() error {
		return os.WriteFile(path, []byte(strings.Join(append(known, missing...), "\n")), 0o600)
	}
}
