//go:build linux

package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// doomedPlatform starts a session that does all it can to outlive it.
func doomedPlatform(marker, code string) {
	d, err := New(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	out := &output{}
	p, err := d.Start(context.Background(), runtime.Launch{Name: "doomed", Code: code, Output: out, Port: 8080, Environment: []string{"PATH=/usr/bin:/bin"},
		Command: []string{"sh", "-c", "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM HUP; setsid sleep " + marker + " & echo up; wait' &) ; while :; do sleep 0.1; done"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for !strings.Contains(out.String(), "up") {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("ready")
	<-p.Ended()
}

// A platform that is killed leaves no process behind, and its next start removes its control groups.
func TestKilledPlatform(t *testing.T) {
	t.Parallel()
	d, err := shared()
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	marker := "41" + strconv.Itoa(os.Getpid())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	platform := exec.Command(self, "platform", marker, t.TempDir())
	out := &output{}
	platform.Stdout, platform.Stderr = out, out
	if err := platform.Start(); err != nil {
		t.Fatal(err)
	}
	defer platform.Process.Kill()
	wait := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s; it said %s", what, out)
			}
		}
	}
	wait("it does not start", func() bool {
		return strings.Contains(out.String(), "ready") && len(commandsWith(t, "sleep\x00"+marker)) > 0
	})
	_ = platform.Process.Kill()
	_ = platform.Wait()
	wait("its session goes on", func() bool { return len(commandsWith(t, "sleep\x00"+marker)) == 0 })
	if d.groups == nil {
		return
	}
	// Its first process may be on its way out still.
	wait("its control groups are left", func() bool {
		d.groups.sweep()
		for _, root := range d.groups.roots {
			if left, _ := filepath.Glob(filepath.Join(root, groupPrefix+strconv.Itoa(platform.Process.Pid)+"-*")); len(left) > 0 {
				return false
			}
		}
		return true
	})
}
