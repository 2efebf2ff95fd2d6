package runtime

import (
	"context"
	"errors"
	"net"
	"net/http"
	goruntime "runtime"
	"sync"
	"testing"
	"time"
)

// A call that is counted in at the moment when the idle time is over, or the agent is
// given up, is either kept or told to come again: it is never cut.
func TestNoCallIsCutByIdleness(t *testing.T) {
	t.Parallel()
	s := &Service{now: time.Now}
	deaf := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("deaf") }}
	const rounds = 20_000
	for round := range rounds {
		long := time.Now().Add(-time.Hour)
		n := &session{version: &versionRow{}, agent: deaf, ready: make(chan struct{}), started: long, lastUsed: long}
		n.until, n.end = context.WithCancel(t.Context())
		idle, h := time.Minute, health{}
		if round%2 == 0 {
			idle, h = 2*time.Hour, health{misses: missesAllowed}
		}
		var both sync.WaitGroup
		both.Go(func() { s.examine(n, &h, idle) })
		for range round % 64 {
			goruntime.Gosched() // at every place on the other's way
		}
		if release, err := n.enter(time.Now); err == nil {
			both.Wait()
			if why := n.stopped(); why != "" {
				t.Fatalf("round %d: a call under way was cut: %s", round, why)
			}
			release()
		}
		both.Wait()
		n.end()
	}
}
