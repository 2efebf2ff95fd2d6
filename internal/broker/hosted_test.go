package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// issuer is an OpenID provider whose ID tokens say what a test wants.
type issuer struct {
	*httptest.Server
	signer jose.Signer

	mu     sync.Mutex
	change func(claims map[string]any) // of the next ID token
	codes  map[string]url.Values       // code to what was asked
	asked  int                         // requests of the token endpoint
	noID   bool
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{signer: signer, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, body any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/jwks"})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.asked++
		query, known := i.codes[r.FormValue("code")]
		delete(i.codes, r.FormValue("code"))
		if !known || r.FormValue("client_id") != query.Get("client_id") || r.FormValue("redirect_uri") != query.Get("redirect_uri") {
			w.WriteHeader(http.StatusBadRequest)
			answer(w, map[string]any{"error": "invalid_grant"})
			return
		}
		claims := map[string]any{"iss": i.URL, "sub": "ada", "aud": query.Get("client_id"), "nonce": query.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
		if i.change != nil {
			i.change(claims)
		}
		body := map[string]any{"access_token": "canary-sign-in-access", "token_type": "Bearer"}
		if !i.noID {
			body["id_token"] = i.sign(t, claims)
		}
		answer(w, body)
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) sign(t testing.TB, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Error(err)
	}
	signed, err := i.signer.Sign(payload)
	if err != nil {
		t.Error(err)
		return ""
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Error(err)
	}
	return compact
}

// signIn is the person signing in there: a code for what the location asks.
func (i *issuer) signIn(t testing.TB, location string) (code, state string) {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil || !strings.HasPrefix(location, i.URL+"/authorize?") {
		t.Fatalf("sent to %s, %v", location, err)
	}
	code = unguessable()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.codes[code] = u.Query()
	return code, u.Query().Get("state")
}

func (i *issuer) with(change func(claims map[string]any)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.change = change
}

const hostedURL = publicURL + DonePath

// hostedWorld has a gateway whose people are known by the issuer, a link of
// Ada's that has been gone through, and the browser that did.
func hostedWorld(t *testing.T) (w *world, i *issuer, ada *browser, landing *Landing, caller principal.Caller) {
	t.Helper()
	w, i = newWorld(t), newIssuer(t)
	w.options.SignIns = []SignIn{{Issuer: i.URL, ClientID: "platform"}}
	arn := api.GatewayARN("us-east-1", account, gatewayID)
	caller = principal.Caller{Kind: principal.Bearer, Account: account, User: principal.User{Issuer: i.URL, Subject: "ada"}, Authorizer: arn}
	if err := w.db.Update(t.Context(), func(tx *store.Tx) (err error) {
		caller.Workload, err = w.identity.CreateOwned(tx, account, gatewayID, arn, []string{hostedURL}, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	request := ask("profile")
	request.ReturnURL = hostedURL
	ada = newBrowser("ada")
	landing = w.goThrough(t, ada, w.link(t, caller, request))
	ada.cookies[landing.ConnectCookieName] = landing.ConnectCookieValue
	return w, i, ada, landing, caller
}

func (w *world) connect(t testing.TB, at *browser, landing *Landing) *Connection {
	t.Helper()
	here, err := w.Connect(t.Context(), frontChannel(), sessionID(t, landing), at.cookie)
	if err != nil {
		t.Fatal(err)
	}
	return here
}

func (b *browser) cookie(name string) string { return b.cookies[name] }

func (w *world) signedIn(t testing.TB, at *browser, i *issuer, code, state string) (*Connection, error) {
	t.Helper()
	return w.SignedIn(t.Context(), frontChannel(), SignInAnswer{IssuerID: issuerID(i.URL), State: state, Code: secret.New(code), Cookie: at.cookie})
}

// A session under a gateway's authorizer ends on the hosted page by a sign-in at
// that authorizer's issuer.
func TestHostedPageOfAGateway(t *testing.T) {
	t.Parallel()
	w, i, ada, landing, caller := hostedWorld(t)
	code, state := i.signIn(t, w.connect(t, ada, landing).Location)
	// What is not this browser's answer of this issuer changes nothing, and sends nothing.
	good := SignInAnswer{IssuerID: issuerID(i.URL), State: state, Code: secret.New(code), Cookie: ada.cookie}
	for name, test := range map[string]struct {
		change func(*SignInAnswer)
		cause  error
	}{
		"another issuer's address": {func(a *SignInAnswer) { a.IssuerID = issuerID("https://evil.example") }, ErrAttempt},
		"another issuer's word":    {func(a *SignInAnswer) { a.Issuer = "https://evil.example" }, ErrIssuer},
		"another state":            {func(a *SignInAnswer) { a.State = unguessable() }, ErrAttempt},
		"another browser":          {func(a *SignInAnswer) { a.Cookie = newBrowser("eve").cookie }, ErrOtherBrowser},
	} {
		answer := good
		test.change(&answer)
		if there, err := w.SignedIn(t.Context(), frontChannel(), answer); !errors.Is(err, test.cause) || there != nil {
			t.Errorf("%s: %+v, %v", name, there, err)
		}
	}
	foreign := frontChannel()
	foreign.Account = other
	if _, err := w.SignedIn(t.Context(), foreign, good); !errors.Is(err, ErrSession) {
		t.Errorf("another account: %v", err)
	}
	there, err := w.signedIn(t, ada, i, code, state)
	if err != nil || there.Location != landing.ReturnURL {
		t.Fatalf("sent to %+v, %v", there, err)
	}
	if here := w.connect(t, ada, landing); here.Location != "" || here.ProviderTitle != "google" || here.Workload.Name != gatewayID {
		t.Errorf("the last page says %+v", here)
	}
	w.token(t, caller, ask("profile"))
	if n := w.intents(t, actionRedeem); n != 1 {
		t.Errorf("%d intents to redeem", n)
	}
	_, err = w.signedIn(t, ada, i, code, state)
	wantFault(t, err, fault.Denied, "unknown here")
	w.noCanaries(t, state, code)

	// Reloaded much later, it does not say that nothing was shared.
	w.later(sessionLifetime)
	if err := w.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Connect(t.Context(), frontChannel(), sessionID(t, landing), ada.cookie); !errors.Is(err, ErrLinkUsed) {
		t.Errorf("after the sweep: %v", err)
	}
}

// An ID token that is not the answer to this sign-in completes nothing and spoils
// nothing: the person signs in once more.
func TestForeignIDTokens(t *testing.T) {
	t.Parallel()
	w, i, ada, landing, caller := hostedWorld(t)
	for name, change := range map[string]func(claims map[string]any){
		"another nonce":       func(c map[string]any) { c["nonce"] = "of another sign-in" },
		"no nonce":            func(c map[string]any) { delete(c, "nonce") },
		"another audience":    func(c map[string]any) { c["aud"] = "another client" },
		"two audiences":       func(c map[string]any) { c["aud"] = []string{"platform", "another client"} },
		"another party":       func(c map[string]any) { c["aud"], c["azp"] = []string{"platform", "another"}, "another" },
		"another party alone": func(c map[string]any) { c["azp"] = "another" },
		"another issuer":      func(c map[string]any) { c["iss"] = "https://evil.example" },
		"expired":             func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"nobody":              func(c map[string]any) { delete(c, "sub") },
		"the client itself":   func(c map[string]any) { c["sub"] = "platform" },
	} {
		i.with(change)
		code, state := i.signIn(t, w.connect(t, ada, landing).Location)
		there, err := w.signedIn(t, ada, i, code, state)
		if !errors.Is(err, ErrSignIn) || there == nil || there.Location != landing.ReturnURL {
			t.Errorf("%s: %+v, %v", name, there, err)
		}
	}
	i.with(nil)
	i.mu.Lock()
	i.noID = true
	i.mu.Unlock()
	code, state := i.signIn(t, w.connect(t, ada, landing).Location)
	if _, err := w.signedIn(t, ada, i, code, state); !errors.Is(err, ErrSignIn) {
		t.Errorf("no ID token: %v", err)
	}
	i.mu.Lock()
	i.noID = false
	i.mu.Unlock()
	if _, all := w.idp.counts(); all != 0 {
		t.Error("the provider's code was sent")
	}
	code, state = i.signIn(t, w.connect(t, ada, landing).Location)
	if _, err := w.signedIn(t, ada, i, code, state); err != nil {
		t.Fatal(err)
	}
	w.token(t, caller, ask("profile"))
}

// Equal subjects of different issuers are different people.
func TestHostedPageComparesTheIssuerToo(t *testing.T) {
	t.Parallel()
	w, i, ada, landing, _ := hostedWorld(t)
	i.with(func(c map[string]any) { c["sub"] = "grace" })
	code, state := i.signIn(t, w.connect(t, ada, landing).Location)
	if there, err := w.signedIn(t, ada, i, code, state); !errors.Is(err, ErrOtherPerson) || there != nil {
		t.Errorf("somebody else: %+v, %v", there, err)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_attempts WHERE code IS NOT NULL`) + w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
		t.Error("something was kept")
	}
	_, err := w.Connect(t.Context(), frontChannel(), sessionID(t, landing), ada.cookie)
	wantFault(t, err, fault.Denied, "unknown here")
}

// Reloads make sign-ins, and the oldest make room: the table does not grow.
func TestSignInsAreBounded(t *testing.T) {
	t.Parallel()
	w, i, ada, landing, _ := hostedWorld(t)
	first := w.connect(t, ada, landing).Location
	for range signInLimit + 3 {
		w.connect(t, ada, landing)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM sign_ins`); n != signInLimit {
		t.Errorf("%d sign-ins are kept", n)
	}
	code, state := i.signIn(t, first)
	_, err := w.signedIn(t, ada, i, code, state)
	wantFault(t, err, fault.Denied, "unknown here")
	i.mu.Lock()
	if i.asked != 0 {
		t.Error("the code of a forgotten sign-in was sent")
	}
	i.mu.Unlock()
	w.later(sessionLifetime)
	if err := w.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM sign_ins`); n != 0 {
		t.Errorf("%d sign-ins are left", n)
	}
}

func TestHostedURLs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for address, want := range map[string]struct {
		back       string
		ours, fine bool
	}{
		hostedURL: {"", true, true},
		hostedURL + "?back=https%3A%2F%2Fapp.example%2Fa%3Fb":   {"https://app.example/a?b", true, true},
		hostedURL + "?back=http%3A%2F%2Flocalhost%3A8080%2F":    {"http://localhost:8080/", true, true},
		hostedURL + "?back=http%3A%2F%2Fapp.example%2F":         {"", true, false},
		hostedURL + "?back=javascript%3Aalert(1)":               {"", true, false},
		hostedURL + "?back=https%3A%2F%2Fuser%40app.example%2F": {"", true, false},
		hostedURL + "?back=%2F%2Fevil.example":                  {"", true, false},
		hostedURL + "?back=https%3A%2F%2Fa.example&back=x":      {"", true, false},
		hostedURL + "?session_id=x":                             {"", true, false},
		hostedURL + "?":                                         {"", true, false},
		hostedURL + "#x":                                        {"", true, false},
		hostedURL + "x":                                         {"", true, false},
		"https://app.example/connect/done":                      {"", false, true},
		"HTTP://127.0.0.1:7080/connect/done":                    {"", false, true}, // an application's, and nobody's page
		"https://app.example/?u=" + url.QueryEscape(hostedURL):  {"", false, true},
	} {
		back, ours, err := w.hosted(address)
		if back != want.back || ours != want.ours || (err == nil) != want.fine {
			t.Errorf("%s: %q %t %v", address, back, ours, err)
		}
	}
}

// A workload with an issuer of its own: its people complete by that issuer's
// tokens, on a page of the application's or on the hosted one, for as long as the workload trusts it.
func TestSessionsOfAWorkloadsOwnIssuer(t *testing.T) {
	t.Parallel()
	w, i := newWorld(t), newIssuer(t)
	w.options.SignIns = []SignIn{{Issuer: i.URL, ClientID: "platform"}}
	w.workload(t, "tenant", hostedURL, returnURL)
	trust := func(issuers ...api.TrustedIssuer) {
		t.Helper()
		if _, err := w.identity.PutTrustedIssuers(t.Context(), root, &api.PutTrustedIssuersRequest{WorkloadName: "tenant", Issuers: issuers}); err != nil {
			t.Fatal(err)
		}
	}
	own := api.TrustedIssuer{Issuer: i.URL, Audiences: []string{"tenant"}}
	trust(own)
	signed := func() secret.Text {
		return secret.New(i.sign(t, map[string]any{"iss": i.URL, "sub": "ada", "aud": "tenant", "exp": time.Now().Add(time.Hour).Unix()}))
	}
	token, err := w.identity.GetWorkloadAccessTokenForJWT(t.Context(), root, &api.GetWorkloadAccessTokenForJWTRequest{WorkloadName: "tenant", UserToken: signed()})
	if err != nil {
		t.Fatal(err)
	}
	caller, err := w.identity.Open(t.Context(), root, token.WorkloadAccessToken)
	if err != nil {
		t.Fatal(err)
	}
	page := w.link(t, caller, ask("profile"))
	w.goThrough(t, newBrowser("ada"), page)
	request := ask("profile")
	request.ReturnURL = hostedURL
	ada := newBrowser("ada")
	landing := w.goThrough(t, ada, w.link(t, caller, request))
	ada.cookies[landing.ConnectCookieName] = landing.ConnectCookieValue

	trust() // the operator's alone
	if err := w.completeAs(t.Context(), page, byToken(signed())); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("completed by a token that is not trusted any more: %v", err)
	}
	code, state := i.signIn(t, w.connect(t, ada, landing).Location)
	_, err = w.signedIn(t, ada, i, code, state)
	wantFault(t, err, fault.Upstream, "not trusted for this workload identity any more")

	trust(own)
	if err := w.completeAs(t.Context(), page, byToken(signed())); err != nil {
		t.Error(err)
	}
	code, state = i.signIn(t, w.connect(t, ada, landing).Location)
	if _, err := w.signedIn(t, ada, i, code, state); err != nil {
		t.Error(err)
	}
}

// FuzzHosted: whatever a workload registers, the last page links to https or to
// this machine, and what begins as the hosted page is never taken for an application's.
func FuzzHosted(f *testing.F) {
	for _, seed := range []string{"", "?back=https%3A%2F%2Fapp.example%2F", "?back=javascript%3Aalert(1)", "?back=http%3A%2F%2Flocalhost", "?back=%2F%2Fx", "#", "?", "?back=https%3A%2F%2Fa%40b", "/../x"} {
		f.Add(seed)
	}
	b := &Broker{options: Options{PublicURL: publicURL}}
	f.Fuzz(func(t *testing.T, rest string) {
		back, ours, err := b.hosted(hostedURL + rest)
		if !ours {
			t.Fatalf("%q is not taken for the hosted page", rest)
		}
		if err != nil && back != "" {
			t.Fatalf("%q is refused and leads to %q", rest, back)
		}
		if back == "" {
			return
		}
		page, err := url.Parse(back)
		if err != nil || page.Host == "" || page.User != nil || page.Scheme != "https" && !(page.Scheme == "http" && loopback(page.Hostname())) {
			t.Fatalf("%q leads to %q", rest, back)
		}
	})
}
