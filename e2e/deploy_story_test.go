package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// workshop is a folder with an agent, and somebody at the command line in it.
type workshop struct {
	t        *testing.T
	platform *platform
	folder   string
}

// echoWorkshop is a folder with the Go agent of e2e/agents/echo, as a module of its own.
func echoWorkshop(t *testing.T, p *platform) *workshop {
	t.Helper()
	w := &workshop{t, p, filepath.Join(t.TempDir(), "echo")}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("agents/echo/main.go")
	if err != nil {
		t.Fatal(err)
	}
	w.write("main.go", string(source))
	w.write("go.mod", "module example.com/echo\n\ngo 1.26.0\n")
	w.write("go.work", "go 1.26.0\n\nuse .\nuse "+root+"\n")
	return w
}

func (w *workshop) write(name, content string) {
	w.t.Helper()
	if err := os.MkdirAll(w.folder, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.folder, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// command is one of ours, in the folder and for the platform.
func (w *workshop) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, onbehalfBinary, append(args, "--data", w.platform.data)...)
	c.Dir = w.folder
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // Ctrl-C
	return c
}

// says runs a command to its end.
func (w *workshop) says(args ...string) (out, errOut string, code int) {
	w.t.Helper()
	c := w.command(w.t.Context(), args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		w.t.Fatal(err)
	}
	return stdout.String(), stderr.String(), c.ProcessState.ExitCode()
}

// does is says for what must succeed.
func (w *workshop) does(args ...string) string {
	w.t.Helper()
	out, errOut, code := w.says(args...)
	if code != 0 {
		w.t.Fatalf("onbehalf %s ends with %d:\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// fails is says for what must not; every text has to be in what it says.
func (w *workshop) fails(texts []string, args ...string) {
	w.t.Helper()
	out, errOut, code := w.says(args...)
	if code != 1 {
		w.t.Errorf("onbehalf %s ends with %d:\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	for _, text := range texts {
		if !strings.Contains(errOut, text) {
			w.t.Errorf("onbehalf %s does not say %q:\n%s", strings.Join(args, " "), text, errOut)
		}
	}
}

// reads runs a command and reads its JSON.
func reads[T any](w *workshop, args ...string) (value T) {
	w.t.Helper()
	out := w.does(append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(out), &value); err != nil {
		w.t.Fatalf("onbehalf %s: %v in\n%s", strings.Join(args, " "), err, out)
	}
	return value
}

type answered struct {
	SessionID         string `json:"runtimeSessionId"`
	ContentType, Body string
	Events            []string
}

// echoed is what the echo agent answers.
func (a answered) echoed(t *testing.T) (e struct{ Text, Session, Token string }) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Body), &e); err != nil {
		t.Fatalf("%v in %s", err, a.Body)
	}
	return e
}

// A developer's day: an agent in Go is configured, launched, called, watched, changed and removed, by the commands alone.
func TestAgentCommands(t *testing.T) {
	t.Parallel()
	needHosting(t)
	w := echoWorkshop(t, startPlatform(t))
	w.fails([]string{"no agent is configured here", "onbehalf agent configure"}, "agent", "launch")
	w.does("agent", "configure", "--name", "echo", "--non-interactive")
	w.fails([]string{"not on this platform", "onbehalf agent launch"}, "agent", "invoke", "x")

	type runtime struct{ AgentRuntimeID, AgentRuntimeArn, AgentRuntimeVersion, Status, RoleArn string }
	launched := reads[runtime](w, "agent", "launch")
	if launched.Status != "READY" || launched.AgentRuntimeVersion != "1" || !strings.HasSuffix(launched.RoleArn, ":role/agent-echo") {
		t.Fatalf("%+v", launched)
	}
	began := time.Now()
	launched = reads[runtime](w, "agent", "launch")
	t.Logf("the second launch, with Go's build cache: READY after %v", time.Since(began))
	if launched.Status != "READY" || launched.AgentRuntimeVersion != "2" {
		t.Fatalf("%+v", launched)
	}

	const echo = `{"do": "echo", "text": "hello"}`
	first := reads[answered](w, "agent", "invoke", echo, "--user-id", "ada")
	if e := first.echoed(t); e.Text != "hello" || e.Session != first.SessionID || e.Token == "" {
		t.Errorf("%+v", e)
	}
	if again := reads[answered](w, "agent", "invoke", echo, "--user-id", "ada"); again.SessionID != first.SessionID {
		t.Error("the session is not remembered")
	}
	if other := reads[answered](w, "agent", "invoke", echo, "--user-id", "grace"); other.SessionID == first.SessionID {
		t.Error("another user goes on with Ada's session")
	}
	if out, errOut, code := w.says("agent", "invoke", echo, "--user-id", "eve", "--session-id", first.SessionID); code != 1 {
		t.Errorf("somebody else's session answers:\n%s%s", out, errOut)
	}
	w.streams()
	w.follows(first.SessionID)

	status := reads[struct {
		runtime
		Endpoints []struct{ Name, LiveVersion, Status string }
		Sessions  int
	}](w, "agent", "status")
	if status.Sessions < 2 || len(status.Endpoints) != 1 || status.Endpoints[0].Name != "DEFAULT" || status.Endpoints[0].LiveVersion != "2" {
		t.Errorf("%+v", status)
	}
	if out := w.does("agent", "sessions"); !strings.Contains(out, first.SessionID) || !strings.Contains(out, "grace") {
		t.Error(out)
	}
	w.does("agent", "stop-session", "--user-id", "ada")
	eventually(t, time.Minute, "a session that was stopped is not listed any more", func() bool {
		return !strings.Contains(w.does("agent", "sessions"), first.SessionID) // while it is being ended it is
	})
	w.fails([]string{"no session is remembered"}, "agent", "stop-session", "--user-id", "ada")
	w.does("agent", "invoke", echo, "--user-id", "grace")
	last := reads[answered](w, "agent", "invoke", echo, "--user-id", "ada")
	if out := w.does("agent", "stop-session"); !strings.Contains(out, last.SessionID) {
		t.Errorf("it is not the last session that was invoked, Ada's %s:\n%s", last.SessionID, out)
	}
	w.fails([]string{"onbehalf agent"}, "agent", "stop-session", first.SessionID)

	// Another folder's agent of the same name is another's.
	elsewhere := echoWorkshop(t, w.platform)
	elsewhere.does("agent", "configure", "--name", "echo", "--non-interactive")
	elsewhere.fails([]string{"not launched from this folder", "--auto-update-on-conflict"}, "agent", "launch")
	elsewhere.fails([]string{"not launched from this folder"}, "agent", "destroy", "--yes")
	if adopted := reads[runtime](elsewhere, "agent", "launch", "--auto-update-on-conflict"); adopted.AgentRuntimeVersion != "3" || adopted.AgentRuntimeID != launched.AgentRuntimeID {
		t.Errorf("%+v", adopted)
	}

	w.write("policy.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["bedrock-agentcore:GetResourceApiKey"],"Resource":"*"},`+
		`{"Effect":"Allow","Action":["secretsmanager:GetSecretValue"],"Resource":["arn:aws:secretsmanager:*:*:secret:bedrock-agentcore*"]}]}`)
	w.does("agent", "policy", "put", "policy.json")
	w.fails([]string{"not JSON"}, "agent", "policy", "put", "main.go")

	w.write("main.go", "package main\n\nfunc main() { broken() }\n")
	w.fails([]string{"undefined: broken", "go build", "build.log"}, "agent", "launch")

	w.does("agent", "destroy", "--yes")
	w.fails([]string{"not on this platform"}, "agent", "status")
	if roles := w.does("roles", "list"); strings.Contains(roles, "agent-echo") {
		t.Errorf("the role that launch made is still there:\n%s", roles)
	}
	if out := w.does("agent", "destroy", "--yes"); !strings.Contains(out, "nothing to remove") {
		t.Error(out)
	}
}

// streams checks that events are printed as they come.
func (w *workshop) streams() {
	w.t.Helper()
	c := w.command(w.t.Context(), "agent", "invoke", `{"do": "stream"}`, "--user-id", "ada")
	out, err := c.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if lines = append(lines, scanner.Text()); len(lines) < 3 { // the agent makes the next one when this one has arrived
			w.does("agent", "invoke", `{"do": "next"}`, "--user-id", "ada")
		}
	}
	if err := c.Wait(); err != nil {
		w.t.Fatal(err)
	}
	if fmt.Sprint(lines) != `[{"number":1} {"number":2} {"number":3}]` {
		w.t.Errorf("%q", lines)
	}
}

// follows checks that lines are printed while the agent prints them, until Ctrl-C.
func (w *workshop) follows(session string) {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	defer stop()
	c := w.command(ctx, "agent", "logs", "--follow", "--session-id", session)
	out, err := c.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	hurry := time.AfterFunc(3*time.Minute, func() { _ = c.Process.Kill() })
	defer hurry.Stop()
	asked := false
	var seen []string
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		line := scanner.Text()
		seen = append(seen, line)
		switch {
		case !asked && strings.Contains(line, "listens on"):
			asked = true
			w.fails([]string{"no luck"}, "agent", "invoke", `{"do": "fail"}`, "--user-id", "ada")
		case asked && strings.Contains(line, "no luck"):
			stop()
		}
	}
	if err := c.Wait(); ctx.Err() == nil || err != nil && !errors.Is(err, context.Canceled) {
		w.t.Errorf("logs --follow ends with %v:\n%s", err, strings.Join(seen, "\n"))
	}
}
