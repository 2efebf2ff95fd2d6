package demoidp_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// TestAuthorizeRefuses has what must never reach the client (a page), and what
// the client is told.
func TestAuthorizeRefuses(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, "app", "app secret:%", "openid")
	good, err := url.Parse(c.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(url.Values)
		want   string // the error the client gets; empty: a page, and no redirect
	}{
		{"unknown client", func(q url.Values) { q.Set("client_id", "nobody") }, ""},
		{"two clients", func(q url.Values) { q.Add("client_id", "app") }, ""},
		{"no redirect URI", func(q url.Values) { q.Del("redirect_uri") }, ""},
		{"a longer redirect URI", func(q url.Values) { q.Set("redirect_uri", callback+"&more") }, ""},
		{"a shorter redirect URI", func(q url.Values) { q.Set("redirect_uri", callback[:len(callback)-1]) }, ""},
		{"another port", func(q url.Values) { q.Set("redirect_uri", strings.Replace(callback, ":1/", ":2/", 1)) }, ""},
		{"another case", func(q url.Values) { q.Set("redirect_uri", strings.Replace(callback, "callback", "Callback", 1)) }, ""},
		{"no PKCE", func(q url.Values) { q.Del("code_challenge") }, "invalid_request"},
		{"plain PKCE", func(q url.Values) { q.Set("code_challenge_method", "plain") }, "invalid_request"},
		{"PKCE method left out", func(q url.Values) { q.Del("code_challenge_method") }, "invalid_request"},
		{"a challenge that is no hash", func(q url.Values) { q.Set("code_challenge", "short") }, "invalid_request"},
		{"implicit flow", func(q url.Values) { q.Set("response_type", "token") }, "unsupported_response_type"},
		{"unknown scope", func(q url.Values) { q.Set("scope", "openid everything") }, "invalid_scope"},
		{"state twice", func(q url.Values) { q.Add("state", "t") }, "invalid_request"},
		{"request object", func(q url.Values) { q.Set("request", "x") }, "request_not_supported"},
		{"none and login", func(q url.Values) { q.Set("prompt", "none login") }, "invalid_request"},
		{"nobody signed in", func(q url.Values) { q.Set("prompt", "none") }, "login_required"},
		{"max_age of a word", func(q url.Values) { q.Set("max_age", "soon") }, "invalid_request"},
	} {
		link, query := *good, good.Query()
		test.change(query)
		link.RawQuery = query.Encode()
		got := c.get(link.String())
		if test.want == "" {
			if got.location != nil || got.status != http.StatusBadRequest {
				t.Errorf("%s: status %d, redirect %v; want a page with 400", test.name, got.status, got.location)
			}
			continue
		}
		if got.location.Get("error") != test.want || got.location.Get("iss") != p.Issuer() || got.location.Has("code") {
			t.Errorf("%s: status %d, redirect %v; want %s", test.name, got.status, got.location, test.want)
		}
	}
}

func TestDeny(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, "app", "app secret:%", "openid")
	link := c.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))
	page := c.get(link)
	denied := c.post(page, "/signin", url.Values{"decision": {"deny"}})
	if denied.location.Get("error") != "access_denied" || denied.location.Get("state") != "s" || denied.location.Get("iss") != p.Issuer() {
		t.Errorf("denied at sign-in: %v", denied.location)
	}
	consent := c.post(c.get(link), "/signin", url.Values{"person": {demoidp.Ada}})
	denied = c.post(consent, "/consent", url.Values{"decision": {"deny"}})
	if denied.location.Get("error") != "access_denied" || denied.location.Has("code") {
		t.Errorf("denied at consent: %v", denied.location)
	}
	// The same form again, with another mind, decides nothing.
	if again := c.post(consent, "/consent", url.Values{"decision": {"allow"}}); again.location != nil || again.status != http.StatusBadRequest {
		t.Errorf("a finished request was decided again: %d %v", again.status, again.location)
	}
}

func TestFormsAreNotForged(t *testing.T) {
	t.Parallel()
	p := start(t)
	ada, stranger := partyOf(t, p, "app", "app secret:%", "openid"), partyOf(t, p, "app", "app secret:%", "openid")
	link := ada.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))
	page := ada.get(link)
	stranger.get(link) // has a browser cookie of its own
	if got := stranger.post(page, "/signin", url.Values{"person": {demoidp.Grace}}); got.status != http.StatusBadRequest {
		t.Errorf("another browser posted the form: %d", got.status)
	}
	// From another site, with the right browser.
	consent := ada.post(page, "/signin", url.Values{"person": {demoidp.Ada}})
	form := url.Values{"request": {hidden.FindStringSubmatch(consent.body)[1]}, "decision": {"allow"}}
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer()+"/consent", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(name, value)
		if got := ada.send(r); got.status != http.StatusForbidden || got.location != nil {
			t.Errorf("%s: %s posted the form: %d", name, value, got.status)
		}
	}
	// Without a person nothing is allowed.
	fresh := ada.get(link + "&prompt=login")
	if got := ada.post(fresh, "/consent", url.Values{"decision": {"allow"}}); got.location != nil || got.status != http.StatusBadRequest {
		t.Errorf("allowed without signing in: %d", got.status)
	}
	// Under another host name there is no provider.
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, p.DiscoveryURL(), nil)
	r.Host = "rebound.example"
	if got := ada.send(r); got.status != http.StatusMisdirectedRequest {
		t.Errorf("answered as rebound.example: %d", got.status)
	}
}

func TestCodeIsWorthOneTry(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := partyOf(t, p, "app", "app secret:%", "openid", "profile")
	verifier := oauth2.GenerateVerifier()
	back := func() string {
		return c.allow(demoidp.Ada, oauth2.S256ChallengeOption(verifier), oauth2.AccessTypeOffline).Get("code")
	}

	code := back()
	_, err := c.config.Exchange(t.Context(), code, oauth2.VerifierOption(oauth2.GenerateVerifier()))
	wantCode(t, err, "invalid_grant")
	_, err = c.config.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_grant") // the wrong verifier burnt it

	_, err = c.config.Exchange(t.Context(), back())
	wantCode(t, err, "invalid_grant") // no verifier

	elsewhere := c.config
	elsewhere.RedirectURL = callback + "2"
	_, err = elsewhere.Exchange(t.Context(), back(), oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_grant")

	// Another client neither gets the tokens nor spoils the code.
	code = back()
	stranger := partyOf(t, p, demoidp.SignInClientID, "")
	_, err = stranger.config.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_grant")

	// A replay takes back what the first use gave.
	token, err := c.config.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := people(t, p, token.AccessToken, "names"); status != http.StatusOK {
		t.Fatalf("the token does not work: %d", status)
	}
	_, err = c.config.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_grant")
	if status, _ := people(t, p, token.AccessToken, "names"); status != http.StatusUnauthorized {
		t.Errorf("after the replay the access token answers %d", status)
	}
	_, err = c.refresh(token.RefreshToken)
	wantCode(t, err, "invalid_grant")
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, test := range []struct {
		name, basicID, basicSecret string
		form                       string
		status                     int
		code                       string
	}{
		{"basic", "app", "app+secret%3A%25", "", 200, ""},
		{"post", "", "", "client_id=app&client_secret=app+secret%3A%25", 200, ""},
		{"basic with client_id beside", "app", "app+secret%3A%25", "client_id=app", 200, ""},
		{"wrong secret", "app", "wrong", "", 401, "invalid_client"},
		{"no secret", "", "", "client_id=app", 401, "invalid_client"},
		{"unknown", "", "", "client_id=nobody&client_secret=x", 401, "invalid_client"},
		{"both ways", "app", "app+secret%3A%25", "client_secret=app+secret%3A%25", 400, "invalid_request"},
		{"two clients", "app", "app+secret%3A%25", "client_id=other", 400, "invalid_request"},
		{"a public client with a secret", "", "", "client_id=" + demoidp.SignInClientID + "&client_secret=x", 401, "invalid_client"},
		{"a public client for itself", "", "", "client_id=" + demoidp.SignInClientID, 400, "unauthorized_client"},
		{"a person's scope", "app", "app+secret%3A%25", "scope=openid", 400, "invalid_scope"},
		{"scope twice", "app", "app+secret%3A%25", "scope=profile&scope=email", 400, "invalid_request"},
	} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer()+"/token", strings.NewReader("grant_type=client_credentials&"+test.form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if test.basicID != "" {
			r.SetBasicAuth(test.basicID, test.basicSecret)
		}
		status, body := do(t, r)
		if status != test.status || body["error"] != any(test.code) && test.code != "" {
			t.Errorf("%s: %d %v, want %d %s", test.name, status, body, test.status, test.code)
		}
	}
}

func TestPeopleAPI(t *testing.T) {
	t.Parallel()
	p := start(t)
	tokens, err := p.Issue(demoidp.Ada, "app", "profile")
	if err != nil {
		t.Fatal(err)
	}
	status, body := people(t, p, tokens.Access, "names,emailAddresses")
	names, _ := body["names"].([]any)
	if status != http.StatusOK || body["resourceName"] != "people/ada-lovelace" || body["etag"] == "" || len(names) != 1 || body["emailAddresses"] != nil {
		t.Fatalf("%d %v", status, body)
	}
	name := names[0].(map[string]any)
	metadata := name["metadata"].(map[string]any)
	if name["displayName"] != "Ada Lovelace" || name["givenName"] != "Ada" || name["familyName"] != "Lovelace" || metadata["primary"] != true || metadata["source"].(map[string]any)["type"] != "PROFILE" {
		t.Errorf("names: %v", name)
	}

	wrongScope, _ := p.Issue(demoidp.Ada, "app", "openid")
	wrongAudience, _ := p.Issue(demoidp.Ada, demoidp.SignInClientID, "openid", "profile")
	p.SetLifetime(-time.Second)
	expired, _ := p.Issue(demoidp.Ada, "app", "profile")
	p.SetLifetime(time.Hour)
	for _, test := range []struct {
		name, token, fields string
		status              int
		google              string
	}{
		{"no token", "", "names", 401, "UNAUTHENTICATED"},
		{"no JWT", "abc", "names", 401, "UNAUTHENTICATED"},
		{"altered", tokens.Access[:len(tokens.Access)-8] + "AAAAAAAA", "names", 401, "UNAUTHENTICATED"},
		{"expired", expired.Access, "names", 401, "UNAUTHENTICATED"},
		{"for somewhere else", wrongAudience.Access, "names", 401, "UNAUTHENTICATED"},
		{"an ID token", wrongAudience.ID, "names", 401, "UNAUTHENTICATED"},
		{"wrong scope", wrongScope.Access, "names", 403, "PERMISSION_DENIED"},
		{"no fields", tokens.Access, "", 400, "INVALID_ARGUMENT"},
		{"unknown field", tokens.Access, "names,secrets", 400, "INVALID_ARGUMENT"},
	} {
		status, body := people(t, p, test.token, test.fields)
		problem, _ := body["error"].(map[string]any)
		if status != test.status || problem["status"] != test.google || problem["code"] != float64(test.status) {
			t.Errorf("%s: %d %v, want %d %s", test.name, status, body, test.status, test.google)
		}
	}

	p.FailPeople(http.StatusTooManyRequests, 1500*time.Millisecond)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Issuer()+"/v1/people/me?personFields=names", nil)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") != "2" {
		t.Errorf("asked to fail: %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	if n := p.PeopleRequests(); n != 11 {
		t.Errorf("%d calls counted, want 11", n)
	}
}

func people(t *testing.T, p *demoidp.Provider, token, fields string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Issuer()+"/v1/people/me?personFields="+url.QueryEscape(fields), nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return do(t, r)
}

func do(t *testing.T, r *http.Request) (int, map[string]any) {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if len(data) > 0 {
		if err := json.Unmarshal(data, &body); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
	}
	return response.StatusCode, body
}

// TestPages: every page says what it is, and is served so that it loads, runs
// and frames nothing, whatever the client is called.
func TestPages(t *testing.T) {
	t.Parallel()
	const evil = `<script>alert(1)</script>`
	p := start(t, func(o *demoidp.Options) { o.Clients[0].Name = evil })
	c := partyOf(t, p, "app", "app secret:%", "openid", "profile")
	link := c.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()), oauth2.AccessTypeOffline)
	seen := map[string]answer{"sign-in": c.get(link)}
	seen["consent"] = c.post(seen["sign-in"], "/signin", url.Values{"person": {demoidp.Ada}})
	seen["nobody"] = c.post(seen["consent"], "/signin", url.Values{"person": {"nobody"}})
	seen["undecided"] = c.post(seen["consent"], "/consent", url.Values{"decision": {"perhaps"}})
	seen["problem"] = c.get(p.Issuer() + "/consent?request=x")
	seen["home"] = c.get(p.Issuer() + "/")
	for name, page := range seen {
		for header, want := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
		} {
			if got := page.header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action "} {
			if !strings.Contains(page.header.Get("Content-Security-Policy"), want) {
				t.Errorf("%s: the policy lacks %s", name, want)
			}
		}
		for _, want := range []string{"Demo identity provider, not for production</title>", "Demo identity provider — not for production.", `<html lang="en">`, "<main>"} {
			if !strings.Contains(page.body, want) {
				t.Errorf("%s lacks %s:\n%s", name, want, page.body)
			}
		}
		if strings.Contains(page.body, "<script") {
			t.Errorf("%s: the client's name became a script", name)
		}
	}
	if cookie := seen["sign-in"].header.Get("Set-Cookie"); !strings.Contains(cookie, "HttpOnly; SameSite=Lax") {
		t.Errorf("the cookie is %q", cookie)
	}
}
