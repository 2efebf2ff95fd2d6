package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/gateway/openapi"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
	"github.com/onbehalf/onbehalf/internal/vault"
)

const (
	region    = "us-east-1"
	account   = "000000000000"
	returnURL = "http://localhost:9090/oauth2/callback"
	role      = "arn:aws:iam::000000000000:role/gateway"
)

// rig is everything behind the MCP endpoint, for real: database, guards,
// identity, broker, an OpenID provider with a People API, and the endpoint on a
// listener.
type rig struct {
	*gateway.Service
	guard    *auth.Authenticator
	door     *gate.Gate
	db       *store.DB
	keeper   *seal.Keeper
	audit    *audit.Log
	broker   *broker.Broker
	admin    principal.Caller
	idp      *demoidp.Provider
	people   string // base URL of the provider and its API
	mcp      *httptest.Server
	identity *identity.Service
	egress   *egress.Client
}

func newRig(t testing.TB) *rig { return newRigOn(t, storetest.Open(t)) }

func newRigOn(t testing.TB, db *store.DB) *rig {
	t.Helper()
	r := &rig{db: db, keeper: storetest.Keeper(t, db, account),
		admin: principal.Caller{Kind: principal.Key, Account: account, ARN: "arn:aws:iam::000000000000:root", KeyID: "AKIATEST", Root: true}}

	provider := httptest.NewUnstartedServer(nil)
	idp, err := demoidp.New(demoidp.Options{Address: provider.Listener.Addr()})
	ok(t, err)
	provider.Config.Handler = idp
	provider.Start()
	t.Cleanup(provider.Close)
	r.idp, r.people = idp, provider.URL

	if r.egress, err = egress.New(egress.Options{Allow: []string{"127.0.0.1:*", "localhost:*"}, LoopbackHTTP: true}); err != nil {
		t.Fatal(err)
	}
	protocol := oauth.New(r.egress)
	guard := auth.New(db, r.keeper, protocol, auth.Options{Region: region, Rates: map[string]float64{}})
	r.audit, err = audit.New(t.Context(), db, r.keeper, "")
	ok(t, err)
	t.Cleanup(func() { _ = r.audit.Close() })
	policies := policy.New(db)
	ok(t, db.Update(t.Context(), func(tx *store.Tx) error {
		return policies.Put(tx, account, role, "default", policy.DefaultRoleDocument)
	}))
	door := gate.New(guard, policies, r.audit)
	r.guard, r.door = guard, door
	identities := identity.New(db, r.keeper, guard, identity.Options{Region: region})

	r.identity = identities
	r.mcp = httptest.NewUnstartedServer(nil)
	public := "http://" + r.mcp.Listener.Addr().String()
	r.broker = broker.New(db, r.keeper, identities, vault.New(db, r.keeper), protocol, r.egress, guard, door, broker.Options{Region: region, PublicURL: public})
	r.Service = gateway.New(db, r.keeper, identities, r.broker, guard, door, gateway.Options{Region: region, PublicURL: public, Version: "1.2.3", Kinds: []gateway.Kind{openapi.New(r.egress)}})
	doors := http.NewServeMux()
	doors.Handle("/gateway/", r.MCP())
	doors.Handle("/.well-known/oauth-protected-resource/gateway/", r.Metadata())
	r.mcp.Config.Handler = doors
	r.mcp.Start()
	t.Cleanup(r.mcp.Close)
	return r
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// jwt is an inbound authorizer for tokens that the demo provider signs people in with.
func (r *rig) jwt() *api.AuthorizerConfiguration {
	return &api.AuthorizerConfiguration{CustomJWTAuthorizer: &api.CustomJWTAuthorizerConfiguration{
		DiscoveryUrl: r.idp.DiscoveryURL(), AllowedAudience: []string{demoidp.SignInClientID}}}
}

func (r *rig) gatewayRequest(name string) *api.CreateGatewayRequest {
	return &api.CreateGatewayRequest{Name: name, RoleArn: role, ProtocolType: api.GatewayProtocolTypeMcp, AuthorizerType: api.AuthorizerTypeCustomJwt, AuthorizerConfiguration: r.jwt()}
}

func (r *rig) createGateway(t testing.TB, request *api.CreateGatewayRequest) *api.CreateGatewayResponse {
	t.Helper()
	g, err := r.CreateGateway(t.Context(), r.admin, request)
	ok(t, err)
	return g
}

// open is a gateway without inbound authorization.
func (r *rig) open(t testing.TB, versions ...string) *api.CreateGatewayResponse {
	t.Helper()
	request := &api.CreateGatewayRequest{Name: "open", RoleArn: role, AuthorizerType: api.AuthorizerTypeNone}
	if versions != nil {
		request.ProtocolConfiguration = &api.GatewayProtocolConfiguration{Mcp: &api.MCPGatewayConfiguration{SupportedVersions: versions}}
	}
	return r.createGateway(t, request)
}

func document(server, rest string) *api.TargetConfiguration {
	return inline(`{"openapi":"3.0.3","info":{"title":"t","version":"1"},"servers":[{"url":"` + server + `"}],"paths":` + rest + `}`)
}

func inline(payload string) *api.TargetConfiguration {
	return &api.TargetConfiguration{Mcp: &api.McpTargetConfiguration{OpenApiSchema: &api.ApiSchemaConfiguration{InlinePayload: secret.Pointer(payload)}}}
}

// peopleAPI is the People API of the demo provider as a target's document.
func (r *rig) peopleAPI() *api.TargetConfiguration {
	return document(r.people, `{"/v1/people/me":{"get":{"operationId":"get_profile","description":"Who the user is.",
		"parameters":[{"name":"personFields","in":"query","required":true,"schema":{"type":"string","default":"names"}}],
		"responses":{"200":{"description":"ok"}}}}}`)
}

// provider makes the credential provider for the demo provider, its callback registered.
func (r *rig) provider(t testing.TB) string {
	t.Helper()
	ok(t, r.idp.Register(demoidp.Client{ID: "gateway", Secret: "gateway-secret", AnyLoopback: true}))
	made, err := r.broker.CreateOauth2CredentialProvider(t.Context(), r.admin, &api.CreateOauth2CredentialProviderRequest{
		Name: "google", CredentialProviderVendor: api.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &api.Oauth2ProviderConfigInput{CustomOauth2ProviderConfig: &api.CustomOauth2ProviderConfigInput{
			ClientId: pointer("gateway"), ClientSecret: secret.Pointer("gateway-secret"), OauthDiscovery: &api.Oauth2Discovery{DiscoveryUrl: pointer(r.idp.DiscoveryURL())},
		}},
	})
	ok(t, err)
	return made.CredentialProviderArn
}

func userCredential(provider string) []api.CredentialProviderConfiguration {
	return []api.CredentialProviderConfiguration{{CredentialProviderType: api.CredentialProviderTypeOauth, CredentialProvider: &api.CredentialProvider{
		OauthCredentialProvider: &api.OAuthCredentialProvider{ProviderArn: provider, Scopes: []string{"openid", "profile"},
			GrantType: api.OAuthGrantTypeAuthorizationCode, DefaultReturnUrl: pointer(returnURL)},
	}}}
}

// people is a gateway with the People API as a target that acts for the user.
func (r *rig) peopleGateway(t testing.TB) *api.CreateGatewayResponse {
	t.Helper()
	g := r.createGateway(t, r.gatewayRequest("hello"))
	r.target(t, g.GatewayId, "google", r.peopleAPI(), userCredential(r.provider(t)))
	return g
}

func (r *rig) target(t testing.TB, gateway, name string, configuration *api.TargetConfiguration, credentials []api.CredentialProviderConfiguration) *api.CreateGatewayTargetResponse {
	t.Helper()
	made, err := r.CreateGatewayTarget(t.Context(), r.admin, &api.CreateGatewayTargetRequest{
		GatewayIdentifier: gateway, Name: secret.Pointer(name), TargetConfiguration: configuration, CredentialProviderConfigurations: credentials})
	ok(t, err)
	return made
}

// token signs a person in and gives the JWT that the gateway's authorizer takes.
func (r *rig) token(t testing.TB, person string) string {
	t.Helper()
	tokens, err := r.idp.Issue(person, demoidp.SignInClientID, "openid", "profile")
	ok(t, err)
	return tokens.Access
}

// consent goes through a link as the person would, and completes as the user
// whose token it is.
func (r *rig) consent(t testing.TB, link, person, token string) {
	t.Helper()
	sessionURI := r.returned(t, link, person)
	_, err := r.broker.CompleteResourceTokenAuth(t.Context(), r.admin, &api.CompleteResourceTokenAuthRequest{
		SessionUri: sessionURI, UserIdentifier: &api.UserIdentifier{UserToken: secret.Pointer(token)}})
	ok(t, err)
}

var formRequest = regexp.MustCompile(`name="request" value="([^"]+)"`)

// returned plays the person at the provider until the application's page.
func (r *rig) returned(t testing.TB, link, person string) string {
	t.Helper()
	parsed, err := url.Parse(link)
	ok(t, err)
	browser := principal.Caller{Kind: principal.Browser, Account: account}
	attempt, err := r.broker.Authorize(t.Context(), browser, parsed.Query().Get("request_uri"))
	ok(t, err)
	jar, err := cookiejar.New(nil)
	ok(t, err)
	client := &http.Client{Jar: jar, CheckRedirect: func(request *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(request.URL.Path, "/identities/") {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	page := func(response *http.Response, err error) (string, *http.Response) {
		t.Helper()
		ok(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		ok(t, err)
		if found := formRequest.FindSubmatch(body); found != nil {
			return string(found[1]), response
		}
		return "", response
	}
	form, _ := page(client.Get(attempt.Location))
	form, _ = page(client.PostForm(r.people+"/signin", url.Values{"request": {form}, "person": {person}}))
	_, response := page(client.PostForm(r.people+"/consent", url.Values{"request": {form}, "decision": {"allow"}}))
	back, err := response.Location()
	ok(t, err)
	landing, err := r.broker.Callback(t.Context(), browser, broker.Callback{
		ProviderCallbackID: back.Path[strings.LastIndexByte(back.Path, '/')+1:], State: back.Query().Get("state"), Code: secret.New(back.Query().Get("code")),
		Issuer: back.Query().Get("iss"), Cookie: func(name string) string {
			if name == attempt.CookieName {
				return attempt.CookieValue
			}
			return ""
		}})
	ok(t, err)
	landed, err := url.Parse(landing.ReturnURL)
	ok(t, err)
	return landed.Query().Get("session_id")
}

// post sends a body to a gateway; headers are pairs.
func (r *rig) post(t testing.TB, id, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return send(t, http.MethodPost, r.mcp.URL+"/gateway/"+id+"/mcp", body, headers...)
}

func send(t testing.TB, method, address, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, address, strings.NewReader(body))
	ok(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
			continue
		}
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	ok(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	ok(t, err)
	return response, string(content)
}

func pointer[T any](v T) *T { return &v }

// echo is a target that answers what it was asked.
func echo(t testing.TB) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		answer := map[string]any{"method": r.Method, "path": r.URL.EscapedPath(), "query": r.URL.RawQuery, "headers": r.Header}
		if json.Valid(body) {
			answer["body"] = json.RawMessage(body)
		} else {
			answer["text"] = string(body)
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server
}
