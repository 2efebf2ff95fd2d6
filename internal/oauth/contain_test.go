package oauth

import (
	"context"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// What is fetched for all who wait for it runs in a goroutine that is nobody's.
func TestFetchThatBreaksOff(t *testing.T) {
	t.Parallel()
	c := New(nil)
	_, err := c.shared(t.Context(), "key", func(context.Context) (any, error) { panic("in the middle") })
	if !fault.Is(err, fault.Internal) {
		t.Error(err)
	}
}
