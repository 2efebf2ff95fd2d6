package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// What a Cache answers is what is stored, at every moment and on both engines.
func TestCacheSeesEveryUpdateAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		reads, cache := 0, store.NewCache[string, int64](db, 10)
		get := func() int64 {
			t.Helper()
			value, err := cache.Read(t.Context(), "lease", func(tx *store.Tx) (n int64, err error) {
				reads++
				err = tx.QueryRow("SELECT COUNT(*) FROM leases").Scan(&n)
				return n, err
			})
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
		add := func(name string, how func(func(*store.Tx) error) error) {
			t.Helper()
			if err := how(func(tx *store.Tx) error { _, _, err := tx.Lease(name, "me", time.Hour); return err }); err != nil {
				t.Fatal(err)
			}
		}
		update := func(fn func(*store.Tx) error) error { return db.Update(t.Context(), fn) }
		before := get()
		add("one", update)
		if got := get(); got != before+1 {
			t.Errorf("after an Update: %d rows, want %d", got, before+1)
		}
		failed := db.Update(t.Context(), func(*store.Tx) error { return errors.New("no") })
		if failed == nil || get() != before+1 {
			t.Errorf("after a failed Update: %d rows, want %d", get(), before+1)
		}
		if db.Engine() == "sqlite" {
			get()
			seen := reads
			for range 5 {
				get()
			}
			if reads != seen {
				t.Errorf("nothing was written, and %d reads reached the database", reads-seen)
			}
			return
		}
		// Another replica may write at any moment: nothing is remembered.
		seen := reads
		for range 5 {
			get()
		}
		if reads != seen+5 {
			t.Errorf("%d of 5 reads reached the database", reads-seen)
		}
	})
}

// A writer of another process is seen within a second; time is the database's.
func TestCacheGrowsStaleByTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	db := storetest.OpenAt(t, func() time.Time { return now })
	reads, cache := 0, store.NewCache[string, int](db, 10)
	get := func() {
		t.Helper()
		if _, err := cache.Read(t.Context(), "k", func(*store.Tx) (int, error) { reads++; return 0, nil }); err != nil {
			t.Fatal(err)
		}
	}
	get()
	now = now.Add(999 * time.Millisecond)
	get()
	if reads != 1 && db.Engine() == "sqlite" {
		t.Errorf("%d reads within a second, want 1", reads)
	}
	now = now.Add(2 * time.Millisecond)
	get()
	if reads != 2 && db.Engine() == "sqlite" {
		t.Errorf("%d reads after a second, want 2", reads)
	}
}

// Errors are not remembered, and many readers beside a writer never see the past.
func TestCacheUnderRace(t *testing.T) {
	db := storetest.Open(t)
	cache := store.NewCache[string, int64](db, 10)
	failure := errors.New("not now")
	if _, err := cache.Read(t.Context(), "k", func(*store.Tx) (int64, error) { return 0, failure }); !errors.Is(err, failure) {
		t.Fatalf("got %v, want the read's own error", err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var last int64
			for range 300 {
				n, err := cache.Read(t.Context(), "k", func(tx *store.Tx) (n int64, err error) {
					err = tx.QueryRow("SELECT COUNT(*) FROM leases").Scan(&n)
					return n, err
				})
				if err != nil || n < last {
					t.Errorf("read %d after %d: %v", n, last, err)
					return
				}
				last = n
			}
		})
	}
	for i := range 40 {
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			_, _, err := tx.Lease(string(rune('a'+i)), "me", time.Hour)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}
