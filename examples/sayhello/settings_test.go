package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// read reads settings of a file, an environment and flags.
func read(t testing.TB, file string, env map[string]string, args ...string) (*Settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return readSettings(process{
		args:   append([]string{"--env-file", path}, args...),
		lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
}

func TestSettingsPrecedence(t *testing.T) {
	t.Parallel()
	s, err := read(t, "AWS_REGION=eu-west-1\nLOG_LEVEL=INFO\nGATEWAY_ROLE_ARN=arn:file\n", map[string]string{"AWS_REGION": "eu-central-1", "GATEWAY_ROLE_ARN": ""}, "--callback-port", "9191")
	if err != nil {
		t.Fatal(err)
	}
	if s.Region != "eu-central-1" || s.LogLevel != slog.LevelInfo || s.RoleARN != "" || s.CallbackPort != 9191 {
		t.Errorf("%+v", s)
	}
	s, err = read(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Region != "us-east-1" || s.LogLevel != slog.LevelWarn || s.CallbackPort != defaultCallbackPort || s.Backend != backendEmbedded || s.Data != "" || s.Addr != "" || !s.AutoConsent {
		t.Errorf("the defaults are %+v", s)
	}
}

// What .env.example says is what the program would do without it.
func TestEnvExample(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(".env.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AWS_REGION=us-east-1", "GOOGLE_CLIENT_ID=", "GOOGLE_CLIENT_SECRET=", "CALLBACK_URL=http://localhost:9090/oauth2/callback", "# USER_TOKEN=", "# INBOUND_DISCOVERY_URL=", "# INBOUND_CLIENT_ID=", "# GATEWAY_ROLE_ARN=", "# LOG_LEVEL="} {
		if !strings.Contains(string(content), "\n"+name) {
			t.Errorf("%s is missing", name)
		}
	}
	with, err := read(t, string(content), nil)
	if err != nil {
		t.Fatal(err)
	}
	without, err := read(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	with.EnvFile, without.EnvFile = "", ""
	with.AWS = without.AWS // AWS_REGION, which is in Region as well
	if diff := cmp.Diff(without, with); diff != "" {
		t.Error(diff)
	}
}

// AWS's own variables in the file are used, but not beside what the environment chooses.
func TestSettingsForAWS(t *testing.T) {
	t.Parallel()
	const file = "AWS_PROFILE=onbehalf\nAWS_SHARED_CREDENTIALS_FILE=/data/credentials\nGOOGLE_CLIENT_ID=\n"
	for _, test := range []struct {
		env  map[string]string
		want map[string]string
	}{
		{nil, map[string]string{"AWS_PROFILE": "onbehalf", "AWS_SHARED_CREDENTIALS_FILE": "/data/credentials"}},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "/mine"}, map[string]string{"AWS_PROFILE": "onbehalf"}},
		{map[string]string{"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, map[string]string{}},
		{map[string]string{"AWS_PROFILE": "mine"}, map[string]string{}},
	} {
		s, err := read(t, file, test.env)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, s.AWS); diff != "" {
			t.Errorf("%v: %s", test.env, diff)
		}
	}
	if options := chosen(map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CONFIG_FILE": "c", "AWS_PROFILE": "d", "AWS_SHARED_CREDENTIALS_FILE": "e"}); len(options) != 4 {
		t.Errorf("%d options", len(options))
	}
}

func TestSettingsCallback(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		url  string
		args []string
		port int
		base string
	}{
		{"", nil, 9090, ""},
		{"http://localhost:9090/oauth2/callback", nil, 9090, ""},
		{"http://localhost:9095/oauth2/callback", nil, 9095, ""},
		{"http://localhost:9090/oauth2/callback", []string{"--callback-port", "9191"}, 9191, ""},
		{"http://localhost:9090/oauth2/callback", []string{"--callback-port", "0"}, 0, ""},
		{"http://127.0.0.1:9095/oauth2/callback", nil, 9095, "http://127.0.0.1:9095"},
		{"http://[::1]:9095/oauth2/callback", nil, 9095, "http://[::1]:9095"},
		{"https://localhost:9095/oauth2/callback", []string{"--callback-tls-cert", "c", "--callback-tls-key", "k"}, 9095, ""},
		{"https://agent.example.com/oauth2/callback", nil, 9090, "https://agent.example.com"},
		{"https://agent.example.com/hello/oauth2/callback", []string{"--callback-port", "9191"}, 9191, "https://agent.example.com/hello"},
	} {
		s, err := read(t, "", map[string]string{"CALLBACK_URL": test.url}, test.args...)
		if err != nil {
			t.Errorf("%s %v: %v", test.url, test.args, err)
			continue
		}
		if s.CallbackPort != test.port || s.CallbackBaseURL != test.base {
			t.Errorf("%s %v: port %d, base %q", test.url, test.args, s.CallbackPort, s.CallbackBaseURL)
		}
	}
}

// What makes no sense is refused before anything is started, with a way out.
func TestSettingsRefused(t *testing.T) {
	t.Parallel()
	google := map[string]string{"GOOGLE_CLIENT_ID": "a", "GOOGLE_CLIENT_SECRET": "b"}
	with := func(more ...string) map[string]string {
		env := map[string]string{}
		for k, v := range google {
			env[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	for _, test := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, []string{"extra"}, `unknown argument "extra"`},
		{nil, []string{"--nonsense"}, "not defined: -nonsense"},
		{nil, []string{"--timeout", "soon"}, "timeout"},
		{nil, []string{"--timeout", "0s"}, "--timeout"},
		{nil, []string{"--env-file", "/nowhere/.env"}, "/nowhere/.env cannot be read"},
		{map[string]string{"LOG_LEVEL": "LOUD"}, nil, "LOG_LEVEL"},
		{map[string]string{"GOOGLE_CLIENT_ID": "a"}, nil, "only one of GOOGLE_CLIENT_ID"},
		{map[string]string{"GOOGLE_CLIENT_SECRET": "a"}, nil, "only one of GOOGLE_CLIENT_ID"},
		{nil, []string{"--backend", "ftp://x"}, "--backend"},
		{nil, []string{"--backend", "http://127.0.0.1:7080"}, "no provider"},
		{nil, []string{"--backend", "http://127.0.0.1:7080", "--demo-provider", "x"}, "--demo-provider"},
		{nil, []string{"--backend", "http://127.0.0.1:7080", "--data", "x"}, "--addr and --data"},
		{nil, []string{"--demo-provider", "http://127.0.0.1:7081"}, "--demo-provider belongs"},
		{nil, []string{"--backend", "aws", "--demo-provider", "http://127.0.0.1:7081"}, "--demo-provider belongs"},
		{nil, []string{"--backend", "aws"}, "no provider"},
		{google, []string{"--backend", "aws"}, "nobody is signed in"},
		{google, []string{"--backend", "http://127.0.0.1:7080"}, "nobody is signed in"},
		{with("USER_TOKEN", "x"), []string{"--backend", "aws"}, "GATEWAY_ROLE_ARN"},
		{with("INBOUND_CLIENT_ID", "x"), nil, "only one of INBOUND_DISCOVERY_URL"},
		{with("INBOUND_DISCOVERY_URL", "https://a.example/.well-known/openid-configuration"), nil, "only one of INBOUND_DISCOVERY_URL"},
		{with("INBOUND_DISCOVERY_URL", "https://a.example/", "INBOUND_CLIENT_ID", "x"), nil, "does not end in"},
		{google, []string{"--auto-consent"}, "plays the demo person only"},
		{map[string]string{"INBOUND_DISCOVERY_URL": "https://a.example/.well-known/openid-configuration", "INBOUND_CLIENT_ID": "x"}, []string{"--auto-consent"}, "cannot sign in at your own provider"},
		{nil, []string{"--callback-tls-cert", "x"}, "go together"},
		{nil, []string{"--callback-allow", "10.0.0.0/8,everybody"}, `"everybody"`},
		{nil, []string{"--callback-port", "70000"}, "no port"},
		{nil, []string{"--mcp-version", "2025-06-18"}, "--mcp-version"},
		{nil, []string{"--name", "a_b"}, "--name"},
		{nil, []string{"--name", "ab"}, "--name"},
		{map[string]string{"CALLBACK_URL": "http://localhost:9090/elsewhere"}, nil, "CALLBACK_URL"},
		{map[string]string{"CALLBACK_URL": "localhost:9090/oauth2/callback"}, nil, "CALLBACK_URL"},
		{map[string]string{"CALLBACK_URL": "http://localhost:9090/oauth2/callback?x=y"}, nil, "CALLBACK_URL"},
		{map[string]string{"CALLBACK_URL": "http://localhost:0/oauth2/callback"}, nil, "CALLBACK_URL"},
		{map[string]string{"CALLBACK_URL": "http://agent.example.com/oauth2/callback"}, nil, "not https"},
		{map[string]string{"CALLBACK_URL": "https://localhost:9090/oauth2/callback"}, nil, "callback server is not"},
	} {
		_, err := read(t, "", test.env, test.args...)
		wants[*ConfigurationError](t, err, test.want, "")
	}
}

// A line of .env that cannot be read is not repeated: it may be a secret.
func TestSettingsDoNotRepeatSecrets(t *testing.T) {
	t.Parallel()
	_, err := read(t, "GOOGLE_CLIENT_SECRET='GOCSPX-very-secret\n", nil)
	wants[*ConfigurationError](t, err, "cannot be read: a line", ".env.example")
	if strings.Contains(err.Error(), "very-secret") {
		t.Errorf("it says %v", err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out, errOut bytes.Buffer
	code := run(t.Context(), process{args: []string{"--help"}, lookup: func(string) (string, bool) { return "", false }, out: &out, err: &errOut})
	if code != exitDone || errOut.Len() > 0 {
		t.Errorf("exit code %d, %s", code, errOut.String())
	}
	for _, flag := range []string{"-addr", "-auto-consent", "-backend", "-callback-allow", "-callback-port", "-callback-tls-cert", "-callback-tls-key", "-data", "-demo-provider", "-env-file", "-keep", "-mcp-version", "-name", "-timeout"} {
		if !strings.Contains(out.String(), "\n  "+flag+" ") && !strings.Contains(out.String(), "\n  "+flag+"\n") {
			t.Errorf("%s is not there", flag)
		}
	}
}
