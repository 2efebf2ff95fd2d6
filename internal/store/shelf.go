package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/memo"
)

const (
	// freshness is how long something is served without a look at its rows. A
	// change made through this process is seen at once, one made through another
	// replica within this time.
	freshness = time.Second
	// loadLimit is how long a load may take, whoever waits for it.
	loadLimit = 10 * time.Second
)

// Shelf keeps what a room makes of rows that change rarely and that each of its
// requests needs, so that a request costs neither a read of the database nor the
// making, and holds up to so much of it in memory.
//
//	Find ──▶ kept, and seen to hold a moment ago? ── yes ──▶ it
//	             └─ no ──▶ one transaction for all who wait: does it hold? ── else make it
//
// A [Cache] is exact, and on PostgreSQL reads each time; a Shelf may be a second
// behind what another replica writes.
type Shelf[K comparable, V any] struct {
	db        *DB
	filled    Shelving[K, V]
	start     time.Time
	freshness atomic.Int64
	kept      *memo.Cache[K, *shelved[V]]
	flights   singleflight.Group
	drops     atomic.Uint64
	loads     atomic.Uint64
}

// Shelving says how a Shelf is filled. What is made is shared by all who find
// it: it must not be changed.
type Shelving[K comparable, V any] struct {
	Room   uint64         // for all together
	Weight func(V) uint32 // of one: its bytes in memory, roughly
	// Make makes it of its rows; fault.NotFound.
	Make func(tx *Tx, key K) (V, error)
	// Holds reports whether Make would make the same again. It is asked once a
	// second of each, and should cost an indexed read or two.
	Holds func(tx *Tx, key K, made V) (bool, error)
}

// shelved is a thing on the shelf.
type shelved[V any] struct {
	made    V
	checked atomic.Int64 // when it was last known to hold, in nanoseconds since the shelf's start
}

// NewShelf makes an empty shelf.
func NewShelf[K comparable, V any](db *DB, s Shelving[K, V]) *Shelf[K, V] {
	h := &Shelf[K, V]{db: db, filled: s, start: time.Now(), kept: memo.ByWeight[K](s.Room, func(it *shelved[V]) uint32 { return s.Weight(it.made) })}
	h.SetFreshness(freshness)
	return h
}

// SetFreshness is for tests: how long something is served without a look at its
// rows, where a second is too long to wait, or too short.
func (h *Shelf[K, V]) SetFreshness(d time.Duration) { h.freshness.Store(int64(d)) }

// Loads is how often Find has asked the database so far.
func (h *Shelf[K, V]) Loads() uint64 { return h.loads.Load() }

// Drop forgets what this process has just changed.
func (h *Shelf[K, V]) Drop(key K) {
	h.drops.Add(1) // what is being read now may be what was before, and is not kept
	h.kept.Invalidate(key)
}

// DropAll forgets everything, where it is not told what a change was about.
func (h *Shelf[K, V]) DropAll() {
	h.drops.Add(1)
	h.kept.InvalidateAll()
}

func (h *Shelf[K, V]) age() int64 { return int64(time.Since(h.start)) }

// Find answers what is under the key; fault.NotFound.
func (h *Shelf[K, V]) Find(ctx context.Context, key K) (none V, _ error) {
	if it, ok := h.kept.GetIfPresent(key); ok && h.age()-it.checked.Load() < h.freshness.Load() {
		return it.made, nil
	}
	// All who wait share one load, so it must not end with the first one's
	// request; who comes after a change does not join a load from before it.
	loaded, err, _ := h.flights.Do(fmt.Sprintf("%d %#v", h.drops.Load(), key), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadLimit)
		defer cancel()
		return h.load(ctx, key)
	})
	if err != nil {
		return none, err
	}
	return loaded.(V), nil
}

func (h *Shelf[K, V]) load(ctx context.Context, key K) (made V, err error) {
	began, drops := h.age(), h.drops.Load()
	kept, known := h.kept.GetIfPresent(key)
	h.loads.Add(1)
	holds := false
	err = h.db.View(ctx, func(tx *Tx) (err error) {
		if holds = false; known {
			if holds, err = h.filled.Holds(tx, key, kept.made); err != nil || holds {
				return err
			}
		}
		made, err = h.filled.Make(tx, key)
		return err
	})
	switch {
	case fault.Is(err, fault.NotFound):
		h.kept.Invalidate(key)
		return made, err
	case err != nil:
		return made, err
	case holds:
		kept.checked.Store(began)
		return kept.made, nil
	}
	it := &shelved[V]{made: made}
	it.checked.Store(began)
	if h.drops.Load() == drops {
		h.kept.Set(key, it)
		if h.drops.Load() != drops {
			h.kept.Invalidate(key)
		}
	}
	return made, nil
}
