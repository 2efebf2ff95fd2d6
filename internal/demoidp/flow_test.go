package demoidp_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

const callback = "http://127.0.0.1:1/callback?keep=this"

// start runs a provider with a confidential client "app" and the public sign-in client.
func start(t *testing.T, change ...func(*demoidp.Options)) *demoidp.Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	o := demoidp.Options{Address: server.Listener.Addr(), Clients: []demoidp.Client{
		{ID: "app", Secret: "app secret:%", Name: "The App", RedirectURIs: []string{callback}},
		{ID: demoidp.SignInClientID, RedirectURIs: []string{callback}, Audience: demoidp.SignInClientID, SignIn: true},
	}}
	for _, c := range change {
		c(&o)
	}
	p, err := demoidp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = p
	server.Start()
	t.Cleanup(server.Close)
	return p
}

// party is a relying party made of x/oauth2 and go-oidc, with a browser beside it.
type party struct {
	t        *testing.T
	config   oauth2.Config
	provider *oidc.Provider
	browser  *http.Client
}

func partyOf(t *testing.T, p *demoidp.Provider, id, secret string, scopes ...string) *party {
	t.Helper()
	provider, err := oidc.NewProvider(t.Context(), p.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if secret == "" {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	jar, _ := cookiejar.New(nil)
	return &party{t, oauth2.Config{ClientID: id, ClientSecret: secret, Endpoint: endpoint, RedirectURL: callback, Scopes: scopes}, provider, &http.Client{
		Jar: jar,
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if strings.HasPrefix(r.URL.String(), "http://127.0.0.1:1/") {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}}
}

var hidden = regexp.MustCompile(`name="request" value="([^"]+)"`)

// answer is one page or the redirect to the client.
type answer struct {
	status   int
	body     string
	header   http.Header
	location url.Values // of the redirect to the client; nil for a page
	base     *url.URL
}

func (c *party) send(r *http.Request) answer {
	c.t.Helper()
	response, err := c.browser.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	a := answer{status: response.StatusCode, body: string(body), header: response.Header, base: response.Request.URL}
	if location, err := response.Location(); err == nil {
		a.location = location.Query()
	}
	return a
}

func (c *party) get(link string) answer {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, link, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.send(r)
}

// post fills in the form of a page.
func (c *party) post(page answer, path string, fields url.Values) answer {
	c.t.Helper()
	found := hidden.FindStringSubmatch(page.body)
	if found == nil {
		c.t.Fatalf("no form in:\n%s", page.body)
	}
	fields.Set("request", found[1])
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, page.base.ResolveReference(&url.URL{Path: path}).String(), strings.NewReader(fields.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.send(r)
}

// allow goes all the way as a person, and returns what comes back to the client.
func (c *party) allow(person string, options ...oauth2.AuthCodeOption) url.Values {
	c.t.Helper()
	page := c.get(c.config.AuthCodeURL("the state", options...))
	if strings.Contains(page.body, `action="/signin"`) {
		page = c.post(page, "/signin", url.Values{"person": {person}})
	}
	if strings.Contains(page.body, `action="/consent"`) {
		page = c.post(page, "/consent", url.Values{"decision": {"allow"}})
	}
	if page.location == nil {
		c.t.Fatalf("no redirect, %d:\n%s", page.status, page.body)
	}
	return page.location
}

// tokens is a whole flow.
func (c *party) tokens(person string, options ...oauth2.AuthCodeOption) *oauth2.Token {
	c.t.Helper()
	verifier := oauth2.GenerateVerifier()
	back := c.allow(person, append(options, oauth2.S256ChallengeOption(verifier))...)
	token, err := c.config.Exchange(c.t.Context(), back.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		c.t.Fatal(err)
	}
	return token
}

func (c *party) refresh(token string) (*oauth2.Token, error) {
	return c.config.TokenSource(c.t.Context(), &oauth2.Token{RefreshToken: token}).Token()
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) || refused.ErrorCode != code {
		t.Errorf("error is %v, want %s", err, code)
	}
}

func TestCodeFlow(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, "app", "app secret:%", "openid", "profile", "email")
	verifier := oauth2.GenerateVerifier()
	back := c.allow(demoidp.Ada, oauth2.S256ChallengeOption(verifier), oauth2.AccessTypeOffline, oidc.Nonce("a nonce"))
	if back.Get("state") != "the state" || back.Get("iss") != p.Issuer() || back.Get("keep") != "this" {
		t.Errorf("the client got %v", back)
	}
	token, err := c.config.Exchange(t.Context(), back.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if token.RefreshToken == "" || token.Extra("scope") != "openid profile email" {
		t.Errorf("refresh %q, scope %q", token.RefreshToken, token.Extra("scope"))
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := c.provider.Verifier(&oidc.Config{ClientID: "app"}).Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Name, Email string
		AuthTime    int64 `json:"auth_time"`
	}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if id.Subject != demoidp.Ada || id.Nonce != "a nonce" || claims.Name != "Ada Lovelace" || claims.Email != "ada@example.com" || claims.AuthTime == 0 {
		t.Errorf("ID token says %+v, %+v", id, claims)
	}
	info, err := c.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(token))
	if err != nil || info.Subject != demoidp.Ada || info.Email != "ada@example.com" {
		t.Errorf("userinfo: %+v, %v", info, err)
	}
	if n := p.TokenRequests("authorization_code"); n != 1 {
		t.Errorf("%d code requests, want 1", n)
	}
}

func TestSignInToken(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, demoidp.SignInClientID, "", "openid", "profile")
	token := c.tokens(demoidp.Grace)
	for kind, raw := range map[string]string{"access": token.AccessToken, "id": token.Extra("id_token").(string)} {
		verified, err := c.provider.Verifier(&oidc.Config{ClientID: demoidp.SignInClientID}).Verify(t.Context(), raw)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if verified.Subject != demoidp.Grace {
			t.Errorf("%s: subject %q", kind, verified.Subject)
		}
		var claims struct {
			ClientID string `json:"client_id"`
			Scope    string `json:"scope"`
		}
		_ = verified.Claims(&claims)
		if kind == "access" && (claims.ClientID != demoidp.SignInClientID || claims.Scope != "openid profile") {
			t.Errorf("access token says %+v", claims)
		}
	}
	// The browser is signed in now: no page at all the second time, unless asked for.
	verifier := oauth2.GenerateVerifier()
	if a := c.get(c.config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier))); a.location.Get("code") == "" {
		t.Errorf("second sign-in shows a page: %d", a.status)
	}
	for prompt, want := range map[string]string{"login": `action="/signin"`, "select_account": `action="/signin"`, "consent": `action="/consent"`} {
		a := c.get(c.config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("prompt", prompt)))
		if !strings.Contains(a.body, want) {
			t.Errorf("prompt=%s shows no %s", prompt, want)
		}
	}
}
