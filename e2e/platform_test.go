package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
)

// platform is one `onbehalf serve` process.
type platform struct {
	t       testing.TB
	flags   []string
	data    string
	url     string
	demoURL string
	logs    *logs
	process *exec.Cmd

	aws     aws.Config
	control *bedrockagentcorecontrol.Client
	client  *bedrockagentcore.Client
}

// startPlatform starts `onbehalf serve` on a temporary folder and a free port,
// with the given further flags, and stops it when the test ends.
func startPlatform(t testing.TB, flags ...string) *platform {
	t.Helper()
	return startPlatformIn(t, filepath.Join(t.TempDir(), "data"), flags...)
}

// startPlatformIn is startPlatform on a folder that may be an installation already.
func startPlatformIn(t testing.TB, data string, flags ...string) *platform {
	t.Helper()
	p := &platform{t: t, flags: flags, data: data, logs: &logs{}}
	p.start()
	t.Cleanup(func() {
		if p.process != nil {
			p.stop()
		}
		if t.Failed() {
			t.Logf("log of the platform:\n%s", p.logs.String())
		}
	})
	loaded, err := config.LoadDefaultConfig(t.Context(),
		config.WithRegion("us-east-1"), config.WithBaseEndpoint(p.url), config.WithRetryMaxAttempts(1),
		config.WithSharedCredentialsFiles([]string{filepath.Join(p.data, "credentials")}), config.WithSharedConfigFiles(nil), config.WithSharedConfigProfile("onbehalf"))
	if err != nil {
		t.Fatal(err)
	}
	p.aws, p.control, p.client = loaded, bedrockagentcorecontrol.NewFromConfig(loaded), bedrockagentcore.NewFromConfig(loaded)
	return p
}

// start starts the process on the platform's folder and waits until it answers.
func (p *platform) start() {
	p.t.Helper()
	p.process = exec.Command(onbehalfBinary, append([]string{"serve", "--addr", "127.0.0.1:0", "--data", p.data, "--log-level", "debug"}, p.flags...)...)
	p.process.Stdout, p.process.Stderr = p.logs, p.logs
	ready := p.logs.watch("onbehalf is ready on ")
	if err := p.process.Start(); err != nil {
		p.t.Fatal(err)
	}
	exited := make(chan error, 1)
	process := p.process
	go func() { exited <- process.Wait() }()
	select {
	case <-ready:
	case err := <-exited:
		p.t.Fatalf("onbehalf serve ended at once: %v\n%s", err, p.logs.String())
	case <-time.After(90 * time.Second):
		_ = process.Process.Kill()
		p.t.Fatalf("onbehalf serve is not ready after 90 s\n%s", p.logs.String())
	}
	content, err := os.ReadFile(filepath.Join(p.data, "endpoint.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	var endpoint struct{ URL, DemoURL string }
	if err := json.Unmarshal(content, &endpoint); err != nil {
		p.t.Fatal(err)
	}
	p.url, p.demoURL = endpoint.URL, endpoint.DemoURL
	if response, err := http.Get(p.url + "/ping"); err != nil || response.StatusCode != http.StatusOK {
		p.t.Fatalf("GET /ping after the ready line: %v, %v", response, err)
	}
}

// kill is kill -9.
func (p *platform) kill() { p.end(syscall.SIGKILL) }

// stop is what an operator does.
func (p *platform) stop() { p.end(syscall.SIGTERM) }

func (p *platform) end(signal syscall.Signal) {
	p.t.Helper()
	_ = p.process.Process.Signal(signal)
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if p.process.Process.Signal(syscall.Signal(0)) != nil {
			p.process = nil
			return
		}
	}
	p.t.Errorf("the platform is still there 40 s after %v", signal)
	_ = p.process.Process.Kill()
	p.process = nil
}

// environment is what `onbehalf env` gives a program, and nothing else of AWS's.
func (p *platform) environment() []string {
	p.t.Helper()
	out, err := exec.Command(onbehalfBinary, "env", "--data", p.data, "--output", "dotenv").Output()
	if err != nil {
		p.t.Fatalf("onbehalf env: %v", err)
	}
	env := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") {
			env = append(env, v)
		}
	}
	return append(env, "AWS_EC2_METADATA_DISABLED=true")
}

// logs collects a process's output and tells when a text shows up in it.
type logs struct {
	mu      sync.Mutex
	text    strings.Builder // since the last watch
	before  strings.Builder
	waiters map[string]chan struct{}
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	for text, found := range l.waiters {
		if strings.Contains(l.text.String(), text) {
			close(found)
			delete(l.waiters, text)
		}
	}
	return len(p), nil
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// everything is what was ever written, over all starts of a platform.
func (l *logs) everything() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.before.String() + l.text.String()
}

// watch yields a channel that closes when the text is written from now on.
func (l *logs) watch(text string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiters == nil {
		l.waiters = map[string]chan struct{}{}
	}
	found := make(chan struct{})
	l.before.WriteString(l.text.String())
	l.text.Reset()
	l.waiters[text] = found
	return found
}

// command runs a program to its end. Five minutes are for programs that hang, not for slow machines.
func command(t testing.TB, env []string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return commandFor(t, 5*time.Minute, env, name, args...)
}

// commandFor is command with a patience of its own.
func commandFor(t testing.TB, patience time.Duration, env []string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errOut strings.Builder
	c := exec.CommandContext(ctx, name, args...)
	c.Env, c.Stdout, c.Stderr = env, &out, &errOut
	err := c.Run()
	if c.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s %s: still running after %v\n%s\n%s", name, fmt.Sprint(args), patience, out.String(), errOut.String())
	}
	return out.String(), errOut.String(), c.ProcessState.ExitCode()
}
