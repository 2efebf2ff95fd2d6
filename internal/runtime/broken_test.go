package runtime

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// A session's life is no request's: where it breaks off by a fault of ours, that
// session has ended, and the next one begins.
func TestSessionThatBreaksOff(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(*hosted){
		"before its process": func(h *hosted) { h.options.Driver = func() (Driver, error) { panic("in the middle") } },
		"after it":           func(h *hosted) { h.options.Watch.Started = func(time.Duration) { panic("in the middle") } },
	} {
		h := serving(t, silent)
		at := h.at(t, h.create(t, "one", nil))
		options := h.options
		broken(h)
		_, _, err := h.acquire(t.Context(), h.admin(), at, named("a"))
		if !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", name, err)
		}
		h.work.Wait()
		if all, _ := h.Running(); all != 0 || len(h.rows(t)) != 0 {
			t.Errorf("%s: %d sessions are left, rows %q", name, all, h.rows(t))
		}
		h.agents.mu.Lock()
		for _, p := range h.agents.living {
			select {
			case <-p.Ended():
			default:
				t.Errorf("%s: its agent lives on", name)
			}
		}
		h.agents.mu.Unlock()
		h.options = options
		h.begin(t, h.admin(), at, named("a"))
	}
}

// Code is unpacked for all who wait for it, in a goroutine that is nobody's.
func TestUnpackingThatBreaksOff(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	err := h.unpacked(t.Context(), testAccount, "sum", func(context.Context) (io.ReaderAt, int64, func(), error) { panic("in the middle") })
	if !fault.Is(err, fault.Internal) {
		t.Error(err)
	}
}
