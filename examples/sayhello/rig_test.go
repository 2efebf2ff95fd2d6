package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// played is one run of the program, without the process.
type played struct {
	t           testing.TB
	out, errOut *screen
	keys        *io.PipeWriter
	interrupt   context.CancelFunc // Ctrl-C
	again       context.CancelFunc // Ctrl-C once more
	browsed     chan string        // links that were opened on the display
	done        chan struct{}
	code        int
}

// situation is what a run is started in. The zero value has no terminal, no
// variables and no .env.
type situation struct {
	env      map[string]string
	file     string // .env
	terminal bool
}

// play starts a run.
func (s situation) play(t testing.TB, args ...string) *played {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	hurry, again := context.WithCancel(t.Context())
	in, keys := io.Pipe()
	r := &played{t: t, out: &screen{}, errOut: &screen{}, keys: keys, interrupt: interrupt, again: again, browsed: make(chan string, 10), done: make(chan struct{})}
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte(s.file), 0o600); err != nil {
		t.Fatal(err)
	}
	p := process{
		args:   append([]string{"--env-file", file, "--callback-port", "0"}, args...),
		lookup: func(name string) (string, bool) { v, ok := s.env[name]; return v, ok },
		in:     in, out: r.out, err: r.errOut, terminal: s.terminal, hurry: hurry,
		browse: func(link string) { r.browsed <- link },
	}
	go func() {
		defer close(r.done)
		r.code = run(ctx, p)
	}()
	t.Cleanup(func() {
		interrupt()
		again()
		<-r.done
		_ = keys.Close()
		if t.Failed() {
			t.Logf("sayhello %v\n%s%s", args, r.out, r.errOut)
		}
	})
	return r
}

// at is a run against a platform that is running, with its demo provider.
func at(p *servertest.Platform) (situation, []string) {
	return situation{file: credentialsOf(p)}, []string{"--backend", p.URL(), "--demo-provider", p.DemoURL()}
}

// credentialsOf is what .env says to sign calls to a platform with.
func credentialsOf(p *servertest.Platform) string {
	return "AWS_SHARED_CREDENTIALS_FILE=" + p.CredentialsFile() + "\nAWS_PROFILE=" + server.Profile + "\n"
}

func (r *played) wait() int {
	r.t.Helper()
	select {
	case <-r.done:
		return r.code
	case <-time.After(90 * time.Second):
		r.t.Fatalf("the run does not end\n%s%s", r.out, r.errOut)
		return -1
	}
}

// await waits until something that matches is printed, and gives its first group, or all of it.
func (r *played) await(pattern string) string {
	r.t.Helper()
	expression := regexp.MustCompile(pattern)
	find := func(text string) (string, bool) {
		found := expression.FindStringSubmatch(text)
		if found == nil {
			return "", false
		}
		return found[len(found)-1], true
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	go func() { <-r.done; cancel() }()
	text, ok := r.out.await(ctx, find)
	if !ok {
		r.t.Fatalf("%q was never printed\n%s%s", pattern, r.out, r.errOut)
	}
	return text
}

func (r *played) link() string { return r.await(`Open: (http\S+)\n`) }

func (r *played) press(keys string) {
	r.t.Helper()
	if _, err := io.WriteString(r.keys, keys); err != nil {
		r.t.Fatal(err)
	}
}

// greets wants a run that ended well.
func (r *played) greets(name string) {
	r.t.Helper()
	if code := r.wait(); code != exitDone || !strings.Contains(r.out.String(), "Hello, "+name+"!\n") {
		r.t.Fatalf("exit code %d, and %s is not greeted", code, name)
	}
}

// fails wants this exit code, one message with the text in it, and below it one hint with the other text.
func (r *played) fails(code int, message, hint string) {
	r.t.Helper()
	if got := r.wait(); got != code {
		r.t.Errorf("exit code %d instead of %d", got, code)
	}
	lines := strings.Split(strings.TrimSuffix(r.errOut.String(), "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "sayhello: ") || !strings.HasPrefix(lines[1], "hint: ") {
		r.t.Fatalf("wanted one message and one hint, got\n%s", r.errOut)
	}
	if !strings.Contains(lines[0], message) || !strings.Contains(lines[1], hint) {
		r.t.Errorf("wanted %q with hint %q, got\n%s", message, hint, r.errOut)
	}
	if strings.Contains(r.out.String(), "Hello, ") {
		r.t.Error("it failed, and greeted")
	}
}

// screen collects what is printed and wakes who waits for it.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) await(ctx context.Context, find func(string) (string, bool)) (string, bool) {
	for {
		s.mu.Lock()
		found, ok := find(s.text.String())
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		if ok {
			return found, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return find(s.String())
		}
	}
}

// inventory is what there is on a platform, sorted.
func inventory(t testing.TB, control *bedrockagentcorecontrol.Client) []string {
	t.Helper()
	all, owners := []string{}, []string{}
	gateways, err := control.ListGateways(t.Context(), &bedrockagentcorecontrol.ListGatewaysInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gateways.Items {
		all, owners = append(all, "gateway "+*g.Name), append(owners, *g.GatewayId)
	}
	identities, err := control.ListWorkloadIdentities(t.Context(), &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range identities.WorkloadIdentities {
		if !slices.Contains(owners, *i.Name) { // a gateway's own has its id for a name
			all = append(all, "workload identity "+*i.Name)
		}
	}
	providers, err := control.ListOauth2CredentialProviders(t.Context(), &bedrockagentcorecontrol.ListOauth2CredentialProvidersInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range providers.CredentialProviders {
		all = append(all, "provider "+*c.Name)
	}
	slices.Sort(all)
	return all
}

func nothingLeft(t testing.TB, p *servertest.Platform) {
	t.Helper()
	if left := inventory(t, p.Control); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// calls counts the AWS calls of an operation that a platform has answered.
func calls(p *servertest.Platform, operation string) int {
	return strings.Count(p.Logs.String(), fmt.Sprintf("path=/identities/%s ", operation))
}
