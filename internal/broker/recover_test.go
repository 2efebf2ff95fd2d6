package broker

import (
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// A process that starts alone does not wait for the dead.
func TestRecover(t *testing.T) {
	t.Parallel()
	w, ada, old := expiredGrant(t)
	w.exec(t, `UPDATE grants SET lease_holder = 'dead', fence = 1, lease_until = $1`, store.Micros(store.Time(1<<52)))
	w.workload(t, "second", returnURL)
	asker := w.as(t, "second", "ada")
	link := w.link(t, asker, ask("profile"))
	w.goThrough(t, newBrowser("ada"), link)
	w.exec(t, `UPDATE authorization_sessions SET state = $1, redeem_until = $2 WHERE state = $3`, redeeming, store.Micros(store.Time(1<<52)), open)

	restarted := w.replica(t)
	if err := restarted.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if restarted.token(t, ada, ask("profile")) == old {
		t.Error("the token was not renewed")
	}
	wantFault(t, restarted.completeAs(t.Context(), link, byID("ada")), fault.Denied, "interrupted")
	fresh := restarted.link(t, asker, ask("profile"))
	restarted.goThrough(t, newBrowser("ada"), fresh)
	if err := restarted.completeAs(t.Context(), fresh, byID("ada")); err != nil {
		t.Error(err)
	}

	// It ends nothing else.
	if err := restarted.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	restarted.token(t, asker, ask("profile"))
	restarted.token(t, ada, ask("profile"))
}
