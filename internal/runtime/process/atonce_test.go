//go:build linux

package process

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// An agent that ends at once has been started: what it printed, and how it ended, is
// there to be told, however late its start is heard of, and whoever calls it meanwhile.
func TestEndsAtOnce(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for place := range 8 {
		all.Go(func() {
			for number := range 25 {
				r := start(t, func(l *runtime.Launch) {
					l.Name = fmt.Sprint("at-once-", place, "-", number)
					l.Command = []string{"sh", "-c", "echo the reason; exit 3"}
				})
				for over := false; !over; {
					if conn, err := r.Dial(t.Context()); err == nil {
						_ = conn.Close()
					}
					select {
					case <-r.Ended():
						over = true
					default:
					}
				}
				if r.End() != "The agent ended with exit code 3." || !strings.Contains(r.Said.String(), "the reason") {
					t.Errorf("%s %s", r.End(), r.Said)
				}
			}
		})
	}
	all.Wait()
}

// The same, where start and end are heard of together, as on a busy machine.
func TestStartAndEndTogether(t *testing.T) {
	t.Parallel()
	ready, ended := make(chan struct{}), make(chan struct{})
	close(ready)
	close(ended)
	for range 100 {
		s := &session{ended: ended, end: "The agent ended with exit code 3."}
		if err := s.begun(t.Context(), ready); err != nil {
			t.Fatal(err)
		}
	}
	s := &session{ended: ended, end: "The session's surroundings could not be made."}
	if err := s.begun(t.Context(), make(chan struct{})); err == nil || !strings.Contains(err.Error(), "surroundings") {
		t.Error(err)
	}
}
