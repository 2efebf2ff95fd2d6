package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

var tuned atomic.Bool // this process is a server, and nothing besides

// Tune sets the process up for serving. The live heap is a few megabytes and each
// request makes garbage, so the collector may let the heap grow fivefold before
// it runs: under load that is a tenth less CPU, at rest nothing. GOGC overrides it.
func Tune() {
	tuned.Store(true)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// settle gives the machine back what the start used, or a burst of work, and the
// platform at rest does not need. It costs one collection of a small heap.
func settle() {
	if tuned.Load() {
		debug.FreeOSMemory()
	}
}

// keepSettled settles once a burst of work is over. Nothing else would: the runtime
// keeps what the collector's goal allows, five times what is alive.
func keepSettled(ctx context.Context) {
	if !tuned.Load() {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	allocated := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	since := allocated()
	work := bursts{seen: since, settled: since}
	tick := time.NewTicker(lull)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if work.over(allocated()) {
				settle()
			}
		case <-ctx.Done():
			return
		}
	}
}

const (
	lull      = 10 * time.Second
	calm      = 1 << 20 // bytes allocated in that time: at rest it is 50 kB, and one call more
	burstFrom = 2 << 20 // bytes allocated since memory was given back: less is not worth a collection
)

// bursts finds the end of a burst of work in how much was allocated so far.
type bursts struct{ seen, settled uint64 }

// over is asked once in each lull.
func (b *bursts) over(allocated uint64) bool {
	isCalm := allocated-b.seen < calm
	b.seen = allocated
	if !isCalm || allocated-b.settled < burstFrom {
		return false
	}
	b.settled = allocated
	return true
}
