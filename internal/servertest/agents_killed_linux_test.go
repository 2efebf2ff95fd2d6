package servertest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// A platform that is killed leaves no process of any session, not even a stubborn
// one; the next one lists none, and the same session starts afresh.
func TestKilledPlatformLeavesNothing(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := servertest.Start(t, func(c *server.Config) { c.Data, c.Dev = data, false })
	h := host(t, p, "killed", build(t, witness))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}

	command := exec.CommandContext(ctx, os.Args[0])
	command.Env = append(os.Environ(), platformVariable+"="+data)
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ready {
		t.Fatal(line, err)
	}
	killed := *p // its port may be another than before
	killed.Data = bedrockagentcore.NewFromConfig(p.AWS, func(o *bedrockagentcore.Options) { o.BaseEndpoint = &url })
	h.Platform = &killed
	for _, name := range []string{"a", "b"} {
		if _, err := h.invoke(t, session(name), `{}`); err != nil {
			t.Fatal(err)
		}
	}
	children := below(t, command.Process.Pid)
	if len(children) < 4 { // two inits, two agents
		t.Fatalf("processes below the platform: %v", children)
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	for _, pid := range children {
		for syscall.Kill(pid, 0) == nil && !zombie(pid) {
			if ctx.Err() != nil {
				t.Fatalf("the process %d goes on", pid)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}

	p.Restart(t)
	list, err := client.New(p.AWS).ListAgentRuntimeSessions(t.Context(), nil)
	if err != nil || len(list.Sessions) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	h.Platform = p
	if _, err := h.invoke(t, session("a"), `{}`); err != nil {
		t.Error(err)
	}
}

// below are all processes that descend from one.
func below(t *testing.T, pid int) (all []int) {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		child, parent := 0, 0
		if stat, err := os.ReadFile(entry); err == nil {
			_, rest, _ := strings.Cut(string(stat), ") ")
			_, _ = fmt.Sscanf(string(stat), "%d", &child)
			_, _ = fmt.Sscanf(rest, "%1s %d", new(string), &parent)
		}
		if parent == pid && child != 0 {
			all = append(append(all, child), below(t, child)...)
		}
	}
	return all
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(rest, "Z")
}
