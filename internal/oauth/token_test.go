package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func TestCodeIsExchangedUnderEachMethod(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	for _, method := range []AuthMethod{"", AuthSecretBasic, AuthSecretPost, AuthNone} {
		s, verifier := p.server(method), NewVerifier()
		link, err := AuthorizationURL(s, Authorization{State: "st", Verifier: verifier})
		if err != nil {
			t.Fatal(err)
		}
		p.authorize(link, canaryCode)
		before := time.Now()
		token, err := c.Exchange(t.Context(), s, secret.New(canaryCode), verifier, Authorization{})
		if err != nil {
			t.Fatalf("%q: %v", method, err)
		}
		if token.Access.Reveal() != canaryAccess || token.Refresh.Reveal() != canaryRefresh || token.Type != "bearer" || !cmp.Equal(token.Scopes, []string{"a", "b"}) {
			t.Errorf("%q: %+v", method, token)
		}
		if token.Expiry.Before(before.Add(3590*time.Second)) || token.Expiry.After(time.Now().Add(3600*time.Second)) {
			t.Errorf("expires in %v", token.Expiry.Sub(before))
		}
		if shown := fmt.Sprintf("%v %+v %#v", token, token, s); strings.Contains(shown, "canary") {
			t.Errorf("a secret is printed: %s", shown)
		}
	}
	if p.tokenPosts.Load() != 4 {
		t.Errorf("%d posts for four codes", p.tokenPosts.Load())
	}
}

func TestPKCEIsProven(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c, s := p.client(), p.server(AuthSecretBasic)
	link, _ := AuthorizationURL(s, Authorization{State: "st", Verifier: NewVerifier()})
	p.authorize(link, canaryCode)
	_, err := c.Exchange(t.Context(), s, secret.New(canaryCode), secret.New("canary-"+NewVerifier().Reveal()), Authorization{})
	wantFault(t, err, fault.Upstream, "refused the request: invalid_grant")
	var problem *Error
	if !errors.As(err, &problem) || problem.Code != "invalid_grant" || problem.Transient || problem.Status != 400 {
		t.Errorf("%+v", problem)
	}
}

func TestAuthMethodOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		server Server
		want   AuthMethod
	}{
		{Server{}, AuthSecretBasic},
		{Server{AuthMethod: AuthNone}, AuthNone},
		{Server{Vendor: "GoogleOauth2"}, AuthSecretPost},
		{Server{Vendor: "GoogleOauth2", AuthMethod: AuthSecretBasic}, AuthSecretBasic},
		{Server{Metadata: Metadata{TokenEndpointAuthMethods: []string{"client_secret_post"}}}, AuthSecretPost},
		{Server{Metadata: Metadata{TokenEndpointAuthMethods: []string{"client_secret_post", "client_secret_basic"}}}, AuthSecretBasic},
		{Server{Metadata: Metadata{TokenEndpointAuthMethods: []string{"private_key_jwt"}}}, AuthSecretBasic},
	} {
		if got, err := test.server.authMethod(); got != test.want || err != nil {
			t.Errorf("%+v: %q, %v; want %q", test.server, got, err, test.want)
		}
	}
	p := newProvider(t)
	_, err := p.client().Refresh(t.Context(), p.server("private_key_jwt"), secret.New(canaryRefresh), nil, nil)
	wantFault(t, err, fault.Invalid, "private_key_jwt")
	if p.tokenPosts.Load() != 0 {
		t.Error("something was sent")
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	var form url.Values
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		r.ParseForm()
		form = r.PostForm
		io.WriteString(w, `{"access_token":"new"}`)
		return true
	}
	token, err := p.client().Refresh(t.Context(), p.server(AuthSecretPost), secret.New(canaryRefresh), []string{"a", "b"}, []string{"https://api"})
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {canaryRefresh}, "scope": {"a b"}, "resource": {"https://api"}, "client_id": {"client:1"}, "client_secret": {canarySecret}}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Error(diff)
	}
	if !token.Refresh.Empty() || !token.Expiry.IsZero() || token.Scopes != nil || token.Type != "Bearer" {
		t.Errorf("%+v; want what was not sent to be empty", token)
	}
}

func TestFailuresOfTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	echo := func(r *http.Request) string { // everything that was sent, as a careless server would repeat it
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		return fmt.Sprint(string(body), form, r.Header.Get("Authorization"))
	}
	canaryVerifier := "canary-verifier-" + strings.Repeat("v", 40)
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   Error
		kind   fault.Kind
	}{
		"invalid_grant": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"error":"invalid_grant","error_description":%q}`, "Malformed auth code.")
		}, Error{Code: "invalid_grant", Status: 400, Description: "Malformed auth code."}, fault.Upstream},
		"echo in the description": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"error":"invalid_grant","error_description":%q}`, echo(r))
		}, Error{Code: "invalid_grant", Status: 400, Description: "*"}, fault.Upstream},
		"echo in the code": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"error":%q}`, canaryCode)
		}, Error{Status: 400}, fault.Upstream},
		"echo as a page": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(403)
			fmt.Fprintf(w, `<html>%s`, echo(r))
		}, Error{Status: 403}, fault.Upstream},
		"unknown client": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(401)
			io.WriteString(w, `{"error":"invalid_client"}`)
		}, Error{Code: "invalid_client", Status: 401}, fault.Upstream},
		"error with status 200": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"error":"bad_verification_code","error_description":"expired"}`)
		}, Error{Code: "bad_verification_code", Status: 200, Description: "expired"}, fault.Upstream},
		"empty 400": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400) }, Error{Status: 400}, fault.Upstream},
		"empty 200": {func(w http.ResponseWriter, r *http.Request) {}, Error{Status: 200, Transient: true}, fault.Unavailable},
		"page with status 200": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>hello") },
			Error{Status: 200, Transient: true}, fault.Unavailable},
		"no access token":   {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"token_type":"Bearer"}`) }, Error{Status: 200}, fault.Upstream},
		"null access token": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"access_token":null}`) }, Error{Status: 200}, fault.Upstream},
		"access token is a number": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"access_token":12}`) },
			Error{Status: 200}, fault.Upstream},
		"access token splits a header": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"access_token":"canary\r\nX: y"}`) },
			Error{Status: 200}, fault.Upstream},
		"list": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `["canary"]`) }, Error{Status: 200, Transient: true}, fault.Unavailable},
		"502 page": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(502)
			io.WriteString(w, "<html>canary")
		}, Error{Status: 502, Transient: true}, fault.Unavailable},
		"500 saying invalid_grant": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			io.WriteString(w, `{"error":"invalid_grant"}`)
		}, Error{Status: 500, Transient: true}, fault.Unavailable},
		"503 with Retry-After": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(503)
			io.WriteString(w, `{"error":"temporarily_unavailable"}`)
		}, Error{Status: 503, Code: "temporarily_unavailable", Transient: true, RetryAfter: 7 * time.Second}, fault.Unavailable},
		"429 with an absurd Retry-After": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "99999999999")
			w.WriteHeader(429)
		}, Error{Status: 429, Transient: true, RetryAfter: time.Hour}, fault.Unavailable},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/token", http.StatusTemporaryRedirect)
		},
			Error{Status: 307}, fault.Upstream},
		"10 MB": {func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte(`{"access_token":"`))
			for range 160 {
				w.Write([]byte(strings.Repeat("canary..", 8192)))
			}
		}, Error{}, fault.Upstream},
		"dropped": {func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		}, Error{Transient: true}, fault.Unavailable},
		"cut": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"access_token":"canary"`)
		}, Error{Transient: true}, fault.Unavailable},
		"slow": {func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // else the server does not notice that we left
			<-r.Context().Done()
		}, Error{Transient: true}, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			p.answer = func(w http.ResponseWriter, r *http.Request) bool { test.answer(w, r); return true }
			c := p.client(func(o *egress.Options) { o.Timeout = patienceWith(name) })
			for _, method := range []AuthMethod{AuthSecretBasic, AuthSecretPost} {
				p.tokenPosts.Store(0)
				_, err := c.Exchange(t.Context(), p.server(method), secret.New(canaryCode), secret.New(canaryVerifier), Authorization{})
				wantFault(t, err, test.kind, "")
				var got *Error
				if !errors.As(err, &got) {
					t.Fatalf("no *Error in %v", err)
				}
				want := test.want
				if want.Description == "*" {
					want.Description = got.Description
				}
				if got.Code != want.Code || got.Status != want.Status || got.Transient != want.Transient || got.RetryAfter != want.RetryAfter || got.Description != want.Description {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if fault.Of(err).RetryAfter != want.RetryAfter {
					t.Errorf("the fault's RetryAfter is %v", fault.Of(err).RetryAfter)
				}
				if p.tokenPosts.Load() != 1 {
					t.Errorf("the code was sent %d times", p.tokenPosts.Load())
				}
			}
		})
	}
}

func TestTokenEndpointMustBeAllowed(t *testing.T) {
	t.Parallel()
	p, other := newProvider(t), newProvider(t) // the other's port is not allowed
	c := p.client()
	for endpoint, kind := range map[string]fault.Kind{
		"https://localhost:" + other.port() + "/token": fault.Upstream, // a name of loopback
		"https://[::ffff:10.0.0.1]/token":              fault.Upstream,
		"http://127.0.0.1:" + p.port() + "/token":      fault.Upstream,
		"":                fault.Invalid,
		"/token":          fault.Invalid,
		"https://a b/%zz": fault.Invalid,
	} {
		s := p.server(AuthSecretPost)
		s.Metadata.TokenEndpoint = endpoint
		_, err := c.Refresh(t.Context(), s, secret.New(canaryRefresh), nil, nil)
		wantFault(t, err, kind, "")
		var problem *Error
		if errors.As(err, &problem) && (problem.Transient || problem.Code != "") {
			t.Errorf("%s: %+v", endpoint, problem)
		}
	}
	if p.tokenPosts.Load()+other.tokenPosts.Load() != 0 {
		t.Error("a token endpoint was reached")
	}
}

func TestCancelledRefresh(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	arrived := make(chan struct{})
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
		return true
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := p.client().Refresh(ctx, p.server(AuthSecretPost), secret.New(canaryRefresh), nil, nil)
	wantFault(t, err, fault.Unavailable, "cancelled")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap context.Canceled", err)
	}
}

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for answer, want := range map[string]time.Duration{
		`3600`: time.Hour, `"3600"`: time.Hour, `3599.5`: 3599500 * time.Millisecond, `" 60 "`: time.Minute, `"59.5"`: 59500 * time.Millisecond, `3.6e3`: time.Hour,
		`0`: 0, `-1`: 0, `null`: 0, `""`: 0, `"soon"`: 0, `"NaN"`: 0, `true`: 0, `[60]`: 0, `{}`: 0, `1e400`: 87600 * time.Hour, `99999999999999`: 87600 * time.Hour, `"-Inf"`: 0,
	} {
		token, problem := answerOf(200, `{"access_token":"t","expires_in":`+answer+`}`, now).token()
		if problem != nil {
			t.Errorf("expires_in %s: %v", answer, problem)
			continue
		}
		if got := token.Expiry; want == 0 && !got.IsZero() || want != 0 && !got.Equal(now.Add(want)) {
			t.Errorf("expires_in %s: %v from now", answer, got.Sub(now))
		}
	}
	for answer, want := range map[string][]string{
		`"a b"`: {"a", "b"}, `"a"`: {"a"}, `["a","b c"]`: {"a", "b c"}, `""`: nil, `null`: nil, `[]`: nil, `7`: nil, `[1]`: nil, `" "`: nil,
	} {
		token, problem := answerOf(201, `{"access_token":"t","id_token":"i","token_type":"","scope":`+answer+`}`, now).token()
		if problem != nil || !cmp.Equal(token.Scopes, want) || token.ID.Reveal() != "i" || token.Type != "Bearer" {
			t.Errorf("scope %s: %v, %v", answer, token.Scopes, problem)
		}
	}
	// Member names are matched exactly.
	if _, problem := answerOf(200, `{"Access_Token":"t"}`, now).token(); problem == nil {
		t.Error("Access_Token is taken for access_token")
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for text, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "soon": 0, "99999": time.Hour,
		now.Add(30 * time.Second).UTC().Format(http.TimeFormat): 30 * time.Second, now.Add(-time.Hour).UTC().Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(text, now); got-want > time.Second || want-got > time.Second {
			t.Errorf("Retry-After %q: %v, want %v", text, got, want)
		}
	}
}

func answerOf(status int, body string, now time.Time) answer {
	return answer{endpoint: tokenEndpoint, status: status, header: http.Header{}, body: []byte(body), started: now}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(200, "", "application/json", []byte(`{"access_token":"t","refresh_token":"r","expires_in":"3600","scope":"a b","token_type":"Bearer","id_token":"x"}`))
	f.Add(400, "", "application/json", []byte(`{"error":"invalid_grant","error_description":"Code SENTCODE was redeemed already"}`))
	f.Add(200, "", "application/json", []byte(`{"access_token":"t","expires_in":3599.5,"scope":["a"]}`))
	f.Add(502, "", "text/html", []byte("<html><h1>Bad Gateway"))
	f.Add(200, "GithubOauth2", "application/x-www-form-urlencoded; charset=utf-8", []byte("access_token=t&scope=repo%2Cgist&token_type=bearer"))
	f.Add(200, "GithubOauth2", "application/x-www-form-urlencoded", []byte("error=bad_refresh_token&error_description=SENTCODE"))
	f.Add(200, "SlackOauth2", "application/json", []byte(`{"ok":true,"authed_user":{"id":"U","scope":"a,b","access_token":"t"}}`))
	f.Add(200, "SlackOauth2", "application/json", []byte(`{"ok":false,"error":"internal_error","access_token":"t"}`))
	f.Add(400, "FacebookOauth2", "application/json", []byte(`{"error":{"message":"m","type":"OAuthException","code":2,"is_transient":true}}`))
	f.Add(400, "TwitchOauth2", "application/json", []byte(`{"status":400,"message":"Invalid refresh token"}`))
	f.Add(201, "", "application/json", []byte(`{"request_uri":"urn:ietf:params:oauth:request_uri:x","expires_in":60}`))
	f.Fuzz(func(t *testing.T, status int, vendor, kind string, body []byte) {
		a := answer{
			vendor: vendors[vendor], endpoint: tokenEndpoint, status: status, header: http.Header{"Content-Type": {kind}}, body: body,
			sent: spellings("SENTCODE"), started: time.Unix(1_800_000_000, 0),
		}
		token, problem := a.token()
		if (problem == nil) == token.Access.Empty() {
			t.Fatalf("token %v, problem %v", token, problem)
		}
		if problem != nil {
			if text := problem.Error(); strings.Contains(text, "SENTCODE") || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte("SENTCODE"))) {
				t.Fatalf("a secret is in %q", text)
			}
			if problem.Code == "invalid_grant" && problem.Transient {
				t.Fatal("a grant is both gone and to be tried again")
			}
		} else if !isTokenText(token.Access.Reveal()) {
			t.Fatal("a token that no header can carry")
		}
		reference, expires, problem := a.reference()
		if (problem == nil) == (reference == "") || problem == nil && (!expires.After(a.started) || strings.ContainsAny(reference, " \r\n")) {
			t.Fatalf("reference %q until %v, problem %v", reference, expires, problem)
		}
	})
}
