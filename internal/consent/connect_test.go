package consent_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// speakFor is the agent's caller for a person who is known by a sign-in token.
func (w *world) speakFor(t *testing.T, person string) principal.Caller {
	t.Helper()
	tokens, err := w.demo.Issue(person, demoidp.SignInClientID, "openid")
	if err != nil {
		t.Fatal(err)
	}
	root := principal.Caller{Kind: principal.Key, Account: account, Root: true}
	token, err := w.agents.GetWorkloadAccessTokenForJWT(t.Context(), root, &api.GetWorkloadAccessTokenForJWTRequest{WorkloadName: "mail-agent", UserToken: secret.New(tokens.ID)})
	if err != nil {
		t.Fatal(err)
	}
	caller, err := w.agents.Open(t.Context(), root, token.WorkloadAccessToken)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

// hosted is a link of Ada's agent that ends on the hosted page.
func (w *world) hosted(t *testing.T, query string) *broker.TokenResult {
	t.Helper()
	w.caller = w.speakFor(t, demoidp.Ada)
	return w.ask(t, func(r *broker.TokenRequest) { r.ReturnURL = w.url + broker.DonePath + query })
}

// come opens the link, allows it at the provider, and stands before the hosted page.
func (b browser) come(w *world, link *broker.TokenResult) (page string) {
	b.t.Helper()
	landed := b.get(b.decide(w, b.open(link.AuthorizationURL.Reveal()), "allow"))
	page = landed.header.Get("Location")
	if landed.status != http.StatusSeeOther || !strings.HasPrefix(page, w.url+broker.DonePath) {
		b.t.Fatalf("landed at %d %s", landed.status, page)
	}
	return page
}

// signIn goes on to the issuer as the browser's person and returns the answer's address.
func (b browser) signIn(w *world, page string) string {
	b.t.Helper()
	sent := b.get(page)
	location := sent.header.Get("Location")
	if sent.status != http.StatusSeeOther || !strings.HasPrefix(location, w.demo.Issuer()+"/authorize?") {
		b.t.Fatalf("the hosted page answers %d %s:\n%s", sent.status, location, sent.body)
	}
	return b.decide(w, location, "allow")
}

func (b browser) finish(w *world, page string) answer {
	b.t.Helper()
	back := b.get(b.signIn(w, page))
	if back.status != http.StatusSeeOther {
		return back
	}
	return b.get(back.header.Get("Location"))
}

func TestHostedCompletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.hosted(t, back)
	ada := newBrowser(t)
	if page := ada.get(asked.AuthorizationURL.Reveal()).body; !strings.Contains(page, "To finish, sign in at") || !strings.Contains(page, "Then you return to</dt><dd>app.example<") {
		t.Errorf("the page does not say where this ends:\n%s", page)
	}
	page := ada.come(w, asked)
	answered := ada.signIn(w, page)
	sent, err := url.Parse(answered)
	if err != nil || !strings.HasPrefix(answered, broker.SignInRedirectURL(w.url, w.demo.Issuer())+"?") {
		t.Fatalf("the issuer sends the browser to %s, %v", answered, err)
	}
	home := ada.get(answered)
	if home.status != http.StatusSeeOther || home.header.Get("Location") != page {
		t.Fatalf("after the sign-in: %d %s, want the page %s:\n%s", home.status, home.header.Get("Location"), page, home.body)
	}
	for range 2 { // a reload changes nothing
		done := ada.get(page)
		if done.status != http.StatusOK {
			t.Fatalf("the last page answers %d:\n%s", done.status, done.body)
		}
		for _, want := range []string{"Mail agent may now use your Demo provider account", `href="https://app.example/chat"`, "Back to app.example", "<code>profile</code>"} {
			if !strings.Contains(done.body, want) {
				t.Errorf("the last page lacks %q:\n%s", want, done.body)
			}
		}
		if done.header.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(done.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("the last page has %v", done.header)
		}
	}
	if got := w.ask(t, func(r *broker.TokenRequest) { r.ReturnURL = "" }); got.Access.Empty() {
		t.Error("after the consent there is no token")
	}

	// Back, and again: the answer was for once. Another browser is told nothing.
	if again := ada.get(answered); again.status != http.StatusForbidden || again.header.Get("Location") != "" {
		t.Errorf("the answer worked twice: %d", again.status)
	}
	if other := newBrowser(t).get(page); other.status != http.StatusForbidden || strings.Contains(other.body, "Mail agent") || !strings.Contains(other.body, "another browser") {
		t.Errorf("another browser gets %d:\n%s", other.status, other.body)
	}
	w.nothingLeaked(t, asked.SessionURI, answered)
	for _, hidden := range []string{sent.Query().Get("state"), sent.Query().Get("code")} {
		if strings.Contains(w.logs.String(), hidden) {
			t.Error("a log has the sign-in's secrets")
		}
	}
	records, _, err := w.records.List(t.Context(), audit.Query{Account: account, Action: "onbehalf:Connect"})
	if err != nil {
		t.Fatal(err)
	}
	completed := 0
	for _, r := range records {
		if r.Detail["session_outcome"] == "completed" && r.Detail["completed_on"] == "hosted page" && r.Detail["grant"] != "" && r.Detail["session_workload"] == "mail-agent" && strings.Contains(r.Detail["session_user"], demoidp.Ada) {
			completed++
		}
	}
	if completed != 1 {
		t.Errorf("the audit tells of %d completions: %+v", completed, records)
	}
}

// Grace goes through with Ada's link and signs in as herself. Nothing of hers is
// kept, and Ada can still go through; this time the issuer asks who she is.
func TestHostedPageTurnsOthersAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.hosted(t, "")
	grace := newBrowser(t)
	grace.person = demoidp.Grace
	page := grace.come(w, asked)
	got := grace.finish(w, page)
	if got.status != http.StatusForbidden || !strings.Contains(got.body, "asked for somebody else") || strings.Contains(got.body, "Mail agent") || strings.Contains(got.body, asked.SessionURI) {
		t.Errorf("Grace gets %d:\n%s", got.status, got.body)
	}
	if again := grace.get(page); again.status != http.StatusForbidden || again.header.Get("Location") != "" {
		t.Errorf("Grace may try again: %d", again.status)
	}
	if n := w.demo.TokenRequests("authorization_code"); n != 1 { // of the sign-in
		t.Errorf("%d codes were redeemed", n)
	}
	ada := newBrowser(t)
	page = ada.come(w, asked)
	if sent := ada.get(page); !strings.Contains(sent.header.Get("Location"), "prompt=login") {
		t.Errorf("the issuer is not told to ask: %s", sent.header.Get("Location"))
	}
	if done := ada.finish(w, page); done.status != http.StatusOK || !strings.Contains(done.body, "may now use") {
		t.Errorf("Ada gets %d:\n%s", done.status, done.body)
	}
}

// What a thief of a link, a finished address or an answer can do with them: nothing.
func TestHostedPageIsTheBrowsersOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.hosted(t, "")

	// Mallory goes through Ada's link with her own account at the provider, and gets Ada to open the address that she ended at.
	mallory := newBrowser(t)
	mallory.person = demoidp.Grace
	stolen := mallory.come(w, asked)
	ada := newBrowser(t)
	if got := ada.get(stolen); got.status != http.StatusForbidden || got.header.Get("Location") != "" || !strings.Contains(got.body, "another browser") {
		t.Errorf("Ada, with Mallory's address, gets %d %s", got.status, got.header.Get("Location"))
	}
	// Ada is on her own way. Mallory's answer of the issuer, planted in Ada's browser, is not hers.
	page := ada.come(w, asked)
	hers := ada.signIn(w, page)
	planted := mallory.signIn(w, stolen)
	if got := ada.get(planted); got.status != http.StatusForbidden || got.header.Get("Location") != "" {
		t.Errorf("Ada's browser takes Mallory's answer: %d", got.status)
	}
	// Nor is Ada's answer good in Mallory's browser, also with the other's state.
	if got := mallory.get(hers); got.status != http.StatusForbidden || got.header.Get("Location") != "" {
		t.Errorf("Mallory's browser takes Ada's answer: %d", got.status)
	}
	swap := func(to, from, name string) string {
		a, _ := url.Parse(to)
		b, _ := url.Parse(from)
		query := a.Query()
		query.Set(name, b.Query().Get(name))
		a.RawQuery = query.Encode()
		return a.String()
	}
	// Ada's code under Mallory's own state: the verifier is another, and the nonce would be.
	if got := mallory.get(swap(planted, hers, "code")); got.status != http.StatusForbidden && got.status != http.StatusBadGateway || got.header.Get("Location") != "" {
		t.Errorf("Mallory's browser takes Ada's code: %d %s", got.status, got.header.Get("Location"))
	}
	// An answer that names another issuer, or none, or comes to another issuer's address.
	for name, address := range map[string]string{
		"another issuer":           swap(hers, "https://x/?iss=https%3A%2F%2Fevil.example", "iss"),
		"no issuer":                swap(hers, "https://x/", "iss"),
		"another issuer's address": strings.Replace(hers, broker.SignInRedirectURL(w.url, w.demo.Issuer()), broker.SignInRedirectURL(w.url, "https://evil.example"), 1),
		"a guessed state":          swap(hers, "https://x/?state=guessed", "state"),
		"two states":               hers + "&state=x",
	} {
		if got := ada.get(address); got.status < 400 || got.header.Get("Location") != "" {
			t.Errorf("%s: %d %s", name, got.status, got.header.Get("Location"))
		}
	}
	// None of it spoiled Ada's way... but her code was sent under Mallory's state, so the issuer has seen it: she signs in once more.
	if done := ada.finish(w, page); done.status != http.StatusOK {
		t.Errorf("Ada gets %d:\n%s", done.status, done.body)
	}
	token := w.ask(t, func(r *broker.TokenRequest) { r.ReturnURL = "" })
	if token.Access.Empty() || !strings.Contains(whose(t, w, token.Access.Reveal()), "Ada") {
		t.Error("the account behind Ada's agent is not Ada's")
	}
}

func whose(t *testing.T, w *world, access string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.demo.Issuer()+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+access)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// A sign-in that fails spoils nothing: the page has a way to try again.
func TestHostedSignInFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.hosted(t, "")
	ada := newBrowser(t)
	page := ada.come(w, asked)
	sent := ada.get(page)
	state, err := url.Parse(sent.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	refused := broker.SignInRedirectURL(w.url, w.demo.Issuer()) + "?" + url.Values{"state": {state.Query().Get("state")}, "error": {"access_denied"}, "iss": {w.demo.Issuer()}}.Encode()
	got := ada.get(refused)
	again := button.FindStringSubmatch(got.body)
	if got.status != http.StatusForbidden || again == nil || strings.ReplaceAll(again[1], "&amp;", "&") != page {
		t.Fatalf("a failed sign-in: %d:\n%s", got.status, got.body)
	}
	if done := ada.finish(w, page); done.status != http.StatusOK {
		t.Errorf("the second try: %d:\n%s", done.status, done.body)
	}
}

func TestHostedDenial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.hosted(t, "")
	ada := newBrowser(t)
	landed := ada.get(ada.decide(w, ada.open(asked.AuthorizationURL.Reveal()), "deny"))
	if strings.Contains(landed.header.Get("Set-Cookie"), "onbehalf-connect") {
		t.Error("there is nothing to finish, and a cookie for it")
	}
	if got := ada.get(landed.header.Get("Location")); got.status != http.StatusOK || !strings.Contains(got.body, "You said no") || strings.Contains(got.body, "Mail agent") {
		t.Errorf("declined: %d:\n%s", got.status, got.body)
	}
}

// Where an agent has several accounts of one person, the page says which is meant.
func TestNamedAccountIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.ask(t, func(r *broker.TokenRequest) { r.Parameters = map[string]string{"onbehalf_account": "work-2"} })
	if page := newBrowser(t).get(asked.AuthorizationURL.Reveal()); !strings.Contains(page.body, "With the account called</dt><dd>work-2<") {
		t.Errorf("the page does not say which account:\n%s", page.body)
	}
	if page := newBrowser(t).get(w.link(t)); strings.Contains(page.body, "With the account called") {
		t.Error("there is one account, and it has a name")
	}
}

func TestHostedPageTellsOfTheProvidersError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.hosted(t, "")
	ada := newBrowser(t)
	sent, err := url.Parse(ada.open(asked.AuthorizationURL.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	answer := sent.Query().Get("redirect_uri") + "?" + url.Values{
		"state": {sent.Query().Get("state")}, "iss": {w.demo.Issuer()}, "error": {"server_error"}, "error_description": {"<b>phone us</b>"},
	}.Encode()
	got := ada.get(ada.get(answer).header.Get("Location"))
	if got.status != http.StatusBadGateway || !strings.Contains(got.body, "reported an error") || strings.Contains(got.body, "phone us") {
		t.Errorf("the page is %d:\n%s", got.status, got.body)
	}
}

// What cannot end on the hosted page is refused before anybody is asked.
func TestHostedPageIsRefusedInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ask := func(returnURL string) error {
		_, err := w.broker.UserToken(t.Context(), w.caller, broker.TokenRequest{ProviderName: "demo-provider", Scopes: []string{"openid"}, ReturnURL: returnURL})
		return err
	}
	refused := func(err error, text string) {
		t.Helper()
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	refused(ask(w.url+broker.DonePath), "GetWorkloadAccessTokenForJWT") // the caller's user is an id
	w.caller = w.speakFor(t, demoidp.Ada)
	refused(ask(w.url+broker.DonePath+"?next=x"), "nothing behind it but ?back=")
	refused(ask(w.url+broker.DonePath+"?back=https%3A%2F%2Fevil.example"), "character by character")
	w.caller.User.Issuer = "https://elsewhere.example"
	refused(ask(w.url+broker.DonePath), "--sign-in")

	// And the application cannot complete what ends there.
	w.caller = w.speakFor(t, demoidp.Ada)
	asked := w.hosted(t, "")
	ada := newBrowser(t)
	page, err := url.Parse(ada.come(w, asked))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := w.demo.Issue(demoidp.Ada, demoidp.SignInClientID, "openid")
	if err != nil {
		t.Fatal(err)
	}
	identifier := &api.UserIdentifier{UserToken: secret.Pointer(tokens.ID)}
	_, err = w.broker.CompleteResourceTokenAuth(t.Context(), principal.Caller{Kind: principal.Key, Account: account, Root: true}, &api.CompleteResourceTokenAuthRequest{SessionUri: page.Query().Get("session_id"), UserIdentifier: identifier})
	if !fault.Is(err, fault.Denied) || !strings.Contains(fault.Of(err).Message, "own page") {
		t.Errorf("completed by the application: %v", err)
	}
}

// A session of an application's own page is none of the hosted page's.
func TestHostedPageIsNotForOtherSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := newBrowser(t)
	landed := ada.get(ada.decide(w, ada.open(w.link(t)), "allow"))
	there, err := url.Parse(landed.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{w.url + broker.DonePath, w.url + broker.DonePath + "?session_id=x", w.url + broker.DonePath + "?" + there.RawQuery, w.url + "/connect/", w.url + broker.SignedInPath + "x?state=s&code=c"} {
		if got := ada.get(address); got.status < 400 || got.header.Get("Location") != "" {
			t.Errorf("%s answers %d", address, got.status)
		}
	}
}
