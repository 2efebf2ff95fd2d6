package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/agent/deploy"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// A person is asked for what the folder does not say, and for nothing else.
func TestPersonConfigures(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	env := []string{"ONBEHALF_DATA=" + p.Config.Data, "TERM=xterm", "NO_COLOR=1"}
	folder := filepath.Join(t.TempDir(), "day-3")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"go.mod": "module m\n", "package.json": `{"main": "server.js"}`, "one.js": "", "two.js": "", ".python-version": "3.12"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(folder, "onbehalf-agent.yaml")
	s := sit(t, env, "agent", "configure", "--file", file)
	s.sees("  2  go")
	s.sees("Language: ")
	s.types("rust\n") // what cannot be is asked for again
	s.sees(`the language "rust" is none of`)
	s.sees("Language: ")
	s.types("1\n")
	s.sees("  2  two.js")
	s.types("three.js\n")
	s.sees("three.js is not in")
	s.types("two.js\n")
	s.sees("Make the role agent-day now, which only this agent can take on? [yes]: ")
	s.types("perhaps\n")
	s.sees("can take on? [yes]: ")
	s.types("\n")
	if code := s.leaves(); code != 0 || !strings.Contains(s.screen(), "arn:aws:iam::000000000000:role/agent-day") {
		t.Fatalf("exit code %d\n%s", code, s.screen())
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, string(content), "name: day\n", "language: node\n", "entrypoint: two.js\n")

	// Where nobody can be asked, the flag is named.
	o := &office{p, t}
	_, errOut, code := o.says("agent", "configure", "--file", filepath.Join(folder, "other.yaml"))
	if code != 2 {
		t.Errorf("exit code %d", code)
	}
	wants(t, errOut, "the language may be node, go", "say which: --language")
	_, errOut, code = o.says("agent", "configure", "--file", file, "--entrypoint", "three.js", "--non-interactive")
	if code != 2 {
		t.Errorf("exit code %d", code)
	}
	wants(t, errOut, "three.js is not in")

	// A second time it changes what it is told, and keeps the rest.
	wants(t, o.does("agent", "configure", "--file", file, "--env", "LOG_LEVEL=debug,x", "--idle-timeout", "5m", "--output", "json"), `"name": "day"`)
	content, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, string(content), "entrypoint: two.js\n", "LOG_LEVEL: debug,x\n", "idle-timeout: 5m0s\n")
	_, errOut, code = o.says("agent", "configure", "--file", file, "--audience", "app")
	if code != 2 {
		t.Errorf("exit code %d", code)
	}
	wants(t, errOut, "--discovery-url")
	_, errOut, code = o.says("agent", "configure", "--file", file, "--discovery-url", "https://id.example.com/.well-known/openid-configuration")
	if code != 2 {
		t.Errorf("exit code %d", code)
	}
	wants(t, errOut, "needs audiences, clients or scopes")
	o.does("agent", "configure", "--file", file, "--discovery-url", "https://id.example.com/.well-known/openid-configuration", "--audience", "app")
	o.does("agent", "configure", "--file", file, "--scope", "call")
	content, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, string(content), "discovery-url: https://id.example.com", "- app\n", "- call\n")
	_, errOut, _ = o.says("agent", "configure", "--file", file, "--env", "OPENAI_API_KEY=sk-1")
	wants(t, errOut, "OPENAI_API_KEY looks like a secret")
	if strings.Contains(errOut, "sk-1") {
		t.Error("the secret is shown")
	}
	_, errOut, code = o.says("agent", "status", "--file", file)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	wants(t, errOut, "not on this platform", "onbehalf agent launch")
	_, errOut, code = o.says("agent", "launch", "--file", filepath.Join(folder, "none.yaml"))
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	wants(t, errOut, "no agent is configured here", "onbehalf agent configure")
}

// What goes wrong with an agent is told with what to do about it.
func TestAgentsErrors(t *testing.T) {
	t.Parallel()
	agents := func(message string) error {
		return fmt.Errorf("https response error: %w", &smithy.GenericAPIError{Code: "RuntimeClientError", Message: message})
	}
	const mismatch = "Authorization method mismatch. The agent is configured for a different authorization method"
	for _, test := range []struct {
		host       host
		err        error
		told, hint string
	}{
		{host{}, &url.Error{Op: "Put", URL: "http://x", Err: context.Canceled}, "stopped", ""},
		{host{}, &smithy.OperationError{Err: fmt.Errorf("the credentials cannot be had: %w", &smithy.OperationError{OperationName: "GetRole", Err: errors.New("no EC2 IMDS role found")})},
			errNoCredentials.Error(), "--profile"},
		{host{}, fmt.Errorf("the port 8090 cannot be had: %w", syscall.EADDRINUSE), "the port 8090", "--port"},
		{host{}, agents("Received error (500) from runtime. no"), "no", "onbehalf agent logs"},
		{host{}, agents("The agent ended. It printed last:\nTypeError [ERR_UNKNOWN_FILE_EXTENSION]: Unknown file extension \".ts\" for /app/agent.ts"), "ended", "--build"},
		{host{dev: true}, agents("Received error (500) from runtime. no"), "no", "the terminal of onbehalf agent dev"},
		{host{}, agents("specify the X-Amzn-Bedrock-AgentCore-Runtime-User-Id header and retry"), "specify", "--user-id USER"},
		{host{}, &smithy.GenericAPIError{Code: "AccessDeniedException", Message: mismatch}, "mismatch", "takes tokens, and no signed requests"},
		{host{bearer: true}, &smithy.GenericAPIError{Code: "AccessDeniedException", Message: mismatch}, "mismatch", "leave --bearer-token-file out"},
	} {
		test.host.connection = &connection{endpoint: "http://127.0.0.1:7080"}
		err := test.host.told(test.err)
		var advice hinted
		errors.As(err, &advice)
		if !strings.Contains(err.Error(), test.told) || !strings.Contains(advice.hint, test.hint) || test.hint == "" && advice.hint != "" {
			t.Errorf("%v is told as %v; hint: %s", test.err, err, advice.hint)
		}
	}
}

// Of a conversation that another key began, or that was cut, the way out is told.
func TestAnotherConversation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err        error
		remembered bool
		want       string
	}{
		{hinted{errors.New("the session belongs to another caller"), ""}, true, "--new-session"},
		{errors.New("the session is stopping"), true, "--new-session"},
		{errors.New("the session is stopping"), false, ""},
		{hinted{errors.New("no"), "onbehalf agent logs"}, true, "onbehalf agent logs"},
		{errStopped, true, ""},
	} {
		var advice hinted
		errors.As(orAnew(test.err, test.remembered), &advice)
		if !strings.Contains(advice.hint, test.want) || test.want == "" && advice.hint != "" {
			t.Errorf("%v: the hint is %q, want %q", test.err, advice.hint, test.want)
		}
	}
}

// An answer in JSON is one object, with the names of the API and of the other commands.
func TestWholeAnswer(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]string{
		"text/plain":        `{"runtimeSessionId":"s","contentType":"text/plain","body":"data: 1\n\ndata: 2\n\n"}`,
		"text/event-stream": `{"runtimeSessionId":"s","contentType":"text/event-stream","body":"","events":["1","2"]}`,
	} {
		var out strings.Builder
		answer := &deploy.Answer{SessionID: "s", ContentType: contentType, Body: io.NopCloser(strings.NewReader("data: 1\n\ndata: 2\n\n"))}
		if err := (agentInvokeCmd{}).whole(&terminal{out: &out}, answer); err != nil {
			t.Fatal(err)
		}
		var flat bytes.Buffer
		if err := json.Compact(&flat, []byte(out.String())); err != nil || flat.String() != want {
			t.Errorf("%s: %s %v", contentType, flat.String(), err)
		}
	}
}

// What is said of an answer that broke off leads to where the agent printed something.
func TestHalfAnAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		call agentInvokeCmd
		err  error
		want string
	}{
		{agentInvokeCmd{}, io.ErrUnexpectedEOF, "onbehalf agent logs"},
		{agentInvokeCmd{Dev: true}, io.ErrUnexpectedEOF, "the terminal of onbehalf agent dev"},
		{agentInvokeCmd{}, context.Canceled, ""},
	} {
		for _, contentType := range []string{"text/plain", "text/event-stream"} {
			for _, print := range []func(*terminal, *deploy.Answer) error{test.call.print, test.call.whole} {
				var advice hinted
				err := print(&terminal{out: io.Discard}, &deploy.Answer{ContentType: contentType, Body: io.NopCloser(iotest.ErrReader(test.err))})
				if errors.As(err, &advice); err == nil || !strings.Contains(advice.hint, test.want) || test.want == "" && advice.hint != "" {
					t.Errorf("%s, %v: %v; hint: %s", contentType, test.err, err, advice.hint)
				}
			}
		}
	}
}

// What a compiler printed is shown as it laid it out, and a terminal obeys none of it.
func TestBuildOutput(t *testing.T) {
	t.Parallel()
	var shown strings.Builder
	h := host{connection: &connection{t: &terminal{err: &shown}}}
	_ = h.told(&deploy.BuildError{Output: "./main.go:1:2: no\n\thave (int)\x1b[2J\n", Err: errors.New("exit status 1")})
	if want := "  ./main.go:1:2: no\n  \thave (int)\\x1b[2J\n"; shown.String() != want {
		t.Errorf("%q, want %q", shown.String(), want)
	}
}

// Log lines of the agent SDKs are text again, and a terminal obeys none of them.
func TestReadableLines(t *testing.T) {
	t.Parallel()
	term := &terminal{out: &strings.Builder{}}
	for line, want := range map[string]string{
		"plain \x1b[2J": `plain \x1b[2J`,
		`{"timestamp":"t","level":"ERROR","message":"no \u001b[1mluck","requestId":"r-1","sessionId":"","count":2,"stackTrace":"a\nb\n"}`: "ERROR no \\x1b[1mluck  count=2  requestId=r-1\n    a\n    b",
		`{"level":"ERROR","message":"no","stackTrace":["Traceback:\n","  File \"a\", line 1\n    f()\n",7]}`:                              "ERROR no\n    Traceback:\n      File \"a\", line 1\n        f()",
		`{"level":"ERROR","message":"no","stackTrace":"main.main()\n\tmain.go:7"}`:                                                        "ERROR no\n    main.main()\n    \tmain.go:7",
		"\t/app/main.go:7 +0x5e":                  "\t/app/main.go:7 +0x5e",
		`{"answer":42}`:                           `{"answer":42}`,
		`{"msg":"hello"}`:                         `hello`,
		`{"msg":"[onbehalf] The session ended."}`: `| [onbehalf] The session ended.`,
		`{"message":`:                             `{"message":`,
	} {
		if got := readable(term, line); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
	const message = "Received error (500) from runtime. {\"error\":\"no\"} It printed last:\n{\"level\":\"INFO\",\"message\":\"it begins\"}\nno JSON"
	if got, want := readableLines(message), "Received error (500) from runtime. {\"error\":\"no\"} It printed last:\nINFO  it begins\nno JSON"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var out strings.Builder
	w := &safeWriter{out: &out}
	for _, piece := range []string{"gr\xc3", "\xbc\xc3\x9fe\n\tx\x1b", "[2J\xff", "\xe2\x82", "\xac"} {
		if _, err := w.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), "grüße\n\tx\\x1b[2J\\xff€"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
