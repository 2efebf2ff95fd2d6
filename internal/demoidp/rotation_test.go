package demoidp_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

func TestRotation(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, "app", "app secret:%", "openid", "profile")
	first := c.tokens(demoidp.Ada, oauth2.AccessTypeOffline)
	second, err := c.refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if second.RefreshToken == first.RefreshToken || second.RefreshToken == "" {
		t.Fatal("the refresh token did not change")
	}
	if status, _ := people(t, p, second.AccessToken, "names"); status != http.StatusOK {
		t.Errorf("the refreshed token answers %d", status)
	}
	// Another client cannot use it, and does no harm by trying.
	stranger := partyOf(t, p, demoidp.SignInClientID, "")
	_, err = stranger.refresh(second.RefreshToken)
	wantCode(t, err, "invalid_grant")
	third, err := c.refresh(second.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	// The first one comes back: somebody has a copy, so everything ends.
	_, err = c.refresh(first.RefreshToken)
	wantCode(t, err, "invalid_grant")
	_, err = c.refresh(third.RefreshToken)
	wantCode(t, err, "invalid_grant")
	if status, _ := people(t, p, third.AccessToken, "names"); status != http.StatusUnauthorized {
		t.Errorf("after the reuse the newest access token answers %d", status)
	}
	if n := p.TokenRequests("refresh_token"); n != 5 {
		t.Errorf("%d refreshes counted, want 5", n)
	}
}

func TestNoRefreshTokenUnlessAsked(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, "app", "app secret:%", "openid")
	if token := c.tokens(demoidp.Ada); token.RefreshToken != "" {
		t.Error("a refresh token without access_type=offline")
	}
	c.config.Scopes = []string{"openid", oidc.ScopeOfflineAccess}
	if token := c.tokens(demoidp.Ada); token.RefreshToken == "" {
		t.Error("no refresh token with the scope offline_access")
	}
}

func TestReuseWithinGrace(t *testing.T) {
	t.Parallel()
	clock := newClock()
	p := start(t, func(o *demoidp.Options) { o.ReuseGrace, o.Now = 10*time.Second, clock.now })
	c := partyOf(t, p, "app", "app secret:%", "openid")
	first, _ := p.Issue(demoidp.Ada, "app", "openid")
	if _, err := c.refresh(first.Refresh); err != nil {
		t.Fatal(err)
	}
	clock.pass(9 * time.Second)
	again, err := c.refresh(first.Refresh)
	if err != nil {
		t.Fatalf("within the grace: %v", err)
	}
	clock.pass(time.Second)
	_, err = c.refresh(first.Refresh)
	wantCode(t, err, "invalid_grant")
	_, err = c.refresh(again.RefreshToken)
	wantCode(t, err, "invalid_grant")
}

func TestTimeRunsOut(t *testing.T) {
	t.Parallel()
	clock := newClock()
	p := start(t, func(o *demoidp.Options) { o.RefreshLifetime, o.Now = time.Hour, clock.now })
	c := partyOf(t, p, "app", "app secret:%", "openid", "profile")
	verifier := oauth2.GenerateVerifier()

	code := c.allow(demoidp.Ada, oauth2.S256ChallengeOption(verifier)).Get("code")
	clock.pass(time.Minute)
	_, err := c.config.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_grant")

	page := c.get(c.config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("prompt", "login")))
	clock.pass(15 * time.Minute)
	if got := c.post(page, "/signin", url.Values{"person": {demoidp.Ada}}); got.status != http.StatusBadRequest {
		t.Errorf("a sign-in page of a quarter of an hour ago: %d", got.status)
	}
	if a := c.get(c.config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("max_age", "60"))); !strings.Contains(a.body, `action="/signin"`) {
		t.Error("max_age=60 does not ask again after a quarter of an hour")
	}

	p.SetLifetime(2 * time.Second)
	tokens, _ := p.Issue(demoidp.Ada, "app", "profile")
	if tokens.ExpiresIn != 2 {
		t.Errorf("expires_in is %d", tokens.ExpiresIn)
	}
	clock.pass(2*time.Second - time.Nanosecond) // wherever in a second it was issued
	if status, _ := people(t, p, tokens.Access, "names"); status != http.StatusOK {
		t.Errorf("an access token in its last moment answers %d", status)
	}
	clock.pass(time.Second)
	if status, _ := people(t, p, tokens.Access, "names"); status != http.StatusUnauthorized {
		t.Errorf("an expired access token answers %d", status)
	}
	clock.pass(time.Hour)
	_, err = c.refresh(tokens.Refresh)
	wantCode(t, err, "invalid_grant")
}

func TestScopesOnRefresh(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, "app", "app secret:%")
	tokens, _ := p.Issue(demoidp.Ada, "app", "openid", "profile")
	ask := func(refresh, scope string) (int, map[string]any) {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "scope": {scope}, "client_id": {"app"}, "client_secret": {"app secret:%"}}
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, c.config.Endpoint.TokenURL, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return do(t, r)
	}
	if status, body := ask(tokens.Refresh, "profile email"); status != 400 || body["error"] != "invalid_scope" {
		t.Errorf("more scopes: %d %v", status, body)
	}
	status, body := ask(tokens.Refresh, "openid") // the refusal spent nothing
	if status != 200 || body["scope"] != "openid" {
		t.Fatalf("fewer scopes: %d %v", status, body)
	}
	if got, _ := people(t, p, body["access_token"].(string), "names"); got != http.StatusForbidden {
		t.Errorf("the narrowed token answers %d at the People API", got)
	}
	if _, body := ask(body["refresh_token"].(string), ""); body["scope"] != "openid profile" {
		t.Errorf("scopes without asking: %v", body["scope"])
	}
}

func TestLeversAndRevocation(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, "app", "app secret:%", "openid", "profile")
	tokens, _ := p.Issue(demoidp.Ada, "app", "profile")
	p.FailTokens(http.StatusInternalServerError)
	_, err := c.refresh(tokens.Refresh)
	wantCode(t, err, "temporarily_unavailable")
	p.FailTokens(0)
	next, err := c.refresh(tokens.Refresh)
	if err != nil {
		t.Fatalf("the failure spent the token: %v", err)
	}

	other, _ := p.Issue(demoidp.Grace, "app", "profile")
	if n, err := p.RevokeAll(demoidp.Ada); n != 1 || err != nil {
		t.Errorf("revoked %d, %v", n, err)
	}
	_, err = c.refresh(next.RefreshToken)
	wantCode(t, err, "invalid_grant")
	if status, _ := people(t, p, next.AccessToken, "names"); status != http.StatusUnauthorized {
		t.Errorf("a revoked access token answers %d", status)
	}
	if status, _ := people(t, p, other.Access, "names"); status != http.StatusOK {
		t.Errorf("the other person's token answers %d", status)
	}

	revoke := func(token string) int {
		form := url.Values{"token": {token}, "client_id": {"app"}, "client_secret": {"app secret:%"}}
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer()+"/revoke", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		status, _ := do(t, r)
		return status
	}
	if status := revoke(other.Refresh); status != 200 {
		t.Errorf("revocation answers %d", status)
	}
	if status := revoke("unknown"); status != 200 {
		t.Errorf("revocation of an unknown token answers %d", status)
	}
	if status, _ := people(t, p, other.Access, "names"); status != http.StatusUnauthorized {
		t.Errorf("after revocation the access token answers %d", status)
	}
}

// TestRestart stops a provider and starts another on the same files and port.
func TestRestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "demo.json")
	run := func(address string) (*demoidp.Provider, func()) {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		p, err := demoidp.New(demoidp.Options{Address: listener.Addr(), StateFile: file})
		if err != nil {
			t.Fatal(err)
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: p}}
		server.Start()
		return p, server.Close
	}
	p, stop := run("127.0.0.1:0")
	if err := p.Register(demoidp.Client{ID: "app", Secret: "app secret:%", RedirectURIs: []string{callback}}); err != nil {
		t.Fatal(err)
	}
	c := partyOf(t, p, "app", "app secret:%", "openid", "profile")
	token := c.tokens(demoidp.Ada, oauth2.AccessTypeOffline)
	gone, _ := p.Issue(demoidp.Grace, "app", "profile")
	if _, err := p.RevokeAll(demoidp.Grace); err != nil {
		t.Fatal(err)
	}
	stop()

	issuer, err := demoidp.StoredIssuer(file)
	if err != nil || issuer != p.Issuer() {
		t.Fatalf("stored issuer %q, %v", issuer, err)
	}
	u, _ := url.Parse(issuer)
	p, stop = run(u.Host)
	defer stop()
	if status, _ := people(t, p, token.AccessToken, "names"); status != http.StatusOK {
		t.Errorf("after the restart the access token answers %d", status)
	}
	if status, _ := people(t, p, gone.Access, "names"); status != http.StatusUnauthorized {
		t.Errorf("after the restart a revoked access token answers %d", status)
	}
	next, err := c.refresh(token.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.refresh(token.RefreshToken) // reuse is still seen
	wantCode(t, err, "invalid_grant")
	_, err = c.refresh(next.RefreshToken)
	wantCode(t, err, "invalid_grant")

	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state file: %v, %v", info.Mode(), err)
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{"client secret": "app secret:%", "refresh token": next.RefreshToken, "access token": token.AccessToken} {
		if strings.Contains(string(kept), secret) {
			t.Errorf("the state file has a %s", name)
		}
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key.pem")
	o := demoidp.Options{Issuer: "http://127.0.0.1:1", KeyFile: file, Clients: []demoidp.Client{{ID: "app"}}}
	first, err := demoidp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := demoidp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := first.Issue(demoidp.Ada, "app", "profile")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/v1/people/me?personFields=names", nil)
	r.Header.Set("Authorization", "Bearer "+tokens.Access)
	second.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("with the same key file the token answers %d", w.Code)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", info, err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	damaged := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(damaged, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]demoidp.Options{
		"nothing":              {},
		"http off loopback":    {Issuer: "http://provider.example"},
		"a path":               {Issuer: "https://provider.example/demo"},
		"a damaged state":      {Issuer: "http://127.0.0.1:1", StateFile: damaged},
		"a damaged key":        {Issuer: "http://127.0.0.1:1", KeyFile: damaged},
		"a client without ID":  {Issuer: "http://127.0.0.1:1", Clients: []demoidp.Client{{}}},
		"a relative redirect":  {Issuer: "http://127.0.0.1:1", Clients: []demoidp.Client{{ID: "a", RedirectURIs: []string{"/callback"}}}},
		"a fragment":           {Issuer: "http://127.0.0.1:1", Clients: []demoidp.Client{{ID: "a", RedirectURIs: []string{"https://a.example/#b"}}}},
		"a script as redirect": {Issuer: "http://127.0.0.1:1", Clients: []demoidp.Client{{ID: "a", RedirectURIs: []string{"javascript:alert(1)"}}}},
	} {
		if _, err := demoidp.New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	p := start(t)
	send := func(kind, body string) (int, map[string]any) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer()+"/register", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		return do(t, r)
	}
	status, client := send("application/json", `{"client_name":"Self-made","redirect_uris":["`+callback+`"]}`)
	if status != http.StatusCreated {
		t.Fatalf("%d %v", status, client)
	}
	c := partyOf(t, p, client["client_id"].(string), client["client_secret"].(string), "openid")
	if token := c.tokens(demoidp.Ada); token.AccessToken == "" {
		t.Error("the registered client got nothing")
	}
	for name, test := range map[string][2]string{
		"a form":          {"application/x-www-form-urlencoded", `{"redirect_uris":["` + callback + `"]}`},
		"no redirect URI": {"application/json", `{}`},
		"a script":        {"application/json", `{"redirect_uris":["javascript:alert(1)"]}`},
		"mutual TLS":      {"application/json", `{"redirect_uris":["` + callback + `"],"token_endpoint_auth_method":"tls_client_auth"}`},
	} {
		if status, body := send(test[0], test[1]); status != http.StatusBadRequest {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
}

func TestLoopbackRedirects(t *testing.T) {
	t.Parallel()
	p := start(t, func(o *demoidp.Options) { o.Clients = nil }) // the built-in client
	c := partyOf(t, p, demoidp.SignInClientID, "", "openid")
	for uri, ok := range map[string]bool{
		"http://localhost:9090/signin":     true,
		"http://127.0.0.1:51234/x?y=z":     true,
		"http://[::1]:80/":                 true,
		"https://localhost:9090/signin":    false,
		"http://localhost.evil.example/":   false,
		"http://evil.example/":             false,
		"http://localhost@evil.example/":   false,
		"http://me@localhost:9090/":        false,
		"http://evil.example/#@localhost/": false,
	} {
		c.config.RedirectURL = uri
		got := c.get(c.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
		if (got.status == http.StatusOK) != ok {
			t.Errorf("%s: %d", uri, got.status)
		}
	}
}

// clock is time under the test's control, on both sides of HTTP.
type clock struct{ c chan time.Time }

func newClock() clock {
	c := clock{make(chan time.Time, 1)}
	c.c <- time.Now()
	return c
}

func (c clock) now() time.Time {
	t := <-c.c
	c.c <- t
	return t
}

func (c clock) pass(d time.Duration) { c.c <- (<-c.c).Add(d) }
