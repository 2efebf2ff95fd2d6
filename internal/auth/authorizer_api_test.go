package auth

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
)

func TestAuthorizerOf(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	got, err := AuthorizerOf(&api.CustomJWTAuthorizerConfiguration{
		DiscoveryUrl: "https://idp/.well-known/openid-configuration", AllowedAudience: []string{"agents"}, AllowedClients: []string{"app"},
		AllowedScopes: []string{"read", "write"}, AdvertisedScopeMapping: map[string]string{"write": "api://agents/write"},
		CustomClaims: []api.CustomClaimValidationType{
			{InboundTokenClaimName: "team", InboundTokenClaimValueType: "STRING", AuthorizingClaimMatchValue: &api.AuthorizingClaimMatchValueType{
				ClaimMatchOperator: "EQUALS", ClaimMatchValue: &api.ClaimMatchValueType{MatchValueString: text("blue")},
			}},
			{InboundTokenClaimName: "groups", InboundTokenClaimValueType: "STRING_ARRAY", AuthorizingClaimMatchValue: &api.AuthorizingClaimMatchValueType{
				ClaimMatchOperator: "CONTAINS_ANY", ClaimMatchValue: &api.ClaimMatchValueType{MatchValueStringList: []string{"a", "b"}},
			}},
			{InboundTokenClaimName: "nothing", InboundTokenClaimValueType: "STRING"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Authorizer{
		DiscoveryURL: "https://idp/.well-known/openid-configuration", Audiences: []string{"agents"}, Clients: []string{"app"},
		Scopes: []string{"read", "write"}, ScopesAdvertised: []string{"read", "api://agents/write"},
		Claims: []ClaimRule{
			{Name: "team", Type: ClaimString, Operator: ClaimEquals, Value: "blue"},
			{Name: "groups", Type: ClaimStringArray, Operator: ClaimContainsAny, Values: []string{"a", "b"}},
			{Name: "nothing", Type: ClaimString}, // which Check refuses
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wantFault(t, got.Check(), fault.Invalid, "claim match operator")
	_, err = AuthorizerOf(&api.CustomJWTAuthorizerConfiguration{AllowedScopes: []string{"read"}, AdvertisedScopeMapping: map[string]string{"write": "w"}})
	wantFault(t, err, fault.Invalid, `"write" is not one of allowedScopes`)
	_, err = AuthorizerOf(&api.CustomJWTAuthorizerConfiguration{AllowedWorkloadConfiguration: &api.AllowedWorkloadConfiguration{}})
	wantFault(t, err, fault.NotBuilt, "does not have it yet")
}
