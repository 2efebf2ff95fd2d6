package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"
)

// The Google People API, as the gateway is told about it.
//
//go:embed people-api.json
var peopleAPI string

const (
	googlePeople = "https://people.googleapis.com"
	targetName   = "google"
	toolName     = targetName + "___get_profile"
)

var (
	googleScopes = []string{"openid", "profile"}
	// Google answers with a refresh token only to these parameters.
	googleParameters = map[string]string{"access_type": "offline", "prompt": "consent"}
	mcpVersions      = []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}
)

// ProfileSource is where the name comes from: Google, or the demo provider in its place.
type ProfileSource struct {
	Title        string // for people
	PeopleURL    string
	DiscoveryURL string // empty: Google's own, by its vendor preset
	ClientID     string
	ClientSecret string
	// Register tells the provider the platform's callback URL and returns the
	// client it made; nil where a person does that (Google's console).
	Register func(ctx context.Context, callbackURL string) (clientID, clientSecret string, err error)
}

// Gateway is what CreateGateway made or found.
type Gateway struct {
	ARN, URL     string
	ProviderName string
	ProviderARN  string
	CallbackURL  string // the platform's, to be registered at the provider
	Created      bool
}

// CreateGateway makes the three things that stand between the agent and the
// profile: the credential provider (client id and secret of source), the gateway
// (people's tokens from signIn open it), and its target, whose consents end at
// returnURL. What an earlier run kept is found and brought up to date.
func (p *Platform) CreateGateway(ctx context.Context, name string, source *ProfileSource, signIn *SignIn, discoveryURL, returnURL, roleARN string) (*Gateway, error) {
	g := &Gateway{ProviderName: name + "-provider"}
	if err := p.ensureProvider(ctx, g, source); err != nil {
		return g, err
	}
	authorizer := &types.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: types.CustomJWTAuthorizerConfiguration{
		DiscoveryUrl:    &discoveryURL,
		AllowedAudience: []string{signIn.ClientID},
	}}
	protocol := &types.GatewayProtocolConfigurationMemberMcp{Value: types.MCPGatewayConfiguration{SupportedVersions: mcpVersions}}
	id, err := p.findGateway(ctx, name)
	if err != nil {
		return g, err
	}
	if id == "" {
		making, done := toItsEnd(ctx)
		defer done()
		made, err := p.Control.CreateGateway(making, &bedrockagentcorecontrol.CreateGatewayInput{
			Name: &name, RoleArn: &roleARN, ProtocolType: types.GatewayProtocolTypeMcp, ProtocolConfiguration: protocol,
			AuthorizerType: types.AuthorizerTypeCustomJwt, AuthorizerConfiguration: authorizer,
		})
		if err != nil {
			return g, fromAWS(err, gatewayProblem, "the gateway cannot be created", hintNoGateway)
		}
		id, g.Created = *made.GatewayId, true
		g.ARN = *made.GatewayArn
	} else if _, err := p.Control.UpdateGateway(ctx, &bedrockagentcorecontrol.UpdateGatewayInput{
		GatewayIdentifier: &id, Name: &name, RoleArn: &roleARN, ProtocolType: types.GatewayProtocolTypeMcp, ProtocolConfiguration: protocol,
		AuthorizerType: types.AuthorizerTypeCustomJwt, AuthorizerConfiguration: authorizer,
	}); err != nil {
		return g, fromAWS(err, gatewayProblem, "the gateway of an earlier run cannot be updated", hintNoGateway)
	}
	if err := p.waitForGateway(ctx, id, g); err != nil {
		return g, err
	}
	return g, p.ensureTarget(ctx, id, g, source, returnURL)
}

// ensureProvider finds or makes the credential provider. Its callback URL is
// known only afterwards, so where the client is registered by program it is
// made with a placeholder first, as one does by hand.
func (p *Platform) ensureProvider(ctx context.Context, g *Gateway, source *ProfileSource) error {
	const what = "the credential provider cannot be created"
	found, err := p.Control.GetOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: &g.ProviderName})
	if err == nil {
		g.ProviderARN, g.CallbackURL = *found.CredentialProviderArn, value(found.CallbackUrl)
		if source.Register != nil && sameDiscovery(found.Oauth2ProviderConfigOutput, source.DiscoveryURL) {
			return nil
		}
	} else if !isNotFound(err) {
		return fromAWS(err, gatewayProblem, "the credential provider cannot be looked up", hintInvalidOAuth)
	} else {
		vendor, config := source.provider(or(source.ClientID, "to-be-registered"), or(source.ClientSecret, "to-be-registered"))
		making, done := toItsEnd(ctx)
		defer done()
		made, err := p.Control.CreateOauth2CredentialProvider(making, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
			Name: &g.ProviderName, CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: config,
		})
		if err != nil {
			return fromAWS(err, gatewayProblem, what, hintInvalidOAuth)
		}
		g.ProviderARN, g.CallbackURL, g.Created = *made.CredentialProviderArn, value(made.CallbackUrl), true
	}
	clientID, clientSecret := source.ClientID, source.ClientSecret
	if source.Register != nil {
		if clientID, clientSecret, err = source.Register(ctx, g.CallbackURL); err != nil {
			return &OAuthError{Problem{What: "the callback URL cannot be registered at " + source.Title, Cause: err, Hint: hintRedirectURI}}
		}
	} else if g.Created {
		return nil
	}
	vendor, config := source.provider(clientID, clientSecret)
	_, err = p.Control.UpdateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
		Name: &g.ProviderName, CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: config,
	})
	return fromAWS(err, gatewayProblem, what, hintInvalidOAuth)
}

// provider is the vendor and its configuration, with the given client.
func (s *ProfileSource) provider(clientID, clientSecret string) (types.CredentialProviderVendorType, types.Oauth2ProviderConfigInput) {
	if s.DiscoveryURL == "" {
		return types.CredentialProviderVendorTypeGoogleOauth2, &types.Oauth2ProviderConfigInputMemberGoogleOauth2ProviderConfig{
			Value: types.GoogleOauth2ProviderConfigInput{ClientId: &clientID, ClientSecret: &clientSecret},
		}
	}
	return types.CredentialProviderVendorTypeCustomOauth2, &types.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{
		Value: types.CustomOauth2ProviderConfigInput{
			ClientId: &clientID, ClientSecret: &clientSecret,
			OauthDiscovery: &types.Oauth2DiscoveryMemberDiscoveryUrl{Value: s.DiscoveryURL},
		},
	}
}

func sameDiscovery(output types.Oauth2ProviderConfigOutput, discoveryURL string) bool {
	custom, ok := output.(*types.Oauth2ProviderConfigOutputMemberCustomOauth2ProviderConfig)
	if !ok {
		return discoveryURL == ""
	}
	discovery, ok := custom.Value.OauthDiscovery.(*types.Oauth2DiscoveryMemberDiscoveryUrl)
	return ok && discovery.Value == discoveryURL
}

func (p *Platform) findGateway(ctx context.Context, name string) (id string, err error) {
	pages := bedrockagentcorecontrol.NewListGatewaysPaginator(p.Control, &bedrockagentcorecontrol.ListGatewaysInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", fromAWS(err, gatewayProblem, "the gateways cannot be listed", "")
		}
		for _, item := range page.Items {
			if value(item.Name) == name {
				return *item.GatewayId, nil
			}
		}
	}
	return "", nil
}

// waitForGateway waits until the gateway is READY (at once here, some seconds at AWS) and fills in its ARN and URL.
func (p *Platform) waitForGateway(ctx context.Context, id string, g *Gateway) error {
	for {
		got, err := p.Control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: &id})
		if err != nil {
			return fromAWS(err, gatewayProblem, "the gateway is not found", hintNoGateway)
		}
		g.ARN, g.URL = *got.GatewayArn, value(got.GatewayUrl)
		switch got.Status {
		case types.GatewayStatusReady:
			return nil
		case types.GatewayStatusFailed, types.GatewayStatusUpdateUnsuccessful:
			return &GatewayError{Problem{What: "the gateway failed: " + strings.Join(got.StatusReasons, "; "), Hint: hintNoGateway}}
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return &GatewayError{Problem{What: "stopped while the gateway was made", Cause: errCancelled}}
		}
	}
}

func (p *Platform) ensureTarget(ctx context.Context, gatewayID string, g *Gateway, source *ProfileSource, returnURL string) error {
	document := strings.Replace(peopleAPI, googlePeople, source.PeopleURL, 1)
	configuration := &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberOpenApiSchema{
		Value: &types.ApiSchemaConfigurationMemberInlinePayload{Value: document},
	}}
	oauth := types.OAuthCredentialProvider{
		ProviderArn: &g.ProviderARN, Scopes: googleScopes, GrantType: types.OAuthGrantTypeAuthorizationCode, DefaultReturnUrl: &returnURL,
	}
	if source.DiscoveryURL == "" {
		oauth.CustomParameters = googleParameters
	}
	credentials := []types.CredentialProviderConfiguration{{
		CredentialProviderType: types.CredentialProviderTypeOauth,
		CredentialProvider:     &types.CredentialProviderMemberOauthCredentialProvider{Value: oauth},
	}}
	name, description := targetName, "The name in the customer's account"
	existing, err := p.findTarget(ctx, gatewayID)
	if err != nil {
		return err
	}
	targetID := existing
	if existing == "" {
		making, done := toItsEnd(ctx)
		defer done()
		made, err := p.Control.CreateGatewayTarget(making, &bedrockagentcorecontrol.CreateGatewayTargetInput{
			GatewayIdentifier: &gatewayID, Name: &name, Description: &description, TargetConfiguration: configuration, CredentialProviderConfigurations: credentials,
		})
		if err != nil {
			return fromAWS(err, gatewayProblem, "the gateway's target cannot be created", hintInvalidOAuth)
		}
		targetID = *made.TargetId
	} else if _, err := p.Control.UpdateGatewayTarget(ctx, &bedrockagentcorecontrol.UpdateGatewayTargetInput{
		GatewayIdentifier: &gatewayID, TargetId: &existing, Name: &name, Description: &description, TargetConfiguration: configuration, CredentialProviderConfigurations: credentials,
	}); err != nil {
		return fromAWS(err, gatewayProblem, "the gateway's target cannot be updated", hintInvalidOAuth)
	}
	for {
		got, err := p.Control.GetGatewayTarget(ctx, &bedrockagentcorecontrol.GetGatewayTargetInput{GatewayIdentifier: &gatewayID, TargetId: &targetID})
		if err != nil {
			return fromAWS(err, gatewayProblem, "the gateway's target is not found", hintNoGateway)
		}
		switch got.Status {
		case types.TargetStatusReady:
			return nil
		case types.TargetStatusFailed, types.TargetStatusUpdateUnsuccessful:
			return &GatewayError{Problem{What: "the gateway's target failed: " + strings.Join(got.StatusReasons, "; "), Hint: hintInvalidOAuth}}
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return &GatewayError{Problem{What: "stopped while the target was made", Cause: errCancelled}}
		}
	}
}

func (p *Platform) findTarget(ctx context.Context, gatewayID string) (string, error) {
	page, err := p.Control.ListGatewayTargets(ctx, &bedrockagentcorecontrol.ListGatewayTargetsInput{GatewayIdentifier: &gatewayID})
	if err != nil {
		return "", fromAWS(err, gatewayProblem, "the gateway's targets cannot be listed", "")
	}
	for _, item := range page.Items {
		if value(item.Name) == targetName {
			return *item.TargetId, nil
		}
	}
	return "", nil
}

// DeleteGateway removes a gateway, named by its ARN, and its targets first. One that is gone already is fine.
func (p *Platform) DeleteGateway(ctx context.Context, arn string) error {
	id := arn[strings.LastIndex(arn, "/")+1:]
	const hint = "aws bedrock-agentcore-control list-gateway-targets and delete-gateway-target, then delete-gateway, finish by hand."
	page, err := p.Control.ListGatewayTargets(ctx, &bedrockagentcorecontrol.ListGatewayTargetsInput{GatewayIdentifier: &id})
	if isNotFound(err) {
		return nil
	} else if err != nil {
		return fromAWS(err, gatewayProblem, "the gateway's targets cannot be listed", hint)
	}
	for _, target := range page.Items {
		if _, err := p.Control.DeleteGatewayTarget(ctx, &bedrockagentcorecontrol.DeleteGatewayTargetInput{GatewayIdentifier: &id, TargetId: target.TargetId}); err != nil && !isNotFound(err) {
			return fromAWS(err, gatewayProblem, "the gateway's target cannot be deleted", hint)
		}
	}
	// AWS removes targets after it has answered: the gateway goes once they are gone.
	for attempt := 0; ; attempt++ {
		_, err := p.Control.DeleteGateway(ctx, &bedrockagentcorecontrol.DeleteGatewayInput{GatewayIdentifier: &id})
		var api smithy.APIError
		switch {
		case err == nil || isNotFound(err):
			return nil
		case attempt < 10 && errors.As(err, &api) && (api.ErrorCode() == "ConflictException" || api.ErrorCode() == "ValidationException") && len(page.Items) > 0:
			if pause(ctx, time.Second) == nil {
				continue
			}
		}
		return fromAWS(err, gatewayProblem, "the gateway cannot be deleted", hint)
	}
}

// DeleteProvider removes the credential provider; its grants go with it.
func (p *Platform) DeleteProvider(ctx context.Context, name string) error {
	_, err := p.Control.DeleteOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.DeleteOauth2CredentialProviderInput{Name: &name})
	if err != nil && !isNotFound(err) {
		return fromAWS(err, gatewayProblem, "the credential provider cannot be deleted", fmt.Sprintf("aws bedrock-agentcore-control delete-oauth2-credential-provider --name %s", name))
	}
	return nil
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// toItsEnd is for a call that makes something: Ctrl-C does not break it off, so
// that what was made is known and can be removed.
func toItsEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}

// pause waits, or returns early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
