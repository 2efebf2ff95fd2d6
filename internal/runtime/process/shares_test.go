//go:build linux

package process

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// What the kernel counts for all sessions together, no session can take from the
// others, nor from the platform.
func TestShares(t *testing.T) {
	t.Parallel()
	greedy, other := start(t), start(t, func(l *runtime.Launch) { l.Name += "-other" })
	other.Ask(t, "/hello")
	t.Log(greedy.Ask(t, "/take"))
	if got := other.Ask(t, "/take"); !strings.HasPrefix(got, "8 watchers") {
		t.Errorf("beside one that has taken all it can, a session has %s", got)
	}
	watcher, err := unix.InotifyInit()
	if err != nil {
		t.Errorf("the platform: %v", err)
	}
	_ = unix.Close(watcher)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, r := range []*running{greedy, other} {
		conn, err := r.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	out := &output{}
	if _, err := other.Run(ctx, runtime.Command{Line: "echo well", Timeout: time.Minute, Stdout: out, Stderr: out}); err != nil || out.String() != "well\n" {
		t.Errorf("%v %s", err, out)
	}
}

// take is an agent that takes all watchers of files, and sends itself as many
// descriptors as it may.
func take(w http.ResponseWriter, _ *http.Request) {
	watchers, sent := 0, 0
	for range 1000 {
		if _, err := unix.InotifyInit(); err == nil {
			watchers++
		}
	}
	rights := unix.UnixRights(make([]int, 250)...) // its standard input
	for err := error(nil); err == nil && sent < 1<<17; {
		var pair [2]int
		if pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0); err == nil {
			err = unix.Sendmsg(pair[0], []byte("x"), rights, nil, unix.MSG_DONTWAIT)
			sent += 250
		}
	}
	fmt.Fprint(w, watchers, " watchers, ", sent, " descriptors")
}
