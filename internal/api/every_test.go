package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
)

// pair makes an operation's empty request and response.
type pair struct{ request, response func() any }

var every = map[string]pair{}

func add[Req, Resp any](op api.Operation[Req, Resp]) {
	every[op.Name] = pair{func() any { return new(Req) }, func() any { return new(Resp) }}
}

func newRequest(t testing.TB, operation string) api.Request {
	t.Helper()
	made, found := every[operation]
	if !found {
		t.Fatalf("every_test.go lacks %s", operation)
	}
	return made.request().(api.Request)
}

func newResponse(t testing.TB, operation string) any {
	t.Helper()
	made, found := every[operation]
	if !found {
		t.Fatalf("every_test.go lacks %s", operation)
	}
	return made.response()
}

// AWS has 82 operations in the two models. Ours come on top.
func TestThereAre82OperationsOfAWS(t *testing.T) {
	t.Parallel()
	theirs := 0
	for _, op := range api.Operations {
		if op.Service != "onbehalf" {
			theirs++
		}
		if _, found := every[op.Name]; !found {
			t.Errorf("every_test.go lacks %s", op.Name)
		}
	}
	if theirs != 82 || len(every) != len(api.Operations) {
		t.Errorf("%d operations of AWS, %d in all, %d in every_test.go", theirs, len(api.Operations), len(every))
	}
}

// Our own operations lie under one path and one IAM prefix.
func TestOwnOperations(t *testing.T) {
	t.Parallel()
	for _, op := range api.Operations {
		own := op.Service == "onbehalf"
		if own && (op.Method != http.MethodPost || op.Path != "/onbehalf/"+op.Name || op.Action() != "onbehalf:"+op.Name) {
			t.Errorf("%s is %s %s, and needs %s", op.Name, op.Method, op.Path, op.Action())
		}
		if !own && strings.HasPrefix(op.Path, "/onbehalf/") {
			t.Errorf("%s is AWS's and lies at %s", op.Name, op.Path)
		}
	}
}

func init() {
	add(api.BatchPutGatewayRateLimits)
	add(api.CreateAgentRuntime)
	add(api.CreateAgentRuntimeEndpoint)
	add(api.CreateApiKeyCredentialProvider)
	add(api.CreateConsentPortal)
	add(api.CreateGateway)
	add(api.CreateGatewayRateLimit)
	add(api.CreateGatewayRule)
	add(api.CreateGatewayTarget)
	add(api.CreateOauth2CredentialProvider)
	add(api.CreatePolicy)
	add(api.CreatePolicyEngine)
	add(api.CreateWorkloadIdentity)
	add(api.DeleteAgentRuntime)
	add(api.DeleteAgentRuntimeEndpoint)
	add(api.DeleteApiKeyCredentialProvider)
	add(api.DeleteConsentPortal)
	add(api.DeleteGateway)
	add(api.DeleteGatewayRateLimit)
	add(api.DeleteGatewayRule)
	add(api.DeleteGatewayTarget)
	add(api.DeleteOauth2CredentialProvider)
	add(api.DeletePolicy)
	add(api.DeletePolicyEngine)
	add(api.DeleteResourcePolicy)
	add(api.DeleteWorkloadIdentity)
	add(api.GetAgentRuntime)
	add(api.GetAgentRuntimeEndpoint)
	add(api.GetApiKeyCredentialProvider)
	add(api.GetConsentPortal)
	add(api.GetGateway)
	add(api.GetGatewayRateLimit)
	add(api.GetGatewayRule)
	add(api.GetGatewayTarget)
	add(api.GetOauth2CredentialProvider)
	add(api.GetPolicy)
	add(api.GetPolicyEngine)
	add(api.GetResourcePolicy)
	add(api.GetTokenVault)
	add(api.GetWorkloadIdentity)
	add(api.ListAgentRuntimeEndpoints)
	add(api.ListAgentRuntimeVersions)
	add(api.ListAgentRuntimes)
	add(api.ListApiKeyCredentialProviders)
	add(api.ListConsentPortals)
	add(api.ListGatewayRateLimits)
	add(api.ListGatewayRules)
	add(api.ListGatewayTargets)
	add(api.ListGateways)
	add(api.ListOauth2CredentialProviders)
	add(api.ListPolicies)
	add(api.ListPolicyEngines)
	add(api.ListTagsForResource)
	add(api.ListWorkloadIdentities)
	add(api.PutResourcePolicy)
	add(api.ResetTokenVaultKeyMaterial)
	add(api.SetTokenVaultCMK)
	add(api.SynchronizeGatewayTargets)
	add(api.TagResource)
	add(api.UntagResource)
	add(api.UpdateAgentRuntime)
	add(api.UpdateAgentRuntimeEndpoint)
	add(api.UpdateApiKeyCredentialProvider)
	add(api.UpdateConsentPortal)
	add(api.UpdateGateway)
	add(api.UpdateGatewayRateLimit)
	add(api.UpdateGatewayRule)
	add(api.UpdateGatewayTarget)
	add(api.UpdateOauth2CredentialProvider)
	add(api.UpdatePolicy)
	add(api.UpdatePolicyEngine)
	add(api.UpdateWorkloadIdentity)
	add(api.CompleteResourceTokenAuth)
	add(api.GetAgentCard)
	add(api.GetResourceApiKey)
	add(api.GetResourceOauth2Token)
	add(api.GetWorkloadAccessToken)
	add(api.GetWorkloadAccessTokenForJWT)
	add(api.GetWorkloadAccessTokenForUserId)
	add(api.InvokeAgentRuntime)
	add(api.InvokeAgentRuntimeCommand)
	add(api.StopRuntimeSession)
	add(api.GetGrant)
	add(api.GetOauth2ProviderSettings)
	add(api.PutOauth2ProviderSettings)
	add(api.GetResourceTokenState)
	add(api.ListGrants)
	add(api.RevokeGrant)
	add(api.RevokeUserGrants)
	add(api.GetTrustedIssuers)
	add(api.PutTrustedIssuers)
	add(api.RevokeWorkloadTokens)
	add(api.PutAgentCode)
	add(api.ListAgentRuntimeSessions)
	add(api.GetAgentRuntimeLogs)
}
