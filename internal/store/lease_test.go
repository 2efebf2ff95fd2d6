package store_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// leases takes and releases leases at times the test sets.
type leases struct {
	t   *testing.T
	db  *store.DB
	now time.Time
}

func (l *leases) take(name, holder string) (fence int64, ok bool) {
	l.t.Helper()
	err := l.db.Update(l.t.Context(), func(tx *store.Tx) (err error) {
		tx.Now = l.now
		fence, ok, err = tx.Lease(name, holder, time.Minute)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return fence, ok
}

func (l *leases) release(name, holder string) {
	l.t.Helper()
	err := l.db.Update(l.t.Context(), func(tx *store.Tx) error {
		tx.Now = l.now
		return tx.Release(name, holder)
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func TestALeaseHasOneHolder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := &leases{t, db, time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
		first, ok := l.take("sweep", "one")
		if !ok || first <= 0 {
			t.Fatalf("the first taker got %d, %v", first, ok)
		}
		if _, ok := l.take("sweep", "two"); ok {
			t.Error("two holders")
		}
		if _, ok := l.take("another", "two"); !ok {
			t.Error("a lease of another name was refused")
		}
		l.now = l.now.Add(50 * time.Second)
		if renewed, ok := l.take("sweep", "one"); !ok || renewed != first {
			t.Errorf("renewed with fence %d, %v; want %d", renewed, ok, first)
		}
		l.now = l.now.Add(50 * time.Second) // beyond the first end, within the renewed one
		if _, ok := l.take("sweep", "two"); ok {
			t.Error("a renewed lease was taken")
		}
		l.now = l.now.Add(10 * time.Second) // its end, to the microsecond
		second, ok := l.take("sweep", "two")
		if !ok || second <= first {
			t.Errorf("after its end: fence %d, %v; want more than %d", second, ok, first)
		}
		if _, ok := l.take("sweep", "one"); ok {
			t.Error("the former holder renewed what it had lost")
		}
	})
}

func TestTheFenceOnlyGrows(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := &leases{t, db, time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
		last, _ := l.take("sweep", "one")
		grows := func(what, holder string) {
			t.Helper()
			fence, ok := l.take("sweep", holder)
			if !ok || fence <= last {
				t.Errorf("%s: fence %d, %v; want more than %d", what, fence, ok, last)
			}
			last = fence
		}
		l.release("sweep", "two") // not the holder
		if _, ok := l.take("sweep", "two"); ok {
			t.Error("somebody else released it")
		}
		l.release("sweep", "one")
		grows("released and taken within one microsecond", "two")
		l.release("sweep", "two")
		l.release("sweep", "two")
		l.now = l.now.Add(-time.Hour) // a replica whose clock is behind
		if _, ok := l.take("sweep", "three"); ok {
			t.Error("released at 10:00 and taken at 09:00")
		}
		l.now = l.now.Add(time.Hour)
		grows("released", "two")
		l.now = l.now.Add(time.Hour)
		grows("lapsed, by the same holder", "two")
		l.now = l.now.Add(48 * time.Hour)
		l.take("another", "one") // sweeps
		grows("swept", "one")
	})
}

func TestOldLeasesAreSwept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := &leases{t, db, time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
		l.take("old", "one")
		l.now = l.now.Add(23 * time.Hour)
		l.take("recent", "one")
		l.now = l.now.Add(2 * time.Hour)
		l.take("new", "one")
		var names int
		err := db.View(t.Context(), func(tx *store.Tx) error {
			return tx.QueryRow("SELECT count(*) FROM leases WHERE name IN ('recent', 'new')").Scan(&names)
		})
		if err != nil || names != 2 {
			t.Errorf("%d of 2 kept, %v", names, err)
		}
		err = db.View(t.Context(), func(tx *store.Tx) error {
			return tx.QueryRow("SELECT count(*) FROM leases").Scan(&names)
		})
		if err != nil || names != 2 {
			t.Errorf("%d leases, %v; want 2", names, err)
		}
	})
}

var errNotMine = errors.New("somebody else holds the lease")

func TestReplicasRaceForALease(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		replicas := []*store.DB{storetest.OpenWith(t, o), storetest.OpenWith(t, o)}
		var held atomic.Int32
		var group sync.WaitGroup
		for i, db := range replicas {
			for task := range 3 {
				group.Go(func() {
					err := db.Update(t.Context(), func(tx *store.Tx) error {
						_, ok, err := tx.Lease("refresh", string(rune('a'+3*i+task)), time.Minute)
						if err == nil && !ok {
							return errNotMine
						}
						return err
					})
					switch err {
					case nil:
						held.Add(1)
					case errNotMine:
					default:
						t.Error(err)
					}
				})
			}
		}
		group.Wait()
		if held.Load() != 1 {
			t.Errorf("%d holders, want 1", held.Load())
		}
	})
}
