package e2e

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/store"
)

// abroad is a platform beside a provider that others wrote.
type abroad struct {
	*platform
	t      *testing.T
	server foreign
	agent  string
	scopes []string
	extra  map[string]string
}

func goAbroad(t *testing.T, server foreign, flags ...string) *abroad {
	t.Helper()
	a := &abroad{platform: startPlatform(t, append([]string{"--dev", "--egress-allow", server.allow, "--addr", "127.0.0.1:" + freePort(t), "--demo-addr", "127.0.0.1:" + freePort(t)}, flags...)...), t: t, server: server, agent: "traveller"}
	if _, err := a.control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &a.agent, AllowedResourceOauth2ReturnUrls: []string{returnURL}}); err != nil {
		t.Fatal(err)
	}
	return a
}

// create makes a credential provider and gives the redirect URI to register.
func (a *abroad) create(name string, c demoidp.Client) (callback string) {
	a.t.Helper()
	made, err := a.control.CreateOauth2CredentialProvider(a.t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: &name, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: discovered(a.server.discovery, c),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return *made.CallbackUrl
}

// registered replaces what create had to make up by what the provider gave out.
func (a *abroad) registered(name string, c demoidp.Client) {
	a.t.Helper()
	_, err := a.control.UpdateOauth2CredentialProvider(a.t.Context(), &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
		Name: &name, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: discovered(a.server.discovery, c),
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *abroad) speakForUser(user string) string {
	a.t.Helper()
	token, err := a.client.GetWorkloadAccessTokenForUserId(a.t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: &a.agent, UserId: &user})
	if err != nil {
		a.t.Fatal(err)
	}
	return *token.WorkloadAccessToken
}

func (a *abroad) ask(ctx context.Context, token, provider string, flow data.Oauth2FlowType) (*bedrockagentcore.GetResourceOauth2TokenOutput, error) {
	request := &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: &token, ResourceCredentialProviderName: &provider, Scopes: []string{}, Oauth2Flow: flow, CustomParameters: a.extra,
	}
	if flow == data.Oauth2FlowTypeUserFederation {
		request.Scopes, request.ResourceOauth2ReturnUrl = a.scopes, aws.String(returnURL)
	}
	return a.client.GetResourceOauth2Token(ctx, request)
}

// consent goes through the provider's own pages; it returns the user's first access token.
func (a *abroad) consent(token, provider, user string) string {
	a.t.Helper()
	out, err := a.ask(a.t.Context(), token, provider, data.Oauth2FlowTypeUserFederation)
	if err != nil || out.AuthorizationUrl == nil {
		a.t.Fatalf("no link: %v", err)
	}
	arrival, err := a.server.walkThrough(a.t.Context(), *out.AuthorizationUrl)
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.client.CompleteResourceTokenAuth(a.t.Context(), &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: aws.String(sessionOf(a.t, arrival)), UserIdentifier: &data.UserIdentifierMemberUserId{Value: user},
	}); err != nil {
		a.t.Fatal(err)
	}
	return a.federated(token, provider)
}

func (a *abroad) federated(token, provider string) string {
	a.t.Helper()
	out, err := a.ask(a.t.Context(), token, provider, data.Oauth2FlowTypeUserFederation)
	if err != nil || out.AccessToken == nil {
		a.t.Fatalf("no access token of the user: %v", err)
	}
	return *out.AccessToken
}

// expireGrants makes every access token older than it is, because the lifetimes
// of these providers are minutes. A platform at work would not notice.
func (a *abroad) expireGrants() {
	a.t.Helper()
	a.stop()
	defer a.start()
	a.inside(func(db *store.DB, _ *audit.Log) {
		if err := db.Update(a.t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE grants SET expires = $1`, store.Micros(tx.Now.Add(-time.Minute)))
			return err
		}); err != nil {
			a.t.Fatal(err)
		}
	})
}

// rotates refreshes three times; a provider that rotates would refuse a refresh token that comes twice.
func (a *abroad) rotates(token, provider, subject, first string) {
	a.t.Helper()
	seen := map[string]bool{first: true}
	for range 3 {
		a.expireGrants()
		access := a.federated(token, provider)
		if seen[access] {
			a.t.Fatalf("%s: an expired token comes again", a.server.name)
		}
		seen[access] = true
		if got := a.server.whose(a.t, access); got != subject {
			a.t.Fatalf("%s: the refreshed token is of %q, want %q", a.server.name, got, subject)
		}
	}
}

func (a *abroad) machine(provider string) {
	a.t.Helper()
	token, err := a.client.GetWorkloadAccessToken(a.t.Context(), &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: &a.agent})
	if err != nil {
		a.t.Fatal(err)
	}
	a.extra = nil
	first, err := a.ask(a.t.Context(), *token.WorkloadAccessToken, provider, data.Oauth2FlowTypeM2m)
	if err != nil || first.AccessToken == nil {
		a.t.Fatalf("%s: no token of the machine's own: %v", a.server.name, err)
	}
	again, err := a.ask(a.t.Context(), *token.WorkloadAccessToken, provider, data.Oauth2FlowTypeM2m)
	if err != nil || again.AccessToken == nil || *again.AccessToken != *first.AccessToken {
		a.t.Errorf("%s: the machine's token is not kept: %v", a.server.name, err)
	}
}

// npm's oidc-provider: its own pages, a client registered as one would by hand,
// strict rotation, machine tokens; where it requires pushed requests, and with a
// client that has no secret but signs.
func TestAgainstOIDCProvider(t *testing.T) {
	t.Parallel()
	for _, wants := range []string{"a secret", "par", "signatures"} {
		t.Run(wants, func(t *testing.T) {
			t.Parallel()
			key, flags := declareSigningKey(t)
			a := goAbroad(t, startOIDCProvider(t, wants), flags...)
			a.scopes, a.extra = []string{"openid", "profile", "offline_access"}, map[string]string{"prompt": "consent"}
			c := demoidp.Client{ID: "unknown-yet", Secret: "unknown-yet"}
			callback := a.create("abroad", c)
			client := map[string]any{
				"client_name": "Onbehalf", "redirect_uris": []string{callback}, "grant_types": []string{"authorization_code", "refresh_token", "client_credentials"},
				"response_types": []string{"code"}, "token_endpoint_auth_method": "client_secret_basic", "scope": "openid profile offline_access",
			}
			if wants == "signatures" {
				client["token_endpoint_auth_method"], client["token_endpoint_auth_signing_alg"], client["jwks"] = "private_key_jwt", "ES256", key
			}
			c.ID, c.Secret = a.server.register(t, "http://"+a.server.allow+"/reg", client)
			if wants == "signatures" {
				a.signs("abroad", c.ID)
			} else {
				a.registered("abroad", c)
			}
			user := a.speakForUser("ada@home")
			access := a.consent(user, "abroad", "ada@home")
			if got := a.server.whose(t, access); got != "ada" {
				t.Fatalf("the token is of %q", got)
			}
			a.rotates(user, "abroad", "ada", access)
			if other, err := a.ask(t.Context(), a.speakForUser("grace@home"), "abroad", data.Oauth2FlowTypeUserFederation); err != nil || other.AccessToken != nil {
				t.Errorf("another user is given a token, or %v", err)
			}
			a.machine("abroad")
		})
	}
}

// signs is the configuration of a client that proves itself with the declared key.
func (a *abroad) signs(name, clientID string) {
	a.t.Helper()
	if _, err := a.control.UpdateOauth2CredentialProvider(a.t.Context(), &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
		Name: &name, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
			OauthDiscovery: &control.Oauth2DiscoveryMemberDiscoveryUrl{Value: a.server.discovery}, ClientId: &clientID,
			ClientAuthenticationMethod: control.ClientAuthenticationMethodTypePrivateKeyJwt,
			PrivateKeyJwtConfig: &control.PrivateKeyJwtConfig{
				SigningAlgorithm: control.SigningAlgorithmEs256,
				PrivateKeySource: &control.PrivateKeySourceMemberKmsKeySource{Value: control.KmsKeySourceType{KmsKeyArn: aws.String(signingKeyARN)}},
			},
		}},
	}); err != nil {
		a.t.Fatal(err)
	}
}

// describe is a credential provider whose server does not run yet: its redirect URI is wanted first.
func (a *abroad) describe(name string) (callback string) {
	a.t.Helper()
	issuer := "http://" + a.server.allow
	made, err := a.control.CreateOauth2CredentialProvider(a.t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: &name, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: explicit(demoidp.Client{ID: "unknown-yet", Secret: "unknown-yet"}, issuer, issuer+"/authorize", issuer+"/token"),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return *made.CallbackUrl
}

// exchanges is the configuration of a client that exchanges its users' tokens.
func (a *abroad) exchanges(name string, c demoidp.Client) {
	a.t.Helper()
	custom := discovered(a.server.discovery, c).(*control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig)
	custom.Value.OnBehalfOfTokenExchangeConfig = &control.OnBehalfOfTokenExchangeConfigType{
		GrantType:                    control.OnBehalfOfTokenExchangeGrantTypeTypeTokenExchange,
		TokenExchangeGrantTypeConfig: &control.TokenExchangeGrantTypeConfigType{ActorTokenContent: control.ActorTokenContentTypeNone},
	}
	if _, err := a.control.UpdateOauth2CredentialProvider(a.t.Context(), &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
		Name: &name, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: custom,
	}); err != nil {
		a.t.Fatal(err)
	}
}

// onBehalf exchanges the user's JWT, whose type at the provider is named.
func (a *abroad) onBehalf(jwt, provider, subject, tokenType string, scopes ...string) {
	a.t.Helper()
	speak := func() string {
		token, err := a.client.GetWorkloadAccessTokenForJWT(a.t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: &a.agent, UserToken: &jwt})
		if err != nil {
			a.t.Fatal(err)
		}
		return *token.WorkloadAccessToken
	}
	exchange := func() string {
		token := speak()
		out, err := a.client.GetResourceOauth2Token(a.t.Context(), &bedrockagentcore.GetResourceOauth2TokenInput{
			WorkloadIdentityToken: &token, ResourceCredentialProviderName: &provider, Scopes: scopes, Oauth2Flow: data.Oauth2FlowTypeOnBehalfOfTokenExchange,
			CustomParameters: map[string]string{"subject_token_type": tokenType, "requested_token_type": "urn:ietf:params:oauth:token-type:access_token"},
		})
		if err != nil || out.AccessToken == nil {
			a.t.Fatalf("%s: nothing on behalf of the user: %v", a.server.name, err)
		}
		return *out.AccessToken
	}
	first := exchange()
	if first == jwt {
		a.t.Errorf("%s: the user's own token is handed on", a.server.name)
	}
	if got := a.server.whose(a.t, first); got != subject {
		a.t.Errorf("%s: the token is of %q, want %q", a.server.name, got, subject)
	}
	if exchange() != first {
		a.t.Errorf("%s: the exchanged token is not kept", a.server.name)
	}
	user := a.speakForUser("ada@home") // of whom there is no JWT
	if _, err := a.ask(a.t.Context(), user, provider, data.Oauth2FlowTypeOnBehalfOfTokenExchange); err == nil {
		a.t.Errorf("%s: something on behalf of a user without a token", a.server.name)
	}
}

// Zitadel's OpenID provider in Go: its own sign-in page, rotation, machine
// tokens, and token exchange on behalf of a user who is signed in there.
func TestAgainstZitadel(t *testing.T) {
	t.Parallel()
	server := zitadel(t)
	a := goAbroad(t, server, "--trusted-issuer", "http://"+server.allow+"/=web")
	a.server = server.startZitadel(t, a.describe("abroad"), a.describe("machines"), a.describe("exchange"), returnURL)
	web := demoidp.Client{ID: "web", Secret: "secret"}

	a.scopes = []string{"openid", "profile", "offline_access"}
	a.registered("abroad", web)
	user := a.speakForUser("ada@home")
	access := a.consent(user, "abroad", "ada@home")
	if got := a.server.whose(t, access); got != "id1" {
		t.Fatalf("the token is of %q", got)
	}
	a.rotates(user, "abroad", "id1", access)

	a.registered("machines", demoidp.Client{ID: "sid1", Secret: "verysecret"})
	a.machine("machines")

	at := "http://" + server.allow
	arrival, err := a.server.walkThrough(t.Context(), at+"/auth?"+url.Values{
		"client_id": {"web"}, "redirect_uri": {returnURL}, "response_type": {"code"}, "scope": {"openid profile"}, "state": {"s"},
	}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	landed, err := url.Parse(arrival)
	if err != nil {
		t.Fatal(err)
	}
	signedIn := a.server.post(t, at+"/oauth/token", "web", "secret", url.Values{"grant_type": {"authorization_code"}, "code": {landed.Query().Get("code")}, "redirect_uri": {returnURL}})
	a.exchanges("exchange", web)
	a.onBehalf(signedIn["id_token"].(string), "exchange", "id1", "urn:ietf:params:oauth:token-type:id_token", "openid")
}

// Keycloak is 170 MB from Maven Central, needs Java, and takes a minute to start
// on two cores: it runs in make test-long. The two above run in make test.
func TestAgainstKeycloak(t *testing.T) {
	t.Parallel()
	if !long() {
		t.Skip("ONBEHALF_LONG=1 runs it: Keycloak takes long to download and to start")
	}
	server := keycloak(t)
	a := goAbroad(t, server, "--trusted-issuer", "http://"+server.allow+"/realms/onbehalf=onbehalf")
	callbacks := []string{a.describe("abroad"), a.describe("exchange")}
	audience := map[string]any{
		"name": "for onbehalf", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
		"config": map[string]string{"included.client.audience": "onbehalf", "access.token.claim": "true"},
	}
	a.server = server.startKeycloak(t, map[string]any{
		"realm": "onbehalf", "enabled": true, "revokeRefreshToken": true, "refreshTokenMaxReuse": 0, "accessTokenLifespan": 300,
		"users": []any{map[string]any{
			"username": "ada", "enabled": true, "email": "ada@example.com", "emailVerified": true, "firstName": "Ada", "lastName": "Lovelace",
			"credentials": []any{map[string]any{"type": "password", "value": "verysecure", "temporary": false}},
		}},
		"clients": []any{
			map[string]any{
				"clientId": "onbehalf", "secret": "a secret", "enabled": true, "protocol": "openid-connect", "redirectUris": callbacks, "consentRequired": true,
				"serviceAccountsEnabled": true, "standardFlowEnabled": true, "attributes": map[string]string{"pkce.code.challenge.method": "S256"},
			},
			map[string]any{
				"clientId": "exchanger", "secret": "another secret", "enabled": true, "protocol": "openid-connect", "standardFlowEnabled": false,
				"attributes": map[string]string{"standard.token.exchange.enabled": "true"},
			},
			map[string]any{
				"clientId": "app", "publicClient": true, "enabled": true, "protocol": "openid-connect", "directAccessGrantsEnabled": true,
				"protocolMappers": []any{audience, map[string]any{
					"name": "for the exchanger", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
					"config": map[string]string{"included.client.audience": "exchanger", "access.token.claim": "true"},
				}},
			},
		},
	})
	client := demoidp.Client{ID: "onbehalf", Secret: "a secret"}
	signedIn := a.server.post(t, "http://"+server.allow+"/realms/onbehalf/protocol/openid-connect/token", "", "", url.Values{
		"grant_type": {"password"}, "client_id": {"app"}, "username": {"ada"}, "password": {"verysecure"}, "scope": {"openid"},
	})
	jwt := signedIn["access_token"].(string)
	subject := a.server.whose(t, jwt)

	a.scopes = []string{"openid", "profile"}
	a.registered("abroad", client)
	user := a.speakForUser("ada@home")
	access := a.consent(user, "abroad", "ada@home")
	if got := a.server.whose(t, access); got != subject {
		t.Fatalf("the token is of %q, want %q", got, subject)
	}
	a.rotates(user, "abroad", subject, access)
	a.machine("abroad")
	a.exchanges("exchange", demoidp.Client{ID: "exchanger", Secret: "another secret"})
	a.onBehalf(jwt, "exchange", subject, "urn:ietf:params:oauth:token-type:access_token", "openid")
}
