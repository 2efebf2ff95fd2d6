package broker

import (
	"net/url"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Mallory asks, somebody else goes through Mallory's link, and Mallory, who has
// known the sessionUri all along, completes as himself before that person's
// browser is at the application's page.
func TestLuredVictim(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mallory := w.as(t, "agent", "mallory")
	link := w.link(t, mallory, ask("profile"))
	victim := w.goThrough(t, newBrowser("victim"), link)
	landed, err := url.Parse(victim.ReturnURL)
	if err != nil {
		t.Fatal(err)
	}
	victims := landed.Query().Get("session_id")
	if !strings.HasPrefix(victims, link.SessionURI+".") {
		t.Fatalf("the application is told of another session")
	}
	_, proof := splitSessionID(victims)
	for name, session := range map[string]string{
		"the link's own":    link.SessionURI,
		"an empty proof":    link.SessionURI + ".",
		"a guess":           link.SessionURI + "." + unguessable(),
		"part of the proof": victims[:len(victims)-1],
		"and more":          victims + ".",
		"another session's": w.link(t, w.as(t, "agent", "eve"), ask("profile")).SessionURI + "." + proof,
	} {
		if err := w.completeWith(t.Context(), session, byID("mallory")); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nor does it help to have been through before.
	if err := w.completeWith(t.Context(), victims, byID("victim")); !fault.Is(err, fault.Denied) {
		t.Fatal(err)
	}
	first := w.goThrough(t, newBrowser("mallory"), link)
	if err := w.completeAs(t.Context(), link, byID("second account of mallory")); !fault.Is(err, fault.Denied) {
		t.Fatal(err)
	}
	w.goThrough(t, newBrowser("victim"), link)
	landed, err = url.Parse(first.ReturnURL)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.completeWith(t.Context(), landed.Query().Get("session_id"), byID("mallory")); !fault.Is(err, fault.Denied) {
		t.Errorf("with an earlier proof: %v", err)
	}
	if _, all := w.idp.counts(); all != 0 {
		t.Errorf("%d codes were redeemed", all)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
		t.Errorf("there are %d grants", n)
	}
}

// Whoever only knows the link cannot throw away what the person who asked has allowed.
func TestStrangerWithoutProofSpoilsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	w.goThrough(t, newBrowser("ada"), link)
	if err := w.completeWith(t.Context(), link.SessionURI, byID("bob")); !fault.Is(err, fault.Denied) {
		t.Fatal(err)
	}
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	w.token(t, ada, ask("profile"))
}
