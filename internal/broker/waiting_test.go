package broker

import (
	"strconv"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

func numbered(i int) TokenRequest {
	r := ask("profile")
	r.State = secret.New(strconv.Itoa(i))
	return r
}

func (w *world) openSessions(t *testing.T) int {
	t.Helper()
	return w.count(t, `SELECT COUNT(*) FROM authorization_sessions WHERE state = $1 AND expires > $2`, open, store.Micros(w.db.Now()))
}

// fill opens a session for each of so many people.
func (w *world) fill(t *testing.T, people int) (first *TokenResult) {
	t.Helper()
	for i := range people {
		link := w.link(t, w.as(t, "agent", "person-"+strconv.Itoa(i)), ask("profile"))
		if first == nil {
			first = link
		}
	}
	return first
}

// Whoever asks without end replaces their own.
func TestOnePersonDoesNotShutOutOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.as(t, "agent", "bob")
	his := w.link(t, bob, ask("profile"))
	mallory := w.as(t, "agent", "mallory")
	first := w.link(t, mallory, numbered(0))
	for i := range openLimit + 20 {
		w.later(time.Second)
		browser := newBrowser("mallory")
		link := w.link(t, mallory, numbered(i+1))
		back := w.allow(t, browser, w.open(t, browser, link))
		back.Code = secret.New("made up")
		w.callback(t, back)
	}
	if n := w.openSessions(t); n != openLimit {
		t.Errorf("%d sessions are open, want %d", n, openLimit)
	}
	poll := numbered(0)
	poll.SessionURI = first.SessionURI
	_, err := w.UserToken(t.Context(), mallory, poll)
	wantFault(t, err, fault.Denied, "Newer requests took its place")
	_, err = w.tryOpen(t.Context(), newBrowser("mallory"), first)
	wantFault(t, err, fault.Denied, "Newer requests")
	if w.link(t, bob, ask("profile")).SessionURI != his.SessionURI {
		t.Error("Bob's link was taken from him")
	}
	w.consented(t, "agent", "ada", ask("profile")) // in the place of one of Mallory's
	if n := w.openSessions(t); n > openLimit {
		t.Errorf("%d sessions are open", n)
	}
}

// Where each has one, the one left alone the longest goes, and nobody's who is at it.
func TestACrowd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.fill(t, openLimit)
	ada := w.as(t, "agent", "ada")
	_, err := w.UserToken(t.Context(), ada, ask("profile"))
	wantFault(t, err, fault.Throttled, "100 users are consenting")
	if wait := fault.Of(err).RetryAfter; wait <= 0 || wait > busyFor {
		t.Errorf("to be tried again after %s", wait)
	}
	w.link(t, w.as(t, "agent", "person-1"), ask("email")) // who has one, and so loses it
	if n := w.openSessions(t); n != openLimit {
		t.Errorf("%d sessions are open, want %d", n, openLimit)
	}
	w.workload(t, "second", returnURL)
	w.link(t, w.as(t, "second", "ada"), ask("profile"))

	w.later(busyFor)
	person := newBrowser("person-0")
	attempt := w.open(t, person, first) // late, and at it now
	w.link(t, ada, ask("profile"))
	w.callback(t, w.allow(t, person, attempt))
	if err := w.completeAs(t.Context(), first, byID("person-0")); err != nil {
		t.Error(err)
	}
}
