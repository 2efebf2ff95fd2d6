package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
)

// hostedAgent is an agent's process, as a runtime would start it.
type hostedAgent struct{ url string }

// startAgent starts a program that listens on the port it is given, and waits for its /ping.
func startAgent(t *testing.T, command func(port string) *exec.Cmd) *hostedAgent {
	t.Helper()
	port := freePort(t)
	process := command(port)
	said := &strings.Builder{}
	process.Stdout, process.Stderr = said, said
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	t.Cleanup(func() {
		_ = process.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("the agent said:\n%s", said)
		}
	})
	a := &hostedAgent{url: "http://127.0.0.1:" + port}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if response, err := http.Get(a.url + "/ping"); err == nil {
			response.Body.Close()
			return a
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the agent ended before it answered: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent does not answer /ping")
		}
	}
}

const contractSession = "session-of-the-contract-story-0001"

// What a caller wants back. The TypeScript server answers events only to who asks for
// them, and to them loses the text of an error.
const (
	one    = "application/json"
	events = "text/event-stream"
)

func (a *hostedAgent) invoke(t *testing.T, accept, body string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", a.url+"/invocations", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": accept,
		"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": contractSession, "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id": "request-1",
		"WorkloadAccessToken": "the-token", "X-Amz-Bedrock-AgentCore-Identity-WAT": "the-token", "OAuth2CallbackUrl": "http://localhost/back",
		"X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team": "red",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func (a *hostedAgent) text(t *testing.T, accept, body string) (int, string) {
	t.Helper()
	response := a.invoke(t, accept, body)
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func (a *hostedAgent) ping(t *testing.T) string {
	t.Helper()
	response, err := http.Get(a.url + "/ping")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var told struct {
		Status string
		Since  float64 `json:"time_of_last_update"`
	}
	if err := json.NewDecoder(response.Body).Decode(&told); err != nil || response.StatusCode != 200 {
		t.Fatalf("/ping: %d %v", response.StatusCode, err)
	}
	if now := float64(time.Now().Unix()); told.Since < now-3600 || told.Since > now+1 {
		t.Errorf("time_of_last_update %v", told.Since)
	}
	return told.Status
}

// TestAgentContract holds the servers of the published Python and TypeScript
// packages and our own to one contract: what a runtime may rely on, whoever wrote the agent.
func TestAgentContract(t *testing.T) {
	t.Parallel()
	clients, err := filepath.Abs("clients")
	if err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string]func(t *testing.T) func(port string) *exec.Cmd{
		"Python": func(t *testing.T) func(string) *exec.Cmd {
			python := filepath.Join(clients, ".venv", "bin", "python")
			need(t, "the published Python packages (make deps)", exists(python))
			return func(port string) *exec.Cmd { return exec.Command(python, "clients/echo_agent.py", port) }
		},
		"TypeScript": func(t *testing.T) func(string) *exec.Cmd {
			node, err := exec.LookPath("node")
			need(t, "Node and the published packages (make deps)", err == nil && exists(filepath.Join(clients, "node_modules", "bedrock-agentcore")))
			return func(port string) *exec.Cmd {
				run := exec.Command(node, "echo_agent.mjs", port)
				run.Dir = clients
				return run
			}
		},
		"Go": func(t *testing.T) func(string) *exec.Cmd {
			binary := filepath.Join(t.TempDir(), "echo")
			if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./agents/echo").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return func(port string) *exec.Cmd {
				run := exec.Command(binary)
				run.Env = append(run.Environ(), "PORT="+port)
				return run
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holdToContract(t, startAgent(t, command(t)))
		})
	}
}

func holdToContract(t *testing.T, a *hostedAgent) {
	if status := a.ping(t); status != "Healthy" {
		t.Errorf("at rest /ping says %q", status)
	}

	status, text := a.text(t, one, `{"do":"echo","text":"größe <1>"}`)
	var got map[string]string
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	want := map[string]string{"text": "größe <1>", "session": contractSession, "request": "request-1", "token": "the-token", "callback": "http://localhost/back", "custom": "red"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the agent knows of its call: %s", diff)
	}

	if status, text := a.text(t, one, `{"do":"fail"}`); status != 500 || !strings.Contains(text, `"no luck"`) {
		t.Errorf("an agent that fails: %d %s", status, text)
	}
	if status, text := a.text(t, one, `no JSON`); status != 400 {
		t.Errorf("no JSON: %d %s", status, text)
	}

	a.checkStream(t)
	a.checkBrokenStream(t)
	a.checkTask(t)
	a.checkWebSocket(t)
	if status := a.ping(t); status != "Healthy" {
		t.Errorf("after all that /ping says %q", status)
	}
}

// next lets a stream or a task go on.
func (a *hostedAgent) next(t *testing.T) {
	t.Helper()
	if status, text := a.text(t, one, `{"do":"next"}`); status != 200 || !strings.Contains(text, "next") {
		t.Errorf("%d %s", status, text)
	}
}

// checkStream: events come one by one. The next one is made when the one before has arrived.
func (a *hostedAgent) checkStream(t *testing.T) {
	t.Helper()
	response := a.invoke(t, events, `{"do":"stream"}`)
	if kind := response.Header.Get("Content-Type"); response.StatusCode != 200 || !strings.HasPrefix(kind, "text/event-stream") {
		t.Errorf("a stream: %d %s", response.StatusCode, kind)
	}
	count := 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		data, is := strings.CutPrefix(lines.Text(), "data: ")
		if !is {
			continue
		}
		count++
		if want := fmt.Sprintf(`{"number":%d}`, count); strings.ReplaceAll(data, " ", "") != want {
			t.Errorf("event %d is %s", count, data)
		}
		if count < 3 {
			a.next(t)
		}
	}
	if count != 3 {
		t.Errorf("%d events", count)
	}
}

// checkBrokenStream: what was said stays said, and the failure is told.
func (a *hostedAgent) checkBrokenStream(t *testing.T) {
	t.Helper()
	if status, text := a.text(t, events, `{"do":"break"}`); status != 200 || !strings.Contains(text, `number`) || !strings.Contains(text, "no luck") {
		t.Errorf("a stream that breaks: %d %s", status, text)
	}
}

// checkTask: while work goes on after the answer, the agent says so.
func (a *hostedAgent) checkTask(t *testing.T) {
	t.Helper()
	if status, text := a.text(t, one, `{"do":"task"}`); status != 200 || !strings.Contains(text, "begun") {
		t.Errorf("%d %s", status, text)
	}
	if status := a.ping(t); status != "HealthyBusy" {
		t.Errorf("while a task runs /ping says %q", status)
	}
	a.next(t)
	eventually(t, time.Minute, "/ping knows that the task has ended", func() bool { return a.ping(t) == "Healthy" })
}

func (a *hostedAgent) checkWebSocket(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	header := http.Header{}
	header.Set("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", contractSession)
	c, _, err := websocket.Dial(ctx, a.url+"/ws", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.CloseNow()
	if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Error(err)
	}
	if _, text, err := c.Read(ctx); err != nil || string(text) != contractSession+" hello" {
		t.Errorf("/ws: %q %v", text, err)
	}
}
