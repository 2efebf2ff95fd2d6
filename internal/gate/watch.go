package gate

import (
	"time"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// Watch is told of what passes the gate, for metrics: after the record is
// durable, in the caller's goroutine, so it must be quick. It must not keep or
// change a record. Members may be nil.
type Watch struct {
	Act     func(record *audit.Record, took time.Duration) // took is from the decision to the durable record
	Failure func(door string, kind fault.Kind)             // every failed authentication, not the sampled ones alone
	Limit   func(kind string)                              // an address was held back
}

// Watch has w told. Call it before the first request.
func (g *Gate) Watch(w Watch) { g.watch = w }
