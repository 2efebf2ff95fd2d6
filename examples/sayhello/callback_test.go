package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// The one who asked consents, and the agent has the token.
func TestCallbackCompletes(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	link, session, c := g.expect()
	if g.callback.Expect(session, "") != c {
		t.Error("a session that waits is registered twice")
	}
	if c.Reached() {
		t.Error("nobody has come yet")
	}
	page, status := newBrowser(t, g.Platform, demoidp.Ada).open(link)
	if status != http.StatusOK || !strings.Contains(page, pageCompleted.Title) || !strings.Contains(page, "Signed in as Ada Lovelace.") || !strings.Contains(page, "close this window") {
		t.Errorf("%d %s", status, page)
	}
	if err := outcome(t, c); err != nil {
		t.Fatal(err)
	}
	if token, _, _ := g.ask(""); token == "" || !c.Reached() {
		t.Error("there is no token after the consent")
	}
}

// A link completes once: a replay, by the same browser or another, is told so
// and nothing is asked of the platform.
func TestCallbackIsDoneOnce(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	link, session, c := g.expect()
	ada := newBrowser(t, g.Platform, demoidp.Ada)
	ada.open(link)
	if err := outcome(t, c); err != nil {
		t.Fatal(err)
	}
	asked := calls(g.Platform, "CompleteResourceTokenAuth")
	for _, b := range []*browser{ada, g.signedIn(demoidp.Grace), newBrowser(t, g.Platform, demoidp.Ada)} {
		if page, status := b.arrive(g.returned(session)); status != http.StatusGone || !strings.Contains(page, pageDoneOnce.Title) {
			t.Errorf("a replay: %d %s", status, page)
		}
	}
	stillWaits(t, c)
	if again := calls(g.Platform, "CompleteResourceTokenAuth"); again != asked {
		t.Errorf("the platform was asked %d times more", again-asked)
	}
}

// returned is where the platform sends a browser after the consent.
func (g *consentRig) returned(session string, more ...string) string {
	query := url.Values{"session_id": {session}}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return g.callback.CallbackURL() + "?" + query.Encode()
}

// Twenty tabs that come back at the same moment complete once.
func TestCallbacksAtOnceCompleteOnce(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	link, _, c := g.expect()
	ada := g.signedIn(demoidp.Ada)
	arrival, err := ada.Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatal(err)
	}
	var pages sync.Map
	var tabs sync.WaitGroup
	for range 20 {
		tabs.Go(func() {
			page, response := look(t, ada.HTTP, arrival)
			pages.Store(page, response.StatusCode)
		})
	}
	tabs.Wait()
	if err := outcome(t, c); err != nil {
		t.Fatal(err)
	}
	worked := 0
	for page, status := range pages.Range {
		if status == http.StatusOK && strings.Contains(page.(string), pageCompleted.Title) {
			worked++
		}
	}
	if asked := calls(g.Platform, "CompleteResourceTokenAuth"); worked != 1 || asked != 1 {
		t.Errorf("%d tabs say that it worked, the platform was asked %d times", worked, asked)
	}
	stillWaits(t, c)
}

// Somebody else is told so and gets nothing, what they allowed is thrown away,
// and the one who asked can still finish.
func TestCallbackTurnsStrangersAway(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	link, session, c := g.expect()
	grace := newBrowser(t, g.Platform, demoidp.Grace)
	page, status := grace.open(link)
	if status != http.StatusForbidden || !strings.Contains(page, "You are signed in as someone else") || !strings.Contains(page, "Grace Hopper") || !strings.Contains(page, "thrown away") {
		t.Errorf("%d %s", status, page)
	}
	stillWaits(t, c)
	if token, _, _ := g.ask(""); token != "" {
		t.Fatal("there is a token, and only a stranger consented")
	}
	if !strings.Contains(g.log.String(), "somebody else came back") {
		t.Error("the log does not tell of it")
	}
	// That browser is signed out here, so the next one at it is asked who they are,
	// and is not signed in again unasked.
	_, response := look(t, grace.HTTP, g.returned(session))
	if location := response.Header.Get("Location"); response.StatusCode != http.StatusFound || !strings.Contains(location, "prompt=select_account") {
		t.Errorf("status %d to %.60s…: the stranger is still signed in", response.StatusCode, location)
	}
	if page, status := newBrowser(t, g.Platform, demoidp.Ada).open(link); status != http.StatusOK {
		t.Fatalf("the one who asked cannot finish: %d %s", status, page)
	}
	if err := outcome(t, c); err != nil {
		t.Fatal(err)
	}
	if token, _, _ := g.ask(""); token == "" {
		t.Error("there is no token")
	}
}

// What was not registered, has another state, or says no.
func TestCallbackRefuses(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	ada := g.signedIn(demoidp.Ada)

	_, link, unregistered := g.ask("")
	arrival, err := ada.Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatal(err)
	}
	for what, at := range map[string]string{
		"a session that the agent did not show": arrival, "no session": g.callback.CallbackURL(), "nonsense": g.returned("urn:ietf:params:oauth:request_uri:nonsense"),
		"an error for a session of others": g.returned(unregistered, "error", "access_denied"),
	} {
		if page, response := look(t, ada.HTTP, at); response.StatusCode != http.StatusBadRequest || !strings.Contains(page, pageUnknown.Title) {
			t.Errorf("%s: %d %s", what, response.StatusCode, page)
		}
	}
	if asked := calls(g.Platform, "CompleteResourceTokenAuth"); asked != 0 {
		t.Errorf("the platform was asked %d times", asked)
	}

	_, _, session := g.ask("")
	denied := g.callback.Expect(session, "")
	if page, response := look(t, http.DefaultClient, g.returned(session, "error", "access_denied")); response.StatusCode != http.StatusOK || !strings.Contains(page, pageDenied.Title) {
		t.Errorf("a denial: %d %s", response.StatusCode, page)
	}
	err = outcome(t, denied)
	wants[*OAuthError](t, err, "you did not allow it", "Nothing was shared")
	if !errors.Is(err, errDenied) {
		t.Error("it is not errDenied")
	}
	if page, response := look(t, ada.HTTP, g.returned(session)); response.StatusCode != http.StatusGone || !strings.Contains(page, pageUsed.Title) {
		t.Errorf("after a denial: %d %s", response.StatusCode, page)
	}

	for code, want := range map[string]string{"server_error": "ended the consent: server_error", "redirect_uri_mismatch": "redirect URI", "<b>Call 555</b> now": "unknown_error"} {
		_, _, session := g.ask("")
		refused := g.callback.Expect(session, "")
		page, response := look(t, http.DefaultClient, g.returned(session, "error", code))
		if response.StatusCode != http.StatusBadGateway || !strings.Contains(page, "The provider refused") || strings.Contains(page, "Call") {
			t.Errorf("%s: %d %s", code, response.StatusCode, page)
		}
		wants[*OAuthError](t, outcome(t, refused), want, "")
	}
}

// Where the agent asks for the token itself, what it sent along has to come back.
func TestCallbackChecksCustomState(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	_, link, session := g.ask("the agent's own state")
	c := g.callback.Expect(session, "the agent's own state")
	ada := newBrowser(t, g.Platform, demoidp.Ada)
	for _, more := range [][]string{nil, {"state", "another"}, {"state", "another", "error", "access_denied"}} {
		if page, response := look(t, ada.HTTP, g.returned(session, more...)); response.StatusCode != http.StatusBadRequest || !strings.Contains(page, pageState.Title) {
			t.Errorf("%v: %d %s", more, response.StatusCode, page)
		}
	}
	stillWaits(t, c)
	if c.Reached() {
		t.Error("a wrong state counts as a browser that came back")
	}
	if page, status := ada.open(link); status != http.StatusOK { // also across the sign-in
		t.Fatalf("%d %s", status, page)
	}
	if err := outcome(t, c); err != nil {
		t.Fatal(err)
	}
}

// A session of the right person that has lapsed, or whose consent never happened.
func TestCallbackCannotBind(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	_, session, c := g.expect()
	page, response := look(t, g.signedIn(demoidp.Ada).HTTP, g.returned(session)) // without having been at the provider
	if response.StatusCode != http.StatusBadGateway || !strings.Contains(page, pageFailed.Title) {
		t.Errorf("%d %s", response.StatusCode, page)
	}
	wants[*OAuthError](t, outcome(t, c), "could not be bound to you", hintBinding)
}

func TestCallbackWithoutIdentifier(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	g.callback.mu.Lock()
	g.callback.identifier = ""
	g.callback.mu.Unlock()
	_, session, c := g.expect()
	if page, response := look(t, http.DefaultClient, g.returned(session)); response.StatusCode != http.StatusConflict || !strings.Contains(page, pageNobody.Title) {
		t.Errorf("%d %s", response.StatusCode, page)
	}
	wants[*IdentityError](t, outcome(t, c), "no user token identifier", hintNoIdentifier)
	wants[*IdentityError](t, StoreTokenInCallbackServer(t.Context(), g.callback.Client(), ""), "no user token identifier", hintNoIdentifier)
}

// USER_TOKEN alone: nobody is asked who they are, and the page says so.
func TestCallbackWithoutSignIn(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	g := newConsentRig(t, p, CallbackOptions{WithoutSignIn: true})
	link, _, c := g.expect()
	arrival, err := servertest.NewPerson(p.DemoURL(), demoidp.Grace).Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatal(err)
	}
	page, response := look(t, http.DefaultClient, arrival)
	if response.StatusCode != http.StatusOK || !strings.Contains(page, "without asking who sits at this browser") {
		t.Errorf("%d %s", response.StatusCode, page)
	}
	if err := outcome(t, c); err != nil {
		t.Fatal(err)
	}

	elsewhere := NewOAuth2CallbackServer("us-east-1", p.Data, CallbackOptions{WithoutSignIn: true, BaseURL: "https://agent.example.com"})
	wants[*ConfigurationError](t, elsewhere.Start(t.Context()), "this machine only", "INBOUND_DISCOVERY_URL")
}

// AWS compares tokens, not people: the asker's own goes back, byte for byte, and
// a stranger's stays a stranger's.
func TestCallbackSendsTheExactToken(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	for exact, want := range map[bool]bool{true: true, false: false} {
		sent := &recorder{}
		g := newConsentRig(t, p, CallbackOptions{ExactToken: exact})
		g.callback.identity = bedrockagentcore.NewFromConfig(p.AWS, func(o *bedrockagentcore.Options) { o.HTTPClient = sent })
		link, session, c := g.expect()
		look(t, g.signedIn(demoidp.Grace).HTTP, g.returned(session))
		if strings.Contains(sent.last(), g.token) {
			t.Errorf("exact %t: a stranger is handed the asker's token", exact)
		}
		if page, status := newBrowser(t, p, demoidp.Ada).open(link); status != http.StatusOK {
			t.Fatalf("%d %s", status, page)
		}
		if err := outcome(t, c); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(sent.last(), g.token); got != want {
			t.Errorf("exact %t: the asker's own token was sent: %t", exact, got)
		}
		if err := g.mine.DeleteWorkloadIdentity(t.Context(), "asker"); err != nil {
			t.Fatal(err)
		}
	}
}

// recorder keeps the last request's body and sends it on.
type recorder struct {
	mu   sync.Mutex
	body string
}

func (r *recorder) Do(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.body = string(body)
	r.mu.Unlock()
	request.Body = io.NopCloser(strings.NewReader(string(body)))
	return http.DefaultClient.Do(request)
}

func (r *recorder) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.body
}

// A window that is closed at the wrong moment does not stop what it began.
func TestCallbackOutlivesItsWindow(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	g := newConsentRig(t, p, CallbackOptions{})
	ada := g.signedIn(demoidp.Ada)
	link, _, c := g.expect()
	arrival, err := ada.Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatal(err)
	}
	ctx, closeWindow := context.WithCancel(t.Context())
	g.callback.identity = bedrockagentcore.NewFromConfig(p.AWS, func(o *bedrockagentcore.Options) {
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			closeWindow()
			return http.DefaultClient.Do(r)
		})
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, arrival, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := ada.HTTP.Do(request); err == nil {
		_ = response.Body.Close()
	}
	if err := outcome(t, c); err != nil {
		t.Fatal(err)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// The platform's proof of which browser went through follows the session, behind a dot.
func TestRegistered(t *testing.T) {
	t.Parallel()
	s := bare(t, CallbackOptions{})
	c, dotted := s.Expect("urn:x", ""), s.Expect("urn:y.z", "") // AWS's sessions may have dots of their own
	for session, want := range map[string]*Consent{
		"urn:x": c, "urn:x.proof": c, "urn:y.z": dotted, "urn:y.z.proof": dotted, "urn:y": nil, "urn:x.a.b": nil, "": nil, ".": nil, ".urn:x": nil, "urn:xx": nil,
	} {
		s.mu.Lock()
		got, known := s.registered(session)
		s.mu.Unlock()
		if got != want || known != (want != nil) {
			t.Errorf("%q is taken for %v", session, got)
		}
	}
}
