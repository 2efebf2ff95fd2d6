package server

import (
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/policy"
)

// conditions are the condition keys that a request itself brings: its tags, the
// user it is about, and what it asks for, as far as AWS's reference lists them.
func conditions(request any) map[string][]string {
	switch r := request.(type) {
	case *api.CreateWorkloadIdentityRequest:
		return tagConditions(r.Tags)
	case *api.CreateOauth2CredentialProviderRequest:
		return tagConditions(r.Tags)
	case *api.CreateApiKeyCredentialProviderRequest:
		return tagConditions(r.Tags)
	case *api.TagResourceRequest:
		return tagConditions(r.Tags)
	case *api.UntagResourceRequest:
		return map[string][]string{policy.KeyTagKeys: r.TagKeys}
	case *api.CreateGatewayRequest:
		return gatewayConditions(tagConditions(r.Tags), r.AuthorizerType, r.ProtocolType, r.AuthorizerConfiguration)
	case *api.UpdateGatewayRequest:
		return gatewayConditions(map[string][]string{}, r.AuthorizerType, r.ProtocolType, r.AuthorizerConfiguration)
	case *api.CreateGatewayTargetRequest:
		return credentialConditions(r.CredentialProviderConfigurations)
	case *api.UpdateGatewayTargetRequest:
		return credentialConditions(r.CredentialProviderConfigurations)
	case *api.CreateAgentRuntimeRequest:
		return runtimeConditions(tagConditions(r.Tags), r.NetworkConfiguration)
	case *api.UpdateAgentRuntimeRequest:
		return runtimeConditions(map[string][]string{}, r.NetworkConfiguration)
	case *api.CreateAgentRuntimeEndpointRequest:
		return tagConditions(r.Tags)
	case *api.GetWorkloadAccessTokenForJWTRequest:
		return policy.ClaimValues(r.UserToken.Reveal())
	case *api.GetWorkloadAccessTokenForUserIdRequest:
		return map[string][]string{policy.KeyUserID: {r.UserId}}
	case *api.CompleteResourceTokenAuthRequest:
		return userConditions(r.UserIdentifier)
	}
	return nil
}

func tagConditions(tags map[string]string) map[string][]string {
	values := map[string][]string{}
	for key, value := range tags {
		named := policy.KeyRequestTag + strings.ToLower(key)
		values[named] = append(values[named], value)
		values[policy.KeyTagKeys] = append(values[policy.KeyTagKeys], key)
	}
	return values
}

func gatewayConditions(values map[string][]string, authorizer api.AuthorizerType, protocol api.GatewayProtocolType, configured *api.AuthorizerConfiguration) map[string][]string {
	values[policy.KeyAuthorizerType] = one(string(authorizer))
	values[policy.KeyProtocolType] = one(string(protocol))
	if configured != nil && configured.CustomJWTAuthorizer != nil {
		values[policy.KeyDiscoveryURL] = one(configured.CustomJWTAuthorizer.DiscoveryUrl)
	}
	return values
}

// runtimeConditions has the network that a runtime asks for: this server stores
// it and does nothing about it, and a policy may refuse it all the same.
func runtimeConditions(values map[string][]string, network *api.NetworkConfiguration) map[string][]string {
	if network != nil && network.NetworkModeConfig != nil {
		values[policy.KeySubnets] = network.NetworkModeConfig.Subnets
		values[policy.KeySecurityGroups] = network.NetworkModeConfig.SecurityGroups
	}
	return values
}

func credentialConditions(configured []api.CredentialProviderConfiguration) map[string][]string {
	values := map[string][]string{}
	for _, c := range configured {
		values[policy.KeyCredentialType] = append(values[policy.KeyCredentialType], string(c.CredentialProviderType))
		if c.CredentialProvider != nil && c.CredentialProvider.OauthCredentialProvider != nil {
			values[policy.KeyCredentialScope] = append(values[policy.KeyCredentialScope], c.CredentialProvider.OauthCredentialProvider.Scopes...)
		}
	}
	return values
}

func userConditions(user *api.UserIdentifier) map[string][]string {
	switch {
	case user == nil:
		return nil
	case user.UserId != nil:
		return map[string][]string{policy.KeyUserID: {*user.UserId}}
	case user.UserToken != nil:
		return policy.ClaimValues(user.UserToken.Reveal())
	}
	return nil
}

func one(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

// passing is the right to hand a role to the service, which whoever names one in
// a request needs: otherwise a gateway or an agent would lend him rights that he has not.
//
// The resource is the gateway or runtime that the role is for; gateway/* or
// runtime/* where it is to be made.
func passing(request any, resources []string) []gate.Check {
	role := ""
	switch r := request.(type) {
	case *api.CreateGatewayRequest:
		role = r.RoleArn
	case *api.UpdateGatewayRequest:
		role = r.RoleArn
	case *api.CreateAgentRuntimeRequest:
		role = r.RoleArn
	case *api.UpdateAgentRuntimeRequest:
		role = r.RoleArn
	}
	if role == "" {
		return nil
	}
	return []gate.Check{{Action: "iam:PassRole", Resource: role, Values: map[string][]string{
		policy.KeyPassedToService: {policy.Service}, policy.KeyAssociatedResource: resources,
	}}}
}
