package broker

import (
	"context"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Providers are asked beside each other, where no act catches a panic.
func TestPanicWhileAProviderIsAsked(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	quiet := newIDP(t) // has no endpoint for it, and is never asked
	w.provider(t, "quiet", quiet)
	w.consented(t, "agent", "ada", ask("profile"))
	other := ask("profile")
	other.ProviderName = "quiet"
	w.consented(t, "agent", "ada", other)
	w.Broker.oauth = nil
	all, err := w.RevokeUserGrants(t.Context(), root, &api.RevokeUserGrantsRequest{User: &api.EndUser{UserId: pointer("ada")}})
	if err != nil || len(all.RevokedGrants) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	want := map[string]api.ProviderRevocation{"google": api.ProviderRevocationFailed, "quiet": api.ProviderRevocationUnsupported}
	for _, g := range all.RevokedGrants {
		if g.ProviderRevocation != want[g.ProviderName] {
			t.Errorf("%+v", g)
		}
	}
	if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
		t.Errorf("%d grants are left", n)
	}
}

// A lease that nobody renews any more is lost, and so is what is done under it.
func TestPanicWhileALeaseIsRenewed(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.holding = holding{life: time.Hour, renew: time.Millisecond, giveUp: time.Hour}
	_, err := held(t.Context(), w.Broker, func(*store.Tx) (bool, error) { panic("in the middle") }, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	wantFault(t, err, fault.Unavailable, "Try again")
}

// What is denied for one grant denies the whole, also where it is one that this call would not have come to.
func TestDenyBeyondWhatOneCallRevokes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.workload(t, "payroll", returnURL)
	w.consented(t, "agent", "ada", ask("profile"))
	w.exec(t, `INSERT INTO grants SELECT 'g' || n, account, 'lookup' || n, workload_id, user_issuer, user_subject, user_id, provider_id, 'label' || n, resources, audiences, asked, granted,
		state, origin, access_token, refresh_token, expires, version, lease_holder, lease_until, fence, refresh_failures, refresh_failed, next_refresh, created + n, refreshed, last_used
		FROM grants, (WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100) SELECT n FROM numbers) AS many`)
	w.consented(t, "payroll", "ada", ask("profile"))
	w.exec(t, `UPDATE grants SET created = created + 1000000000 WHERE workload_id = (SELECT id FROM workload_identities WHERE name = 'payroll')`) // the newest, whatever the clock says
	limited := w.limited(t)
	user := &api.EndUser{UserId: pointer("ada")}
	_, err := w.RevokeUserGrants(t.Context(), limited, &api.RevokeUserGrantsRequest{User: user})
	wantFault(t, err, fault.Denied, "workload-identity/payroll")
	if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 102 {
		t.Errorf("%d of 102 grants are left", n)
	}
	// The others may go, by themselves: a hundred at once.
	for _, want := range []struct {
		gone int
		more bool
	}{{100, true}, {1, false}} {
		some, err := w.RevokeUserGrants(t.Context(), limited, &api.RevokeUserGrantsRequest{User: user, WorkloadName: pointer("agent")})
		if err != nil || len(some.RevokedGrants) != want.gone || some.Remaining != want.more {
			t.Fatalf("%+v, %v", some, err)
		}
	}
}
