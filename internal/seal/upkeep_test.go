package seal_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// Keys that have grown old get successors, and go when nothing needs them.
func TestKeysGrowOld(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		var ahead atomic.Int64
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		_, wrapper := newFileKey(t)
		db := storetest.OpenWith(t, o)
		makeShelves(t, db)
		k := newKeeper(t, db, wrapper)
		if err := k.EnsureAccount(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		fill(t, db, k, account, 20)
		c := seal.NewCustodian(k, shelves)
		token := seal.Context{Account: account, Purpose: seal.Tokens, Kind: "token"}
		shelved := mustSeal(t, k, onShelf(account, "x", "a", 1), "x")
		issued := mustSeal(t, k, token, "a token")
		upkeep := func(after time.Duration) {
			t.Helper()
			ahead.Add(int64(after))
			if err := c.Upkeep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		want := func(when string, counts map[seal.Purpose]int) {
			t.Helper()
			for p, n := range counts {
				if got := generations(t, db, account, p); got != n {
					t.Errorf("%s: %d keys for %s, want %d", when, got, p, n)
				}
			}
		}
		upkeep(23 * time.Hour)
		want("on the first day", map[seal.Purpose]int{seal.Tokens: 1, seal.Pages: 1, seal.Sessions: 1, seal.Vault: 1, seal.Secrets: 1, seal.AuditMAC: 1})
		upkeep(2 * time.Hour)
		want("on the second", map[seal.Purpose]int{seal.Tokens: 2, seal.Pages: 1, seal.Vault: 1})
		if opened, err := k.Open(t.Context(), token, issued); err != nil || string(opened) != "a token" {
			t.Errorf("a token from before: %v", err)
		}
		upkeep(49 * time.Hour) // the first token key is outlived; what is left of it and two more
		want("on the fourth", map[seal.Purpose]int{seal.Tokens: 3, seal.Pages: 1})
		if _, err := newKeeper(t, db, wrapper).Open(t.Context(), token, issued); err == nil {
			t.Error("a token of two days ago opens")
		}
		upkeep(88 * 24 * time.Hour)
		want("after three months", map[seal.Purpose]int{seal.Vault: 2, seal.Secrets: 2, seal.AuditMAC: 1})
		r, err := c.Rotations(t.Context(), account)
		if err != nil || len(r) != 1 || !r[0].Finished.IsZero() {
			t.Fatalf("%+v, %v", r, err)
		}
		if err := c.Work(t.Context(), account, false); err != nil { // Run does
			t.Fatal(err)
		}
		for _, step := range []struct {
			after time.Duration
			opens bool
		}{{14 * time.Minute, true}, {2 * time.Minute, false}} { // as long as a replica may seal with the old key
			upkeep(step.after)
			_, err := newKeeper(t, db, wrapper).Open(t.Context(), onShelf(account, "x", "a", 1), shelved)
			if (err == nil) != step.opens {
				t.Errorf("after %s, what the old key sealed: %v", step.after, err)
			}
		}
		verify(t, db, seal.NewCustodian(newKeeper(t, db, wrapper), shelves), 20+13+20)
	})
}
