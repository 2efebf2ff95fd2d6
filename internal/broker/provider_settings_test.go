package broker

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/store"
)

func (w *world) set(t testing.TB, r api.PutOauth2ProviderSettingsRequest) error {
	t.Helper()
	r.Name = "google"
	put, err := w.PutOauth2ProviderSettings(t.Context(), root, &r)
	if err != nil {
		return err
	}
	shown, err := w.GetOauth2ProviderSettings(t.Context(), root, &api.GetOauth2ProviderSettingsRequest{Name: "google"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(put.AppendJSON(nil)), string(shown.AppendJSON(nil))); diff != "" {
		t.Error(diff)
	}
	return nil
}

func TestPublicClient(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		w.workload(t, "reader", returnURL)
		if err := w.set(t, api.PutOauth2ProviderSettingsRequest{ClientAuthentication: api.ClientAuthenticationNone}); err != nil {
			t.Fatal(err)
		}
		// Nothing is sent that could prove anything but the code's verifier and the client's name.
		w.idp.with(func(p *idp) {
			p.proves = func(r *http.Request) (string, bool) {
				return r.PostForm.Get("client_id"), r.Header.Get("Authorization") == "" && !r.PostForm.Has("client_secret") && !r.PostForm.Has("client_assertion")
			}
		})
		caller := w.consented(t, "reader", "ada", ask("profile"))
		if form := w.idp.lastForm(); form.Get("code_verifier") == "" || form.Get("client_id") != "client" {
			t.Errorf("the code was redeemed with %v", form)
		}
		w.later(2 * time.Hour)
		w.token(t, caller, ask("profile")) // a refresh
		if w.idp.everSent(clientSecret) {
			t.Error("the secret was sent")
		}
		_, err := w.ClientToken(t.Context(), caller, TokenRequest{ProviderName: "google"})
		wantFault(t, err, fault.Invalid, "is public")

		// An update needs no secret, and keeps the settings and the grants.
		input := custom(w.idp, "client")
		input.CustomOauth2ProviderConfig.ClientSecret = nil
		if _, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input}); err != nil {
			t.Fatal(err)
		}
		w.token(t, caller, ask("profile"))
		err = w.set(t, api.PutOauth2ProviderSettingsRequest{ClientAuthentication: api.ClientAuthenticationConfigured})
		wantFault(t, err, fault.Invalid, "has no client secret")
		if _, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: custom(w.idp, "client")}); err != nil {
			t.Fatal(err)
		}
		if err := w.set(t, api.PutOauth2ProviderSettingsRequest{}); err != nil {
			t.Fatal(err)
		}
		w.idp.with(func(p *idp) { p.proves = nil })
		w.m2m(t, caller, TokenRequest{ProviderName: "google"})
		_, err = w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input})
		wantFault(t, err, fault.Invalid, "clientSecret is required")
	})
}

// A public client uses PKCE also where a client with a secret must not.
func TestPublicClientOfAVendorWithoutPKCE(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	if _, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{
		Name: "google", CredentialProviderVendor: "SlackOauth2", Oauth2ProviderConfigInput: ofVendor("SlackOauth2", "client", custom(w.idp, "client").CustomOauth2ProviderConfig.ClientSecret),
	}); err != nil {
		t.Fatal(err)
	}
	w.workload(t, "agent", returnURL)
	for _, public := range []bool{false, true} {
		method := api.ClientAuthenticationConfigured
		if public {
			method = api.ClientAuthenticationNone
		}
		if err := w.set(t, api.PutOauth2ProviderSettingsRequest{ClientAuthentication: method}); err != nil {
			t.Fatal(err)
		}
		attempt := w.open(t, newBrowser("ada"), w.link(t, w.as(t, "agent", "ada"), ask("profile")))
		if strings.Contains(attempt.Location, "code_challenge_method=S256") != public {
			t.Errorf("public %v: %s", public, attempt.Location)
		}
	}
}

func TestProviderSettings(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		endpoint := w.idp.URL + "/push"
		_, err := w.PutOauth2ProviderSettings(t.Context(), root, &api.PutOauth2ProviderSettingsRequest{Name: "nobody"})
		wantFault(t, err, fault.NotFound, "nobody not found")
		_, err = w.GetOauth2ProviderSettings(t.Context(), root, &api.GetOauth2ProviderSettingsRequest{Name: "nobody"})
		wantFault(t, err, fault.NotFound, "nobody not found")
		wantFault(t, w.set(t, api.PutOauth2ProviderSettingsRequest{PushedAuthorizationRequests: pointer(true)}), fault.Invalid, "does not say where")
		for _, url := range []string{"https://169.254.169.254/revoke", "http://idp.example/revoke", "https://a:b@idp.example/", "javascript:alert(1)"} {
			if err := w.set(t, api.PutOauth2ProviderSettingsRequest{RevocationEndpoint: &url}); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: %v", url, err)
			}
		}
		if err := w.set(t, api.PutOauth2ProviderSettingsRequest{PushedAuthorizationRequests: pointer(true), PushedAuthorizationRequestEndpoint: &endpoint, RevocationEndpoint: &endpoint}); err != nil {
			t.Fatal(err)
		}
		read := func() oauth.Metadata {
			var p *Provider
			if err := w.db.View(t.Context(), func(tx *store.Tx) (err error) {
				p, err = w.providerByName(tx, account, "google")
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return p.Metadata
		}
		if m := read(); !m.RequirePushedAuthorizationRequests || m.PushedAuthorizationRequestEndpoint != endpoint || m.RevocationEndpoint != endpoint {
			t.Errorf("got %+v", m)
		}
		// They are no part of the configuration: an update leaves them, and removing them leaves it.
		if _, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: custom(w.idp, "client")}); err != nil {
			t.Fatal(err)
		}
		if m := read(); !m.RequirePushedAuthorizationRequests {
			t.Errorf("got %+v", m)
		}
		if err := w.set(t, api.PutOauth2ProviderSettingsRequest{}); err != nil {
			t.Fatal(err)
		}
		if m := read(); m.RequirePushedAuthorizationRequests || m.PushedAuthorizationRequestEndpoint != "" || m.RevocationEndpoint != "" {
			t.Errorf("got %+v", m)
		}
	})
}

// Addresses that are set belong to the server that they were set for: once the
// provider is another one, neither its client nor its tokens go there.
func TestSettingsOfAnotherServer(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		update := func(p *idp) error {
			_, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: custom(p, "client")})
			return err
		}
		endpoint := w.idp.URL + "/own"
		addresses := api.PutOauth2ProviderSettingsRequest{PushedAuthorizationRequests: pointer(true), PushedAuthorizationRequestEndpoint: &endpoint, RevocationEndpoint: &endpoint}
		if err := w.set(t, addresses); err != nil {
			t.Fatal(err)
		}
		// What is replaced does not vouch for what replaces it.
		wantFault(t, w.set(t, api.PutOauth2ProviderSettingsRequest{PushedAuthorizationRequests: pointer(true)}), fault.Invalid, "does not say where")

		another := newIDP(t)
		wantFault(t, update(another), fault.Invalid, "does not say where to")
		addresses.PushedAuthorizationRequests = nil
		if err := w.set(t, addresses); err != nil {
			t.Fatal(err)
		}
		if err := update(another); err != nil {
			t.Fatal(err)
		}
		shown, err := w.GetOauth2ProviderSettings(t.Context(), root, &api.GetOauth2ProviderSettingsRequest{Name: "google"})
		if err != nil || shown.RevocationEndpoint != nil || shown.PushedAuthorizationRequestEndpoint != nil {
			t.Errorf("got %s, %v", shown.AppendJSON(nil), err)
		}
	})
}

// An update that needs no secret, since the client is public, is not stored for
// one that has to prove itself since.
func TestUpdateWhileAClientBecomesConfidential(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		if err := w.set(t, api.PutOauth2ProviderSettingsRequest{ClientAuthentication: api.ClientAuthenticationNone}); err != nil {
			t.Fatal(err)
		}
		slow := newIDP(t)
		slow.with(func(p *idp) {
			p.looked = func() {
				if _, err := w.PutOauth2ProviderSettings(t.Context(), root, &api.PutOauth2ProviderSettingsRequest{Name: "google"}); err != nil {
					t.Error(err)
				}
			}
		})
		input := custom(slow, "client")
		input.CustomOauth2ProviderConfig.ClientSecret = nil
		_, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input})
		wantFault(t, err, fault.Conflict, "changed meanwhile")
	})
}
