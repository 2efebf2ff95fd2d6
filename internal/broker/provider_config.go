package broker

import (
	"context"
	"slices"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const vendorCustom = "CustomOauth2"

// configuration is what a Create or an Update says, checked and resolved.
type configuration struct {
	vendor       string
	metadata     oauth.Metadata
	discoveryURL string
	clientID     string
	clientSecret secret.Text
	authMethod   oauth.AuthMethod
	onBehalfOf   *api.OnBehalfOfTokenExchangeConfigType
}

// configure reads the union of a request. It goes out to the network for a
// discovery URL, and so never runs inside a transaction: what it finds is stored,
// and stays what the provider is until the next Update.
func (b *Broker) configure(ctx context.Context, vendor api.CredentialProviderVendorType, input *api.Oauth2ProviderConfigInput) (configuration, error) {
	row, known := oauth.VendorOf(string(vendor))
	if !known {
		return configuration{}, fault.New(fault.NotBuilt, "The vendor %s is not supported by this server yet. CustomOauth2 takes any provider's metadata.", vendor)
	}
	if vendor == vendorCustom && input.CustomOauth2ProviderConfig != nil {
		return b.configureCustom(ctx, input.CustomOauth2ProviderConfig)
	}
	if in, given := builtInOf(vendor, input); given {
		return b.configureBuiltIn(row, in)
	}
	return configuration{}, fault.InvalidField("oauth2ProviderConfigInput", "The configuration given in oauth2ProviderConfigInput is not the one of the vendor %s.", vendor)
}

func (c *configuration) setClient(member string, id *string, clientSecret *secret.Text) error {
	if id == nil || *id == "" {
		return fault.InvalidField("oauth2ProviderConfigInput."+member+".clientId", "A clientId is required.")
	}
	if clientSecret == nil || clientSecret.Empty() {
		return fault.InvalidField("oauth2ProviderConfigInput."+member+".clientSecret", "A clientSecret is required. An update replaces the whole configuration and takes it again.")
	}
	c.clientID, c.clientSecret = *id, *clientSecret
	return nil
}

// managedSecret refuses secrets that lie elsewhere.
func managedSecret(source api.SecretSourceType, reference *api.SecretReference) error {
	if source == api.SecretSourceTypeExternal || reference != nil {
		return notBuilt("clientSecretSource EXTERNAL with clientSecretConfig", "Give the clientSecret itself: it is sealed.")
	}
	return nil
}

func notBuilt(what, instead string) error {
	return fault.New(fault.NotBuilt, "%s is not supported by this server yet. %s", what, instead)
}

const memberCustom = "oauth2ProviderConfigInput.customOauth2ProviderConfig"

func (b *Broker) configureCustom(ctx context.Context, in *api.CustomOauth2ProviderConfigInput) (configuration, error) {
	c := configuration{vendor: vendorCustom}
	if err := managedSecret(in.ClientSecretSource, in.ClientSecretConfig); err != nil {
		return c, err
	}
	switch in.ClientAuthenticationMethod {
	case "", api.ClientAuthenticationMethodTypeClientSecretBasic, api.ClientAuthenticationMethodTypeClientSecretPost:
	default:
		return c, notBuilt("clientAuthenticationMethod "+string(in.ClientAuthenticationMethod), "Use CLIENT_SECRET_BASIC or CLIENT_SECRET_POST.")
	}
	switch {
	case in.PrivateKeyJwtConfig != nil:
		return c, notBuilt("privateKeyJwtConfig", "Use a clientSecret.")
	case in.PrivateEndpoint != nil || len(in.PrivateEndpointOverrides) > 0:
		return c, notBuilt("privateEndpoint", "An operator lets this server reach a private address with --egress-allow.")
	}
	if c.onBehalfOf = in.OnBehalfOfTokenExchangeConfig; c.onBehalfOf != nil {
		if err := checkOnBehalfOf(c.onBehalfOf); err != nil {
			return c, err
		}
	}
	none := (in.ClientId == nil || *in.ClientId == "") && (in.ClientSecret == nil || in.ClientSecret.Empty())
	if !none || !needsNoClient(c.onBehalfOf) {
		if err := c.setClient("customOauth2ProviderConfig", in.ClientId, in.ClientSecret); err != nil {
			return c, err
		}
	}
	var err error
	if in.OauthDiscovery.DiscoveryUrl != nil {
		err = b.discover(ctx, &c, *in.OauthDiscovery.DiscoveryUrl)
	} else {
		err = b.explicit(&c, in.OauthDiscovery.AuthorizationServerMetadata, in.ClientAuthenticationMethod)
	}
	if err != nil {
		return c, err
	}
	if c.metadata.RequirePushedAuthorizationRequests {
		return c, notBuilt("A provider that requires pushed authorization requests", "Configure the client at the provider not to need them.")
	}
	c.authMethod = authMethodOf(in.ClientAuthenticationMethod, c.metadata.TokenEndpointAuthMethods)
	return c, nil
}

// authMethodOf is the method that was asked for; else client_secret_basic, as
// AWS documents, unless the metadata says that only client_secret_post will do.
func authMethodOf(asked api.ClientAuthenticationMethodType, supported []string) oauth.AuthMethod {
	switch {
	case asked == api.ClientAuthenticationMethodTypeClientSecretPost:
		return oauth.AuthSecretPost
	case asked == "" && slices.Contains(supported, string(oauth.AuthSecretPost)) && !slices.Contains(supported, string(oauth.AuthSecretBasic)):
		return oauth.AuthSecretPost
	}
	return oauth.AuthSecretBasic
}

func (b *Broker) discover(ctx context.Context, c *configuration, discoveryURL string) error {
	if err := b.checkURL(memberCustom+".oauthDiscovery.discoveryUrl", discoveryURL); err != nil {
		return err
	}
	metadata, err := b.oauth.Discover(ctx, discoveryURL)
	if err != nil {
		return err
	}
	metadata.ScopesSupported = nil // can be thousands, and nobody asks
	c.metadata, c.discoveryURL = metadata, discoveryURL
	return b.checkEndpoints(c.metadata, "oauthDiscovery.discoveryUrl")
}

func (b *Broker) explicit(c *configuration, in *api.Oauth2AuthorizationServerMetadata, method api.ClientAuthenticationMethodType) error {
	if len(in.TokenEndpointAuthMethods) > 0 && method != "" {
		return fault.InvalidField(memberCustom+".clientAuthenticationMethod",
			"clientAuthenticationMethod and the deprecated tokenEndpointAuthMethods cannot be given together.")
	}
	if len(in.ResponseTypes) > 0 && !slices.Contains(in.ResponseTypes, "code") {
		return fault.InvalidField(memberCustom+".oauthDiscovery.authorizationServerMetadata.responseTypes", "responseTypes must have code: there is no other flow.")
	}
	if in.Issuer == "" {
		return fault.InvalidField(memberCustom+".oauthDiscovery.authorizationServerMetadata.issuer", "An issuer is required.")
	}
	c.metadata = oauth.Metadata{
		Issuer: in.Issuer, AuthorizationEndpoint: in.AuthorizationEndpoint, TokenEndpoint: in.TokenEndpoint,
		ResponseTypes: in.ResponseTypes, TokenEndpointAuthMethods: in.TokenEndpointAuthMethods,
	}
	return b.checkEndpoints(c.metadata, "oauthDiscovery.authorizationServerMetadata")
}

// checkEndpoints holds the addresses to egress's rules before anything is ever
// sent there. The person's browser goes to the one, our secret to the other.
func (b *Broker) checkEndpoints(m oauth.Metadata, member string) error {
	if err := b.checkURL(memberCustom+"."+member+" (authorization endpoint)", m.AuthorizationEndpoint); err != nil {
		return err
	}
	return b.checkURL(memberCustom+"."+member+" (token endpoint)", m.TokenEndpoint)
}

func (b *Broker) checkURL(member, raw string) error {
	if raw == "" {
		return fault.InvalidField(member, "%s: the URL is missing.", member)
	}
	if err := b.egress.CheckURL(raw); err != nil {
		return fault.InvalidField(member, "%s: %s", member, fault.Of(err).Message).Because(err)
	}
	return nil
}

// output echoes the configuration in the union's member of its vendor. An
// Update made of it is accepted: of two members that exclude each other, the one that was given is shown.
func output(p *Provider) *api.Oauth2ProviderConfigOutput {
	discovery := &api.Oauth2Discovery{}
	if p.DiscoveryURL != "" {
		discovery.DiscoveryUrl = &p.DiscoveryURL
	} else {
		discovery.AuthorizationServerMetadata = &api.Oauth2AuthorizationServerMetadata{
			Issuer: p.Metadata.Issuer, AuthorizationEndpoint: p.Metadata.AuthorizationEndpoint, TokenEndpoint: p.Metadata.TokenEndpoint,
			ResponseTypes: p.Metadata.ResponseTypes, TokenEndpointAuthMethods: p.Metadata.TokenEndpointAuthMethods,
		}
	}
	if p.Vendor != vendorCustom {
		return builtInOutput(p, discovery)
	}
	custom := &api.CustomOauth2ProviderConfigOutput{OauthDiscovery: discovery, OnBehalfOfTokenExchangeConfig: p.OnBehalfOf}
	if p.ClientID != "" {
		custom.ClientId = &p.ClientID
	}
	if p.DiscoveryURL != "" || len(p.Metadata.TokenEndpointAuthMethods) == 0 {
		custom.ClientAuthenticationMethod = api.ClientAuthenticationMethodTypeClientSecretBasic
		if p.AuthMethod == oauth.AuthSecretPost {
			custom.ClientAuthenticationMethod = api.ClientAuthenticationMethodTypeClientSecretPost
		}
	}
	return &api.Oauth2ProviderConfigOutput{CustomOauth2ProviderConfig: custom}
}
