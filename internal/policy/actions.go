package policy

import (
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
)

const serviceName = "bedrock-agentcore"

// Types are, for each action that is asked for here, the types of resource that
// one call of it needs a yes for.
//
// Source: "Actions, resources, and condition keys for Amazon Bedrock AgentCore",
// docs.aws.amazon.com/service-authorization/latest/reference/list_bedrock-agentcore.html,
// and for iam: and sts: the pages of these services, as of November 2026. Where
// AWS names no type for a call that makes or lists gateways, the question is put
// for gateway/*: who allows "*" allows it, and so does who allows gateways.
var Types = func() map[string][]string {
	table := map[string][]string{}
	add := func(types string, actions ...string) {
		for _, action := range actions {
			table[action] = strings.Fields(types)
		}
	}
	const (
		workload = "workload-identity-directory workload-identity"
		oauth2   = "token-vault oauth2credentialprovider"
		apiKey   = "token-vault apikeycredentialprovider"
	)
	agentcore := func(types string, names ...string) {
		for _, name := range names {
			add(types, serviceName+":"+name)
		}
	}
	agentcore(workload, "CreateWorkloadIdentity", "GetWorkloadIdentity", "UpdateWorkloadIdentity", "DeleteWorkloadIdentity", "ListWorkloadIdentities",
		"GetWorkloadAccessToken", "GetWorkloadAccessTokenForJWT", "GetWorkloadAccessTokenForUserId")
	agentcore(oauth2, "CreateOauth2CredentialProvider", "GetOauth2CredentialProvider", "UpdateOauth2CredentialProvider", "DeleteOauth2CredentialProvider", "ListOauth2CredentialProviders")
	agentcore(apiKey, "CreateApiKeyCredentialProvider", "GetApiKeyCredentialProvider", "UpdateApiKeyCredentialProvider", "DeleteApiKeyCredentialProvider", "ListApiKeyCredentialProviders")
	agentcore(workload+" "+oauth2, "GetResourceOauth2Token", "CompleteResourceTokenAuth")
	agentcore(workload+" "+apiKey, "GetResourceApiKey")
	agentcore("token-vault", "GetTokenVault", "SetTokenVaultCMK", "ResetTokenVaultKeyMaterial")
	agentcore("gateway", "CreateGateway", "GetGateway", "UpdateGateway", "DeleteGateway", "ListGateways", "InvokeGateway",
		"CreateGatewayTarget", "GetGatewayTarget", "UpdateGatewayTarget", "DeleteGatewayTarget", "ListGatewayTargets")
	agentcore("runtime", "CreateAgentRuntime", "GetAgentRuntime", "UpdateAgentRuntime", "DeleteAgentRuntime", "ListAgentRuntimes", "ListAgentRuntimeVersions")
	agentcore("runtime runtime-endpoint", "CreateAgentRuntimeEndpoint", "GetAgentRuntimeEndpoint", "UpdateAgentRuntimeEndpoint", "DeleteAgentRuntimeEndpoint", "ListAgentRuntimeEndpoints")
	agentcore("runtime runtime-endpoint", callsOfAgents...)
	own := func(types string, names ...string) { // operations that AWS does not have, on the types that are its own
		for _, name := range names {
			add(types, "onbehalf:"+name)
		}
	}
	own(workload+" "+oauth2, "ListGrants", "GetGrant", "RevokeGrant", "RevokeUserGrants", "GetResourceTokenState")
	own(workload, "PutTrustedIssuers", "GetTrustedIssuers", "RevokeWorkloadTokens")
	own(oauth2, "PutOauth2ProviderSettings", "GetOauth2ProviderSettings")
	own("runtime", "PutAgentCode", "ListAgentRuntimeSessions", "GetAgentRuntimeLogs")
	add("role", "iam:PassRole", "iam:CreateRole", "iam:GetRole", "iam:DeleteRole", "iam:ListRoles",
		"iam:PutRolePolicy", "iam:GetRolePolicy", "iam:DeleteRolePolicy", "iam:ListRolePolicies")
	add("", "sts:GetCallerIdentity")
	return table
}()

// invokeForUser is asked for beside a call of an agent that names the person whom
// it is for: the name is a condition key of it.
const invokeForUser = serviceName + ":InvokeAgentRuntimeForUser"

// callsOfAgents are the calls of a hosted agent. Each is asked for on the runtime
// and on the endpoint that is named, as at AWS: the policies of both have a say.
var callsOfAgents = []string{
	"InvokeAgentRuntime", "InvokeAgentRuntimeForUser", "InvokeAgentRuntimeCommand", "InvokeAgentRuntimeWithWebSocketStream", "StopRuntimeSession", "GetAgentCard",
}

// tagged are the actions on tags, which are asked for on whatever has them.
var tagged = []string{serviceName + ":ListTagsForResource", serviceName + ":TagResource", serviceName + ":UntagResource"}

// ofPolicies are the actions on policies of resources, which are asked for on
// whatever may have one.
var ofPolicies = []string{serviceName + ":GetResourcePolicy", serviceName + ":PutResourcePolicy", serviceName + ":DeleteResourcePolicy"}

// typeOf is the type of a resource by the resource part of its ARN:
// "workload-identity" of workload-identity-directory/default/workload-identity/agent.
func typeOf(resource string) string {
	parts := strings.Split(resource, "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[len(parts)-2]
}

// TypeOf is the type of the resource that an ARN names; empty for what is no ARN of a type.
func TypeOf(arn string) string {
	parsed, err := api.ParseARN(arn)
	if err != nil {
		return ""
	}
	return typeOf(parsed.Resource)
}

// supported reports whether an action of a policy, which may have wildcards, can
// ever be asked for on a resource of the type.
func supported(action *pattern, kind string) bool {
	for name, types := range Types {
		if matched, _ := action.match(name, nil); matched && slices.Contains(types, kind) {
			return true
		}
	}
	among := func(names []string) bool {
		return slices.ContainsFunc(names, func(name string) bool { matched, _ := action.match(name, nil); return matched })
	}
	return among(tagged) || slices.Contains(policied, kind) && among(ofPolicies)
}

// misplaced says why an action is never asked for on a resource, for whoever
// wonders about an answer; empty where it may be.
func misplaced(check Check) string {
	if slices.Contains(tagged, check.Action) || slices.Contains(ofPolicies, check.Action) && slices.Contains(policied, TypeOf(check.Resource)) {
		return ""
	}
	for name, types := range Types {
		switch {
		case !strings.EqualFold(name, check.Action), slices.Contains(types, TypeOf(check.Resource)), len(types) == 0 && check.Resource == Any:
		case len(types) == 0:
			return name + " is asked for on no resource in particular: *."
		default:
			return name + " is asked for on " + strings.Join(types, ", ") + ", not on this."
		}
	}
	return ""
}
