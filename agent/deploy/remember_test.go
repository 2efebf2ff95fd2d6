//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package deploy

import (
	"fmt"
	"sync"
	"testing"
)

// Calls from one folder, one beside the other, remember a session each.
func TestCallsBesideEachOtherAreAllRemembered(t *testing.T) {
	t.Parallel()
	a := New(t.TempDir(), "")
	a.Name = "agent"
	const callers, turns = 8, 4
	var calls sync.WaitGroup
	for i := range callers {
		calls.Go(func() {
			c := &Client{endpoint: "https://agents.example"} // a process of its own
			for j := range turns {
				user := fmt.Sprintf("user-%d-%d", i, j)
				if err := c.remember(a, func(s *state) { s.keep(user, "session of "+user) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	c := &Client{endpoint: "https://agents.example"}
	for i := range callers {
		for j := range turns {
			user := fmt.Sprintf("user-%d-%d", i, j)
			if got := c.LastSession(a, user, ""); got != "session of "+user {
				t.Errorf("%s: %q", user, got)
			}
		}
	}
}
