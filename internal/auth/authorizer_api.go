package auth

import (
	"slices"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// AuthorizerOf translates the API's authorizer, of a gateway or a runtime, to the
// guard's. What this server does not have is refused; Check is the caller's to call.
func AuthorizerOf(c *api.CustomJWTAuthorizerConfiguration) (*Authorizer, error) {
	if c.AllowedWorkloadConfiguration != nil {
		const member = "authorizerConfiguration.customJWTAuthorizer.allowedWorkloadConfiguration"
		message := "Allowed workloads (" + member + ") is part of the API, but this server does not have it yet."
		return nil, &fault.Error{Kind: fault.NotBuilt, Message: message, Fields: []fault.Field{{Name: member, Message: message}}}
	}
	z := &Authorizer{DiscoveryURL: c.DiscoveryUrl, Audiences: c.AllowedAudience, Clients: c.AllowedClients, Scopes: c.AllowedScopes}
	for scope := range c.AdvertisedScopeMapping {
		if !slices.Contains(c.AllowedScopes, scope) {
			return nil, fault.InvalidField("authorizerConfiguration.customJWTAuthorizer.advertisedScopeMapping", "The scope %q is not one of allowedScopes.", scope)
		}
	}
	if len(c.AdvertisedScopeMapping) > 0 {
		for _, scope := range c.AllowedScopes {
			if advertised, mapped := c.AdvertisedScopeMapping[scope]; mapped {
				scope = advertised
			}
			z.ScopesAdvertised = append(z.ScopesAdvertised, scope)
		}
	}
	for _, claim := range c.CustomClaims {
		rule := ClaimRule{Name: claim.InboundTokenClaimName, Type: string(claim.InboundTokenClaimValueType)}
		if match := claim.AuthorizingClaimMatchValue; match != nil {
			rule.Operator = string(match.ClaimMatchOperator)
			if value := match.ClaimMatchValue; value != nil {
				rule.Values = value.MatchValueStringList
				if value.MatchValueString != nil {
					rule.Value = *value.MatchValueString
				}
			}
		}
		z.Claims = append(z.Claims, rule)
	}
	return z, nil
}
