package oauth

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const reference = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c"

func pushing(p *provider, method AuthMethod) Server {
	s := p.server(method)
	s.Metadata.RequirePushedAuthorizationRequests = true
	s.Metadata.PushedAuthorizationRequestEndpoint = p.URL + "/push"
	return s
}

func TestPushedAuthorizationRequest(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c, verifier := p.client(), NewVerifier()
	var sent url.Values
	var path string
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		r.ParseForm()
		sent, path = r.PostForm, r.URL.Path
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"request_uri":"`+reference+`","expires_in":90}`)
		return true
	}
	a := Authorization{State: "st", Verifier: verifier, Scopes: []string{"a", "b"}, Resources: []string{"https://r"}, Audiences: []string{"aud"}, Parameters: map[string]string{"prompt": "login", "keep": "2", "request_uri": "evil"}}
	before := time.Now()
	link, expires, err := c.Authorize(t.Context(), pushing(p, AuthSecretPost), a)
	if err != nil {
		t.Fatal(err)
	}
	if expires.Before(before.Add(89*time.Second)) || expires.After(time.Now().Add(90*time.Second)) {
		t.Errorf("expires in %v", expires.Sub(before))
	}
	u, _ := url.Parse(link)
	if diff := cmp.Diff(url.Values{"keep": {"1"}, "client_id": {"client:1"}, "request_uri": {reference}}, u.Query()); diff != "" || !strings.HasPrefix(link, p.URL+"/authorize?") {
		t.Errorf("%s: %s", link, diff)
	}
	want := url.Values{
		"response_type": {"code"}, "client_id": {"client:1"}, "client_secret": {canarySecret}, "redirect_uri": {"https://onbehalf.example/callback"}, "state": {"st"},
		"scope": {"a b"}, "resource": {"https://r"}, "audience": {"aud"}, "prompt": {"login"}, "code_challenge": {Challenge(verifier)}, "code_challenge_method": {"S256"},
	}
	if diff := cmp.Diff(want, sent); diff != "" || path != "/push" {
		t.Errorf("%s %s", path, diff)
	}
	if p.tokenPosts.Load() != 1 {
		t.Errorf("%d posts", p.tokenPosts.Load())
	}
}

func TestNothingIsPushedUnasked(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := pushing(p, AuthSecretPost)
	s.Metadata.RequirePushedAuthorizationRequests = false
	a := Authorization{State: "st", Verifier: NewVerifier()}
	link, expires, err := p.client().Authorize(t.Context(), s, a)
	plain, _ := AuthorizationURL(s, a)
	if err != nil || link != plain || !expires.IsZero() || p.tokenPosts.Load() != 0 {
		t.Errorf("%s until %v, %v", link, expires, err)
	}
}

func TestRefusedPushes(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c, s := p.client(), pushing(p, AuthSecretPost)
	status, body := 0, ""
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(status)
		io.WriteString(w, body)
		return true
	}
	canaryState := "canary-state-" + strings.Repeat("s", 30)
	for name, test := range map[string]struct {
		status    int
		body      string
		kind      fault.Kind
		transient bool
	}{
		"refused":         {400, `{"error":"invalid_request","error_description":"state ` + canaryState + ` is bad"}`, fault.Upstream, false},
		"echo":            {400, canaryState, fault.Upstream, false},
		"page":            {200, `<html>`, fault.Upstream, false},
		"no reference":    {201, `{"expires_in":60}`, fault.Upstream, false},
		"no URI":          {201, `{"request_uri":"abc","expires_in":60}`, fault.Upstream, false},
		"splits a header": {201, `{"request_uri":"urn:x\r\nLocation: y","expires_in":60}`, fault.Upstream, false},
		"endless":         {201, `{"request_uri":"urn:` + strings.Repeat("x", 4096) + `","expires_in":60}`, fault.Upstream, false},
		"other success":   {204, ``, fault.Upstream, false},
		"redirect":        {307, ``, fault.Upstream, false},
		"busy":            {503, `{"error":"invalid_request"}`, fault.Unavailable, true},
	} {
		status, body = test.status, test.body
		p.tokenPosts.Store(0)
		link, _, err := c.Authorize(t.Context(), s, Authorization{State: canaryState, Verifier: NewVerifier()})
		wantFault(t, err, test.kind, "pushed authorization endpoint")
		var problem *Error
		if link != "" || !errors.As(err, &problem) || problem.Transient != test.transient || p.tokenPosts.Load() != 1 {
			t.Errorf("%s: %q, %+v after %d posts", name, link, problem, p.tokenPosts.Load())
		}
	}

	p.tokenPosts.Store(0)
	for name, change := range map[string]func(*Server, *Authorization){
		"nowhere":      func(s *Server, _ *Authorization) { s.Metadata.PushedAuthorizationRequestEndpoint = "" },
		"no URL":       func(s *Server, _ *Authorization) { s.Metadata.PushedAuthorizationRequestEndpoint = "/push" },
		"no client":    func(s *Server, _ *Authorization) { s.AuthMethod = AuthOmitted },
		"no endpoint":  func(s *Server, _ *Authorization) { s.Metadata.AuthorizationEndpoint = "" },
		"other vendor": func(s *Server, _ *Authorization) { s.Vendor = "NobodyOauth2" },
		"no state":     func(_ *Server, a *Authorization) { a.State = "" },
	} {
		s, a := s, Authorization{State: "st", Verifier: NewVerifier()}
		change(&s, &a)
		if link, _, err := c.Authorize(t.Context(), s, a); err == nil || link != "" || p.tokenPosts.Load() != 0 {
			t.Errorf("%s: %q, %v", name, link, err)
		}
	}
}

func TestLifetimesOfReferences(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]time.Duration{
		"60": time.Minute, "3600": time.Hour, "1e99": 24 * time.Hour, "": time.Minute, "null": time.Minute, "-5": time.Minute, "0": time.Minute, `"90"`: time.Minute, "1.9": time.Second,
	} {
		if got := lifetime([]byte(raw)); got != want {
			t.Errorf("expires_in %s: %v, want %v", raw, got, want)
		}
	}
}
