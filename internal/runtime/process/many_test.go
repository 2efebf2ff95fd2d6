//go:build linux

package process

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// Two hundred sessions, forty at a time, half of them ended while they are at work,
// leave nothing: no process, mount, control group, descriptor or goroutine. It runs
// beside no other test, since it counts.
func TestManySessionsLeaveNothing(t *testing.T) {
	d, err := shared()
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	total := 200
	if testing.Short() {
		total = 20
	}
	before := held(t, d)
	ignore := goleak.IgnoreCurrent()
	t.Run("sessions", func(t *testing.T) {
		room := make(chan struct{}, 40)
		var all sync.WaitGroup
		var mu sync.Mutex
		var slowest time.Duration
		for i := range total {
			all.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				begun := time.Now()
				r := start(t, func(l *runtime.Launch) {
					l.Name = "many-" + strconv.Itoa(i)
					l.Command = []string{"sh", "-c", "echo up; sleep 1000 & sleep 1000"}
					if i%4 == 0 {
						l.Command = []string{"./agent", "agent"}
					}
				})
				took := time.Since(begun)
				mu.Lock()
				slowest = max(slowest, took)
				mu.Unlock()
				if i%4 == 0 {
					if got := r.Ask(t, "/get?url=http://127.0.0.1:7079/x"); got != "the platform, asked for /x" {
						t.Error(got, r.Said)
					}
				}
				if i%2 == 0 {
					r.Stop(50 * time.Millisecond)
				} else {
					r.Stop(0)
				}
				r.HTTP.CloseIdleConnections()
			})
		}
		all.Wait()
		t.Logf("the slowest of %d starts took %v", total, slowest)
	})
	// A connection of the test's own may be being closed, and a goroutine about to end.
	var after holding
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		leaked := goleak.Find(ignore)
		if after = held(t, d); leaked == nil && !after.more(before) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("before: %+v\nafter: %+v\n%v", before, after, leaked)
			return
		}
	}
}

// holding is what a driver holds of the machine.
type holding struct {
	descriptors, children, groups, users int
	mounts                               []string // of the machine: others' tests have some for a moment
}

// more is whether something has come to it.
func (h holding) more(than holding) bool {
	return h.descriptors > than.descriptors || h.children > than.children || h.groups > than.groups || h.users > than.users ||
		slices.ContainsFunc(h.mounts, func(mount string) bool { return !slices.Contains(than.mounts, mount) })
}

func held(t *testing.T, d *Driver) holding {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	children, groups := 0, 0
	stats, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range stats {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "\nPPid:\t"+strconv.Itoa(os.Getpid())+"\n") {
			children++
		}
	}
	if d.groups != nil {
		for _, root := range d.groups.roots {
			left, _ := filepath.Glob(filepath.Join(root, groupPrefix+strconv.Itoa(os.Getpid())+"-*"))
			groups += len(left)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return holding{len(descriptors), children, groups, len(d.hosts), strings.Split(string(mounts), "\n")}
}
