package identity

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// trust replaces the workload's trusted issuers.
func (w *world) trust(t *testing.T, name string, issuers ...api.TrustedIssuer) error {
	t.Helper()
	_, err := w.PutTrustedIssuers(t.Context(), caller, &api.PutTrustedIssuersRequest{WorkloadName: name, Issuers: issuers})
	return err
}

// A workload's own issuers stand in place of the operator's, for it alone.
func TestTrustedIssuersOfAWorkload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "tenant")
	w.create(t, "agent")
	their := newIssuer(t)
	tenants := &world{issuer: their}
	try := func(workload string, token secret.Text) error {
		_, err := w.GetWorkloadAccessTokenForJWT(t.Context(), caller, &api.GetWorkloadAccessTokenForJWTRequest{WorkloadName: workload, UserToken: token})
		return err
	}
	ours, theirs := w.jwt(t, "ada", time.Hour, 0), tenants.jwt(t, "ada", time.Hour, 0)
	wantFault(t, try("tenant", theirs), fault.Unauthenticated, "not trusted here")

	if err := w.trust(t, "tenant", api.TrustedIssuer{Issuer: their.URL, Audiences: []string{"another", "agents"}}); err != nil {
		t.Fatal(err)
	}
	opened, err := w.Open(t.Context(), caller, w.forJWT(t, "tenant", theirs))
	if err != nil || opened.User != (principal.User{Issuer: their.URL, Subject: "ada"}) {
		t.Errorf("the token names %v, %v", opened.User, err)
	}
	wantFault(t, try("tenant", ours), fault.Unauthenticated, "not trusted here") // replaced, not added to
	wantFault(t, try("agent", theirs), fault.Unauthenticated, "not trusted here")
	w.forJWT(t, "agent", ours)
	got, err := w.GetTrustedIssuers(t.Context(), caller, &api.GetTrustedIssuersRequest{WorkloadName: "tenant"})
	if diff := cmp.Diff([]api.TrustedIssuer{{Issuer: their.URL, Audiences: []string{"another", "agents"}}}, got.Issuers); diff != "" || err != nil {
		t.Errorf("read back (-want +got):\n%s%v", diff, err)
	}

	// An audience that is taken back ends it, at once.
	if err := w.trust(t, "tenant", api.TrustedIssuer{Issuer: their.URL, Audiences: []string{"another"}}); err != nil {
		t.Fatal(err)
	}
	wantFault(t, try("tenant", theirs), fault.Unauthenticated, "aud")
	// None of its own: the operator's again.
	if err := w.trust(t, "tenant"); err != nil {
		t.Fatal(err)
	}
	w.forJWT(t, "tenant", ours)
	if got, err := w.GetTrustedIssuers(t.Context(), caller, &api.GetTrustedIssuersRequest{WorkloadName: "tenant"}); err != nil || len(got.Issuers) != 0 {
		t.Errorf("read back %v, %v", got, err)
	}
	// A re-created workload has nothing of the old one's.
	if err := w.trust(t, "tenant", api.TrustedIssuer{Issuer: their.URL, Audiences: []string{"agents"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.DeleteWorkloadIdentity(t.Context(), caller, &api.DeleteWorkloadIdentityRequest{Name: "tenant"}); err != nil {
		t.Fatal(err)
	}
	w.create(t, "tenant")
	wantFault(t, try("tenant", theirs), fault.Unauthenticated, "not trusted here")
}

// What a tenant may name as an issuer is bounded as every other address that a
// tenant may name, and told when it is named.
func TestIssuersThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "tenant")
	for address, complaint := range map[string]string{
		"https://10.0.0.1":             "private",
		"https://[fd00::1]":            "private",
		"https://169.254.169.254":      "not allowed",
		"http://login.example":         "https",
		"file:///etc/passwd":           "not a URL",
		"login.example":                "not a URL",
		w.issuer.URL + "/":             "calls itself " + w.issuer.URL,
		"https://user@login.example":   "cannot be used",
		"https://login.example?x=y":    "cannot be used",
		w.issuer.URL + "/another/path": "cannot be used",
	} {
		err := w.trust(t, "tenant", api.TrustedIssuer{Issuer: address, Audiences: []string{"agents"}})
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, complaint) {
			t.Errorf("%s: %v, want %q", address, err, complaint)
		}
	}
	wantFault(t, w.trust(t, "tenant", api.TrustedIssuer{Issuer: w.issuer.URL, Audiences: []string{"a", ""}}), fault.Invalid, "audience")
	wantFault(t, w.trust(t, "tenant", api.TrustedIssuer{Issuer: w.issuer.URL, Audiences: []string{"a"}}, api.TrustedIssuer{Issuer: w.issuer.URL, Audiences: []string{"b"}}), fault.Invalid, "named twice")
	wantFault(t, w.trust(t, "nobody"), fault.NotFound, "not found")
	w.owned(t, "gateway-0123456789")
	wantFault(t, w.trust(t, "gateway-0123456789", api.TrustedIssuer{Issuer: w.issuer.URL, Audiences: []string{"a"}}), fault.Invalid, "linked to a service")
	if got, err := w.GetTrustedIssuers(t.Context(), caller, &api.GetTrustedIssuersRequest{WorkloadName: "tenant"}); err != nil || len(got.Issuers) != 0 {
		t.Errorf("something was stored: %v, %v", got, err)
	}
	foreign := caller
	foreign.Account = other
	_, err := w.PutTrustedIssuers(t.Context(), foreign, &api.PutTrustedIssuersRequest{WorkloadName: "tenant"})
	wantFault(t, err, fault.NotFound, "not found")
}

func TestRevokeWorkloadTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")
	w.create(t, "second")
	mint := func() map[string]secret.Text {
		return map[string]secret.Text{
			"ada by token": w.forJWT(t, "agent", w.jwt(t, "ada", time.Hour, 0)), "bob by token": w.forJWT(t, "agent", w.jwt(t, "bob", time.Hour, 0)),
			"ada by id": w.forUser(t, "agent", "ada"), "second": w.forUser(t, "second", "ada"),
		}
	}
	issuer, subject, id := w.issuer.URL, "ada", "ada"
	for name, user := range map[string]*api.EndUser{"ada by token": {Issuer: &issuer, Subject: &subject}, "ada by id": {UserId: &id}} {
		tokens := mint()
		w.late.Add(int64(time.Second))
		if _, err := w.RevokeWorkloadTokens(t.Context(), caller, &api.RevokeWorkloadTokensRequest{WorkloadName: "agent", User: user}); err != nil {
			t.Fatal(err)
		}
		for holder, token := range tokens {
			_, err := w.Open(t.Context(), caller, token)
			if revoked := fault.Is(err, fault.Unauthenticated); revoked != (holder == name) {
				t.Errorf("%s is revoked: %s answers %v", name, holder, err)
			}
		}
		w.late.Add(int64(time.Second))
		for holder, token := range mint() {
			if _, err := w.Open(t.Context(), caller, token); err != nil {
				t.Errorf("a new token of %s: %v", holder, err)
			}
		}
	}
	for name, user := range map[string]*api.EndUser{"empty": {}, "both": {UserId: &id, Issuer: &issuer, Subject: &subject}, "half": {Issuer: &issuer}, "the other half": {Subject: &subject}} {
		if _, err := w.RevokeWorkloadTokens(t.Context(), caller, &api.RevokeWorkloadTokensRequest{WorkloadName: "agent", User: user}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.RevokeWorkloadTokens(t.Context(), caller, &api.RevokeWorkloadTokensRequest{WorkloadName: "nobody"})
	wantFault(t, err, fault.NotFound, "not found")
}
