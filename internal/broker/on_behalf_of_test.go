package broker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

type onBehalfOf = api.OnBehalfOfTokenExchangeConfigType

func exchangeBy(actor api.ActorTokenContentType, scopes ...string) *onBehalfOf {
	return &onBehalfOf{GrantType: api.OnBehalfOfTokenExchangeGrantTypeTypeTokenExchange,
		TokenExchangeGrantTypeConfig: &api.TokenExchangeGrantTypeConfigType{ActorTokenContent: actor, ActorTokenScopes: scopes}}
}

func noClient(c *onBehalfOf) *onBehalfOf {
	c.OnBehalfOfAuthenticationConfig = &api.OnBehalfOfAuthenticationConfig{ClientAuthenticationMethod: api.OnBehalfOfClientAuthenticationMethodNoClient}
	return c
}

var bearer = api.OnBehalfOfTokenExchangeGrantTypeTypeJwtAuthorizationGrant

// trading is the idp as a custom provider that trades.
func (w *world) trading(t testing.TB, name string, c *onBehalfOf) (*api.CreateOauth2CredentialProviderResponse, error) {
	t.Helper()
	input := custom(w.idp, "client")
	input.CustomOauth2ProviderConfig.OnBehalfOfTokenExchangeConfig = c
	if needsNoClient(c) {
		input.CustomOauth2ProviderConfig.ClientId, input.CustomOauth2ProviderConfig.ClientSecret = nil, nil
	}
	return w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: name, CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input})
}

func (w *world) traded(t testing.TB, caller principal.Caller, r TokenRequest) string {
	t.Helper()
	token, err := w.ExchangedToken(t.Context(), caller, r)
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

func TestEachWayOfTrading(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for name, c := range map[string]struct {
			config   *onBehalfOf
			noClient bool
			prefix   string
			requests int
			form     map[string]string
		}{
			"plain":     {&onBehalfOf{GrantType: "TOKEN_EXCHANGE"}, false, "canary-exchanged-ada-", 1, map[string]string{"grant_type": oauth.GrantTokenExchange, "subject_token_type": oauth.TypeJWT, "actor_token": ""}},
			"none":      {exchangeBy("NONE"), false, "canary-exchanged-ada-", 1, map[string]string{"actor_token": "", "actor_token_type": ""}},
			"machine":   {exchangeBy("M2M", "act"), false, "canary-exchanged-ada-by-client-", 2, map[string]string{"actor_token_type": oauth.TypeAccessToken}},
			"bearer":    {&onBehalfOf{GrantType: bearer}, false, "canary-borne-ada-", 1, map[string]string{"grant_type": oauth.GrantJWTBearer, "subject_token": ""}},
			"no-client": {noClient(exchangeBy("NONE")), true, "canary-exchanged-ada-", 1, map[string]string{"client_id": "", "client_secret": ""}},
			"bearer-nc": {noClient(&onBehalfOf{GrantType: bearer}), true, "canary-borne-ada-", 1, map[string]string{"client_id": "", "client_secret": ""}},
		} {
			w.idp.with(func(p *idp) { p.noClient = c.noClient; p.lastAuth = "" })
			made, err := w.trading(t, name, c.config)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(c.config, made.Oauth2ProviderConfigOutput.CustomOauth2ProviderConfig.OnBehalfOfTokenExchangeConfig); diff != "" {
				t.Errorf("%s: not echoed:\n%s", name, diff)
			}
			shown, err := w.GetOauth2CredentialProvider(t.Context(), root, &api.GetOauth2CredentialProviderRequest{Name: name})
			if err != nil || !cmp.Equal(made.Oauth2ProviderConfigOutput, shown.Oauth2ProviderConfigOutput) {
				t.Errorf("%s: get shows another one, %v", name, err)
			}
			ada, before := w.as(t, "agent", "jwt:ada"), w.idp.grants()
			response, err := w.GetResourceOauth2Token(t.Context(), ada, &api.GetResourceOauth2TokenRequest{
				ResourceCredentialProviderName: name, Scopes: []string{"read"}, Oauth2Flow: api.Oauth2FlowTypeOnBehalfOfTokenExchange, Audiences: []string{"api"},
				CustomParameters: map[string]secret.Text{"subject_token": secret.New("another"), "assertion": secret.New("another"), "tenant": secret.New("canary-tenant")},
			})
			if err != nil || response.AccessToken == nil || !strings.HasPrefix(response.AccessToken.Reveal(), c.prefix) {
				t.Fatalf("%s: got %+v, %v", name, response, err)
			}
			form := w.idp.lastForm()
			c.form["scope"], c.form["audience"], c.form["tenant"] = "read", "api", "canary-tenant"
			for field, want := range c.form {
				if got := form.Get(field); got != want {
					t.Errorf("%s: %s=%q reached the provider, want %q", name, field, got, want)
				}
			}
			if c.noClient && w.idp.lastAuth != "" {
				t.Errorf("%s: the client proved itself", name)
			}
			r := TokenRequest{ProviderName: name, Scopes: []string{"read"}, Audiences: []string{"api"}, Parameters: map[string]string{"tenant": "canary-tenant", "assertion": "another", "subject_token": "another"}}
			if w.traded(t, ada, r) != response.AccessToken.Reveal() {
				t.Errorf("%s: traded twice", name)
			}
			if n := w.idp.grants() - before; n != c.requests {
				t.Errorf("%s: %d requests instead of %d", name, n, c.requests)
			}
		}
		w.noCanaries(t)
	})
}

// What the sign-in token is called is the caller's to say: some servers want it as an access token.
func TestTypeOfTheTradedToken(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent")
	if _, err := w.trading(t, "google", exchangeBy("M2M", "act")); err != nil {
		t.Fatal(err)
	}
	ada := w.as(t, "agent", "jwt:ada")
	plain := w.traded(t, ada, TokenRequest{ProviderName: "google"})
	typed := w.traded(t, ada, TokenRequest{ProviderName: "google", Parameters: map[string]string{"subject_token_type": oauth.TypeAccessToken, "actor_token_type": oauth.TypeJWT, "requested_token_type": oauth.TypeAccessToken}})
	form := w.idp.lastForm()
	for name, want := range map[string]string{"subject_token_type": oauth.TypeAccessToken, "requested_token_type": oauth.TypeAccessToken, "actor_token_type": oauth.TypeAccessToken, "scope": ""} {
		if got := form.Get(name); got != want { // the actor's is the platform's to say: it has fetched that token
			t.Errorf("%s=%q reached the provider, want %q", name, got, want)
		}
	}
	if plain == typed || form.Get("actor_token") == "" {
		t.Errorf("got %s and %s", plain, typed)
	}
}

func TestTradedTokensOfOthers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		if _, err := w.trading(t, "google", exchangeBy("NONE")); err != nil {
			t.Fatal(err)
		}
		w.provider(t, "plain", w.idp)
		w.workload(t, "second")
		r := TokenRequest{ProviderName: "google", Scopes: []string{"read"}}
		ada := w.as(t, "agent", "jwt:ada")
		token := w.traded(t, ada, r)
		second := w.as(t, "second", "jwt:ada")
		second.UserToken = ada.UserToken
		for name, got := range map[string]string{
			"a newer JWT of the same person": w.traded(t, w.as(t, "agent", "jwt:ada"), r),
			"another person":                 w.traded(t, w.as(t, "agent", "jwt:bob"), r),
			"another workload":               w.traded(t, second, r),
			"client credentials":             w.m2m(t, ada, r),
		} {
			if got == token {
				t.Errorf("%s has the same token", name)
			}
		}
		before := w.idp.grants()
		stranger := ada
		stranger.Account = other
		for name, c := range map[string]struct {
			caller   principal.Caller
			provider string
			kind     fault.Kind
			text     string
		}{
			"no user":         {w.alone(t, "agent"), "google", fault.Invalid, "GetWorkloadAccessTokenForJWT"},
			"a user id":       {w.as(t, "agent", "ada"), "google", fault.Invalid, "GetWorkloadAccessTokenForJWT"},
			"no workload":     {root, "google", fault.Invalid, "workload identity"},
			"another account": {stranger, "google", fault.NotFound, "google not found"},
			"not configured":  {ada, "plain", fault.Invalid, "onBehalfOfTokenExchangeConfig"},
			"no provider":     {ada, "nobody", fault.NotFound, "nobody not found"},
		} {
			_, err := w.ExchangedToken(t.Context(), c.caller, TokenRequest{ProviderName: c.provider})
			if !fault.Is(err, c.kind) || !strings.Contains(fault.Of(err).Message, c.text) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := w.idp.grants() - before; n != 0 {
			t.Errorf("those who get nothing made %d requests", n)
		}
	})
}

// The JWT's end is the end of what it was traded for, whatever the provider says.
func TestExpiredSubject(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		if _, err := w.trading(t, "google", exchangeBy("NONE")); err != nil {
			t.Fatal(err)
		}
		w.idp.with(func(p *idp) { p.lifetime = 36000 })
		ada, r := w.as(t, "agent", "jwt:ada"), TokenRequest{ProviderName: "google"}
		token := w.traded(t, ada, r)
		w.later(50 * time.Minute)
		if w.traded(t, ada, r) != token {
			t.Error("not kept for fifty minutes")
		}
		w.later(10 * time.Minute)
		before := w.idp.grants()
		_, err := w.ExchangedToken(t.Context(), ada, r)
		wantFault(t, err, fault.Unauthenticated, "sign-in token has expired")
		for name, text := range map[string]string{"swept": "", "no JWT": "opaque", "no payload": "a.!.b", "no exp": "a.e30.b", "no number": "a.eyJleHAiOiJ4In0.b"} {
			broken := ada
			broken.UserToken = secret.New(text)
			if _, err := w.ExchangedToken(t.Context(), broken, r); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if w.idp.grants() != before {
			t.Error("an expired token was sent to the provider")
		}
	})
}

func TestMicrosoftTradesWithoutConfiguration(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent")
	if _, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{
		Name: "office", CredentialProviderVendor: "MicrosoftOauth2", Oauth2ProviderConfigInput: ofVendor("MicrosoftOauth2", "client", secret.Pointer(clientSecret)),
	}); err != nil {
		t.Fatal(err)
	}
	metadata, err := json.Marshal(oauth.Metadata{Issuer: w.idp.URL, TokenEndpoint: w.idp.URL + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	w.exec(t, `UPDATE oauth2_providers SET metadata = $1`, string(metadata)) // as if it were at login.microsoftonline.com
	token := w.traded(t, w.as(t, "agent", "jwt:ada"), TokenRequest{ProviderName: "office", Scopes: []string{"https://graph.microsoft.com/.default"}})
	form := w.idp.lastForm()
	if !strings.HasPrefix(token, "canary-borne-ada-") || form.Get("requested_token_use") != "on_behalf_of" || form.Get("scope") != "https://graph.microsoft.com/.default" {
		t.Errorf("got %s by %v", token, form)
	}
}

func TestProviderThatRefusesATrade(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent")
	for _, name := range []string{"none", "machine"} {
		if _, err := w.trading(t, name, map[string]*onBehalfOf{"none": exchangeBy("NONE"), "machine": exchangeBy("M2M")}[name]); err != nil {
			t.Fatal(err)
		}
		ada := w.as(t, "agent", "jwt:ada")
		for _, c := range []struct {
			status int
			code   string
			kind   fault.Kind
		}{{http.StatusBadRequest, "invalid_grant", fault.Upstream}, {http.StatusUnauthorized, "invalid_client", fault.Upstream}, {http.StatusBadGateway, "", fault.Unavailable}} {
			w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = c.status, c.code })
			_, err := w.ExchangedToken(t.Context(), ada, TokenRequest{ProviderName: name})
			if !fault.Is(err, c.kind) || strings.Contains(fmt.Sprint(err), ada.UserToken.Reveal()) || strings.Contains(fmt.Sprint(err), clientSecret) {
				t.Errorf("%s, %s: %v", name, c.code, err)
			}
		}
		w.idp.with(func(p *idp) { p.tokenStatus = 0 })
		w.traded(t, ada, TokenRequest{ProviderName: name})
	}
	w.noCanaries(t)
}

func TestTradesThatCannotBeConfigured(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	wrongPlace := exchangeBy("NONE")
	wrongPlace.GrantType = bearer
	for name, c := range map[string]struct {
		config *onBehalfOf
		kind   fault.Kind
		text   string
	}{
		"AWS's token as actor":   {exchangeBy("AWS_IAM_ID_TOKEN_JWT"), fault.NotBuilt, "AWS_IAM_ID_TOKEN_JWT"},
		"scopes of no actor":     {exchangeBy("NONE", "act"), fault.Invalid, "actorTokenScopes"},
		"an actor with a bearer": {wrongPlace, fault.Invalid, "TOKEN_EXCHANGE"},
	} {
		_, err := w.trading(t, "p", c.config)
		if !fault.Is(err, c.kind) || !strings.Contains(fault.Of(err).Message, c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An actor is a client: it needs one, whether the trade itself names one or not.
	input := custom(w.idp, "client")
	input.CustomOauth2ProviderConfig.OnBehalfOfTokenExchangeConfig = noClient(exchangeBy("M2M"))
	input.CustomOauth2ProviderConfig.ClientSecret = nil
	_, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "p", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input})
	wantFault(t, err, fault.Invalid, "clientSecret")

	// A provider without a client serves trades alone.
	if _, err := w.trading(t, "bare", noClient(exchangeBy("NONE"))); err != nil {
		t.Fatal(err)
	}
	w.workload(t, "agent", returnURL)
	_, err = w.ClientToken(t.Context(), w.alone(t, "agent"), TokenRequest{ProviderName: "bare"})
	wantFault(t, err, fault.Invalid, "no client of its own")
}
