package consent

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

var discard = slog.New(slog.DiscardHandler)

var noon = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func anAttempt() *broker.Attempt {
	return &broker.Attempt{
		WorkloadName: "mail-agent-a1b2c3d4e5", ProviderName: "google", ProviderTitle: "Google", ProviderHost: "accounts.google.com",
		Scopes: []string{"openid", "urn:acme:read"}, ReturnHost: "app.example", Expires: noon.Add(9*time.Minute + 30*time.Second),
		Location: "https://accounts.google.com/o/oauth2/v2/auth?client_id=a&state=b", CookieName: "attempt", CookieValue: "value", CookiePath: "/identities/oauth2/callback/x",
	}
}

// render runs one page through the headers that all pages get.
func render(t *testing.T, handle func(*pages, http.ResponseWriter, *http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	p := &pages{host: "onbehalf.example", secure: true, now: func() time.Time { return noon }}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://onbehalf.example/", nil)
	r = r.WithContext(principal.WithRequest(r.Context(), principal.Request{ID: "the-request-id"}))
	w := httptest.NewRecorder()
	p.guarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(p, w, r) })).ServeHTTP(w, r)
	return w
}

func allProblems() []problem {
	return []problem{incompleteLink, deadLink, expiredLink, failedLink, usedLink, otherBrowser, unmatched, wrongIssuer, damagedAnswer, refused, tooMany, unavailable, upstream, ourFault, notFound, wrongMethod, wrongHost}
}

// TestEveryPage holds what all pages promise: their headers, that they load and
// run nothing, and that a screen reader finds its way.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	seen := map[string]*httptest.ResponseRecorder{
		"consent": render(t, func(p *pages, w http.ResponseWriter, r *http.Request) {
			p.showConsent(w, r, anAttempt(), principal.Workload{Owner: "a gateway"})
		}),
	}
	for _, what := range allProblems() {
		w := render(t, func(p *pages, w http.ResponseWriter, r *http.Request) { p.show(w, r, what) })
		seen[what.Title] = w
		if w.Code != what.Status || !strings.Contains(w.Body.String(), what.Title) || !strings.Contains(w.Body.String(), "the-request-id") {
			t.Errorf("%s: status %d, or its title or reference is missing", what.Title, w.Code)
		}
	}
	for name, w := range seen {
		for header, want := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex",
		} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		html := w.Body.String()
		_, rest, _ := strings.Cut(html, "<style>")
		css, _, _ := strings.Cut(rest, "</style>")
		csp := w.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "style-src 'sha256-" + hashOf(css) + "'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q lacks %s", name, csp, want)
			}
		}
		for _, want := range []string{`<html lang="en">`, `name="viewport"`, "<title>", "<main>", "<header>", `name="color-scheme"`} {
			if strings.Count(html, want) != 1 {
				t.Errorf("%s: %s is there %d times", name, want, strings.Count(html, want))
			}
		}
		if strings.Count(html, "<h1>") != 1 {
			t.Errorf("%s: not one headline", name)
		}
		for _, never := range []string{"<script", "javascript:", "onclick", " style=", "http-equiv", "<form", "<iframe", "@import", "url(", "ZgotmplZ"} {
			if strings.Contains(html, never) {
				t.Errorf("%s: has %s", name, never)
			}
		}
	}
}

func TestConsentSays(t *testing.T) {
	t.Parallel()
	html := render(t, func(p *pages, w http.ResponseWriter, r *http.Request) {
		p.showConsent(w, r, anAttempt(), principal.Workload{Owner: "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/mail-agent-a1b2c3d4e5"})
	}).Body.String()
	for _, want := range []string{
		"Mail agent wants to use your Google account", "mail-agent-a1b2c3d4e5", "accounts.google.com", "app.example", "9 minutes",
		"Know which account is yours <code>openid</code>", "A permission that Google calls <code>urn:acme:read</code>",
		`href="https://accounts.google.com/o/oauth2/v2/auth?client_id=a&amp;state=b"`, "Continue to Google", "Didn’t ask for this?",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q:\n%s", want, html)
		}
	}
}

// TestHostileNames: whatever a provider, a workload or a return URL is called, it stays text.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	for _, where := range []func(*broker.Attempt){
		func(a *broker.Attempt) { a.WorkloadName = evil },
		func(a *broker.Attempt) { a.ProviderTitle = evil },
		func(a *broker.Attempt) { a.ProviderTitle, a.ProviderName = evil, evil },
		func(a *broker.Attempt) { a.ProviderHost = evil },
		func(a *broker.Attempt) { a.ReturnHost = evil },
		func(a *broker.Attempt) { a.Scopes = []string{evil} },
		func(a *broker.Attempt) { a.Location = "https://provider.example/" + evil },
	} {
		a := anAttempt()
		where(a)
		html := render(t, func(p *pages, w http.ResponseWriter, r *http.Request) { p.showConsent(w, r, a, principal.Workload{}) }).Body.String()
		if strings.Contains(html, "<script") || strings.Contains(html, "<img") {
			t.Errorf("%+v got through:\n%s", a, html)
		}
	}
	a := anAttempt()
	a.Location = "javascript:alert(1)"
	html := render(t, func(p *pages, w http.ResponseWriter, r *http.Request) { p.showConsent(w, r, a, principal.Workload{}) }).Body.String()
	if strings.Contains(html, "javascript:") {
		t.Error("a javascript: address became a link")
	}
}

func TestCookie(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		secure bool
		want   string
	}{
		{true, "__Host-attempt=value; Path=/; Max-Age=570; HttpOnly; Secure; SameSite=Lax"},
		{false, "attempt=value; Path=/identities/oauth2/callback/x; Max-Age=570; HttpOnly; SameSite=Lax"},
	} {
		p := &pages{secure: test.secure, now: func() time.Time { return noon }}
		w := httptest.NewRecorder()
		p.remember(w, anAttempt())
		if got := w.Header().Get("Set-Cookie"); got != test.want {
			t.Errorf("secure %t: %s\nwant %s", test.secure, got, test.want)
		}
	}
	p := &pages{now: func() time.Time { return noon }}
	long := anAttempt()
	long.Expires = noon.Add(time.Hour)
	w := httptest.NewRecorder()
	p.remember(w, long)
	if got := w.Header().Get("Set-Cookie"); !strings.Contains(got, "Max-Age=600;") {
		t.Errorf("the cookie outlives 10 minutes: %s", got)
	}
	w = httptest.NewRecorder()
	p.forget(w, "attempt", "/x")
	if got := w.Header().Get("Set-Cookie"); got != "attempt=; Path=/x; Max-Age=0; HttpOnly; SameSite=Lax" {
		t.Errorf("forgetting says %s", got)
	}
}

func TestOtherHostsAndMethods(t *testing.T) {
	t.Parallel()
	handler := New(nil, nil, Options{PublicURL: "https://onbehalf.example"})
	for _, test := range []struct {
		method, url string
		want        int
	}{
		{"GET", "https://rebound.example/identities/oauth2/authorize?request_uri=x", http.StatusMisdirectedRequest},
		{"GET", "https://onbehalf.example:444/identities/oauth2/authorize?request_uri=x", http.StatusMisdirectedRequest},
		{"POST", "https://onbehalf.example/identities/oauth2/authorize?request_uri=x", http.StatusMethodNotAllowed},
		{"POST", "https://onbehalf.example/identities/oauth2/callback/x", http.StatusMethodNotAllowed},
		{"HEAD", "https://onbehalf.example/identities/oauth2/callback/x?code=c&state=s", http.StatusMethodNotAllowed},
		{"GET", "https://onbehalf.example/identities/oauth2/callback/", http.StatusNotFound},
		{"GET", "https://onbehalf.example/identities/oauth2/callback/x/y", http.StatusNotFound},
		{"GET", "https://onbehalf.example/identities/oauth2/static/x", http.StatusNotFound},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), test.method, test.url, nil))
		if w.Code != test.want || w.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s %s: %d, want %d", test.method, test.url, w.Code, test.want)
		}
	}
}

func TestWantsPage(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true,
		"application/xhtml+xml":            true,
		"TEXT/HTML;level=1":                true,
		"application/json, text/html;q=.1": true,
		"text/html;q=0":                    false,
		"text/html;q=no":                   false,
		"*/*":                              false,
		"text/*":                           false,
		"application/json":                 false,
		"":                                 false,
		"text/htmlx":                       false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Accept", accept)
		if got := wantsPage(r); got != want {
			t.Errorf("Accept: %s is %t, want %t", accept, got, want)
		}
	}
}

func FuzzWantsPage(f *testing.F) {
	f.Add("text/html;q=0.5, */*")
	f.Add(";;,=\"text/html")
	f.Fuzz(func(t *testing.T, accept string) {
		r := &http.Request{Header: http.Header{"Accept": {accept}}}
		if wantsPage(r) && !strings.Contains(strings.ToLower(accept), "html") {
			t.Errorf("%q is taken for HTML", accept)
		}
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	gateway := principal.Workload{Owner: "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/x"}
	for _, test := range []struct {
		workload principal.Workload
		name     string
		want     string
	}{
		{gateway, "sayhello-k3j9x0q2ab", "Sayhello"},
		{principal.Workload{}, "sayhello-k3j9x0q2ab", "Sayhello k3j9x0q2ab"},
		{principal.Workload{}, "my_mail.agent", "My mail agent"},
		{gateway, "short", "Short"},
		{principal.Workload{}, "---", "---"},
		{principal.Workload{}, "", ""},
	} {
		if got := readable(test.workload, test.name); got != test.want {
			t.Errorf("%s is %q, want %q", test.name, got, test.want)
		}
	}
	for d, want := range map[time.Duration]string{
		10 * time.Minute: "10 minutes", 2*time.Minute - 1: "1 minute", 59 * time.Second: "less than a minute", -time.Second: "less than a minute",
	} {
		if got := remaining(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

// TestProblemOf: every kind of error has its page, and the page shows neither
// message nor cause.
func TestProblemOf(t *testing.T) {
	t.Parallel()
	for kind, want := range map[fault.Kind]int{
		fault.Internal: 500, fault.Invalid: 400, fault.Denied: 403, fault.NotFound: 404, fault.Conflict: 409, fault.Throttled: 429, fault.Unavailable: 503,
		fault.Upstream: 502, fault.Undecryptable: 500,
	} {
		w := render(t, func(p *pages, w http.ResponseWriter, r *http.Request) {
			p.log = discard
			p.fail(w, r, fault.New(kind, "the message").Because(http.ErrAbortHandler))
		})
		if w.Code != want || strings.Contains(w.Body.String(), "the message") || strings.Contains(w.Body.String(), "abort") {
			t.Errorf("%s: %d, want %d:\n%s", kind, w.Code, want, w.Body)
		}
	}
	w := render(t, func(p *pages, w http.ResponseWriter, r *http.Request) {
		p.log = discard
		p.fail(w, r, &fault.Error{Kind: fault.Throttled, RetryAfter: 1500 * time.Millisecond})
	})
	if w.Header().Get("Retry-After") != "2" {
		t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
	}
}
