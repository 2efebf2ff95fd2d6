package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// backend is a target that remembers what it was sent, says it back, and gives tokens as well.
type backend struct {
	*httptest.Server

	mu      sync.Mutex
	headers http.Header
	query   string
	forms   []string
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /x", func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.headers, b.query = r.Header, r.URL.RawQuery
		b.mu.Unlock()
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "got "+r.Header.Get("Authorization")+" "+r.Header.Get("X-Key")+" "+r.URL.RawQuery)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		b.mu.Lock()
		b.forms = append(b.forms, r.PostForm.Encode())
		b.mu.Unlock()
		kind := map[string]string{"client_credentials": "machine", "urn:ietf:params:oauth:grant-type:token-exchange": "traded"}[r.PostForm.Get("grant_type")]
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "canary-" + kind, "token_type": "Bearer", "expires_in": 3600, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
	})
	b.Server = httptest.NewServer(mux)
	t.Cleanup(b.Close)
	return b
}

func (b *backend) last() (http.Header, string, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.headers, b.query, strings.Join(b.forms, "\n")
}

// api has a tool x with two arguments: a query parameter and a header.
func (b *backend) api() *api.TargetConfiguration {
	return document(b.URL, `{"/x":{"get":{"operationId":"x","parameters":[{"name":"q","in":"query","schema":{"type":"string"}},{"name":"X-Own","in":"header","schema":{"type":"string"}}],"responses":{"200":{"description":"ok"}}}}}`)
}

func (r *rig) key(t *testing.T, name, value string) string {
	t.Helper()
	made, err := r.broker.CreateApiKeyCredentialProvider(t.Context(), r.admin, &api.CreateApiKeyCredentialProviderRequest{Name: name, ApiKey: secret.Pointer(value)})
	ok(t, err)
	return made.CredentialProviderArn
}

func keyCredential(k api.ApiKeyCredentialProvider) []api.CredentialProviderConfiguration {
	return []api.CredentialProviderConfiguration{{CredentialProviderType: api.CredentialProviderTypeApiKey, CredentialProvider: &api.CredentialProvider{ApiKeyCredentialProvider: &k}}}
}

func callX(target, arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + target + `___x","arguments":` + arguments + `}}`
}

func TestTargetsWithAnAPIKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := newBackend(t)
	arn := r.key(t, "weather", "canary key+1")
	g := r.open(t) // a key is nobody's in particular: whoever reaches the gateway uses it
	for name, c := range map[string]struct {
		carries       api.ApiKeyCredentialProvider
		header, value string
		query         string
	}{
		"plain":  {api.ApiKeyCredentialProvider{}, "Authorization", "canary key+1", "q=a"},
		"bearer": {api.ApiKeyCredentialProvider{CredentialLocation: "HEADER", CredentialPrefix: pointer("Bearer ")}, "Authorization", "Bearer canary key+1", "q=a"},
		"named":  {api.ApiKeyCredentialProvider{CredentialLocation: "HEADER", CredentialParameterName: pointer("x-key"), CredentialPrefix: pointer("Key")}, "X-Key", "Key canary key+1", "q=a"},
		"query":  {api.ApiKeyCredentialProvider{CredentialLocation: "QUERY_PARAMETER", CredentialParameterName: pointer("key")}, "", "", "q=a&key=canary+key%2B1"},
	} {
		c.carries.ProviderArn = arn
		r.target(t, g.GatewayId, name, b.api(), keyCredential(c.carries))
		_, content := r.post(t, g.GatewayId, callX(name, `{"q":"a"}`))
		headers, query, _ := b.last()
		if query != c.query || c.header != "" && headers.Get(c.header) != c.value || c.header != "Authorization" && headers.Get("Authorization") != "" {
			t.Errorf("%s: the target got %q and %v", name, query, headers)
		}
		if strings.Contains(content, "canary") || strings.Contains(content, `"isError":true`) {
			t.Errorf("%s: %s", name, content)
		}
	}
	// An argument never stands where the key goes.
	for name, carries := range map[string]api.ApiKeyCredentialProvider{
		"taken-query":  {ProviderArn: arn, CredentialLocation: "QUERY_PARAMETER", CredentialParameterName: pointer("q")},
		"taken-header": {ProviderArn: arn, CredentialParameterName: pointer("x-own")},
	} {
		r.target(t, g.GatewayId, name, b.api(), keyCredential(carries))
		if _, content := r.post(t, g.GatewayId, callX(name, `{"q":"mine","X-Own":"mine"}`)); !strings.Contains(content, "gateway's own key") || strings.Contains(content, "canary") {
			t.Errorf("%s: %s", name, content)
		}
	}
	// Rotated, it is used at once; deleted, the tool says so.
	_, err := r.broker.UpdateApiKeyCredentialProvider(t.Context(), r.admin, &api.UpdateApiKeyCredentialProviderRequest{Name: "weather", ApiKey: secret.Pointer("canary-new")})
	ok(t, err)
	r.post(t, g.GatewayId, callX("plain", `{}`))
	if headers, _, _ := b.last(); headers.Get("Authorization") != "canary-new" {
		t.Errorf("the target got %v", headers)
	}
	_, err = r.broker.UpdateApiKeyCredentialProvider(t.Context(), r.admin, &api.UpdateApiKeyCredentialProviderRequest{Name: "weather", ApiKey: secret.Pointer("canary\r\nInjected: 1")})
	ok(t, err)
	if _, content := r.post(t, g.GatewayId, callX("plain", `{}`)); !strings.Contains(content, "cannot travel in a header") || strings.Contains(content, "canary") {
		t.Error(content)
	}
	_, err = r.broker.DeleteApiKeyCredentialProvider(t.Context(), r.admin, &api.DeleteApiKeyCredentialProviderRequest{Name: "weather"})
	ok(t, err)
	if _, content := r.post(t, g.GatewayId, callX("plain", `{}`)); !strings.Contains(content, "could not be had") || !strings.Contains(content, "not found") {
		t.Error(content)
	}
	// The role that the gateway runs under must allow it.
	ok(t, r.db.Update(t.Context(), func(tx *store.Tx) error {
		return policy.New(r.db).Put(tx, account, role, "default", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock-agentcore:GetWorkloadAccessToken","Resource":"*"}]}`)
	}))
	if _, content := r.post(t, g.GatewayId, callX("plain", `{}`)); !strings.Contains(content, "role that gateway") {
		t.Error(content)
	}
}

func TestTargetsWithTheClientsOwnToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := newBackend(t)
	made, err := r.broker.CreateOauth2CredentialProvider(t.Context(), r.admin, &api.CreateOauth2CredentialProviderRequest{
		Name: "own", CredentialProviderVendor: api.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &api.Oauth2ProviderConfigInput{CustomOauth2ProviderConfig: &api.CustomOauth2ProviderConfigInput{
			ClientId: pointer("gateway"), ClientSecret: secret.Pointer("canary-secret"),
			OauthDiscovery:                &api.Oauth2Discovery{AuthorizationServerMetadata: &api.Oauth2AuthorizationServerMetadata{Issuer: b.URL, AuthorizationEndpoint: b.URL + "/authorize", TokenEndpoint: b.URL + "/token"}},
			OnBehalfOfTokenExchangeConfig: &api.OnBehalfOfTokenExchangeConfigType{GrantType: "TOKEN_EXCHANGE"},
		}},
	})
	ok(t, err)
	with := func(grant api.OAuthGrantType) []api.CredentialProviderConfiguration {
		return []api.CredentialProviderConfiguration{{CredentialProviderType: api.CredentialProviderTypeOauth, CredentialProvider: &api.CredentialProvider{
			OauthCredentialProvider: &api.OAuthCredentialProvider{ProviderArn: made.CredentialProviderArn, Scopes: []string{"read"}, GrantType: grant, CustomParameters: map[string]secret.Text{"audience": secret.New("api")}},
		}}}
	}
	g := r.createGateway(t, r.gatewayRequest("own"))
	r.target(t, g.GatewayId, "machine", b.api(), with(api.OAuthGrantTypeClientCredentials))
	r.target(t, g.GatewayId, "absent", b.api(), with(""))
	r.target(t, g.GatewayId, "traded", b.api(), with(api.OAuthGrantTypeTokenExchange))
	ada := r.token(t, "ada-lovelace")
	for target, want := range map[string]string{"machine": "canary-machine", "absent": "canary-machine", "traded": "canary-traded"} {
		_, content := r.post(t, g.GatewayId, callX(target, `{}`), "Authorization", "Bearer "+ada)
		headers, _, forms := b.last()
		if headers.Get("Authorization") != "Bearer "+want || strings.Contains(content, "canary") || strings.Contains(content, `"isError":true`) {
			t.Errorf("%s: the target got %q and answered %s", target, headers.Get("Authorization"), content)
		}
		if !strings.Contains(forms, "audience=api") || !strings.Contains(forms, "scope=read") {
			t.Errorf("%s: the provider got %s", target, forms)
		}
	}
	if _, _, forms := b.last(); strings.Count(forms, "grant_type=client_credentials") != 1 || !strings.Contains(forms, "subject_token="+ada) {
		t.Errorf("the provider got %s", forms)
	}

	// What is wrong with the client is no mistake of whoever calls the tool.
	_, err = r.broker.PutOauth2ProviderSettings(t.Context(), r.admin, &api.PutOauth2ProviderSettingsRequest{Name: "own", ClientAuthentication: api.ClientAuthenticationNone})
	ok(t, err)
	if _, content := r.post(t, g.GatewayId, callX("machine", `{}`), "Authorization", "Bearer "+ada); !strings.Contains(content, `"isError":true`) || !strings.Contains(content, "could not be had") {
		t.Error(content)
	}
	_, err = r.broker.PutOauth2ProviderSettings(t.Context(), r.admin, &api.PutOauth2ProviderSettingsRequest{Name: "own"})
	ok(t, err)

	// Without a user there is nothing to trade; the client's own token needs none.
	open := r.open(t)
	r.target(t, open.GatewayId, "machine", b.api(), with(api.OAuthGrantTypeClientCredentials))
	if _, content := r.post(t, open.GatewayId, callX("machine", `{}`)); strings.Contains(content, `"isError":true`) {
		t.Error(content)
	}
	_, err = r.CreateGatewayTarget(t.Context(), r.admin, &api.CreateGatewayTargetRequest{GatewayIdentifier: open.GatewayId, Name: secret.Pointer("traded"), TargetConfiguration: b.api(), CredentialProviderConfigurations: with(api.OAuthGrantTypeTokenExchange)})
	kindIs(t, err, fault.Invalid, "no inbound authorization")
}

func TestKeysOfTargetsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := newBackend(t)
	g := r.open(t)
	arn := r.key(t, "weather", "canary")
	for says, k := range map[string]api.ApiKeyCredentialProvider{
		"was not found":                   {ProviderArn: arn + "x"},
		"provider arn:aws:bedrock-agent":  {ProviderArn: strings.Replace(arn, account, "111111111111", 1)},
		"needs credentialParameterName":   {ProviderArn: arn, CredentialLocation: "QUERY_PARAMETER"},
		"header \"Host\" cannot":          {ProviderArn: arn, CredentialParameterName: pointer("Host")},
		"header \"a b\" cannot":           {ProviderArn: arn, CredentialParameterName: pointer("a b")},
		"credentialPrefix must be one":    {ProviderArn: arn, CredentialPrefix: pointer("a\r\nb")},
		"provider arn:aws:bedrock-agentc": {ProviderArn: r.provider(t)},
	} {
		_, err := r.CreateGatewayTarget(t.Context(), r.admin, &api.CreateGatewayTargetRequest{GatewayIdentifier: g.GatewayId, Name: secret.Pointer("t"), TargetConfiguration: b.api(), CredentialProviderConfigurations: keyCredential(k)})
		kindIs(t, err, fault.Invalid, says)
	}
}
