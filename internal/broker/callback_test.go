package broker

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func TestCallbacksThatDoNotPass(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.idp.with(func(p *idp) { p.issuerParam = true })
	w.workload(t, "agent", returnURL)
	w.provider(t, "google", w.idp)
	w.provider(t, "second", newIDP(t))
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	person := newBrowser("ada")
	good := w.allow(t, person, w.open(t, person, link))
	someoneElse := newBrowser("eve")
	eves := w.open(t, someoneElse, link)

	for name, c := range map[string]struct {
		change func(*Callback)
		kind   fault.Kind
		text   string
	}{
		"no cookie":                  {func(c *Callback) { c.Cookie = func(string) string { return "" } }, fault.Denied, "This browser did not begin"},
		"another browser's cookies":  {func(c *Callback) { c.Cookie = func(name string) string { return someoneElse.cookies[name] } }, fault.Denied, "This browser did not begin"},
		"another attempt's cookie":   {func(c *Callback) { c.Cookie = func(string) string { return eves.CookieValue } }, fault.Denied, "This browser did not begin"},
		"no cookies at all":          {func(c *Callback) { c.Cookie = nil }, fault.Denied, "unknown here"},
		"no state":                   {func(c *Callback) { c.State = "" }, fault.Denied, "unknown here"},
		"a guessed state":            {func(c *Callback) { c.State = unguessable() }, fault.Denied, "unknown here"},
		"another provider's path":    {func(c *Callback) { c.ProviderCallbackID = callbackID(account, "second") }, fault.Denied, "unknown here"},
		"another account's path":     {func(c *Callback) { c.ProviderCallbackID = callbackID(other, "google") }, fault.Denied, "unknown here"},
		"another provider's iss":     {func(c *Callback) { c.Issuer = "https://evil.example" }, fault.Denied, "not come from the provider"},
		"no iss, though promised":    {func(c *Callback) { c.Issuer = "" }, fault.Denied, "not come from the provider"},
		"neither code nor error":     {func(c *Callback) { c.Code = secret.Text{} }, fault.Invalid, "neither a code nor an error"},
		"a denial without cookie":    {func(c *Callback) { c.Error, c.Cookie = "access_denied", func(string) string { return "" } }, fault.Denied, "This browser did not begin"},
		"a denial from another iss":  {func(c *Callback) { c.Error, c.Issuer = "access_denied", "https://evil.example" }, fault.Denied, "not come from the provider"},
		"a denial without its state": {func(c *Callback) { c.Error, c.State = "access_denied", "" }, fault.Denied, "unknown here"},
	} {
		bad := good
		c.change(&bad)
		_, err := w.Callback(t.Context(), frontChannel(), bad)
		if !fault.Is(err, c.kind) || !strings.Contains(fault.Of(err).Message, c.text) {
			t.Errorf("%s: %v", name, err)
		}
		for text, sentinel := range map[string]error{"This browser": ErrOtherBrowser, "unknown here": ErrAttempt, "not come from": ErrIssuer} {
			if errors.Is(err, sentinel) != strings.Contains(c.text, text) {
				t.Errorf("%s: %v has %v as its cause: %v", name, err, sentinel, errors.Is(err, sentinel))
			}
		}
	}
	// None of it spoiled anything.
	w.callback(t, good)
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	w.token(t, ada, ask("profile"))
}

// Whoever else has the link, and comes back with a code of his own, made up or
// not, blocks nobody: which code is redeemed is decided by the proof.
func TestEachAttemptParksItsOwnCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	adas, bobs, junk := newBrowser("ada"), newBrowser("bob"), newBrowser("nobody")
	early := w.open(t, adas, link)
	made := w.allow(t, junk, w.open(t, junk, link))
	made.Code = secret.New("made up")
	w.callback(t, made)
	bob := w.callback(t, w.allow(t, bobs, w.open(t, bobs, link)))
	again := w.allow(t, adas, early)
	mine := w.callback(t, again)
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_attempts WHERE code IS NOT NULL`); n != 3 {
		t.Errorf("%d codes are parked", n)
	}
	// An attempt comes back once, and the link is still good.
	_, err := w.Callback(t.Context(), frontChannel(), again)
	wantFault(t, err, fault.Conflict, "come back already")
	w.open(t, newBrowser("ada"), link)

	// The sessionUri alone says nothing about whose code is meant.
	wantFault(t, w.completeWith(t.Context(), link.SessionURI, byID("ada")), fault.Denied, "session_id")
	// Bob at the application as Bob spoils his own code alone.
	wantFault(t, w.completeWith(t.Context(), sessionID(t, bob), byID("bob")), fault.Denied, "another user")
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_attempts WHERE code IS NOT NULL`); n != 2 {
		t.Errorf("%d codes are parked", n)
	}
	if err := w.completeWith(t.Context(), sessionID(t, mine), byID("ada")); err != nil {
		t.Fatal(err)
	}
	if token := w.token(t, ada, ask("profile")); !strings.HasPrefix(token, "canary-access-ada-") {
		t.Errorf("the token is %s", token)
	}
	if _, all := w.idp.counts(); all != 1 {
		t.Errorf("%d codes were sent", all)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_attempts WHERE code IS NOT NULL`); n != 0 {
		t.Errorf("%d codes are left", n)
	}
}

// Codes of strangers make room for newer ones, not newer ones for theirs.
func TestParkedCodesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	for range parkedLimit + 5 {
		stranger := newBrowser("nobody")
		back := w.allow(t, stranger, w.open(t, stranger, link))
		back.Code = secret.New("made up")
		w.callback(t, back)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_attempts WHERE code IS NOT NULL`); n != parkedLimit {
		t.Errorf("%d codes are kept, want %d", n, parkedLimit)
	}
	w.goThrough(t, newBrowser("ada"), link)
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	w.token(t, ada, ask("profile"))
}

// A stranger's no does not undo what the person has allowed.
func TestDenialByAnotherBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	bobs := newBrowser("bob")
	attempt := w.open(t, bobs, link)
	adas := w.goThrough(t, newBrowser("ada"), link)
	w.idp.with(func(p *idp) { p.denyWith = "access_denied" })
	if landing := w.callback(t, w.allow(t, bobs, attempt)); !landing.Denied {
		t.Error("Bob's no was not heard")
	}
	if err := w.completeWith(t.Context(), sessionID(t, adas), byID("ada")); err != nil {
		t.Fatal(err)
	}
	w.token(t, ada, ask("profile"))
}

// A code that comes back under another attempt's state is sent with that
// attempt's verifier, and the provider refuses it.
func TestSwappedCodeIsWorthless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	adas, bobs := newBrowser("ada"), newBrowser("bob")
	callback := w.allow(t, adas, w.open(t, adas, link))
	callback.Code = w.allow(t, bobs, w.open(t, bobs, link)).Code
	w.callback(t, callback)
	err := w.completeAs(t.Context(), link, byID("ada"))
	wantFault(t, err, fault.Upstream, "invalid_grant")
	if strings.Contains(fault.Of(err).Message, "canary") {
		t.Errorf("the provider's words came through: %s", fault.Of(err).Message)
	}
	poll := ask("profile")
	poll.SessionURI = link.SessionURI
	_, err = w.UserToken(t.Context(), ada, poll)
	wantFault(t, err, fault.Denied, "could not be redeemed")
	if w.link(t, ada, ask("profile")).SessionURI == link.SessionURI {
		t.Error("a failed session was handed out again")
	}
}

func TestLinkPreviews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	for range 3 * attemptLimit {
		w.open(t, newBrowser("nobody"), link)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_attempts`); n != attemptLimit {
		t.Errorf("%d attempts are kept, want %d", n, attemptLimit)
	}
	person := newBrowser("ada")
	attempt := w.open(t, person, link)
	for range attemptLimit - 1 {
		w.open(t, newBrowser("nobody"), link)
	}
	w.callback(t, w.allow(t, person, attempt))
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	w.token(t, ada, ask("profile"))
}

func TestDenial(t *testing.T) {
	t.Parallel()
	for given, shown := range map[string]struct{ code, reason string }{
		"access_denied":              {"access_denied", "The user did not allow it at the provider (access_denied)."},
		"temporarily_unavailable":    {"temporarily_unavailable", "(temporarily_unavailable)"},
		"<script>alert(1)</script>":  {"server_error", "The provider answered with an error."},
		strings.Repeat("longer", 50): {"server_error", "The provider answered with an error."},
	} {
		w := newWorld(t)
		w.idp.with(func(p *idp) { p.denyWith = given })
		ada := w.as(t, "agent", "ada")
		request := ask("profile")
		request.State = secret.New("state of the application")
		link := w.link(t, ada, request)
		person := newBrowser("ada")
		callback := w.allow(t, person, w.open(t, person, link))
		landing := w.callback(t, callback)
		want := returnURL + "&session_id=" + url.QueryEscape(link.SessionURI) + "&state=state+of+the+application&error=" + shown.code
		if !landing.Denied || landing.ReturnURL != want {
			t.Errorf("the browser lands at %+v, want %s", landing, want)
		}
		poll := request
		poll.SessionURI = link.SessionURI
		_, err := w.UserToken(t.Context(), ada, poll)
		wantFault(t, err, fault.Denied, shown.reason)
		wantFault(t, w.completeAs(t.Context(), link, byID("ada")), fault.Denied, shown.reason)
		_, err = w.tryOpen(t.Context(), person, link)
		wantFault(t, err, fault.Denied, shown.reason)
		_, err = w.Callback(t.Context(), frontChannel(), callback)
		wantFault(t, err, fault.Denied, "unknown here")
		if w.link(t, ada, request).SessionURI == link.SessionURI {
			t.Error("a denied session was handed out again")
		}
	}
}

func TestTimeIsUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	person := newBrowser("ada")
	callback := w.allow(t, person, w.open(t, person, link))
	poll := ask("profile")
	poll.SessionURI = link.SessionURI

	w.later(sessionLifetime - 30*time.Second)
	w.open(t, newBrowser("ada"), link)
	if w.link(t, ada, ask("profile")).SessionURI == link.SessionURI {
		t.Error("a link with half a minute to live was handed out again")
	}
	w.later(30 * time.Second)
	_, err := w.tryOpen(t.Context(), person, link)
	wantFault(t, err, fault.Denied, "good for 10 minutes")
	_, err = w.Callback(t.Context(), frontChannel(), callback)
	wantFault(t, err, fault.Denied, "good for 10 minutes")
	_, err = w.UserToken(t.Context(), ada, poll)
	wantFault(t, err, fault.Denied, "Invalid or expired session")

	// Parked in time, completed too late.
	late := w.link(t, ada, ask("email"))
	w.goThrough(t, newBrowser("ada"), late)
	w.later(sessionLifetime)
	wantFault(t, w.completeAs(t.Context(), late, byID("ada")), fault.Denied, "Invalid or expired session")
	if _, all := w.idp.counts(); all != 0 {
		t.Error("a code was sent after its session's end")
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	w.goThrough(t, newBrowser("ada"), w.link(t, ada, ask("profile")))
	w.open(t, newBrowser("ada"), w.link(t, ada, ask("email")))
	sweep := func(wantSessions, wantAttempts int) {
		t.Helper()
		if err := w.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, a := w.count(t, `SELECT COUNT(*) FROM authorization_sessions`), w.count(t, `SELECT COUNT(*) FROM authorization_attempts`); s != wantSessions || a != wantAttempts {
			t.Errorf("%d sessions and %d attempts are left, want %d and %d", s, a, wantSessions, wantAttempts)
		}
	}
	sweep(2, 2)
	w.later(sessionLifetime)
	sweep(2, 0)
	w.later(rememberFor)
	sweep(0, 0)
}

func TestForeignSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.workload(t, "second", returnURL)
	w.provider(t, "slack", w.idp)
	ada := w.consented(t, "agent", "ada", ask("profile"))
	link := w.link(t, ada, ask("email"))
	w.goThrough(t, newBrowser("ada"), link)
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	poll := ask("email")
	poll.SessionURI = link.SessionURI
	w.token(t, ada, poll)

	_, err := w.UserToken(t.Context(), w.as(t, "second", "ada"), poll)
	wantFault(t, err, fault.Denied, "Invalid or expired session")
	_, err = w.UserToken(t.Context(), w.as(t, "agent", "bob"), poll)
	wantFault(t, err, fault.Denied, "Invalid or expired session")
	elsewhere := poll
	elsewhere.ProviderName = "slack" // which a policy may allow where it forbids the other
	_, err = w.UserToken(t.Context(), ada, elsewhere)
	wantFault(t, err, fault.Denied, "Invalid or expired session")
	wider := poll
	wider.Scopes = []string{"email", "everything"}
	_, err = w.UserToken(t.Context(), ada, wider)
	wantFault(t, err, fault.Invalid, "fewer scopes")
	for _, uri := range []string{sessionURIPrefix + "guess", "urn:other:" + link.SessionURI} {
		guess := poll
		guess.SessionURI = uri
		_, err = w.UserToken(t.Context(), ada, guess)
		wantFault(t, err, fault.Denied, "Invalid or expired session")
	}
}

func TestDeletedAndRecreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.consented(t, "agent", "ada", ask("profile"))
	pending := w.link(t, ada, ask("email"))
	if _, err := w.identity.DeleteWorkloadIdentity(t.Context(), root, &api.DeleteWorkloadIdentityRequest{Name: "agent"}); err != nil {
		t.Fatal(err)
	}
	w.workload(t, "agent", returnURL)
	again := w.as(t, "agent", "ada")
	w.link(t, again, ask("profile")) // nothing was inherited
	_, err := w.tryOpen(t.Context(), newBrowser("ada"), pending)
	wantFault(t, err, fault.Denied, "Invalid or expired session")
	_, err = w.UserToken(t.Context(), ada, ask("profile")) // the old Caller, had one survived
	wantFault(t, err, fault.NotFound, "not exist any more")

	ada = w.consented(t, "agent", "ada", ask("profile"))
	if _, err := w.DeleteOauth2CredentialProvider(t.Context(), root, &api.DeleteOauth2CredentialProviderRequest{Name: "google"}); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM grants`) + w.count(t, `SELECT COUNT(*) FROM authorization_sessions`); n != 0 {
		t.Errorf("%d rows outlived their provider", n)
	}
	w.provider(t, "google", w.idp)
	w.link(t, ada, ask("profile"))
}

func TestWithQuery(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://app.example/done":          "https://app.example/done?a=1&b=x+y",
		"https://app.example/done?":         "https://app.example/done?a=1&b=x+y",
		"https://app.example/done?q=%2F+1":  "https://app.example/done?q=%2F+1&a=1&b=x+y",
		"https://app.example/done?q=1&":     "https://app.example/done?q=1&a=1&b=x+y",
		"https://app.example/done#top":      "https://app.example/done?a=1&b=x+y#top",
		"https://app.example/done?q#a?b":    "https://app.example/done?q&a=1&b=x+y#a?b",
		"myapp:done":                        "myapp:done?a=1&b=x+y",
		"http://localhost:9090/c?x=?y":      "http://localhost:9090/c?x=?y&a=1&b=x+y",
		"https://app.example/?session_id=0": "https://app.example/?session_id=0&a=1&b=x+y",
	} {
		if got := withQuery(address, "a", "1", "b", "x y"); got != want {
			t.Errorf("%s became %s, want %s", address, got, want)
		}
	}
}

func FuzzWithQuery(f *testing.F) {
	f.Add("https://app.example/done?q=1#f", "urn:ietf:params:oauth:request_uri:x", "state & more")
	f.Add("myapp:done", "", "é#?&")
	f.Fuzz(func(t *testing.T, address, id, state string) {
		before, err := url.Parse(address)
		if err != nil || strings.Contains(before.RawQuery, ";") {
			return
		}
		after, err := url.Parse(withQuery(address, "session_id", id, "state", state))
		if err != nil {
			t.Fatalf("%q is no URL any more: %v", address, err)
		}
		if after.Scheme != before.Scheme || after.Host != before.Host || after.Path != before.Path || after.Opaque != before.Opaque || after.Fragment != before.Fragment {
			t.Errorf("%q leads elsewhere: %q", before, after)
		}
		last := func(name string) string {
			values := after.Query()[name]
			return values[len(values)-1]
		}
		if last("session_id") != id || last("state") != state || !strings.HasPrefix(after.RawQuery, strings.TrimRight(before.RawQuery, "&?")) {
			t.Errorf("%q lost something: %q", before, after)
		}
	})
}
