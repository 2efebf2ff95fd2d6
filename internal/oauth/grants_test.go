package oauth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const canaryJWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.canary"

// recording answers each request with one answer and keeps what was sent.
func recording(p *provider, status int, answer string) *url.Values {
	var sent url.Values
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		r.ParseForm()
		sent = r.PostForm
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, answer)
		return true
	}
	return &sent
}

// evil tries to speak for the protocol in each of its parameters.
func evil(more map[string]string) map[string]string {
	parameters := map[string]string{"login_hint": "ada", "tenant": "t"}
	for _, name := range []string{
		"grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "resource", "audience", "code", "code_verifier",
		"redirect_uri", "subject_token", "actor_token", "Assertion", "refresh_token", "subject.token", "actor_token[]", " scope", "device_code",
	} {
		parameters[name] = "evil"
		if !ReservedTokenParameter(name) {
			panic(name)
		}
	}
	for name, value := range more {
		parameters[name] = value
	}
	return parameters
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	sent := recording(p, 200, `{"access_token":"canary-access-token","token_type":"Bearer","expires_in":60,"scope":"a b"}`)
	c := p.client()
	token, err := c.ClientCredentials(t.Context(), p.server(AuthSecretPost), []string{"a", "b"}, []string{"https://r1", "https://r2"}, []string{"aud"}, evil(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"client:1"}, "client_secret": {canarySecret}, "scope": {"a b"},
		"resource": {"https://r1", "https://r2"}, "audience": {"aud"}, "login_hint": {"ada"}, "tenant": {"t"},
	}
	if diff := cmp.Diff(want, *sent); diff != "" {
		t.Error(diff)
	}
	if token.Access.Reveal() != canaryAccess || token.Expiry.IsZero() || !cmp.Equal(token.Scopes, []string{"a", "b"}) {
		t.Errorf("%+v", token)
	}
	if _, err = c.ClientCredentials(t.Context(), p.server(AuthSecretBasic), nil, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(url.Values{"grant_type": {"client_credentials"}}, *sent); diff != "" {
		t.Error(diff)
	}
	if p.tokenPosts.Load() != 2 {
		t.Errorf("%d posts", p.tokenPosts.Load())
	}
}

func TestZoomsAccountCredentials(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	sent := recording(p, 200, `{"access_token":"t","token_type":"bearer","expires_in":3600,"scope":"user:read:admin","api_url":"https://api.zoom.us"}`)
	s := p.server("")
	for vendor, want := range map[string]string{"ZoomOauth2": "account_credentials", "": "client_credentials"} {
		s.Vendor = vendor
		if _, err := p.client().ClientCredentials(t.Context(), s, nil, nil, nil, map[string]string{"account_id": "acc"}); err != nil || sent.Get("grant_type") != want || sent.Get("account_id") != "acc" {
			t.Errorf("vendor %q: %v, %v", vendor, *sent, err)
		}
	}
	s.Vendor = "ZoomOauth2" // General apps have client credentials too, for chatbots
	if _, err := p.client().ClientCredentials(t.Context(), s, nil, nil, nil, nil); err != nil || sent.Get("grant_type") != "client_credentials" {
		t.Errorf("%v, %v", *sent, err)
	}
}

func TestTokenExchange(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	sent := recording(p, 200, `{"access_token":"canary-access-token","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":60}`)
	subject, actor := secret.New(canaryJWT), secret.New("canary-actor-token")
	for name, test := range map[string]struct {
		exchange TokenExchange
		method   AuthMethod
		want     url.Values
	}{
		"plain": {TokenExchange{Subject: subject}, AuthSecretBasic, url.Values{
			"grant_type": {GrantTokenExchange}, "subject_token": {canaryJWT}, "subject_token_type": {TypeJWT},
		}},
		"with an actor": {TokenExchange{Subject: subject, Actor: actor, Scopes: []string{"a", "b"}, Resources: []string{"https://r"}, Audiences: []string{"x", "y"}}, AuthSecretBasic, url.Values{
			"grant_type": {GrantTokenExchange}, "subject_token": {canaryJWT}, "subject_token_type": {TypeJWT},
			"actor_token": {"canary-actor-token"}, "actor_token_type": {TypeAccessToken}, "scope": {"a b"}, "resource": {"https://r"}, "audience": {"x", "y"},
		}},
		"types by parameters": {TokenExchange{Subject: subject, Actor: actor, Parameters: evil(map[string]string{
			"subject_token_type": TypeAccessToken, "actor_token_type": TypeJWT, "requested_token_type": TypeJWT,
		})}, AuthSecretBasic, url.Values{
			"grant_type": {GrantTokenExchange}, "subject_token": {canaryJWT}, "subject_token_type": {TypeAccessToken},
			"actor_token": {"canary-actor-token"}, "actor_token_type": {TypeJWT}, "requested_token_type": {TypeJWT}, "login_hint": {"ada"}, "tenant": {"t"},
		}},
		"types given": {TokenExchange{Subject: subject, SubjectType: TypeJWT, Parameters: map[string]string{"subject_token_type": "evil"}}, AuthSecretBasic, url.Values{
			"grant_type": {GrantTokenExchange}, "subject_token": {canaryJWT}, "subject_token_type": {TypeJWT},
		}},
		"no client": {TokenExchange{Subject: subject}, AuthOmitted, url.Values{
			"grant_type": {GrantTokenExchange}, "subject_token": {canaryJWT}, "subject_token_type": {TypeJWT},
		}},
		"public client": {TokenExchange{Subject: subject}, AuthNone, url.Values{
			"grant_type": {GrantTokenExchange}, "subject_token": {canaryJWT}, "subject_token_type": {TypeJWT}, "client_id": {"client:1"},
		}},
	} {
		token, err := c.ExchangeToken(t.Context(), p.server(test.method), test.exchange)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, *sent); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if token.Access.Reveal() != canaryAccess || token.IssuedType != TypeAccessToken {
			t.Errorf("%s: %+v", name, token)
		}
	}
	before := p.tokenPosts.Load()
	_, err := c.ExchangeToken(t.Context(), p.server(AuthSecretBasic), TokenExchange{})
	wantFault(t, err, fault.Internal, "subject")
	if p.tokenPosts.Load() != before {
		t.Error("an exchange without a subject was sent")
	}
}

// Without a client nothing names one, also not in a header.
func TestOmittedClient(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	var header http.Header
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		header = r.Header
		io.WriteString(w, `{"access_token":"t"}`)
		return true
	}
	c, s := p.client(), p.server(AuthOmitted)
	if _, err := c.JWTBearer(t.Context(), s, secret.New(canaryJWT), nil, nil, nil, nil); err != nil || header.Get("Authorization") != "" {
		t.Errorf("%v, %v", header, err)
	}
	for name, call := range map[string]func() error{
		"code": func() error {
			_, err := c.Exchange(t.Context(), s, secret.New(canaryCode), NewVerifier(), Authorization{})
			return err
		},
		"refresh": func() error {
			_, err := c.Refresh(t.Context(), s, secret.New(canaryRefresh), nil, nil)
			return err
		},
		"M2M": func() error { _, err := c.ClientCredentials(t.Context(), s, nil, nil, nil, nil); return err },
		"revocation": func() error {
			s := s
			s.Metadata.RevocationEndpoint = p.URL + "/revoke"
			return c.Revoke(t.Context(), s, secret.New(canaryRefresh), "")
		},
	} {
		before := p.tokenPosts.Load()
		err := call()
		wantFault(t, err, fault.Invalid, "left out")
		if p.tokenPosts.Load() != before {
			t.Errorf("%s: something was sent", name)
		}
	}
}

func TestJWTBearer(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	sent := recording(p, 200, `{"access_token":"canary-access-token","token_type":"Bearer","scope":"a","expires_in":60}`)
	assertion := secret.New(canaryJWT)
	if _, err := c.JWTBearer(t.Context(), p.server(AuthSecretBasic), assertion, []string{"a", "b"}, []string{"https://r"}, []string{"aud"}, evil(nil)); err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"grant_type": {GrantJWTBearer}, "assertion": {canaryJWT}, "scope": {"a b"}, "resource": {"https://r"}, "audience": {"aud"}, "login_hint": {"ada"}, "tenant": {"t"},
	}
	if diff := cmp.Diff(want, *sent); diff != "" {
		t.Error(diff)
	}

	// https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-on-behalf-of-flow
	s := p.server("")
	s.Vendor = "MicrosoftOauth2"
	if _, err := c.JWTBearer(t.Context(), s, assertion, []string{"https://graph.microsoft.com/.default"}, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	want = url.Values{
		"grant_type": {GrantJWTBearer}, "assertion": {canaryJWT}, "scope": {"https://graph.microsoft.com/.default"}, "requested_token_use": {"on_behalf_of"},
		"client_id": {"client:1"}, "client_secret": {canarySecret},
	}
	if diff := cmp.Diff(want, *sent); diff != "" {
		t.Error(diff)
	}
	if _, err := c.JWTBearer(t.Context(), s, assertion, nil, nil, nil, map[string]string{"requested_token_use": "other"}); err != nil || sent.Get("requested_token_use") != "other" {
		t.Errorf("%v, %v", *sent, err)
	}
	if _, err := c.ClientCredentials(t.Context(), s, nil, nil, nil, nil); err != nil || sent.Has("requested_token_use") {
		t.Errorf("a preset of another grant: %v, %v", *sent, err)
	}
	_, err := c.JWTBearer(t.Context(), s, secret.Text{}, nil, nil, nil, nil)
	wantFault(t, err, fault.Internal, "assertion")
}

// Whatever a server echoes of such a request, no error shows it, and nothing is sent again.
func TestRefusedGrants(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c, s := p.client(), p.server(AuthSecretPost)
	status, code := 400, "invalid_target"
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		r.ParseForm()
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":%q,"error_description":%q}`, code, fmt.Sprint(r.PostForm))
		return true
	}
	parameters := map[string]string{"pass_phrase": "canary-words"}
	calls := map[string]func() error{
		"M2M": func() error { _, err := c.ClientCredentials(t.Context(), s, nil, nil, nil, parameters); return err },
		"exchange": func() error {
			_, err := c.ExchangeToken(t.Context(), s, TokenExchange{Subject: secret.New("canary-s"), Actor: secret.New("canary-a"), Parameters: parameters})
			return err
		},
		"bearer": func() error {
			_, err := c.JWTBearer(t.Context(), s, secret.New("canary-j"), nil, nil, nil, parameters)
			return err
		},
	}
	for name, call := range calls {
		for _, want := range []struct {
			status    int
			code      string
			kind      fault.Kind
			transient bool
		}{{400, "invalid_target", fault.Upstream, false}, {401, "invalid_client", fault.Upstream, false}, {503, "", fault.Unavailable, true}, {200, "access_denied", fault.Upstream, false}} {
			status, code = want.status, want.code
			p.tokenPosts.Store(0)
			err := call()
			wantFault(t, err, want.kind, "")
			var problem *Error
			if !errors.As(err, &problem) || problem.Code != want.code || problem.Transient != want.transient || p.tokenPosts.Load() != 1 {
				t.Errorf("%s, %d: %+v after %d posts", name, want.status, problem, p.tokenPosts.Load())
			}
		}
	}
}
