//go:build unix

package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/servertest"
)

func newClient(t *testing.T, p *servertest.Platform, watch func(Progress)) *Client {
	t.Helper()
	c, err := NewClient(p.AWS, func(o *Options) { o.Progress = watch })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mirror answers what it is sent, and says which of its builds it is.
const mirror = `package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	fmt.Println("build", 1, os.Getpid())
	http.HandleFunc("POST /invocations", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(map[string]any{"build": 1, "body": string(body), "header": r.Header, "local": os.Getenv("LOCAL_DEV"), "mine": os.Getenv("MINE")})
	})
	_ = http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)
}
`

// printed collects lines, and lets a test wait for one.
type printed struct {
	mu    sync.Mutex
	lines []string
}

func (p *printed) add(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
}

func (p *printed) await(t *testing.T, text string) string {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		for _, line := range p.lines {
			if strings.Contains(line, text) {
				p.mu.Unlock()
				return line
			}
		}
		p.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Fatalf("%q does not come:\n%s", text, strings.Join(p.lines, "\n"))
	return ""
}

// free is a port that nobody listens on, and that no outgoing connection is given.
func free(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 12000 + rand.IntN(8000)
		if listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// An agent on the developer's machine gets what a runtime would give it, is started anew when it changes, and leaves nothing behind.
func TestDev(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	seen := &printed{}
	c := newClient(t, p, func(s Progress) {
		seen.add(s.Step + " " + s.Text)
		if s.Step == "building" { // meanwhile somebody else takes the contract's port
			if other, err := net.Listen("tcp", "127.0.0.1:8080"); err == nil {
				t.Cleanup(func() { _ = other.Close() })
			}
		}
	})
	a := New(folder(t, map[string]string{"go.mod": "module example.com/agent\n\ngo 1.26\n", "main.go": mirror}), "")
	a.Name, a.Language, a.Entrypoint, a.Environment, a.Headers = "mirror", Go, ".", map[string]string{"MINE": "yes"}, []string{"X-Team"}
	a.Build = "true"
	port := free(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Dev(ctx, a, DevOptions{Port: port, Line: seen.add}) }()
	line := seen.await(t, "build 1")
	first, err := strconv.Atoi(line[strings.LastIndex(line, " ")+1:])
	if err != nil {
		t.Fatal(err)
	}

	door := "http://127.0.0.1:" + strconv.Itoa(port) + "/invocations"
	answer, err := c.Invoke(t.Context(), a, Invocation{
		Payload: []byte(`{"prompt":"x"}`), UserID: "ada", Dev: door, Header: http.Header{"X-Team": {"blue"}, "X-Secret": {"s"}, "Workloadaccesstoken": {"forged"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var got struct {
		Build             int
		Body, Local, Mine string
		Header            http.Header
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Build != 1 || got.Body != `{"prompt":"x"}` || got.Local != "1" || got.Mine != "yes" {
		t.Errorf("%+v", got)
	}
	h := got.Header
	if h.Get("X-Team") != "blue" || h.Get("X-Secret") != "" || h.Get("Authorization") != "" || h.Get(headerUser) != "" || h.Get(headerRequest) == "" || h.Get(headerSession) != answer.SessionID || len(answer.SessionID) < 33 {
		t.Errorf("%v", h)
	}
	if token := h.Get(headerToken); token == "" || token == "forged" || token != h.Get(headerOlderToken) {
		t.Errorf("the workload token is %q", token)
	}
	if local := readFile(t, filepath.Join(a.Folder(), localFile)); !strings.Contains(local, `"workload_identity_name": "dev-mirror"`) || strings.Contains(local, "ada") {
		t.Error(local)
	}

	// Whoever gets through the door acts as the developer's user, so no page of the web does.
	for name, change := range map[string]func(*http.Request){
		"another origin": func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"another host":   func(r *http.Request) { r.Host = "evil.example" },
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: status %d", name, response.StatusCode)
		}
	}

	write := func(text string) {
		if err := os.WriteFile(filepath.Join(a.Folder(), "main.go"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("package main\n\nfunc main() { broken() }\n")
	seen.await(t, "failed go build")
	seen.await(t, "undefined: broken") // what the compiler says, among the agent's lines
	_, err = c.Invoke(t.Context(), a, Invocation{Payload: []byte("{}"), Dev: door})
	if codeOf(err) != runtimeClientError || !strings.Contains(err.Error(), "could not be built") {
		t.Errorf("a call of what was not built: %v", err)
	}
	write(strings.Replace(mirror, `"build", 1`, `"build", 2`, 1))
	line = seen.await(t, "build 2")
	second, err := strconv.Atoi(line[strings.LastIndex(line, " ")+1:])
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, pid := range []int{first, second} {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("the agent with the pid %d still runs", pid)
		}
	}
}

// The role of an agent is made once, with a trust policy for this agent alone; what others made is neither used by its name nor deleted.
func TestRole(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	c := newClient(t, p, nil)
	a := New(t.TempDir(), "")
	a.Name, a.Language, a.Entrypoint = "weather", Command, "x"
	arn, made, err := c.MakeRole(t.Context(), a)
	if err != nil || !made || arn != "arn:aws:iam::000000000000:role/agent-weather" {
		t.Fatalf("%s %v %v", arn, made, err)
	}
	if _, made, err = c.MakeRole(t.Context(), a); err != nil || made {
		t.Errorf("the second time: %v %v", made, err)
	}
	const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["bedrock-agentcore:GetResourceApiKey"],"Resource":"*"}]}`
	for range 2 {
		if _, err := c.PutPolicy(t.Context(), a, document); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.PutPolicy(t.Context(), a, "{"); err == nil {
		t.Error("half a document is attached")
	}

	// A role of somebody else's, that happens to have the name.
	theirs := New(t.TempDir(), "")
	theirs.Name, theirs.Language, theirs.Entrypoint = "theirs", Command, "x"
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"bedrock-agentcore.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	if err := c.query(t.Context(), iam, "CreateRole", map[string]string{"RoleName": "agent-theirs", "AssumeRolePolicyDocument": trust}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.MakeRole(t.Context(), theirs); err == nil || !strings.Contains(err.Error(), "was not made for this agent") {
		t.Errorf("got %v", err)
	}
	theirs.Role = "agent-theirs"
	if arn, made, err := c.MakeRole(t.Context(), theirs); err != nil || made || !strings.HasSuffix(arn, ":role/agent-theirs") {
		t.Errorf("%s %v %v", arn, made, err)
	}
	if _, err := c.PutPolicy(t.Context(), theirs, document); err != nil {
		t.Fatal(err)
	}
	gone, err := c.Destroy(t.Context(), theirs, false)
	if err != nil || gone.Role != "" {
		t.Errorf("%+v %v", gone, err)
	}
	if _, err := c.role(t.Context(), "agent-theirs"); err != nil {
		t.Errorf("somebody else's role was deleted: %v", err)
	}
	theirs.Role = "nobodys"
	if _, _, err := c.MakeRole(t.Context(), theirs); err == nil || !strings.Contains(err.Error(), "there is no role nobodys") {
		t.Errorf("got %v", err)
	}
	if gone, err = c.Destroy(t.Context(), a, false); err != nil || gone.Role != "agent-weather" {
		t.Errorf("%+v %v", gone, err)
	}
	if _, err := c.role(t.Context(), "agent-weather"); !isMissing(err) {
		t.Errorf("got %v", err)
	}
}

// Nothing is sent anywhere without a URL, and an agent's error is the SDK's kind of error.
func TestClient(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	for _, url := range []string{"", "agents.example.com", "ftp://x"} {
		if _, err := NewClient(p.AWS, func(o *Options) { o.BaseEndpoint = url }); err == nil {
			t.Errorf("%q is a URL", url)
		}
	}
	c := newClient(t, p, nil)
	a := New(t.TempDir(), "")
	a.Name, a.Language, a.Entrypoint = "weather", Command, "x"
	if _, err := c.Status(t.Context(), a); !errors.Is(err, ErrNotLaunched) {
		t.Errorf("got %v", err)
	}
	if _, err := c.StopSession(t.Context(), a, StopOptions{}); !errors.Is(err, ErrNoSession) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Invoke(t.Context(), a, Invocation{Dev: "http://127.0.0.1:1", UserID: "ada", Bearer: "t"}); err == nil || !strings.Contains(err.Error(), "leave the user id out") {
		t.Errorf("got %v", err)
	}
	for _, in := range []Invocation{{UserID: "a\nb"}, {SessionID: "a\x00"}, {Header: http.Header{"Team": {"blue\r"}}}} {
		in.Dev = "http://127.0.0.1:1"
		if _, err := c.Invoke(t.Context(), a, in); err == nil || !strings.Contains(err.Error(), "no header may have") {
			t.Errorf("%+v: got %v", in, err)
		}
	}
	err := c.ask(t.Context(), http.MethodPost, "/identities/GetWorkloadIdentity", object{"name": "nobodys"}, nil)
	if codeOf(err) != "ResourceNotFoundException" || !isMissing(err) {
		t.Errorf("got %v", err)
	}
}

func TestStartedProcessEnds(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	seen := &printed{}
	p, err := startProcess(t.TempDir(), shell("trap '' TERM; sleep 600 & echo child $!; echo ready; exit 0"), os.Environ(), seen.add)
	if err != nil {
		t.Fatal(err)
	}
	line := seen.await(t, "child ")
	child, err := strconv.Atoi(strings.TrimPrefix(line, "child "))
	if err != nil {
		t.Fatal(err)
	}
	<-p.ended()
	p.stop()
	if p.end() != "exit status 0" {
		t.Errorf("it ended with %s", p.end())
	}
	for deadline := time.Now().Add(time.Minute); alive(child); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what the agent has started goes on")
		}
	}
}

// alive is false for what waits to be reaped, too.
func alive(pid int) bool {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	defer file.Close()
	stat, _ := io.ReadAll(file)
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest != "" && !strings.HasPrefix(rest, "Z")
}
