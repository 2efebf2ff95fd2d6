//go:build linux

package process

import (
	"fmt"
	"os"
	"path/filepath"
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
	goleak.VerifyNone(t, ignore)
	after := held(t, d)
	for deadline := time.Now().Add(20 * time.Second); after != before && time.Now().Before(deadline); after = held(t, d) {
		time.Sleep(10 * time.Millisecond) // a connection of the test's own may be being closed
	}
	if after != before {
		t.Errorf("before: %s\nafter: %s", before, after)
	}
}

// held is what a driver holds of the machine.
func held(t *testing.T, d *Driver) string {
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
	return fmt.Sprintf("%d descriptors, %d mounts, %d children, %d control groups, %d users", len(descriptors), strings.Count(string(mounts), "\n"), children, groups, len(d.hosts))
}
