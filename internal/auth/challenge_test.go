package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

func TestChallenge(t *testing.T) {
	t.Parallel()
	const metadata = "https://platform.example/.well-known/oauth-protected-resource/gateway/g/mcp"
	for name, try := range map[string]struct {
		of   Authorizer
		want string
	}{
		"no scopes":        {Authorizer{}, `resource_metadata="` + metadata + `"`},
		"its own scopes":   {Authorizer{Scopes: []string{"a", "b"}}, `resource_metadata="` + metadata + `", scope="a b"`},
		"those advertised": {Authorizer{Scopes: []string{"a"}, ScopesAdvertised: []string{"c"}}, `resource_metadata="` + metadata + `", scope="c"`},
	} {
		if got := try.of.Challenge(metadata); got != try.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	for discovery, want := range map[string]string{
		"https://idp.example/.well-known/openid-configuration":                  "https://idp.example",
		"https://idp.example/realms/one/.well-known/oauth-authorization-server": "https://idp.example/realms/one",
		"https://idp.example/": "https://idp.example/",
	} {
		if got := (Authorizer{DiscoveryURL: discovery}).Issuer(); got != want {
			t.Errorf("the issuer of %s is %s", discovery, got)
		}
	}
}

// A refusal that no token would change carries no challenge.
func TestSetChallenge(t *testing.T) {
	t.Parallel()
	scope := fault.New(fault.Denied, "no").Because(ErrInsufficientScope)
	none := fault.New(fault.Unauthenticated, "who?")
	for name, try := range map[string]struct {
		err       error
		presented bool
		want      string
	}{
		"no token":          {none, false, "Bearer C"},
		"a bad one":         {none, true, `Bearer error="invalid_token", C`},
		"too few scopes":    {scope, true, `Bearer error="insufficient_scope", C`},
		"no permission":     {fault.New(fault.Denied, "no"), true, ""},
		"something else":    {errors.New("broken"), false, ""},
		"nothing went awry": {nil, true, ""},
	} {
		header := http.Header{}
		SetChallenge(header, "C", try.err, try.presented)
		if got := header.Get("WWW-Authenticate"); got != try.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	header := http.Header{}
	if SetChallenge(header, "", none, false); len(header) > 0 {
		t.Errorf("where no tokens are taken: %v", header)
	}
}

func TestWriteMetadata(t *testing.T) {
	t.Parallel()
	there, gone := httptest.NewRecorder(), httptest.NewRecorder()
	WriteMetadata(there, []byte(`{"resource":"r"}`))
	WriteMetadata(gone, nil)
	if there.Code != 200 || there.Body.String() != `{"resource":"r"}` || there.Header().Get("Cache-Control") != "no-cache" || there.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", there.Code, there.Header(), there.Body)
	}
	if gone.Code != 404 || gone.Body.String() != `{"error":"not_found","error_description":"There is no protected resource of this name."}` || gone.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", gone.Code, gone.Header(), gone.Body)
	}
}
