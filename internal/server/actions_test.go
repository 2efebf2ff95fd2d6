package server_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// What a call is asked for on is what the table of actions says, for whatever
// was called here: a row of routes.go that strays fails.
func TestCallsAreAskedForAsTheTableSays(t *testing.T) {
	p := servertest.Start(t)
	ctx, name := t.Context(), aws.String("thing")
	try := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	google := &types.Oauth2ProviderConfigInputMemberGoogleOauth2ProviderConfig{Value: types.GoogleOauth2ProviderConfigInput{ClientId: aws.String("id"), ClientSecret: aws.String("secret")}}
	try(p.Control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: name}))
	try(p.Control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: name}))
	try(p.Control.UpdateWorkloadIdentity(ctx, &bedrockagentcorecontrol.UpdateWorkloadIdentityInput{Name: name}))
	try(p.Control.ListWorkloadIdentities(ctx, &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{}))
	try(p.Control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{Name: name, CredentialProviderVendor: types.CredentialProviderVendorTypeGoogleOauth2, Oauth2ProviderConfigInput: google}))
	try(p.Control.GetOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: name}))
	try(p.Control.ListOauth2CredentialProviders(ctx, &bedrockagentcorecontrol.ListOauth2CredentialProvidersInput{}))
	try(p.Control.CreateApiKeyCredentialProvider(ctx, &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: name, ApiKey: aws.String("key")}))
	try(p.Control.GetApiKeyCredentialProvider(ctx, &bedrockagentcorecontrol.GetApiKeyCredentialProviderInput{Name: name}))
	try(p.Control.ListApiKeyCredentialProviders(ctx, &bedrockagentcorecontrol.ListApiKeyCredentialProvidersInput{}))
	try(p.Control.GetTokenVault(ctx, &bedrockagentcorecontrol.GetTokenVaultInput{}))
	arn := openGateway(t, p.Control, "thing")
	id := aws.String(arn[strings.LastIndex(arn, "/")+1:])
	try(p.Control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: id}))
	try(p.Control.ListGateways(ctx, &bedrockagentcorecontrol.ListGatewaysInput{}))
	try(p.Control.ListGatewayTargets(ctx, &bedrockagentcorecontrol.ListGatewayTargetsInput{GatewayIdentifier: id}))
	try(nil, putResourcePolicy(ctx, p.Control, arn, `{"Effect":"Allow","Principal":"*","Action":"bedrock-agentcore:InvokeGateway","Resource":"`+arn+`"}`))
	try(p.Control.GetResourcePolicy(ctx, &bedrockagentcorecontrol.GetResourcePolicyInput{ResourceArn: &arn}))
	hosted := makeRuntime(t, p.Control, "thing")
	try(p.Control.GetAgentRuntime(ctx, &bedrockagentcorecontrol.GetAgentRuntimeInput{AgentRuntimeId: hosted.AgentRuntimeId}))
	try(p.Control.ListAgentRuntimes(ctx, &bedrockagentcorecontrol.ListAgentRuntimesInput{}))
	try(p.Control.ListAgentRuntimeVersions(ctx, &bedrockagentcorecontrol.ListAgentRuntimeVersionsInput{AgentRuntimeId: hosted.AgentRuntimeId}))
	try(p.Control.ListAgentRuntimeEndpoints(ctx, &bedrockagentcorecontrol.ListAgentRuntimeEndpointsInput{AgentRuntimeId: hosted.AgentRuntimeId}))
	try(p.Control.GetAgentRuntimeEndpoint(ctx, &bedrockagentcorecontrol.GetAgentRuntimeEndpointInput{AgentRuntimeId: hosted.AgentRuntimeId, EndpointName: aws.String("DEFAULT")}))
	try(p.Control.DeleteAgentRuntime(ctx, &bedrockagentcorecontrol.DeleteAgentRuntimeInput{AgentRuntimeId: hosted.AgentRuntimeId}))
	token, err := p.Data.GetWorkloadAccessToken(ctx, &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: name})
	try(token, err)
	try(p.Data.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: name, UserId: aws.String("ada")}))
	try(p.Data.GetResourceApiKey(ctx, &bedrockagentcore.GetResourceApiKeyInput{WorkloadIdentityToken: token.WorkloadAccessToken, ResourceCredentialProviderName: name}))
	// A refusal by the room is asked for in the same way.
	_, _ = p.Data.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{WorkloadIdentityToken: token.WorkloadAccessToken, ResourceCredentialProviderName: name, Scopes: []string{}, Oauth2Flow: data.Oauth2FlowTypeUserFederation})

	compared := 0
	for action, types := range policy.Types {
		for _, text := range recorded(t, p, action) {
			var record struct{ Resources []string }
			if err := json.Unmarshal([]byte(text), &record); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, resource := range record.Resources {
				if kind := policy.TypeOf(resource); kind != "role" { // the right to pass it goes with another action
					got = append(got, kind)
				}
			}
			want := slices.Clone(types)
			slices.Sort(want)
			slices.Sort(got)
			if compared++; !slices.Equal(slices.Compact(got), want) {
				t.Errorf("%s is asked for on %v, and the table says %v", action, got, want)
			}
		}
	}
	if compared < 20 {
		t.Errorf("%d calls were compared", compared)
	}
}
