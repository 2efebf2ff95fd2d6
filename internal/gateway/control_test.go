package gateway_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const oneTool = `{"/a":{"get":{"operationId":"a","responses":{"200":{"description":"ok"}}}}}`

var plain = document("https://api.example.com", oneTool)

func wire(v interface{ AppendJSON([]byte) []byte }) string { return string(v.AppendJSON(nil)) }

// kindIs fails the test when err is not of the kind, or does not say what it should.
func kindIs(t *testing.T, err error, kind fault.Kind, says string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(fault.Of(err).Message, says) {
		t.Errorf("error: %v; want %s saying %q", err, kind, says)
	}
}

func TestGatewayLife(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := newRigOn(t, db)
		request := r.gatewayRequest("Hello-World")
		request.Description = secret.Pointer("says hello")
		request.KmsKeyArn = pointer("arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000")
		request.ExceptionLevel = api.ExceptionLevelDebug
		request.Tags = map[string]string{"a": "b"}
		request.ProtocolConfiguration = &api.GatewayProtocolConfiguration{Mcp: &api.MCPGatewayConfiguration{SupportedVersions: []string{"2025-11-25"}, Instructions: secret.Pointer("be kind")}}
		made := r.createGateway(t, request)
		if !strings.HasPrefix(made.GatewayId, "hello-world-") || made.Status != api.GatewayStatusReady || *made.GatewayUrl != r.mcp.URL+"/gateway/"+made.GatewayId+"/mcp" ||
			made.GatewayArn != "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/"+made.GatewayId ||
			made.WorkloadIdentityDetails.WorkloadIdentityArn != api.WorkloadIdentityARN(region, account, made.GatewayId) ||
			made.Description.Reveal() != "says hello" || *made.KmsKeyArn != *request.KmsKeyArn || made.ProtocolConfiguration.Mcp.Instructions.Reveal() != "be kind" {
			t.Errorf("made %s", wire(made))
		}
		for _, identifier := range []string{made.GatewayId, made.GatewayArn} {
			got, err := r.GetGateway(t.Context(), r.admin, &api.GetGatewayRequest{GatewayIdentifier: identifier})
			ok(t, err)
			if diff := cmp.Diff(wire(made), wire(got)); diff != "" {
				t.Errorf("get (-made +got):\n%s", diff)
			}
		}

		_, err := r.CreateGateway(t.Context(), r.admin, request)
		kindIs(t, err, fault.Conflict, "Hello-World already exists")

		update := &api.UpdateGatewayRequest{GatewayIdentifier: made.GatewayId, Name: "Hello-World", RoleArn: role, AuthorizerType: api.AuthorizerTypeNone}
		updated, err := r.UpdateGateway(t.Context(), r.admin, update)
		ok(t, err)
		if updated.Description != nil || updated.ExceptionLevel != "" || updated.AuthorizerConfiguration != nil || updated.ProtocolConfiguration != nil || !updated.UpdatedAt.After(made.UpdatedAt.Time) || updated.CreatedAt != made.CreatedAt {
			t.Errorf("what was left out is still there: %s", wire(updated))
		}
		update.Name = "other"
		_, err = r.UpdateGateway(t.Context(), r.admin, update)
		kindIs(t, err, fault.Invalid, "name of a gateway cannot be changed")

		deleted, err := r.DeleteGateway(t.Context(), r.admin, &api.DeleteGatewayRequest{GatewayIdentifier: made.GatewayId})
		ok(t, err)
		if deleted.GatewayId != made.GatewayId || deleted.Status != api.GatewayStatusDeleting {
			t.Errorf("deleted %s", wire(deleted))
		}
		_, err = r.GetGateway(t.Context(), r.admin, &api.GetGatewayRequest{GatewayIdentifier: made.GatewayId})
		kindIs(t, err, fault.NotFound, made.GatewayId)
		_, err = r.DeleteGateway(t.Context(), r.admin, &api.DeleteGatewayRequest{GatewayIdentifier: made.GatewayId})
		kindIs(t, err, fault.NotFound, made.GatewayId)
		again := r.createGateway(t, request)
		if again.GatewayId == made.GatewayId {
			t.Error("the id came back")
		}
	})
}

func TestGatewayLists(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, name := range []string{"c", "a", "b"} {
		request := r.gatewayRequest(name)
		r.createGateway(t, request)
	}
	var names []string
	var token *string
	for {
		page, err := r.ListGateways(t.Context(), r.admin, &api.ListGatewaysRequest{MaxResults: pointer(int32(2)), NextToken: token})
		ok(t, err)
		for _, item := range page.Items {
			names = append(names, item.Name)
		}
		if token = page.NextToken; token == nil {
			break
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	g := r.open(t)
	for _, name := range []string{"y", "x", "z"} {
		r.target(t, g.GatewayId, name, plain, nil)
	}
	page, err := r.ListGatewayTargets(t.Context(), r.admin, &api.ListGatewayTargetsRequest{GatewayIdentifier: g.GatewayId, MaxResults: pointer(int32(2))})
	ok(t, err)
	rest, err := r.ListGatewayTargets(t.Context(), r.admin, &api.ListGatewayTargetsRequest{GatewayIdentifier: g.GatewayArn, MaxResults: pointer(int32(2)), NextToken: page.NextToken})
	ok(t, err)
	if len(page.Items) != 2 || len(rest.Items) != 1 || rest.NextToken != nil || rest.Items[0].Name.Reveal() != "z" || rest.Items[0].TargetType != api.TargetTypeOpenApiSchema {
		t.Errorf("pages %s %s", wire(page), wire(rest))
	}
}

// What would change what happens, and is not there yet, is refused by name.
func TestGatewaySettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	mcp := func(c api.MCPGatewayConfiguration) func(*api.CreateGatewayRequest) {
		return func(q *api.CreateGatewayRequest) {
			q.ProtocolConfiguration = &api.GatewayProtocolConfiguration{Mcp: &c}
		}
	}
	jwt := func(change func(*api.CustomJWTAuthorizerConfiguration)) func(*api.CreateGatewayRequest) {
		return func(q *api.CreateGatewayRequest) { change(q.AuthorizerConfiguration.CustomJWTAuthorizer) }
	}
	for name, c := range map[string]struct {
		change func(*api.CreateGatewayRequest)
		kind   fault.Kind
		says   string
	}{
		"interceptors": {func(q *api.CreateGatewayRequest) {
			q.InterceptorConfigurations = []api.GatewayInterceptorConfiguration{{}}
		}, fault.NotBuilt, "interceptorConfigurations"},
		"policy engine": {func(q *api.CreateGatewayRequest) {
			q.PolicyEngineConfiguration = &api.GatewayPolicyEngineConfiguration{}
		}, fault.NotBuilt, "policyEngineConfiguration"},
		"semantic search":    {mcp(api.MCPGatewayConfiguration{SearchType: api.SearchTypeSemantic}), fault.NotBuilt, "searchType"},
		"sessions":           {mcp(api.MCPGatewayConfiguration{SessionConfiguration: &api.SessionConfiguration{}}), fault.NotBuilt, "sessionConfiguration"},
		"streaming":          {mcp(api.MCPGatewayConfiguration{StreamingConfiguration: &api.StreamingConfiguration{EnableResponseStreaming: pointer(true)}}), fault.NotBuilt, "streamingConfiguration"},
		"an unknown version": {mcp(api.MCPGatewayConfiguration{SupportedVersions: []string{"2024-11-05"}}), fault.Invalid, `"2024-11-05"`},
		"IAM": {func(q *api.CreateGatewayRequest) {
			q.AuthorizerType, q.AuthorizerConfiguration = api.AuthorizerTypeAwsIam, nil
		}, fault.NotBuilt, "AWS_IAM"},
		"authenticate only": {func(q *api.CreateGatewayRequest) {
			q.AuthorizerType, q.AuthorizerConfiguration = api.AuthorizerTypeAuthenticateOnly, nil
		}, fault.NotBuilt, "AUTHENTICATE_ONLY"},
		"JWT without a configuration": {func(q *api.CreateGatewayRequest) { q.AuthorizerConfiguration = nil }, fault.Invalid, "customJWTAuthorizer"},
		"NONE with a configuration":   {func(q *api.CreateGatewayRequest) { q.AuthorizerType = api.AuthorizerTypeNone }, fault.Invalid, "NONE"},
		"an issuer alone":             {jwt(func(c *api.CustomJWTAuthorizerConfiguration) { c.AllowedAudience = nil }), fault.Invalid, "At least one of allowedAudience"},
		"allowed workloads": {jwt(func(c *api.CustomJWTAuthorizerConfiguration) {
			c.AllowedWorkloadConfiguration = &api.AllowedWorkloadConfiguration{}
		}), fault.NotBuilt, "allowedWorkloadConfiguration"},
		"a mapping of nothing": {jwt(func(c *api.CustomJWTAuthorizerConfiguration) {
			c.AdvertisedScopeMapping = map[string]string{"a": "b"}
		}), fault.Invalid, `"a" is not one of allowedScopes`},
		"a claim rule that cannot hold": {jwt(func(c *api.CustomJWTAuthorizerConfiguration) {
			c.CustomClaims = []api.CustomClaimValidationType{{InboundTokenClaimName: "g", InboundTokenClaimValueType: api.InboundTokenClaimValueTypeString,
				AuthorizingClaimMatchValue: &api.AuthorizingClaimMatchValueType{ClaimMatchOperator: api.ClaimMatchOperatorTypeContains, ClaimMatchValue: &api.ClaimMatchValueType{MatchValueString: pointer("x")}}}}
		}), fault.Invalid, "STRING_ARRAY"},
	} {
		t.Run(name, func(t *testing.T) {
			request := r.gatewayRequest("refused")
			c.change(request)
			_, err := r.CreateGateway(t.Context(), r.admin, request)
			kindIs(t, err, c.kind, c.says)
		})
	}
	list, err := r.ListGateways(t.Context(), r.admin, &api.ListGatewaysRequest{})
	ok(t, err)
	if len(list.Items) != 0 {
		t.Errorf("a refused gateway was made: %s", wire(list))
	}
}

func TestTargetLife(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := newRigOn(t, db)
		g := r.createGateway(t, r.gatewayRequest("g"))
		credentials := userCredential(r.provider(t))
		credentials[0].CredentialProvider.OauthCredentialProvider.CustomParameters = map[string]secret.Text{"access_type": secret.New("offline")}
		made := r.target(t, g.GatewayId, "google", r.peopleAPI(), credentials)
		if made.Status != api.TargetStatusReady || len(made.TargetId) != 10 || made.GatewayArn != g.GatewayArn || made.Name.Reveal() != "google" ||
			!strings.Contains(made.TargetConfiguration.Mcp.OpenApiSchema.InlinePayload.Reveal(), "get_profile") ||
			made.CredentialProviderConfigurations[0].CredentialProvider.OauthCredentialProvider.CustomParameters["access_type"].Reveal() != "offline" {
			t.Errorf("made %s", wire(made))
		}
		got, err := r.GetGatewayTarget(t.Context(), r.admin, &api.GetGatewayTargetRequest{GatewayIdentifier: g.GatewayId, TargetId: made.TargetId})
		ok(t, err)
		if diff := cmp.Diff(wire(made), wire(got)); diff != "" {
			t.Errorf("get (-made +got):\n%s", diff)
		}
		r.hasReturnURLs(t, g, returnURL)

		_, err = r.CreateGatewayTarget(t.Context(), r.admin, &api.CreateGatewayTargetRequest{GatewayIdentifier: g.GatewayId, Name: secret.Pointer("google"), TargetConfiguration: plain})
		kindIs(t, err, fault.Conflict, "google")
		_, err = r.DeleteGateway(t.Context(), r.admin, &api.DeleteGatewayRequest{GatewayIdentifier: g.GatewayId})
		kindIs(t, err, fault.Conflict, "Delete all targets")

		other := userCredential(credentials[0].CredentialProvider.OauthCredentialProvider.ProviderArn)
		other[0].CredentialProvider.OauthCredentialProvider.DefaultReturnUrl = pointer("https://app.example.com/done")
		second := r.target(t, g.GatewayId, "second", plain, other)
		r.hasReturnURLs(t, g, returnURL, "https://app.example.com/done")

		updated, err := r.UpdateGatewayTarget(t.Context(), r.admin, &api.UpdateGatewayTargetRequest{GatewayIdentifier: g.GatewayId, TargetId: made.TargetId, TargetConfiguration: plain, Description: secret.Pointer("d")})
		ok(t, err)
		if updated.Name.Reveal() != "google" || len(updated.CredentialProviderConfigurations) != 0 || updated.Description.Reveal() != "d" {
			t.Errorf("updated %s", wire(updated))
		}
		r.hasReturnURLs(t, g, "https://app.example.com/done")
		_, err = r.UpdateGatewayTarget(t.Context(), r.admin, &api.UpdateGatewayTargetRequest{GatewayIdentifier: g.GatewayId, TargetId: made.TargetId, Name: secret.Pointer("second"), TargetConfiguration: plain})
		kindIs(t, err, fault.Conflict, "second")

		for _, id := range []string{made.TargetId, second.TargetId} {
			_, err = r.DeleteGatewayTarget(t.Context(), r.admin, &api.DeleteGatewayTargetRequest{GatewayIdentifier: g.GatewayId, TargetId: id})
			ok(t, err)
		}
		r.hasReturnURLs(t, g)
		_, err = r.GetGatewayTarget(t.Context(), r.admin, &api.GetGatewayTargetRequest{GatewayIdentifier: g.GatewayId, TargetId: made.TargetId})
		kindIs(t, err, fault.NotFound, made.TargetId)
		_, err = r.DeleteGateway(t.Context(), r.admin, &api.DeleteGatewayRequest{GatewayIdentifier: g.GatewayId})
		ok(t, err)
	})
}

// hasReturnURLs looks at the allow-list of the gateway's own workload identity.
func (r *rig) hasReturnURLs(t *testing.T, g *api.CreateGatewayResponse, want ...string) {
	t.Helper()
	got, err := r.identity.GetWorkloadIdentity(t.Context(), r.admin, &api.GetWorkloadIdentityRequest{Name: g.GatewayId})
	ok(t, err)
	urls := got.AllowedResourceOauth2ReturnUrls
	slices.Sort(urls)
	if !slices.Equal(want, urls) {
		t.Errorf("return URLs %q, want %q", urls, want)
	}
}

func TestTargetSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.createGateway(t, r.gatewayRequest("g"))
	provider := r.provider(t)
	oauth := func(change func(*api.OAuthCredentialProvider)) func(*api.CreateGatewayTargetRequest) {
		return func(q *api.CreateGatewayTargetRequest) {
			q.CredentialProviderConfigurations = userCredential(provider)
			change(q.CredentialProviderConfigurations[0].CredentialProvider.OauthCredentialProvider)
		}
	}
	kind := func(kind api.CredentialProviderType) func(*api.CreateGatewayTargetRequest) {
		return func(q *api.CreateGatewayTargetRequest) {
			q.CredentialProviderConfigurations = []api.CredentialProviderConfiguration{{CredentialProviderType: kind}}
		}
	}
	of := func(c *api.McpTargetConfiguration) func(*api.CreateGatewayTargetRequest) {
		return func(q *api.CreateGatewayTargetRequest) { q.TargetConfiguration = &api.TargetConfiguration{Mcp: c} }
	}
	for name, c := range map[string]struct {
		change func(*api.CreateGatewayTargetRequest)
		kind   fault.Kind
		says   string
	}{
		"lambda":      {of(&api.McpTargetConfiguration{Lambda: &api.McpLambdaTargetConfiguration{}}), fault.NotBuilt, "targetConfiguration"},
		"smithy":      {of(&api.McpTargetConfiguration{SmithyModel: &api.ApiSchemaConfiguration{}}), fault.NotBuilt, "targetConfiguration"},
		"MCP server":  {of(&api.McpTargetConfiguration{McpServer: &api.McpServerTargetConfiguration{}}), fault.NotBuilt, "targetConfiguration"},
		"API gateway": {of(&api.McpTargetConfiguration{ApiGateway: &api.ApiGatewayTargetConfiguration{}}), fault.NotBuilt, "targetConfiguration"},
		"HTTP": {func(q *api.CreateGatewayTargetRequest) {
			q.TargetConfiguration = &api.TargetConfiguration{Http: &api.HttpTargetConfiguration{}}
		}, fault.NotBuilt, "targetConfiguration"},
		"S3": {of(&api.McpTargetConfiguration{OpenApiSchema: &api.ApiSchemaConfiguration{S3: &api.S3Configuration{}}}), fault.NotBuilt, "S3"},
		"a bad document": {func(q *api.CreateGatewayTargetRequest) {
			q.TargetConfiguration = document("https://e.com", `{"/a":{"get":{"responses":{"200":{"description":"ok"}}}}}`)
		}, fault.Invalid, "paths./a.get"},
		"headers passed on": {func(q *api.CreateGatewayTargetRequest) { q.MetadataConfiguration = &api.MetadataConfiguration{} }, fault.NotBuilt, "metadataConfiguration"},
		"certificates": {func(q *api.CreateGatewayTargetRequest) {
			q.CertificateConfigurations = []api.CertificateConfiguration{{}}
		}, fault.NotBuilt, "certificateConfigurations"},
		"API key of nobody":      {kind(api.CredentialProviderTypeApiKey), fault.Invalid, "apiKeyCredentialProvider"},
		"gateway role":           {kind(api.CredentialProviderTypeGatewayIamRole), fault.NotBuilt, "GATEWAY_IAM_ROLE"},
		"passthrough":            {kind(api.CredentialProviderTypeJwtPassthrough), fault.NotBuilt, "JWT_PASSTHROUGH"},
		"OAUTH of nobody":        {kind(api.CredentialProviderTypeOauth), fault.Invalid, "oauthCredentialProvider"},
		"no return URL":          {oauth(func(o *api.OAuthCredentialProvider) { o.DefaultReturnUrl = nil }), fault.Invalid, "defaultReturnUrl"},
		"a script as return URL": {oauth(func(o *api.OAuthCredentialProvider) { o.DefaultReturnUrl = pointer("javascript:alert(1)") }), fault.Invalid, "may not be sent to this scheme"},
		"a provider that is not": {oauth(func(o *api.OAuthCredentialProvider) { o.ProviderArn = provider + "x" }), fault.Invalid, "was not found"},
		"another account's": {oauth(func(o *api.OAuthCredentialProvider) {
			o.ProviderArn = strings.Replace(provider, account, "111111111111", 1)
		}), fault.Invalid, "was not found"},
		"no ARN at all":         {oauth(func(o *api.OAuthCredentialProvider) { o.ProviderArn = "arn:x:y:z::" }), fault.Invalid, "was not found"},
		"a gateway that is not": {func(q *api.CreateGatewayTargetRequest) { q.GatewayIdentifier = "nobody-0123456789" }, fault.NotFound, "nobody"},
		"another account's gateway": {func(q *api.CreateGatewayTargetRequest) {
			q.GatewayIdentifier = strings.Replace(g.GatewayArn, account, "111111111111", 1)
		}, fault.NotFound, "111111111111"},
		"a name too long": {func(q *api.CreateGatewayTargetRequest) { q.Name = secret.Pointer(strings.Repeat("n", 253)) }, fault.Invalid, "longer than 256"},
	} {
		t.Run(name, func(t *testing.T) {
			request := &api.CreateGatewayTargetRequest{GatewayIdentifier: g.GatewayId, Name: secret.Pointer("t"), TargetConfiguration: plain}
			c.change(request)
			_, err := r.CreateGatewayTarget(t.Context(), r.admin, request)
			kindIs(t, err, c.kind, c.says)
		})
	}
	list, err := r.ListGatewayTargets(t.Context(), r.admin, &api.ListGatewayTargetsRequest{GatewayIdentifier: g.GatewayId})
	ok(t, err)
	if len(list.Items) != 0 {
		t.Errorf("a refused target was made: %s", wire(list))
	}
	r.hasReturnURLs(t, g)
}

// A target that acts for users needs a gateway that knows its users, in
// whichever order the two are made.
func TestUsersNeedInboundAuthorization(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	provider := r.provider(t)
	open := r.open(t)
	_, err := r.CreateGatewayTarget(t.Context(), r.admin, &api.CreateGatewayTargetRequest{GatewayIdentifier: open.GatewayId, TargetConfiguration: plain, CredentialProviderConfigurations: userCredential(provider)})
	kindIs(t, err, fault.Invalid, "no inbound authorization")
	harmless := r.target(t, open.GatewayId, "t", plain, nil)
	_, err = r.UpdateGatewayTarget(t.Context(), r.admin, &api.UpdateGatewayTargetRequest{GatewayIdentifier: open.GatewayId, TargetId: harmless.TargetId, TargetConfiguration: plain, CredentialProviderConfigurations: userCredential(provider)})
	kindIs(t, err, fault.Invalid, "no inbound authorization")

	guarded := r.createGateway(t, r.gatewayRequest("guarded"))
	r.target(t, guarded.GatewayId, "google", plain, userCredential(provider))
	_, err = r.UpdateGateway(t.Context(), r.admin, &api.UpdateGatewayRequest{GatewayIdentifier: guarded.GatewayId, Name: "guarded", RoleArn: role, AuthorizerType: api.AuthorizerTypeNone})
	kindIs(t, err, fault.Invalid, "google acts for users")
}

// A create that is repeated with its client token gives the first result; with
// another request it is refused.
func TestClientTokens(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := newRigOn(t, db)
		request := r.gatewayRequest("once")
		request.ClientToken = pointer(strings.Repeat("t", 36))
		first := r.createGateway(t, request)
		if second := r.createGateway(t, request); wire(second) != wire(first) {
			t.Errorf("first %s\nthen %s", wire(first), wire(second))
		}
		changed := *request
		changed.Description = secret.Pointer("other")
		_, err := r.CreateGateway(t.Context(), r.admin, &changed)
		kindIs(t, err, fault.Invalid, "client token was used before")
		if fault.Of(err).Reason != fault.ReasonIdempotentMismatch {
			t.Errorf("reason %q", fault.Of(err).Reason)
		}
		stranger := r.admin
		stranger.Account = "111111111111"
		ok(t, r.keeper.EnsureAccount(t.Context(), stranger.Account))
		theirs, err := r.CreateGateway(t.Context(), stranger, request)
		ok(t, err)
		if theirs.GatewayId == first.GatewayId {
			t.Error("a token of another account gave ours")
		}

		target := &api.CreateGatewayTargetRequest{GatewayIdentifier: first.GatewayId, ClientToken: request.ClientToken, TargetConfiguration: plain}
		one, err := r.CreateGatewayTarget(t.Context(), r.admin, target)
		ok(t, err)
		two, err := r.CreateGatewayTarget(t.Context(), r.admin, target)
		ok(t, err)
		if wire(one) != wire(two) || !strings.HasPrefix(one.Name.Reveal(), "target-") {
			t.Errorf("first %s\nthen %s", wire(one), wire(two))
		}
		_, err = r.DeleteGatewayTarget(t.Context(), r.admin, &api.DeleteGatewayTargetRequest{GatewayIdentifier: first.GatewayId, TargetId: one.TargetId})
		ok(t, err)
		three, err := r.CreateGatewayTarget(t.Context(), r.admin, target)
		ok(t, err)
		if three.TargetId == one.TargetId {
			t.Error("a deleted target came back")
		}
	})
}

// Nobody sees or touches another account's gateways.
func TestAccountsAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.createGateway(t, r.gatewayRequest("ours"))
	made := r.target(t, g.GatewayId, "t", plain, nil)
	stranger := principal.Caller{Kind: principal.Key, Account: "111111111111", Root: true}
	for _, identifier := range []string{g.GatewayId, g.GatewayArn} {
		_, err := r.GetGateway(t.Context(), stranger, &api.GetGatewayRequest{GatewayIdentifier: identifier})
		kindIs(t, err, fault.NotFound, "")
		_, err = r.UpdateGateway(t.Context(), stranger, &api.UpdateGatewayRequest{GatewayIdentifier: identifier, Name: "ours", RoleArn: role, AuthorizerType: api.AuthorizerTypeNone})
		kindIs(t, err, fault.NotFound, "")
		_, err = r.DeleteGateway(t.Context(), stranger, &api.DeleteGatewayRequest{GatewayIdentifier: identifier})
		kindIs(t, err, fault.NotFound, "")
		_, err = r.ListGatewayTargets(t.Context(), stranger, &api.ListGatewayTargetsRequest{GatewayIdentifier: identifier})
		kindIs(t, err, fault.NotFound, "")
		_, err = r.GetGatewayTarget(t.Context(), stranger, &api.GetGatewayTargetRequest{GatewayIdentifier: identifier, TargetId: made.TargetId})
		kindIs(t, err, fault.NotFound, "")
		_, err = r.UpdateGatewayTarget(t.Context(), stranger, &api.UpdateGatewayTargetRequest{GatewayIdentifier: identifier, TargetId: made.TargetId, TargetConfiguration: plain})
		kindIs(t, err, fault.NotFound, "")
		_, err = r.DeleteGatewayTarget(t.Context(), stranger, &api.DeleteGatewayTargetRequest{GatewayIdentifier: identifier, TargetId: made.TargetId})
		kindIs(t, err, fault.NotFound, "")
	}
	list, err := r.ListGateways(t.Context(), stranger, &api.ListGatewaysRequest{})
	ok(t, err)
	if len(list.Items) != 0 {
		t.Errorf("list %s", wire(list))
	}
}
