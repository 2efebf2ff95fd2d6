package oauth

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c, s := p.client(), p.server(AuthSecretPost)
	s.Metadata.RevocationEndpoint = p.URL + "/revoke"
	sent := recording(p, 200, "")
	if err := c.Revoke(t.Context(), s, secret.New(canaryRefresh), HintRefreshToken); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"token": {canaryRefresh}, "token_type_hint": {"refresh_token"}, "client_id": {"client:1"}, "client_secret": {canarySecret}}
	if diff := cmp.Diff(want, map[string][]string(*sent)); diff != "" {
		t.Error(diff)
	}
	if err := c.Revoke(t.Context(), s, secret.New(canaryAccess), ""); err != nil || sent.Has("token_type_hint") {
		t.Errorf("%v, %v", *sent, err)
	}
}

func TestRefusedRevocations(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c, s := p.client(), p.server(AuthSecretBasic)
	s.Metadata.RevocationEndpoint = p.URL + "/revoke"
	for name, test := range map[string]struct {
		status    int
		body      string
		kind      fault.Kind // 255: no error
		transient bool
	}{
		"done":              {204, "", 255, false},
		"a page of success": {200, "<html>", 255, false},
		"gone already":      {400, `{"error":"invalid_token"}`, 255, false},
		"unsupported":       {400, `{"error":"unsupported_token_type","error_description":"not ` + canaryRefresh + `"}`, fault.Upstream, false},
		"unknown client":    {401, `{"error":"invalid_client"}`, fault.Upstream, false},
		"redirect":          {302, "", fault.Upstream, false},
		"not found":         {404, "<html>" + canaryRefresh, fault.Upstream, false},
		"busy":              {503, "", fault.Unavailable, true},
		"busy, says gone":   {500, `{"error":"invalid_token"}`, fault.Unavailable, true},
	} {
		p.answer = func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(test.status)
			io.WriteString(w, test.body)
			return true
		}
		p.tokenPosts.Store(0)
		err := c.Revoke(t.Context(), s, secret.New(canaryRefresh), HintRefreshToken)
		if p.tokenPosts.Load() != 1 {
			t.Errorf("%s: %d posts", name, p.tokenPosts.Load())
		}
		if test.kind == 255 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantFault(t, err, test.kind, "revocation endpoint")
		var problem *Error
		if !errors.As(err, &problem) || problem.Transient != test.transient {
			t.Errorf("%s: %+v", name, problem)
		}
	}
}

func TestRevocationNeedsAnEndpoint(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	err := c.Revoke(t.Context(), p.server(""), secret.New(canaryRefresh), "")
	if !errors.Is(err, ErrNoRevocation) || !fault.Is(err, fault.Invalid) || p.tokenPosts.Load() != 0 {
		t.Errorf("%v", err)
	}
	google, _ := VendorOf("GoogleOauth2")
	s := p.server("")
	s.Vendor = google.Name
	if err := c.Revoke(t.Context(), s, secret.New(canaryRefresh), ""); !errors.Is(err, ErrNoRevocation) {
		t.Errorf("a server elsewhere: %v", err)
	}
	stored := google.Metadata
	stored.RevocationEndpoint = ""
	if got := revocationAddress(google, stored); got != google.Metadata.RevocationEndpoint {
		t.Errorf("metadata without the endpoint leads to %q", got)
	}
	s.Metadata.RevocationEndpoint = "https://10.0.0.1/revoke"
	err = c.Revoke(t.Context(), s, secret.New(canaryRefresh), "")
	wantFault(t, err, fault.Upstream, "private")
}
