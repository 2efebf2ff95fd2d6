package server

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/wire"
)

// routes is the map of the server: one row per operation, naming the operation,
// the resources it touches (what a policy must allow), and the method that does
// it. An operation without a row here answers that it is not built yet. The raw
// handlers, which AWS's model does not have, are in front.go.
func routes(m resources, identities *identity.Service, b *broker.Broker, g *gateway.Service, a *runtime.Service, tagged tags, policies resourcePolicies) []wire.Route {
	return []wire.Route{
		// Workload identities
		row(api.CreateWorkloadIdentity, func(account string, r *api.CreateWorkloadIdentityRequest) []string {
			return m.workload(account, r.Name)
		}, identities.CreateWorkloadIdentity),
		row(api.GetWorkloadIdentity, func(account string, r *api.GetWorkloadIdentityRequest) []string { return m.workload(account, r.Name) }, identities.GetWorkloadIdentity),
		row(api.UpdateWorkloadIdentity, func(account string, r *api.UpdateWorkloadIdentityRequest) []string {
			return m.workload(account, r.Name)
		}, identities.UpdateWorkloadIdentity),
		row(api.DeleteWorkloadIdentity, func(account string, r *api.DeleteWorkloadIdentityRequest) []string {
			return m.workload(account, r.Name)
		}, identities.DeleteWorkloadIdentity),
		row(api.ListWorkloadIdentities, func(account string, _ *api.ListWorkloadIdentitiesRequest) []string { return m.workload(account, "*") }, identities.ListWorkloadIdentities),

		// Workload access tokens
		row(api.GetWorkloadAccessToken, func(account string, r *api.GetWorkloadAccessTokenRequest) []string {
			return m.workload(account, r.WorkloadName)
		}, identities.GetWorkloadAccessToken),
		row(api.GetWorkloadAccessTokenForJWT, func(account string, r *api.GetWorkloadAccessTokenForJWTRequest) []string {
			return m.workload(account, r.WorkloadName)
		}, identities.GetWorkloadAccessTokenForJWT),
		row(api.GetWorkloadAccessTokenForUserId, func(account string, r *api.GetWorkloadAccessTokenForUserIdRequest) []string {
			return m.workload(account, r.WorkloadName)
		}, identities.GetWorkloadAccessTokenForUserId),

		row(api.RevokeWorkloadTokens, func(account string, r *api.RevokeWorkloadTokensRequest) []string {
			return m.workload(account, r.WorkloadName)
		}, identities.RevokeWorkloadTokens),
		row(api.GetTrustedIssuers, func(account string, r *api.GetTrustedIssuersRequest) []string {
			return m.workload(account, r.WorkloadName)
		}, identities.GetTrustedIssuers),
		row(api.PutTrustedIssuers, func(account string, r *api.PutTrustedIssuersRequest) []string {
			return m.workload(account, r.WorkloadName)
		}, identities.PutTrustedIssuers),

		// OAuth2 credential providers
		row(api.CreateOauth2CredentialProvider, func(account string, r *api.CreateOauth2CredentialProviderRequest) []string {
			return m.provider(account, r.Name)
		}, b.CreateOauth2CredentialProvider),
		row(api.GetOauth2CredentialProvider, func(account string, r *api.GetOauth2CredentialProviderRequest) []string {
			return m.provider(account, r.Name)
		}, b.GetOauth2CredentialProvider),
		row(api.UpdateOauth2CredentialProvider, func(account string, r *api.UpdateOauth2CredentialProviderRequest) []string {
			return m.provider(account, r.Name)
		}, b.UpdateOauth2CredentialProvider),
		row(api.DeleteOauth2CredentialProvider, func(account string, r *api.DeleteOauth2CredentialProviderRequest) []string {
			return m.provider(account, r.Name)
		}, b.DeleteOauth2CredentialProvider),
		row(api.ListOauth2CredentialProviders, func(account string, _ *api.ListOauth2CredentialProvidersRequest) []string {
			return m.provider(account, "*")
		}, b.ListOauth2CredentialProviders),

		row(api.GetOauth2ProviderSettings, func(account string, r *api.GetOauth2ProviderSettingsRequest) []string {
			return m.provider(account, r.Name)
		}, b.GetOauth2ProviderSettings),
		row(api.PutOauth2ProviderSettings, func(account string, r *api.PutOauth2ProviderSettingsRequest) []string {
			return m.provider(account, r.Name)
		}, b.PutOauth2ProviderSettings),

		// API-key credential providers
		row(api.CreateApiKeyCredentialProvider, func(account string, r *api.CreateApiKeyCredentialProviderRequest) []string {
			return m.apiKey(account, r.Name)
		}, b.CreateApiKeyCredentialProvider),
		row(api.GetApiKeyCredentialProvider, func(account string, r *api.GetApiKeyCredentialProviderRequest) []string {
			return m.apiKey(account, r.Name)
		}, b.GetApiKeyCredentialProvider),
		row(api.UpdateApiKeyCredentialProvider, func(account string, r *api.UpdateApiKeyCredentialProviderRequest) []string {
			return m.apiKey(account, r.Name)
		}, b.UpdateApiKeyCredentialProvider),
		row(api.DeleteApiKeyCredentialProvider, func(account string, r *api.DeleteApiKeyCredentialProviderRequest) []string {
			return m.apiKey(account, r.Name)
		}, b.DeleteApiKeyCredentialProvider),
		row(api.ListApiKeyCredentialProviders, func(account string, _ *api.ListApiKeyCredentialProvidersRequest) []string {
			return m.apiKey(account, "*")
		}, b.ListApiKeyCredentialProviders),

		// Resource tokens and keys
		throughWorkload(api.GetResourceOauth2Token, m, identities, func(account string, r *api.GetResourceOauth2TokenRequest) (secret.Text, []string) {
			return r.WorkloadIdentityToken, m.provider(account, r.ResourceCredentialProviderName)
		}, b.GetResourceOauth2Token),
		throughWorkload(api.GetResourceApiKey, m, identities, func(account string, r *api.GetResourceApiKeyRequest) (secret.Text, []string) {
			return r.WorkloadIdentityToken, m.apiKey(account, r.ResourceCredentialProviderName)
		}, b.GetResourceApiKey),
		wire.Handle(api.CompleteResourceTokenAuth, m.throughSession(b), b.CompleteResourceTokenAuth),

		// The token vault
		row(api.GetTokenVault, func(account string, _ *api.GetTokenVaultRequest) []string { return m.vault(account) }, b.GetTokenVault),
		row(api.SetTokenVaultCMK, func(account string, _ *api.SetTokenVaultCMKRequest) []string { return m.vault(account) }, b.SetTokenVaultCMK),
		row(api.ResetTokenVaultKeyMaterial, func(account string, _ *api.ResetTokenVaultKeyMaterialRequest) []string { return m.vault(account) }, b.ResetTokenVaultKeyMaterial),

		// Grants: who holds what
		row(api.ListGrants, func(account string, r *api.ListGrantsRequest) []string {
			return m.grants(account, r.WorkloadName, r.ProviderName)
		}, b.ListGrants),
		ofGrant(api.GetGrant, m, b, func(r *api.GetGrantRequest) string { return r.GrantId }, b.GetGrant),
		ofGrant(api.RevokeGrant, m, b, func(r *api.RevokeGrantRequest) string { return r.GrantId }, b.RevokeGrant),
		row(api.RevokeUserGrants, func(account string, r *api.RevokeUserGrantsRequest) []string {
			return m.grants(account, r.WorkloadName, r.ProviderName)
		}, b.RevokeUserGrants),
		throughWorkload(api.GetResourceTokenState, m, identities, func(account string, r *api.GetResourceTokenStateRequest) (secret.Text, []string) {
			return r.WorkloadIdentityToken, m.provider(account, r.ProviderName)
		}, b.GetResourceTokenState),

		// Tags, of whatever has some
		row(api.ListTagsForResource, func(_ string, r *api.ListTagsForResourceRequest) []string { return []string{r.ResourceArn} }, tagged.list),
		row(api.TagResource, func(_ string, r *api.TagResourceRequest) []string { return []string{r.ResourceArn} }, tagged.add),
		row(api.UntagResource, func(_ string, r *api.UntagResourceRequest) []string { return []string{r.ResourceArn} }, tagged.remove),

		// Policies of resources
		row(api.PutResourcePolicy, func(_ string, r *api.PutResourcePolicyRequest) []string { return []string{r.ResourceArn} }, policies.put),
		row(api.GetResourcePolicy, func(_ string, r *api.GetResourcePolicyRequest) []string { return []string{r.ResourceArn} }, policies.get),
		row(api.DeleteResourcePolicy, func(_ string, r *api.DeleteResourcePolicyRequest) []string { return []string{r.ResourceArn} }, policies.remove),

		// Gateways
		row(api.CreateGateway, func(account string, _ *api.CreateGatewayRequest) []string { return m.gateway(account, "*") }, g.CreateGateway),
		row(api.GetGateway, func(account string, r *api.GetGatewayRequest) []string {
			return m.gateway(account, r.GatewayIdentifier)
		}, g.GetGateway),
		row(api.UpdateGateway, func(account string, r *api.UpdateGatewayRequest) []string {
			return m.gateway(account, r.GatewayIdentifier)
		}, g.UpdateGateway),
		row(api.DeleteGateway, func(account string, r *api.DeleteGatewayRequest) []string {
			return m.gateway(account, r.GatewayIdentifier)
		}, g.DeleteGateway),
		row(api.ListGateways, func(account string, _ *api.ListGatewaysRequest) []string { return m.gateway(account, "*") }, g.ListGateways),

		// Gateway targets
		row(api.CreateGatewayTarget, func(account string, r *api.CreateGatewayTargetRequest) []string {
			return m.gateway(account, r.GatewayIdentifier)
		}, g.CreateGatewayTarget),
		row(api.GetGatewayTarget, func(account string, r *api.GetGatewayTargetRequest) []string {
			return m.gateway(account, r.GatewayIdentifier)
		}, g.GetGatewayTarget),
		row(api.UpdateGatewayTarget, func(account string, r *api.UpdateGatewayTargetRequest) []string {
			return m.gateway(account, r.GatewayIdentifier)
		}, g.UpdateGatewayTarget),
		row(api.DeleteGatewayTarget, func(account string, r *api.DeleteGatewayTargetRequest) []string {
			return m.gateway(account, r.GatewayIdentifier)
		}, g.DeleteGatewayTarget),
		row(api.ListGatewayTargets, func(account string, r *api.ListGatewayTargetsRequest) []string {
			return m.gateway(account, r.GatewayIdentifier)
		}, g.ListGatewayTargets),

		// Hosted agents
		row(api.CreateAgentRuntime, func(account string, _ *api.CreateAgentRuntimeRequest) []string { return m.agent(account, "*") }, a.CreateAgentRuntime),
		row(api.GetAgentRuntime, func(account string, r *api.GetAgentRuntimeRequest) []string {
			return m.agent(account, r.AgentRuntimeId)
		}, a.GetAgentRuntime),
		row(api.UpdateAgentRuntime, func(account string, r *api.UpdateAgentRuntimeRequest) []string {
			return m.agent(account, r.AgentRuntimeId)
		}, a.UpdateAgentRuntime),
		row(api.DeleteAgentRuntime, func(account string, r *api.DeleteAgentRuntimeRequest) []string {
			return m.agent(account, r.AgentRuntimeId)
		}, a.DeleteAgentRuntime),
		row(api.ListAgentRuntimes, func(account string, _ *api.ListAgentRuntimesRequest) []string { return m.agent(account, "*") }, a.ListAgentRuntimes),
		row(api.ListAgentRuntimeVersions, func(account string, r *api.ListAgentRuntimeVersionsRequest) []string {
			return m.agent(account, r.AgentRuntimeId)
		}, a.ListAgentRuntimeVersions),
		row(api.CreateAgentRuntimeEndpoint, func(account string, r *api.CreateAgentRuntimeEndpointRequest) []string {
			return m.agentEndpoint(account, r.AgentRuntimeId, r.Name.Reveal())
		}, a.CreateAgentRuntimeEndpoint),
		row(api.GetAgentRuntimeEndpoint, func(account string, r *api.GetAgentRuntimeEndpointRequest) []string {
			return m.agentEndpoint(account, r.AgentRuntimeId, r.EndpointName.Reveal())
		}, a.GetAgentRuntimeEndpoint),
		row(api.UpdateAgentRuntimeEndpoint, func(account string, r *api.UpdateAgentRuntimeEndpointRequest) []string {
			return m.agentEndpoint(account, r.AgentRuntimeId, r.EndpointName.Reveal())
		}, a.UpdateAgentRuntimeEndpoint),
		row(api.DeleteAgentRuntimeEndpoint, func(account string, r *api.DeleteAgentRuntimeEndpointRequest) []string {
			return m.agentEndpoint(account, r.AgentRuntimeId, r.EndpointName.Reveal())
		}, a.DeleteAgentRuntimeEndpoint),
		row(api.ListAgentRuntimeEndpoints, func(account string, r *api.ListAgentRuntimeEndpointsRequest) []string {
			return m.agentEndpoint(account, r.AgentRuntimeId, "*")
		}, a.ListAgentRuntimeEndpoints),

		// Their sessions
		row(api.ListAgentRuntimeSessions, func(account string, r *api.ListAgentRuntimeSessionsRequest) []string {
			if r.AgentRuntimeId == nil {
				return m.agent(account, "*")
			}
			return m.agent(account, *r.AgentRuntimeId)
		}, a.ListAgentRuntimeSessions),
		row(api.GetAgentRuntimeLogs, func(account string, r *api.GetAgentRuntimeLogsRequest) []string {
			return m.agent(account, r.AgentRuntimeId)
		}, a.GetAgentRuntimeLogs),
	}
}

// row guards an operation by its own name as IAM action on the resources that the request names.
func row[Req, Resp any](op api.Operation[Req, Resp], touched func(account string, r *Req) []string, method func(context.Context, principal.Caller, *Req) (*Resp, error)) wire.Route {
	return wire.Handle(op, func(_ context.Context, caller principal.Caller, request *Req) (principal.Caller, []gate.Check, error) {
		return caller, questions(op.Action(), request, touched(caller.Account, request)), nil
	}, method)
}

// questions are those that a request puts: its action on all that it
// touches, and the right to pass the role that it names.
func questions(action string, request any, resources []string) []gate.Check {
	values := conditions(request)
	out := make([]gate.Check, len(resources))
	for i, resource := range resources {
		out[i] = gate.Check{Action: action, Resource: resource, Values: values}
	}
	return append(out, passing(request, resources)...)
}

// resources builds the ARNs that a call touches. One call is authorised against
// all of them, as AWS documents: a workload can be kept to its providers.
type resources struct{ region string }

func (m resources) directory(account string) []string {
	return []string{api.WorkloadIdentityDirectoryARN(m.region, account)}
}

func (m resources) workload(account, name string) []string {
	return []string{api.WorkloadIdentityDirectoryARN(m.region, account), api.WorkloadIdentityARN(m.region, account, name)}
}

func (m resources) vault(account string) []string {
	return []string{api.TokenVaultARN(m.region, account)}
}

func (m resources) provider(account, name string) []string {
	return []string{api.TokenVaultARN(m.region, account), api.Oauth2CredentialProviderARN(m.region, account, name)}
}

func (m resources) apiKey(account, name string) []string {
	return []string{api.TokenVaultARN(m.region, account), api.ApiKeyCredentialProviderARN(m.region, account, name)}
}

// gateway takes an id or an ARN, as the API does; a foreign account's ARN stays
// foreign, so that policy refuses it.
func (m resources) gateway(account, identifier string) []string {
	if _, err := api.ParseARN(identifier); err == nil {
		return []string{identifier}
	}
	return []string{api.GatewayARN(m.region, account, identifier)}
}

func (m resources) agent(account, id string) []string {
	return []string{api.AgentRuntimeARN(m.region, account, id)}
}

func (m resources) agentEndpoint(account, id, name string) []string {
	return append(m.agent(account, id), api.AgentRuntimeEndpointARN(m.region, account, id, name))
}

// throughWorkload guards an operation of the data plane: it opens the workload
// access token, and whose that is decides, with the request, what the call touches.
func throughWorkload[Req, Resp any](op api.Operation[Req, Resp], m resources, identities *identity.Service, asked func(account string, r *Req) (secret.Text, []string),
	method func(context.Context, principal.Caller, *Req) (*Resp, error)) wire.Route {
	return wire.Handle(op, func(ctx context.Context, caller principal.Caller, r *Req) (principal.Caller, []gate.Check, error) {
		token, touched := asked(caller.Account, r)
		opened, err := identities.Open(ctx, caller, token)
		if err != nil {
			return caller, questions(op.Action(), r, touched), err
		}
		touched = append(m.workload(caller.Account, opened.Workload.Name), touched...)
		return opened, questions(op.Action(), r, touched), nil
	}, method)
}

// throughSession looks up whose session it is: what the call touches is what
// the session was opened for. A session that cannot be found, or is another
// account's, touches nothing more than the directory and the vault; the broker
// then refuses it in its own words.
func (m resources) throughSession(b *broker.Broker) gate.Scope[api.CompleteResourceTokenAuthRequest] {
	return func(ctx context.Context, caller principal.Caller, r *api.CompleteResourceTokenAuthRequest) (principal.Caller, []gate.Check, error) {
		touched := append(m.directory(caller.Account), m.vault(caller.Account)...)
		if subject, err := b.SubjectOfSession(ctx, r.SessionUri); err == nil && subject.Account == caller.Account {
			touched = append(m.workload(caller.Account, subject.Workload.Name), m.vault(caller.Account)[0], subject.ProviderARN)
		}
		return caller, questions("bedrock-agentcore:CompleteResourceTokenAuth", r, touched), nil
	}
}
