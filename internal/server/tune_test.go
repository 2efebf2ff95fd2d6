package server

import "testing"

// Memory is given back once after a burst, when it is over, and not for the little
// that happens at rest.
func TestEndOfABurst(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	work := bursts{seen: 9 * mb, settled: 9 * mb}
	for i, step := range []struct {
		allocated uint64 // in the ten seconds before
		over      bool
	}{
		{100, false}, {mb / 2, false}, // at rest
		{50 * mb, false}, {mb, false}, {mb - 1, true}, {100, false}, {0, false}, // a burst, and rest
		{3 * mb / 4, false}, {3 * mb / 4, false}, {3 * mb / 4, true}, {3 * mb / 4, false}, // a trickle
	} {
		if got := work.over(work.seen + step.allocated); got != step.over {
			t.Errorf("step %d, after %d bytes: %t, want %t", i, step.allocated, got, step.over)
		}
	}
}
