package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// thing is made of a row of the table things.
type thing struct{ n int64 }

// things shelves them. making is called within the transaction that makes one.
func things(db *store.DB, making func()) *store.Shelf[string, *thing] {
	number := func(tx *store.Tx, id string) (n int64, err error) {
		err = tx.QueryRow("SELECT n FROM things WHERE id = $1", id).Scan(&n)
		if errors.Is(err, store.ErrNoRows) {
			err = fault.New(fault.NotFound, "There is no thing %s.", id)
		}
		return n, err
	}
	return store.NewShelf(db, store.Shelving[string, *thing]{
		Room: 1 << 20, Weight: func(*thing) uint32 { return 1 },
		Make: func(tx *store.Tx, id string) (*thing, error) {
			n, err := number(tx, id)
			if making != nil {
				making()
			}
			return &thing{n}, err
		},
		Holds: func(tx *store.Tx, id string, made *thing) (bool, error) {
			n, err := number(tx, id)
			if fault.Is(err, fault.NotFound) {
				return false, nil
			}
			return n == made.n, err
		},
	})
}

func findThing(t testing.TB, h *store.Shelf[string, *thing], id string) *thing {
	t.Helper()
	found, err := h.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A change of this process is seen once it is dropped; one of another replica,
// which drops nothing here, when the next look is due.
func TestShelfSeesChanges(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1), ('b', 1)")
		h := things(db, nil)
		h.SetFreshness(time.Hour)
		first, other := findThing(t, h, "a"), findThing(t, h, "b")
		loads := h.Loads()
		update(t, db, "UPDATE things SET n = 2 WHERE id = 'a'")
		if findThing(t, h, "a") != first || h.Loads() != loads {
			t.Error("what was just looked at was looked at again")
		}
		h.Drop("a")
		if got := findThing(t, h, "a"); got.n != 2 {
			t.Errorf("after it was dropped: %d", got.n)
		}
		if loads = h.Loads(); findThing(t, h, "b") != other || h.Loads() != loads {
			t.Error("another one was dropped, too")
		}
		update(t, db, "UPDATE things SET n = 3")
		h.DropAll()
		if a, b := findThing(t, h, "a"), findThing(t, h, "b"); a.n != 3 || b.n != 3 {
			t.Errorf("after all were dropped: %d, %d", a.n, b.n)
		}

		h.SetFreshness(0)
		same := findThing(t, h, "a")
		if findThing(t, h, "a") != same {
			t.Error("what holds was made anew")
		}
		update(t, db, "UPDATE things SET n = 4")
		if got := findThing(t, h, "a"); got.n != 4 {
			t.Errorf("changed elsewhere: %d", got.n)
		}
		update(t, db, "DELETE FROM things WHERE id = 'a'")
		if _, err := h.Find(t.Context(), "a"); !fault.Is(err, fault.NotFound) {
			t.Errorf("deleted elsewhere: %v", err)
		}
		h.SetFreshness(time.Hour)
		if _, err := h.Find(t.Context(), "a"); !fault.Is(err, fault.NotFound) {
			t.Errorf("it came back: %v", err)
		}
	})
}

// Freshness is a second.
func TestShelfLooksOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
		prepare(t, db)
		update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1)")
		h := things(db, nil)
		for range 4 {
			findThing(t, h, "a")
			time.Sleep(300 * time.Millisecond)
		}
		if h.Loads() != 1 {
			t.Errorf("%d loads within a second", h.Loads())
		}
		findThing(t, h, "a")
		if h.Loads() != 2 {
			t.Errorf("%d loads after a second", h.Loads())
		}
	})
}

// Those who ask for one thing at the same time share a load, and whoever began it
// may leave. Who asks after a change does not get what was read before it, and
// that is not kept.
func TestShelfLoadsOnceForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
		prepare(t, db)
		update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1)")
		finish := make(chan struct{})
		h := things(db, func() { <-finish })
		h.SetFreshness(time.Hour)
		leaving, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		find := func(ctx context.Context, want int64) {
			wg.Go(func() {
				if got, err := h.Find(ctx, "a"); err != nil || got.n != want {
					t.Errorf("%v, %v, want %d", got, err, want)
				}
			})
			synctest.Wait()
		}
		find(leaving, 1)
		for range 5 {
			find(t.Context(), 1)
		}
		leave()
		if h.Loads() != 1 {
			t.Errorf("%d loads for six who ask at once", h.Loads())
		}
		update(t, db, "UPDATE things SET n = 2")
		h.Drop("a")
		find(t.Context(), 2)
		if h.Loads() != 2 {
			t.Errorf("who came after the change joined a load from before it")
		}
		close(finish)
		wg.Wait()
		if got := findThing(t, h, "a"); got.n != 2 {
			t.Errorf("kept is what was read before the change: %d", got.n)
		}
	})
}
