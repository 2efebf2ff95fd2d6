package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/servertest"
)

// hello is one run of sayhello, without a terminal.
type hello struct {
	t       testing.TB
	port    string // of its callback server
	out     *logs
	errOut  *logs
	process *exec.Cmd
	ended   chan struct{}
}

// startHello starts sayhello. The environment is what it gets; nil is a bare one.
func startHello(t testing.TB, env []string, args ...string) *hello {
	t.Helper()
	if env == nil {
		env = bareEnvironment(t)
	}
	h := &hello{t: t, port: freePort(t), out: &logs{}, errOut: &logs{}, ended: make(chan struct{})}
	h.process = exec.Command(sayhelloBinary, append([]string{"--callback-port", h.port}, args...)...)
	h.process.Env, h.process.Dir = env, t.TempDir() // where there is no .env
	h.process.Stdout, h.process.Stderr = h.out, h.errOut
	if err := h.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = h.process.Wait()
		close(h.ended)
	}()
	t.Cleanup(func() {
		_ = h.process.Process.Kill()
		<-h.ended
		if t.Failed() {
			t.Logf("sayhello %v\n%s%s", args, h.out, h.errOut)
		}
	})
	return h
}

// sayHello runs sayhello to its end.
func sayHello(t testing.TB, env []string, args ...string) *hello {
	t.Helper()
	h := startHello(t, env, args...)
	h.wait()
	return h
}

// wait waits for the end and gives the exit code.
func (h *hello) wait() int {
	h.t.Helper()
	select {
	case <-h.ended:
		return h.process.ProcessState.ExitCode()
	case <-time.After(90 * time.Second):
		h.t.Fatalf("sayhello does not end\n%s%s", h.out, h.errOut)
		return -1
	}
}

// await waits until something that matches is printed, and gives its first group, or all of it.
func (h *hello) await(pattern string) string {
	h.t.Helper()
	expression := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		over := false
		select {
		case <-h.ended:
			over = true
		default:
		}
		if found := expression.FindStringSubmatch(h.out.String()); found != nil {
			return found[len(found)-1]
		}
		if over || time.Now().After(deadline) {
			h.t.Fatalf("sayhello never printed %q\n%s%s", pattern, h.out, h.errOut)
		}
	}
}

// link is the consent link, once it is printed.
func (h *hello) link() string {
	h.t.Helper()
	return h.await(`Open: (http\S+)\n`)
}

func (h *hello) interrupt() {
	if err := h.process.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		h.t.Fatal(err)
	}
}

// greets wants a run that ended well.
func (h *hello) greets(name string) {
	h.t.Helper()
	if code := h.wait(); code != 0 {
		h.t.Fatalf("exit code %d\n%s%s", code, h.out, h.errOut)
	}
	if !strings.Contains(h.out.String(), "Hello, "+name+"!\n") {
		h.t.Fatalf("%s is not greeted\n%s", name, h.out)
	}
}

// fails wants this exit code, one message with the text in it, and below it one hint with the other text.
func (h *hello) fails(code int, message, hint string) {
	h.t.Helper()
	if got := h.wait(); got != code {
		h.t.Errorf("exit code %d instead of %d", got, code)
	}
	lines := strings.Split(strings.TrimSuffix(h.errOut.String(), "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "sayhello: ") || !strings.HasPrefix(lines[1], "hint: ") {
		h.t.Fatalf("wanted one message and one hint, got\n%s", h.errOut)
	}
	if !strings.Contains(lines[0], message) {
		h.t.Errorf("%q is not in %q", message, lines[0])
	}
	if !strings.Contains(lines[1], hint) {
		h.t.Errorf("%q is not in %q", hint, lines[1])
	}
	if strings.Contains(h.out.String(), "Hello, ") {
		h.t.Error("it failed, and greeted")
	}
}

// bareEnvironment is this process's, without what would change sayhello's mind
// and without a display. Its temporary folder is the test's.
func bareEnvironment(t testing.TB) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		for _, prefix := range []string{"AWS_", "GOOGLE_", "INBOUND_"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return slices.Contains([]string{"USER_TOKEN", "GATEWAY_ROLE_ARN", "CALLBACK_URL", "LOG_LEVEL", "DISPLAY", "WAYLAND_DISPLAY", "TMPDIR", "HOME"}, name)
	})
	home := t.TempDir()
	return append(env, "AWS_EC2_METADATA_DISABLED=true", "HOME="+home, "TMPDIR="+home)
}

// program is the environment of a program that uses the platform, and nothing else of AWS's.
func (p *platform) program() []string {
	p.t.Helper()
	out, err := exec.Command(onbehalfBinary, "env", "--data", p.data, "--output", "dotenv").Output()
	if err != nil {
		p.t.Fatalf("onbehalf env: %v", err)
	}
	return append(bareEnvironment(p.t), strings.Fields(string(out))...)
}

// ports counts through ports that no outgoing connection is given (below 32768,
// where Linux begins), so that one that is free stays free. Two test processes
// begin at different places.
var ports atomic.Uint32

func init() { ports.Store(uint32(os.Getpid()) * 37) }

// freePort is a port that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := fmt.Sprint(20000 + ports.Add(1)%12000)
		if listener, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// inventory is what there is on a platform: kind and name, sorted.
func (p *platform) inventory() []string {
	p.t.Helper()
	ctx, all := p.t.Context(), []string{}
	identities, err := p.control.ListWorkloadIdentities(ctx, &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, i := range identities.WorkloadIdentities {
		all = append(all, "workload identity "+*i.Name)
	}
	gateways, err := p.control.ListGateways(ctx, &bedrockagentcorecontrol.ListGatewaysInput{})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, g := range gateways.Items {
		all = append(all, "gateway "+*g.Name)
	}
	providers, err := p.control.ListOauth2CredentialProviders(ctx, &bedrockagentcorecontrol.ListOauth2CredentialProvidersInput{})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range providers.CredentialProviders {
		all = append(all, "credential provider "+*c.Name)
	}
	slices.Sort(all)
	return all
}

// nothingLeft wants nothing on the platform that has this name.
func (p *platform) nothingLeft(name string) {
	p.t.Helper()
	for _, item := range p.inventory() {
		if strings.Contains(item, " "+name) {
			p.t.Errorf("%s is left behind", item)
		}
	}
}

// emptyFolder wants nothing in a folder.
func emptyFolder(t testing.TB, path string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&names, " %s", e.Name())
	}
	if len(entries) > 0 {
		t.Errorf("left in %s:%s", path, names.String())
	}
}

// get is the text of a page, whatever its status.
func get(t testing.TB, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// terminal is a program with a person at a terminal before it.
type terminal struct {
	*hello
	keys io.WriteCloser
}

// startTerminal runs a program at a pseudo-terminal of util-linux's script.
func startTerminal(t testing.TB, script string, env []string, program ...string) *terminal {
	t.Helper()
	h := &hello{t: t, out: &logs{}, errOut: &logs{}, ended: make(chan struct{})}
	h.process = exec.Command(script, "-qefc", strings.Join(program, " "), "/dev/null")
	h.process.Env, h.process.Dir, h.process.Stdout, h.process.Stderr = env, t.TempDir(), h.out, h.errOut
	keys, err := h.process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = h.process.Wait()
		close(h.ended)
	}()
	t.Cleanup(func() {
		_ = keys.Close()
		_ = h.process.Process.Kill()
		<-h.ended
	})
	return &terminal{h, keys}
}

func (s *terminal) press(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, keys); err != nil {
		s.t.Fatal(err)
	}
}

// text is what stands on the screen.
func (s *terminal) text() string { return strings.ReplaceAll(s.out.String(), "\r\n", "\n") }

// lookPath is the first of these programs that is installed, else empty.
func lookPath(names ...string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// visitAs is a demo person who allows what a link asks for, and gives the address that they are sent to, unvisited.
func visitAs(t testing.TB, idp *provider, person, link string) (arrival string) {
	t.Helper()
	arrival, err := servertest.NewPerson(idp.url, person).Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatal(err)
	}
	return arrival
}
