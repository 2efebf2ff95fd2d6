package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func googleServer() Server {
	google, _ := VendorOf("GoogleOauth2")
	return Server{Vendor: google.Name, Metadata: google.Metadata, ClientID: "id", ClientSecret: secret.New(canarySecret), RedirectURL: "https://o.example/cb/1"}
}

func TestAuthorizationURLForGoogle(t *testing.T) {
	t.Parallel()
	verifier := NewVerifier()
	link, err := AuthorizationURL(googleServer(), Authorization{
		State: "s+1 &", Verifier: verifier, Scopes: []string{"openid", "https://www.googleapis.com/auth/userinfo.profile"},
		Parameters: map[string]string{"access_type": "offline", "prompt": "consent"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(link, verifier.Reveal()) || strings.Contains(link, "canary") {
		t.Error("a secret is in the URL")
	}
	if strings.Contains(link, "+") {
		t.Errorf("a space is written as +: %s", link)
	}
	u, _ := url.Parse(link)
	sum := sha256.Sum256([]byte(verifier.Reveal()))
	want := url.Values{
		"response_type": {"code"}, "client_id": {"id"}, "redirect_uri": {"https://o.example/cb/1"}, "state": {"s+1 &"},
		"scope":          {"openid https://www.googleapis.com/auth/userinfo.profile"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"access_type": {"offline"}, "prompt": {"consent"},
	}
	if u.Host != "accounts.google.com" || u.Path != "/o/oauth2/v2/auth" || !cmp.Equal(want, u.Query()) {
		t.Errorf("%s: %s", link, cmp.Diff(want, u.Query()))
	}
}

func TestParametersNeverOverrideTheProtocol(t *testing.T) {
	t.Parallel()
	s := googleServer()
	s.Metadata.AuthorizationEndpoint = "https://idp.example/auth?p=policy%2B1&client_id=evil&Redirect_URI=evil&flag"
	parameters := map[string]string{"p": "evil", "hd": "corp.example"}
	for _, name := range []string{
		"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "request",
		"request_uri", "resource", "audience", "CLIENT_ID", "Client.Id", "client id", "redirect_uri[]", "state[0]", " scope", "client_secret", "code_verifier", "",
	} {
		parameters[name] = "evil"
		if !ReservedParameter(name) {
			t.Errorf("%q is not reserved", name)
		}
	}
	for _, name := range []string{"access_type", "prompt", "login_hint", "hd", "user_scope", "claims", "scopes"} {
		if ReservedParameter(name) {
			t.Errorf("%q is reserved", name)
		}
	}
	link, err := AuthorizationURL(s, Authorization{State: "st", Verifier: NewVerifier(), Resources: []string{"https://a", "https://b"}, Audiences: []string{"api"}, Parameters: parameters})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(link, "evil") {
		t.Errorf("something was overridden: %s", link)
	}
	u, _ := url.Parse(link)
	q := u.Query()
	if !strings.HasPrefix(u.RawQuery, "p=policy%2B1&flag&") || q.Get("p") != "policy+1" || q.Get("hd") != "corp.example" {
		t.Errorf("the endpoint's own query is not kept: %s", link)
	}
	if !cmp.Equal(q["resource"], []string{"https://a", "https://b"}) || !cmp.Equal(q["audience"], []string{"api"}) || q.Has("scope") {
		t.Errorf("resources, audiences or scopes: %s", link)
	}
}

func TestVendorRowsShapeTheURL(t *testing.T) {
	t.Parallel()
	row := Vendor{ScopeSeparator: ",", AuthorizationParameters: map[string]string{"owner": "user", "prompt": "consent", "state": "evil"}}
	link, err := authorizationURL(row, googleServer(), Authorization{State: "st", Verifier: NewVerifier(), Scopes: []string{"a", "b"}, Parameters: map[string]string{"prompt": "none"}})
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	if q := u.Query(); q.Get("scope") != "a,b" || q.Get("owner") != "user" || q.Get("prompt") != "none" || q.Get("state") != "st" {
		t.Errorf("%s", link)
	}
}

func TestAuthorizationURLRefuses(t *testing.T) {
	t.Parallel()
	good := Authorization{State: "st", Verifier: NewVerifier()}
	for name, test := range map[string]struct {
		change func(*Server, *Authorization)
		kind   fault.Kind
	}{
		"no state":       {func(_ *Server, a *Authorization) { a.State = "" }, fault.Internal},
		"no verifier":    {func(_ *Server, a *Authorization) { a.Verifier = secret.Text{} }, fault.Internal},
		"short verifier": {func(_ *Server, a *Authorization) { a.Verifier = secret.New("canary-verifier") }, fault.Internal},
		"no client":      {func(s *Server, _ *Authorization) { s.ClientID = "" }, fault.Internal},
		"no endpoint":    {func(s *Server, _ *Authorization) { s.Metadata.AuthorizationEndpoint = "" }, fault.Invalid},
		"http":           {func(s *Server, _ *Authorization) { s.Metadata.AuthorizationEndpoint = "http://idp.example/canary" }, fault.Invalid},
		"javascript":     {func(s *Server, _ *Authorization) { s.Metadata.AuthorizationEndpoint = "javascript:canary" }, fault.Invalid},
		"userinfo":       {func(s *Server, _ *Authorization) { s.Metadata.AuthorizationEndpoint = "https://u:canary@idp.example/" }, fault.Invalid},
		"fragment":       {func(s *Server, _ *Authorization) { s.Metadata.AuthorizationEndpoint = "https://idp.example/#canary" }, fault.Invalid},
		"unknown vendor": {func(s *Server, _ *Authorization) { s.Vendor = "NobodyOauth2" }, fault.NotBuilt},
		"PAR required":   {func(s *Server, _ *Authorization) { s.Metadata.RequirePushedAuthorizationRequests = true }, fault.Invalid},
	} {
		s, a := googleServer(), good
		test.change(&s, &a)
		_, err := AuthorizationURL(s, a)
		if !fault.Is(err, test.kind) {
			t.Errorf("%s: %v; want %v", name, err, test.kind)
			continue
		}
		noSecrets(t, err)
	}
	s := googleServer()
	s.Metadata.AuthorizationEndpoint = "http://127.0.0.1:9000/auth" // the demo provider
	if _, err := AuthorizationURL(s, good); err != nil {
		t.Error(err)
	}
}

func TestVerifiersAreGood(t *testing.T) {
	t.Parallel()
	a, b := NewVerifier(), NewVerifier()
	if a.Len() < 43 || a.Len() > 128 || a.Equal(b) {
		t.Errorf("verifiers of %d characters, equal %v", a.Len(), a.Equal(b))
	}
	// The example of RFC 7636, appendix B.
	if got := Challenge(secret.New("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")); got != "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" {
		t.Errorf("challenge %s", got)
	}
}

func TestCheckResponseIssuer(t *testing.T) {
	t.Parallel()
	silent, loud := Metadata{Issuer: "https://idp.example"}, Metadata{Issuer: "https://idp.example", IssuerInResponse: true}
	for _, test := range []struct {
		m   Metadata
		iss string
		ok  bool
	}{
		{silent, "", true}, {silent, "https://idp.example", true}, {silent, "https://evil.example", false}, {silent, "https://idp.example/", false},
		{loud, "", false}, {loud, "https://idp.example", true}, {loud, "https://IDP.example", false}, {Metadata{}, "https://idp.example", false},
	} {
		if err := CheckResponseIssuer(test.m, test.iss); (err == nil) != test.ok || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%+v, iss %q: %v; want ok %v", test.m, test.iss, err, test.ok)
		}
	}
}
