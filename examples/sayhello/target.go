package main

import (
	"context"
	_ "embed"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
)

// The Google People API, as the gateway is told about it.
//
//go:embed people-api.json
var peopleAPI string

// target is what the gateway's target is made of: the API, and how it gets the
// user's token for it.
func (s *ProfileSource) target(providerARN, callbackURL string) (types.TargetConfiguration, []types.CredentialProviderConfiguration) {
	document := strings.Replace(peopleAPI, googlePeople, s.PeopleURL, 1)
	oauth := types.OAuthCredentialProvider{
		ProviderArn: &providerARN, Scopes: googleScopes, GrantType: types.OAuthGrantTypeAuthorizationCode, DefaultReturnUrl: &callbackURL,
	}
	if s.DiscoveryURL == "" {
		oauth.CustomParameters = googleParameters
	}
	return &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberOpenApiSchema{
			Value: &types.ApiSchemaConfigurationMemberInlinePayload{Value: document},
		}}, []types.CredentialProviderConfiguration{{
			CredentialProviderType: types.CredentialProviderTypeOauth,
			CredentialProvider:     &types.CredentialProviderMemberOauthCredentialProvider{Value: oauth},
		}}
}

func (p *Platform) ensureTarget(ctx context.Context, gatewayID string, g *Gateway, source *ProfileSource, callbackURL string) error {
	configuration, credentials := source.target(g.ProviderARN, callbackURL)
	name, description := targetName, "The name in the customer's account"
	existing, err := p.targetsOf(ctx, gatewayID)
	if err != nil {
		return fromAWS(err, gatewayProblem, "the gateway's targets cannot be listed", hintNoGateway)
	}
	var targetID *string
	for _, item := range existing {
		if value(item.Name) == targetName {
			targetID = item.TargetId
		}
	}
	if targetID == nil {
		making, done := toItsEnd(ctx)
		defer done()
		made, err := p.Control.CreateGatewayTarget(making, &bedrockagentcorecontrol.CreateGatewayTargetInput{
			GatewayIdentifier: &gatewayID, Name: &name, Description: &description, TargetConfiguration: configuration, CredentialProviderConfigurations: credentials,
		})
		if err != nil {
			return fromAWS(err, gatewayProblem, "the gateway's target cannot be created", hintInvalidOAuth)
		}
		targetID = made.TargetId
	} else if _, err := p.Control.UpdateGatewayTarget(ctx, &bedrockagentcorecontrol.UpdateGatewayTargetInput{
		GatewayIdentifier: &gatewayID, TargetId: targetID, Name: &name, Description: &description, TargetConfiguration: configuration, CredentialProviderConfigurations: credentials,
	}); err != nil {
		return fromAWS(err, gatewayProblem, "the gateway's target cannot be updated", hintInvalidOAuth)
	}
	return untilReady(ctx, "the gateway's target", func(ctx context.Context) (bool, error) {
		got, err := p.Control.GetGatewayTarget(ctx, &bedrockagentcorecontrol.GetGatewayTargetInput{GatewayIdentifier: &gatewayID, TargetId: targetID})
		if err != nil {
			return false, fromAWS(err, gatewayProblem, "the gateway's target is not found", hintNoGateway)
		}
		switch got.Status {
		case types.TargetStatusFailed, types.TargetStatusUpdateUnsuccessful:
			return false, &GatewayError{Problem{What: "the gateway's target failed: " + strings.Join(got.StatusReasons, "; "), Hint: hintInvalidOAuth}}
		}
		return got.Status == types.TargetStatusReady, nil
	})
}

// targetsOf lists a gateway's targets. The error is the SDK's own.
func (p *Platform) targetsOf(ctx context.Context, gatewayID string) ([]types.TargetSummary, error) {
	var all []types.TargetSummary
	pages := bedrockagentcorecontrol.NewListGatewayTargetsPaginator(p.Control, &bedrockagentcorecontrol.ListGatewayTargetsInput{GatewayIdentifier: &gatewayID})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
	}
	return all, nil
}
