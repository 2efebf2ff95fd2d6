package vault

import (
	"slices"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func (w *world) list(t testing.TB, f Filter, after Place, limit int) (list []*Grant) {
	t.Helper()
	w.update(t, func(tx *store.Tx) (err error) { list, err = w.List(tx, f, after, limit); return err })
	return list
}

// Every filter's index leads to the same grants, page by page, and to nobody else's.
func TestListPagesByEveryFilter(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		bob := principal.User{ID: "ada"} // named as the other is, and somebody else
		var ids []string
		for _, label := range []string{"", "work", "home"} {
			for _, user := range []principal.User{ada, bob} {
				for _, workload := range []string{"agent", "second"} {
					for _, provider := range []string{"google", "slack"} {
						k := Key{Account: account, WorkloadID: workload, User: user, ProviderID: provider, Label: label, Resources: []string{"https://r.example"}}
						ids = append(ids, w.put(t, k, tokens("x", "profile")).ID)
					}
				}
			}
		}
		w.exec(t, `UPDATE grants SET created = 5 WHERE label <> ''`) // made at one moment: the id decides
		for name, c := range map[string]struct {
			Filter
			want int
		}{
			"workload":          {Filter{Account: account, WorkloadID: "agent"}, 12},
			"provider":          {Filter{Account: account, ProviderID: "slack"}, 12},
			"user":              {Filter{Account: account, User: ada}, 12},
			"user by id":        {Filter{Account: account, User: bob}, 12},
			"all three":         {Filter{Account: account, WorkloadID: "agent", ProviderID: "slack", User: ada}, 3},
			"another account":   {Filter{Account: other, WorkloadID: "agent"}, 0},
			"another's user":    {Filter{Account: other, User: ada}, 0},
			"subject alone":     {Filter{Account: account, User: principal.User{Issuer: "https://other.example", Subject: "ada"}}, 0},
			"nobody's workload": {Filter{Account: account, WorkloadID: "third"}, 0},
		} {
			var got []string
			var after Place
			for {
				page := w.list(t, c.Filter, after, 2)
				for _, g := range page {
					if g.Account != c.Account || c.WorkloadID != "" && g.WorkloadID != c.WorkloadID || c.ProviderID != "" && g.ProviderID != c.ProviderID || !c.User.IsZero() && g.User != c.User {
						t.Errorf("%s: listed %+v", name, g.Key)
					}
					if slices.Contains(got, g.ID) || !slices.Contains(ids, g.ID) {
						t.Errorf("%s: %s is listed twice, or unknown", name, g.ID)
					}
					got = append(got, g.ID)
					after = Place{g.Created, g.ID}
				}
				if len(page) < 2 {
					break
				}
			}
			if len(got) != c.want {
				t.Errorf("%s: %d grants, want %d", name, len(got), c.want)
			}
		}
		err := db.View(t.Context(), func(tx *store.Tx) error { _, err := w.List(tx, Filter{Account: account}, Place{}, 1); return err })
		if !fault.Is(err, fault.Internal) {
			t.Errorf("a list of everything was given: %v", err)
		}
	})
}

func TestDeletedGrantIsGoneForGood(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		g := w.put(t, key(), tokens("one", "profile"))
		fence, _ := w.lease(t, g, "refreshing")
		var gone *Withdrawn
		w.update(t, func(tx *store.Tx) (err error) { gone, err = w.Delete(tx, other, g.ID); return err })
		if gone != nil || w.find(t, key()) == nil {
			t.Fatal("another account deleted it")
		}
		w.update(t, func(tx *store.Tx) (err error) { gone, err = w.Delete(tx, account, g.ID); return err })
		refresh, access, err := w.OpenWithdrawn(t.Context(), gone)
		if err != nil || refresh.Reveal() != "refresh-one" || access.Reveal() != "access-one" || gone.Origin != tokens("one").Origin {
			t.Errorf("withdrawn as %+v, %v", gone.Origin, err)
		}
		if w.putRefreshed(t, g, fence, tokens("late")) {
			t.Error("a refresh that was under way stored its tokens")
		}
		if w.find(t, key()) != nil {
			t.Error("it is still found")
		}
		if _, ok := w.lease(t, g, "late"); ok {
			t.Error("it can still be leased")
		}
		w.update(t, func(tx *store.Tx) (err error) { gone, err = w.Delete(tx, account, g.ID); return err })
		if gone != nil {
			t.Error("deleted twice")
		}
		// The same person may consent again, and nothing of before comes back.
		again := w.put(t, key(), tokens("two"))
		if again.ID == g.ID || again.Version != 1 {
			t.Errorf("made again as %+v", again)
		}
		if w.putRefreshed(t, g, fence, tokens("late")) || w.access(t, w.find(t, key())) != "access-two" {
			t.Error("the old refresh spoiled the new grant")
		}
	})
}

func TestFailuresBackOffAndAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, key(), tokens("one"))
	fail := func(retryAfter time.Duration) time.Duration {
		t.Helper()
		g := w.find(t, key())
		fence, ok := w.lease(t, g, "me")
		if !ok {
			t.Fatal("no lease")
		}
		w.update(t, func(tx *store.Tx) error { return w.Failed(tx, g, fence, retryAfter) })
		g = w.find(t, key())
		return g.NextRefresh.Sub(g.FailedAt)
	}
	longest := time.Second
	for i := range 12 {
		if got := fail(0); got > longest || got < longest/2 {
			t.Errorf("after failure %d the provider is left alone for %v, want %v to %v", i+1, got, longest/2, longest)
		}
		longest = min(2*longest, maxDelay)
	}
	if got := fail(20 * time.Minute); got != 20*time.Minute {
		t.Errorf("a provider that asks for 20 minutes gets %v", got)
	}
	if got := fail(48 * time.Hour); got != maxRetryAfter {
		t.Errorf("a provider that asks for two days gets %v", got)
	}
	g := w.find(t, key())
	if g.Failures != 14 || g.State != Active {
		t.Errorf("after failures the grant is %+v", g)
	}
	fence, _ := w.lease(t, g, "me")
	w.putRefreshed(t, g, fence, Tokens{Access: secret.New("new")})
	if g = w.find(t, key()); g.Failures != 0 || !g.NextRefresh.IsZero() || !g.FailedAt.IsZero() {
		t.Errorf("a success left %+v", g)
	}
	fail(0)
	if g = w.put(t, key(), tokens("two")); g.Failures != 0 || !g.NextRefresh.IsZero() {
		t.Errorf("a new consent left %+v", g)
	}
	// Who lost the lease has nothing to say.
	g = w.find(t, key())
	slow, _ := w.lease(t, g, "slow")
	w.late.Add(int64(2 * time.Minute))
	w.lease(t, g, "fast")
	w.update(t, func(tx *store.Tx) error { return w.Failed(tx, g, slow, 0) })
	if w.find(t, key()).Failures != 0 {
		t.Error("a failure without the lease was counted")
	}
}

func TestRenewedLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.put(t, key(), tokens("one"))
	fence, _ := w.lease(t, g, "me") // for a minute
	renew := func() (ok bool) {
		t.Helper()
		w.update(t, func(tx *store.Tx) (err error) { ok, err = w.Renew(tx, g, fence, time.Minute); return err })
		return ok
	}
	for range 3 {
		w.late.Add(int64(40 * time.Second))
		if !renew() {
			t.Fatal("the holder lost its lease")
		}
		if _, ok := w.lease(t, g, "other"); ok {
			t.Fatal("a renewed lease was given to another")
		}
	}
	w.late.Add(int64(61 * time.Second))
	if _, ok := w.lease(t, g, "other"); !ok {
		t.Fatal("a lease that nobody renews does not end")
	}
	if renew() {
		t.Error("a lost lease was renewed")
	}
	cached, _ := w.leaseCached(t, 0, "me")
	var ok bool
	w.update(t, func(tx *store.Tx) (err error) { ok, err = w.RenewCached(tx, cached, time.Minute); return err })
	if !ok {
		t.Error("the lease of a cached token cannot be renewed")
	}
	w.putCached(t, cached, "token", time.Now().Add(time.Hour))
	w.update(t, func(tx *store.Tx) (err error) { ok, err = w.RenewCached(tx, cached, time.Minute); return err })
	if ok {
		t.Error("a lease that was given back was renewed")
	}
}

func TestCachedTokensOfAUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := principal.User{Issuer: ada.Issuer, Subject: "bob"}
	for _, k := range []CachedKey{
		{Account: account, WorkloadID: "agent", ProviderID: "google", Lookup: "1", User: ada}, {Account: account, WorkloadID: "second", ProviderID: "google", Lookup: "2", User: ada},
		{Account: account, WorkloadID: "agent", ProviderID: "google", Lookup: "3", User: bob}, {Account: account, WorkloadID: "agent", ProviderID: "google", Lookup: "4"},
	} {
		w.update(t, func(tx *store.Tx) error { _, _, err := w.LeaseCached(tx, k, 0, "me", time.Minute); return err })
	}
	drop := func(f Filter, want int64) {
		t.Helper()
		w.update(t, func(tx *store.Tx) error {
			if n, err := w.DropCachedOf(tx, f); err != nil || n != want {
				t.Errorf("%d dropped, %v; want %d", n, err, want)
			}
			return nil
		})
	}
	drop(Filter{Account: account}, 0)
	drop(Filter{Account: other, User: ada}, 0)
	drop(Filter{Account: account, User: ada, WorkloadID: "second"}, 1)
	drop(Filter{Account: account, User: ada, ProviderID: "slack"}, 0)
	drop(Filter{Account: account, User: ada}, 1)
	if n := w.rows(t); n != 2 {
		t.Errorf("%d rows are left", n)
	}
}
