package main

import (
	"context"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
)

// unregistered stands where a client will be. The platform's callback URL is
// known only once the provider exists, so where a program registers the client,
// the provider is made with this first, as one does by hand.
const unregistered = "to-be-registered"

// providerName is the credential provider's. Google's has one of its own, because
// it outlives the run. The demo provider's is what people read on the consent
// page ("wants to use your Demo ID account"): a platform knows a provider that is
// not one of its presets by no other name.
func (s *ProfileSource) providerName(name string) string {
	switch {
	case s.DiscoveryURL == "":
		return name + "-google"
	case name == defaultName:
		return "Demo-ID"
	}
	return "Demo-ID-" + name
}

// ensureProvider finds or makes the credential provider and gives it the client.
func (p *Platform) ensureProvider(ctx context.Context, g *Gateway, source *ProfileSource) error {
	found, err := p.Control.GetOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: &g.ProviderName})
	switch {
	case isNotFound(err):
	case err != nil:
		return fromAWS(err, oauthProblem, "the credential provider cannot be looked up", hintInvalidOAuth)
	case !source.isOurs(found.Oauth2ProviderConfigOutput):
		return notOurs("credential provider", g.ProviderName)
	default:
		g.ProviderOurs, g.ProviderARN, g.CallbackURL = true, value(found.CredentialProviderArn), value(found.CallbackUrl)
		if source.Register != nil && source.isRegistered(found.Oauth2ProviderConfigOutput) {
			return nil
		}
		return p.configureProvider(ctx, g, source) // Google's secret may be a new one
	}
	vendor, config := source.provider(or(source.ClientID, unregistered), or(source.ClientSecret, unregistered))
	making, done := toItsEnd(ctx)
	defer done()
	made, err := p.Control.CreateOauth2CredentialProvider(making, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: &g.ProviderName, CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: config,
	})
	g.ProviderOurs = err == nil || mayExist(err)
	if err != nil {
		return fromAWS(err, oauthProblem, "the credential provider cannot be created: the OAuth configuration is not valid", hintInvalidOAuth)
	}
	g.ProviderARN, g.CallbackURL = value(made.CredentialProviderArn), value(made.CallbackUrl)
	if source.Register == nil {
		return nil
	}
	return p.configureProvider(ctx, g, source)
}

// configureProvider gives the provider its client: the person's, or one that is registered now.
func (p *Platform) configureProvider(ctx context.Context, g *Gateway, source *ProfileSource) (err error) {
	clientID, clientSecret := source.ClientID, source.ClientSecret
	if source.Register != nil {
		if clientID, clientSecret, err = source.Register(ctx, g.CallbackURL); err != nil {
			return &OAuthError{Problem{What: "the callback URL cannot be registered at the " + source.Title, Cause: err, Hint: hintRedirectURI}}
		}
	}
	vendor, config := source.provider(clientID, clientSecret)
	_, err = p.Control.UpdateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
		Name: &g.ProviderName, CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: config,
	})
	return fromAWS(err, oauthProblem, "the credential provider cannot be given its client: the OAuth configuration is not valid", hintInvalidOAuth)
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

// isRegistered reports whether a found provider is this source's and has its
// client. One that a run left between making and registering has not.
func (s *ProfileSource) isRegistered(output types.Oauth2ProviderConfigOutput) bool {
	discoveryURL, clientID := discovered(output)
	return discoveryURL == s.DiscoveryURL && clientID != unregistered
}

// isOurs reports whether a found provider may be one of this example's: Google's
// preset, or a demo provider, which is always on the machine of its platform.
func (s *ProfileSource) isOurs(output types.Oauth2ProviderConfigOutput) bool {
	if s.DiscoveryURL == "" {
		_, ok := output.(*types.Oauth2ProviderConfigOutputMemberGoogleOauth2ProviderConfig)
		return ok
	}
	discoveryURL, _ := discovered(output)
	u, err := url.Parse(discoveryURL)
	return err == nil && (discoveryURL == s.DiscoveryURL || isLoopbackHost(u.Hostname()))
}

// discovered is where a custom provider describes itself, and its client; empty for another kind.
func discovered(output types.Oauth2ProviderConfigOutput) (discoveryURL, clientID string) {
	custom, ok := output.(*types.Oauth2ProviderConfigOutputMemberCustomOauth2ProviderConfig)
	if !ok {
		return "", ""
	}
	if discovery, ok := custom.Value.OauthDiscovery.(*types.Oauth2DiscoveryMemberDiscoveryUrl); ok {
		discoveryURL = discovery.Value
	}
	return discoveryURL, value(custom.Value.ClientId)
}

// DeleteProvider removes the credential provider; its grants go with it.
func (p *Platform) DeleteProvider(ctx context.Context, name string) error {
	_, err := p.Control.DeleteOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.DeleteOauth2CredentialProviderInput{Name: &name})
	if err != nil && !isNotFound(err) {
		return fromAWS(err, oauthProblem, "the credential provider cannot be deleted", "aws bedrock-agentcore-control delete-oauth2-credential-provider --name "+name)
	}
	return nil
}
