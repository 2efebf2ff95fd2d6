package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// The revisions of MCP that a gateway speaks.
var revisions = []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

const (
	profileTool = "people___get_profile"
	modern      = "2026-07-28"
)

// gateway makes a gateway with the people target and answers its MCP URL. No
// versions means all.
func (s *scene) gateway(name string, z control.CustomJWTAuthorizerConfiguration, versions ...string) (address, id string) {
	s.t.Helper()
	z.DiscoveryUrl = aws.String(s.idp.DiscoveryURL())
	made, err := s.control.CreateGateway(s.t.Context(), &bedrockagentcorecontrol.CreateGatewayInput{
		Name: &name, RoleArn: aws.String("arn:aws:iam::000000000000:role/onbehalf-default"), ProtocolType: control.GatewayProtocolTypeMcp,
		ProtocolConfiguration: &control.GatewayProtocolConfigurationMemberMcp{Value: control.MCPGatewayConfiguration{SupportedVersions: versions}},
		AuthorizerType:        control.AuthorizerTypeCustomJwt, AuthorizerConfiguration: &control.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: z},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = s.control.CreateGatewayTarget(s.t.Context(), &bedrockagentcorecontrol.CreateGatewayTargetInput{
		GatewayIdentifier: made.GatewayId, Name: aws.String("people"),
		TargetConfiguration: &control.TargetConfigurationMemberMcp{Value: &control.McpTargetConfigurationMemberOpenApiSchema{
			Value: &control.ApiSchemaConfigurationMemberInlinePayload{Value: peopleAPI(s.idp.url)},
		}},
		CredentialProviderConfigurations: []control.CredentialProviderConfiguration{{
			CredentialProviderType: control.CredentialProviderTypeOauth,
			CredentialProvider: &control.CredentialProviderMemberOauthCredentialProvider{Value: control.OAuthCredentialProvider{
				ProviderArn: aws.String("arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/oauth2credentialprovider/" + s.provider),
				Scopes:      []string{"profile", "openid"}, GrantType: control.OAuthGrantTypeAuthorizationCode, DefaultReturnUrl: aws.String(returnURL),
				CustomParameters: map[string]string{"access_type": "offline"},
			}},
		}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return *made.GatewayUrl, *made.GatewayId
}

// forSignIns is an authorizer that takes sign-ins to the application.
var forSignIns = control.CustomJWTAuthorizerConfiguration{AllowedAudience: []string{demoidp.SignInClientID}}

// bearerClient adds a token to requests and counts them.
type bearerClient struct {
	token string
	sent  atomic.Int64
}

func (b *bearerClient) RoundTrip(r *http.Request) (*http.Response, error) {
	b.sent.Add(1)
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

// connect connects the official Go client. An empty version is the client's own choice.
func connect(t *testing.T, address, token, version string, options *mcp.ClientOptions) (*mcp.ClientSession, *bearerClient) {
	t.Helper()
	transport := &bearerClient{token: token}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "story", Version: "1.0.0"}, options).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: address, HTTPClient: &http.Client{Transport: transport}}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatalf("the Go client does not connect with %q: %v", version, err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session, transport
}

// consentTold is how missing consent is told in a revision, in one form for all clients.
type consentTold struct {
	Kind, Link string
}

var linkInText = regexp.MustCompile(`http\S+/identities/oauth2/authorize\?request_uri=\S+`)

// toldTo looks at what a call with the Go client came to.
func toldTo(t *testing.T, result *mcp.CallToolResult, err error) consentTold {
	t.Helper()
	var problem *jsonrpc.Error
	switch {
	case errors.As(err, &problem):
		var data struct{ Elicitations []struct{ Mode, URL string } }
		_ = json.Unmarshal(problem.Data, &data)
		told := consentTold{fmt.Sprint("error ", problem.Code), linkInText.FindString(problem.Message)}
		if len(data.Elicitations) == 1 && data.Elicitations[0].Mode == "url" {
			told.Link = data.Elicitations[0].URL
		}
		return told
	case err != nil:
		t.Fatalf("the call failed: %v", err)
	case result.NeedsInput():
		for _, request := range result.InputRequests {
			if asked, ok := request.(*mcp.ElicitParams); ok && asked.Mode == "url" {
				return consentTold{"input required", asked.URL}
			}
		}
	case result.IsError:
		return consentTold{"tool error", linkInText.FindString(text(result))}
	}
	return consentTold{Kind: "result"}
}

func text(result *mcp.CallToolResult) string {
	var out strings.Builder
	for _, part := range result.Content {
		if t, ok := part.(*mcp.TextContent); ok {
			out.WriteString(t.Text)
		}
	}
	return out.String()
}

// getProfile is the call. A new one each time: the client writes its _meta into it.
func getProfile() *mcp.CallToolParams {
	return &mcp.CallToolParams{Name: profileTool, Arguments: map[string]any{"personFields": "names"}}
}

// manual is a client that can show links and waits for its person itself.
func manual() *mcp.ClientOptions {
	return &mcp.ClientOptions{
		Capabilities:   &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
	}
}

// The official Go client, at each revision: what it is told, and what it gets.
func TestGoClientAtEachRevision(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	address, _ := s.gateway("people-gateway", forSignIns)
	ada := s.signIn(demoidp.Ada)
	want := map[string]string{"2025-03-26": "tool error", "2025-06-18": "tool error", "2025-11-25": "error -32042", modern: "input required"}
	links := map[string]bool{}
	sessions := map[string]*mcp.ClientSession{}
	for _, version := range revisions {
		session, _ := connect(t, address, ada, version, manual())
		sessions[version] = session
		if agreed := session.InitializeResult(); agreed.ProtocolVersion != version || agreed.ServerInfo.Name != "people-gateway" {
			t.Errorf("%s: agreed on %s with %q", version, agreed.ProtocolVersion, agreed.ServerInfo.Name)
		}
		listed, err := session.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		if len(listed.Tools) != 1 || listed.Tools[0].Name != profileTool || listed.Tools[0].Description == "" {
			t.Errorf("%s: the tools are %+v", version, listed.Tools)
		}
		result, err := session.CallTool(t.Context(), getProfile())
		told := toldTo(t, result, err)
		if told.Kind != want[version] || !linkInText.MatchString(told.Link) {
			t.Errorf("%s: missing consent is told as %q, with a link: %t", version, told.Kind, told.Link != "")
		}
		links[told.Link] = true
		_, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "people___nothing"})
		var problem *jsonrpc.Error
		if !errors.As(err, &problem) || problem.Code != jsonrpc.CodeInvalidParams {
			t.Errorf("%s: an unknown tool: %v", version, err)
		}
	}
	if len(links) != 1 {
		t.Fatalf("one question has %d links", len(links))
	}
	for link := range links {
		if err := s.complete(s.allow(link, demoidp.Ada), ada); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range revisions {
		result, err := sessions[version].CallTool(t.Context(), getProfile())
		if err != nil || result.IsError || !strings.Contains(text(result), "Ada Lovelace") {
			t.Errorf("%s: after consent: %v", version, err)
		}
	}
	// Grace is not Ada, and the agent is not the gateway.
	session, _ := connect(t, address, s.signIn(demoidp.Grace), "2025-11-25", manual())
	result, err := session.CallTool(t.Context(), getProfile())
	if told := toldTo(t, result, err); told.Kind != "error -32042" || links[told.Link] {
		t.Errorf("another user of the gateway: %q", told.Kind)
	}
	s.link(s.speakFor(s.agent, ada))
}

// The gateway's list of versions is kept to.
func TestGatewayKeepsToItsVersions(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	ada := s.signIn(demoidp.Ada)
	for _, only := range revisions {
		address, _ := s.gateway("only-"+only, forSignIns, only)
		for _, asked := range append([]string{""}, revisions...) {
			// A client that knows the gateway's version is led to it, whatever it asks for first.
			if asked != "" && asked < modern && only == modern {
				_, err := mcp.NewClient(&mcp.Implementation{Name: "story", Version: "1.0.0"}, nil).Connect(t.Context(),
					&mcp.StreamableClientTransport{Endpoint: address, HTTPClient: &http.Client{Transport: &bearerClient{token: ada}}}, &mcp.ClientSessionOptions{ProtocolVersion: asked})
				if err == nil || !strings.Contains(err.Error(), modern) {
					t.Errorf("%s at a gateway of %s alone: %v", asked, only, err)
				}
				continue
			}
			session, _ := connect(t, address, ada, asked, nil)
			if agreed := session.InitializeResult().ProtocolVersion; agreed != only {
				t.Errorf("%q at a gateway of %s alone: agreed on %s", asked, only, agreed)
			}
			if _, err := session.ListTools(t.Context(), nil); err != nil {
				t.Errorf("%q at a gateway of %s alone: %v", asked, only, err)
			}
		}
	}
}

// A stock client answers an input_required result by itself and tries again at
// once, long before a person can have read the page. It must come to an end,
// with a link that a person can use.
func TestStockGoClientNeitherHangsNorLoops(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	address, _ := s.gateway("people-gateway", forSignIns)
	ada := s.signIn(demoidp.Ada)

	// As it comes: it cannot show links, and so is told in words.
	began := time.Now()
	session, transport := connect(t, address, ada, "", nil)
	if agreed := session.InitializeResult().ProtocolVersion; agreed != modern {
		t.Errorf("the client's own choice is %s", agreed)
	}
	before := transport.sent.Load()
	result, err := session.CallTool(t.Context(), getProfile())
	told := toldTo(t, result, err)
	if told.Kind != "error -32021" || told.Link == "" {
		t.Errorf("a client that cannot show links is told %q, with a link: %t", told.Kind, told.Link != "")
	}
	if sent := transport.sent.Load() - before; sent != 1 {
		t.Errorf("that took %d requests", sent)
	}

	// With a handler that says yes at once, and one that says no.
	able := func(handler func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error)) *mcp.ClientOptions {
		return &mcp.ClientOptions{ElicitationHandler: handler,
			Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}}}
	}
	shown := map[string]int{}
	session, transport = connect(t, address, ada, "", able(func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		shown[r.Params.URL]++
		return &mcp.ElicitResult{Action: "accept"}, nil
	}))
	before = transport.sent.Load()
	result, err = session.CallTool(t.Context(), getProfile())
	if err == nil && !result.IsError && !result.NeedsInput() {
		t.Error("saying yes to the link, without going through with it, gave a result")
	}
	if sent := transport.sent.Load() - before; sent < 2 || sent > 12 {
		t.Errorf("a client that says yes at once sent %d requests", sent)
	}
	if len(shown) != 1 || shown[told.Link] == 0 {
		t.Errorf("its person was shown %d links, the one of before %d times", len(shown), shown[told.Link])
	}
	session, transport = connect(t, address, ada, "", able(func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		return &mcp.ElicitResult{Action: "decline"}, nil
	}))
	before = transport.sent.Load()
	result, err = session.CallTool(t.Context(), getProfile())
	if err != nil || !result.IsError || !strings.Contains(text(result), "decline") {
		t.Errorf("a person who says no: %v", err)
	}
	if sent := transport.sent.Load() - before; sent != 2 {
		t.Errorf("a person who says no took %d requests", sent)
	}

	// With a handler that returns when the person is through, one call is enough.
	session, _ = connect(t, address, ada, "", able(func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		if err := s.complete(s.allow(r.Params.URL, demoidp.Ada), ada); err != nil {
			return nil, err
		}
		return &mcp.ElicitResult{Action: "accept"}, nil
	}))
	result, err = session.CallTool(t.Context(), getProfile())
	if err != nil || result.IsError || !strings.Contains(text(result), "Ada Lovelace") {
		t.Errorf("a client whose person goes through: %v", err)
	}
	// And the stock client of before, which only had the words, gets it now as well.
	session, _ = connect(t, address, ada, "", nil)
	if result, err := session.CallTool(t.Context(), getProfile()); err != nil || result.IsError {
		t.Errorf("after consent the stock client fails: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("all that took %v", took)
	}
}

// Who comes without a token is told where to get one, in the words that clients look for.
func TestGatewayTellsWhereToSignIn(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	address, id := s.gateway("people-gateway", control.CustomJWTAuthorizerConfiguration{AllowedScopes: []string{"profile", "openid"}})
	metadata := s.url + "/.well-known/oauth-protected-resource/gateway/" + id + "/mcp"
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	ask := func(authorization string) answer {
		r := jsonRequest(t, http.MethodPost, address, list)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		return send(t, r)
	}
	unscoped, err := s.idp.Issue(demoidp.Ada, demoidp.SignInClientID, "email")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := startProvider(t).Issue(demoidp.Ada, demoidp.SignInClientID, "openid", "profile")
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]struct {
		authorization string
		status        int
		problem       string
	}{
		"no token":          {"", http.StatusUnauthorized, ""},
		"another scheme":    {"Basic YTpi", http.StatusUnauthorized, "invalid_token"},
		"no JWT":            {"Bearer abc", http.StatusUnauthorized, "invalid_token"},
		"another issuer's":  {"Bearer " + foreign.Access, http.StatusUnauthorized, "invalid_token"},
		"no such scope":     {"Bearer " + unscoped.Access, http.StatusForbidden, "insufficient_scope"},
		"an API's key":      {"AWS4-HMAC-SHA256 Credential=abc", http.StatusUnauthorized, "invalid_token"},
		"two tokens in one": {"Bearer abc, Bearer def", http.StatusUnauthorized, "invalid_token"},
	} {
		got := ask(try.authorization)
		challenges, err := oauthex.ParseWWWAuthenticate(got.header.Values("WWW-Authenticate"))
		if err != nil || len(challenges) != 1 {
			t.Errorf("%s: the client cannot parse %q: %v", what, got.header.Values("WWW-Authenticate"), err)
			continue
		}
		p := challenges[0].Params
		if got.status != try.status || !strings.EqualFold(challenges[0].Scheme, "Bearer") || p["resource_metadata"] != metadata || p["error"] != try.problem || p["scope"] != "profile openid" {
			t.Errorf("%s: status %d, challenge %+v", what, got.status, challenges[0])
		}
	}

	// The official Go client follows that to the provider, registers itself, and signs its person in.
	person := servertest.NewPerson(s.idp.url, demoidp.Ada)
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "story", RedirectURIs: []string{returnURL}, TokenEndpointAuthMethod: "none",
		}},
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			asked, err := url.Parse(args.URL)
			if err != nil {
				return nil, err
			}
			q := asked.Query()
			if scopes := strings.Fields(q.Get("scope")); q.Get("resource") != address || len(scopes) != 2 || !slices.Contains(scopes, "profile") {
				t.Errorf("the client asks for resource %q and scopes %q", q.Get("resource"), scopes)
			}
			arrival, err := person.Visit(ctx, args.URL, "allow")
			if err != nil {
				return nil, err
			}
			landed, err := url.Parse(arrival)
			if err != nil {
				return nil, err
			}
			q = landed.Query()
			return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "story", Version: "1.0.0"}, manual()).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: address, OAuthHandler: handler}, nil)
	if err != nil {
		t.Fatalf("the Go client cannot sign its person in: %v", err)
	}
	defer session.Close()
	if listed, err := session.ListTools(t.Context(), nil); err != nil || len(listed.Tools) != 1 {
		t.Errorf("after signing in: %v", err)
	}
	result, err := session.CallTool(t.Context(), getProfile())
	if told := toldTo(t, result, err); told.Kind != "input required" {
		t.Errorf("after signing in, missing consent is told as %q", told.Kind)
	}
}

// A machine's token opens the gateway, and nobody's account.
func TestTokenOfNobodyListsAndDoesNotCall(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	address, _ := s.gateway("people-gateway", control.CustomJWTAuthorizerConfiguration{AllowedClients: []string{s.client.ID}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.idp.url+"/token", strings.NewReader("grant_type=client_credentials&scope=profile"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(s.client.ID, s.client.Secret)
	var tokens struct {
		Access string `json:"access_token"`
	}
	if got := send(t, r); json.Unmarshal(got.body, &tokens) != nil || tokens.Access == "" {
		t.Fatalf("the provider gives no token of the client's own: %d", got.status)
	}
	for _, version := range revisions {
		session, transport := connect(t, address, tokens.Access, version, manual())
		if listed, err := session.ListTools(t.Context(), nil); err != nil || len(listed.Tools) != 1 {
			t.Errorf("%s: %v", version, err)
		}
		before := transport.sent.Load()
		if result, err := session.CallTool(t.Context(), getProfile()); err == nil {
			t.Errorf("%s: the call is answered: %s", version, text(result))
		}
		if sent := transport.sent.Load() - before; sent > 2 {
			t.Errorf("%s: the refusal took %d requests", version, sent)
		}
	}
	call := jsonRequest(t, http.MethodPost, address, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+profileTool+`","arguments":{"personFields":"names"}}}`)
	call.Header.Set("Authorization", "Bearer "+tokens.Access)
	if got := send(t, call); got.status != http.StatusForbidden {
		t.Errorf("without a user the status is %d: %s", got.status, got.body)
	}
	if s.idp.PeopleRequests() != 0 {
		t.Error("the target was called")
	}
}
