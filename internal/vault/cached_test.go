package vault

import (
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

func cachedKey() CachedKey {
	return CachedKey{Account: account, WorkloadID: "agent", ProviderID: "google", Lookup: "lookup"}
}

func (w *world) findCached(t testing.TB) (c *Cached) {
	t.Helper()
	w.update(t, func(tx *store.Tx) (err error) { c, err = w.FindCached(tx, account, "lookup"); return err })
	return c
}

func (w *world) leaseCached(t testing.TB, version int64, holder string) (l CachedLease, ok bool) {
	t.Helper()
	w.update(t, func(tx *store.Tx) (err error) {
		l, ok, err = w.LeaseCached(tx, cachedKey(), version, holder, time.Minute)
		return err
	})
	return l, ok
}

func (w *world) putCached(t testing.TB, l CachedLease, token string, expiry time.Time) (c *Cached) {
	t.Helper()
	w.update(t, func(tx *store.Tx) (err error) { c, err = w.PutCached(tx, l, secret.New(token), expiry); return err })
	return c
}

func TestCachedTokenIsFetchedByOneAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if w.findCached(t) != nil {
		t.Fatal("there is a token")
	}
	first, ok := w.leaseCached(t, 0, "one")
	if !ok || w.findCached(t) != nil {
		t.Fatal("no lease, or a token without a token")
	}
	if _, ok := w.leaseCached(t, 0, "two"); ok {
		t.Error("two leases")
	}
	// Whoever is too slow loses the lease, and stores nothing.
	w.late.Add(int64(2 * time.Minute))
	second, ok := w.leaseCached(t, 0, "two")
	if !ok {
		t.Fatal("a dead process kept its lease")
	}
	expiry := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	if w.putCached(t, first, "late", expiry) != nil {
		t.Error("a lost lease stored a token")
	}
	w.update(t, func(tx *store.Tx) error { return w.ReleaseCached(tx, first) }) // has no effect
	stored := w.putCached(t, second, "token", expiry)
	found := w.findCached(t)
	if stored == nil || found == nil || !found.Expiry.Equal(expiry) || found.Version != 1 || found.ID != stored.ID {
		t.Fatalf("stored %+v, found %+v", stored, found)
	}
	for _, c := range []*Cached{stored, found} {
		if token, err := w.OpenCached(t.Context(), c); token.Reveal() != "token" || err != nil {
			t.Errorf("opened %v, %v", token, err)
		}
	}
	if w.putCached(t, second, "again", expiry) != nil {
		t.Error("one lease stored twice")
	}
	if _, ok := w.leaseCached(t, 0, "three"); ok {
		t.Error("leased what has been fetched meanwhile")
	}
	third, ok := w.leaseCached(t, 1, "three")
	if !ok {
		t.Fatal("the next token cannot be fetched")
	}
	w.update(t, func(tx *store.Tx) error { return w.ReleaseCached(tx, third) })
	if c := w.findCached(t); c == nil || c.Version != 1 {
		t.Error("a release without a token lost the one before")
	}

	// A column moved to another row or version does not open.
	moved := *found
	moved.Version++
	if _, err := w.OpenCached(t.Context(), &moved); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("another version opened: %v", err)
	}
	moved = *found
	moved.Account = other
	if _, err := w.OpenCached(t.Context(), &moved); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("another account opened: %v", err)
	}
}

func TestFailedFetchLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lease, _ := w.leaseCached(t, 0, "one")
	w.update(t, func(tx *store.Tx) error { return w.ReleaseCached(tx, lease) })
	if n := w.rows(t); n != 0 {
		t.Errorf("%d rows", n)
	}
	// A row made again does not take the answer to the one before, though the fences are equal.
	old, _ := w.leaseCached(t, 0, "one")
	w.update(t, func(tx *store.Tx) error { return w.DropCached(tx, account, "google") })
	if _, ok := w.leaseCached(t, 0, "two"); !ok {
		t.Fatal("no lease")
	}
	if w.putCached(t, old, "late", time.Now().Add(time.Hour)) != nil {
		t.Error("the answer to a dropped request was stored")
	}
	for name, key := range map[string]CachedKey{"workload": {Account: account, WorkloadID: "gone", ProviderID: "google", Lookup: "x"}, "provider": {Account: account, WorkloadID: "agent", ProviderID: "gone", Lookup: "y"}} {
		err := w.db.Update(t.Context(), func(tx *store.Tx) error { _, _, err := w.LeaseCached(tx, key, 0, "one", time.Minute); return err })
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("leased for a %s that is gone: %v", name, err)
		}
	}
}

func TestCachedTokensAreSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lease, _ := w.leaseCached(t, 0, "one")
	w.update(t, sweepCached)
	if w.rows(t) != 1 {
		t.Fatal("a row was swept while its token was being fetched")
	}
	w.putCached(t, lease, "token", time.Now().Add(time.Hour))
	w.update(t, sweepCached)
	if w.findCached(t) == nil {
		t.Fatal("a living token was swept")
	}
	w.late.Add(int64(time.Hour))
	w.update(t, sweepCached)
	if w.rows(t) != 0 {
		t.Error("an expired token is left")
	}
	if _, ok := w.leaseCached(t, 0, "dies"); !ok {
		t.Fatal("no lease")
	}
	w.late.Add(int64(time.Minute))
	w.update(t, sweepCached)
	if w.rows(t) != 0 {
		t.Error("a dead fetcher's row is left")
	}
}

func (w *world) rows(t testing.TB) (n int) {
	t.Helper()
	w.update(t, func(tx *store.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM cached_tokens`).Scan(&n) })
	return n
}
