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
	public       bool // no secret is needed
	vendor       string
	metadata     oauth.Metadata
	discoveryURL string
	clientID     string
	clientSecret secret.Text          // of a client that signs: its configuration
	external     *api.SecretReference // where it lies instead
	authMethod   oauth.AuthMethod
	onBehalfOf   *api.OnBehalfOfTokenExchangeConfigType
	private      *privateEndpoints
}

// configure reads the union of a request. It goes out to the network for a
// discovery URL, and so never runs inside a transaction: what it finds is stored,
// and stays what the provider is until the next Update. A public client (providerSettings) needs no secret.
func (b *Broker) configure(ctx context.Context, account string, vendor api.CredentialProviderVendorType, input *api.Oauth2ProviderConfigInput, public bool) (configuration, error) {
	row, known := oauth.VendorOf(string(vendor))
	if !known {
		return configuration{}, fault.New(fault.NotBuilt, "The vendor %s is not supported by this server yet. CustomOauth2 takes any provider's metadata.", vendor)
	}
	if vendor == vendorCustom && input.CustomOauth2ProviderConfig != nil {
		return b.configureCustom(ctx, account, input.CustomOauth2ProviderConfig, public)
	}
	if in, given := builtInOf(vendor, input); given {
		return b.configureBuiltIn(ctx, account, row, in, public)
	}
	return configuration{}, fault.InvalidField("oauth2ProviderConfigInput", "The configuration given in oauth2ProviderConfigInput is not the one of the vendor %s.", vendor)
}

// setClient takes the id and the secret of a client that proves itself by one.
func (b *Broker) setClient(ctx context.Context, account string, c *configuration, member string, id *string, given *secret.Text, source api.SecretSourceType, reference *api.SecretReference) (err error) {
	prefix := "oauth2ProviderConfigInput." + member + "."
	if id == nil || *id == "" {
		return fault.InvalidField(prefix+"clientId", "A clientId is required.")
	}
	c.clientID = *id
	c.clientSecret, c.external, err = b.givenSecret(ctx, account, prefix, "client", given, source, reference, longestClientSecret, c.public)
	return err
}

func notBuilt(what, instead string) error {
	return fault.New(fault.NotBuilt, "%s is not supported by this server yet. %s", what, instead)
}

const memberCustom = "oauth2ProviderConfigInput.customOauth2ProviderConfig"

func (b *Broker) configureCustom(ctx context.Context, account string, in *api.CustomOauth2ProviderConfigInput, public bool) (configuration, error) {
	c := configuration{vendor: vendorCustom, public: public}
	signs := in.ClientAuthenticationMethod == api.ClientAuthenticationMethodTypePrivateKeyJwt
	switch {
	case in.ClientAuthenticationMethod == api.ClientAuthenticationMethodTypeAwsIamIdTokenJwt:
		return c, notBuilt("clientAuthenticationMethod AWS_IAM_ID_TOKEN_JWT", "Use PRIVATE_KEY_JWT, CLIENT_SECRET_BASIC or CLIENT_SECRET_POST.")
	case in.PrivateKeyJwtConfig != nil && !signs:
		return c, fault.InvalidField(memberPrivateKey, "privateKeyJwtConfig belongs to the clientAuthenticationMethod PRIVATE_KEY_JWT.")
	}
	if c.onBehalfOf = in.OnBehalfOfTokenExchangeConfig; c.onBehalfOf != nil {
		if err := checkOnBehalfOf(c.onBehalfOf); err != nil {
			return c, err
		}
	}
	none := (in.ClientId == nil || *in.ClientId == "") && (in.ClientSecret == nil || in.ClientSecret.Empty()) && in.ClientSecretSource != api.SecretSourceTypeExternal
	switch {
	case signs:
		if err := b.configurePrivateKey(ctx, account, &c, in); err != nil {
			return c, err
		}
	case !none || !needsNoClient(c.onBehalfOf):
		if err := b.setClient(ctx, account, &c, "customOauth2ProviderConfig", in.ClientId, in.ClientSecret, in.ClientSecretSource, in.ClientSecretConfig); err != nil {
			return c, err
		}
	}
	c.private = givenEndpoints(in)
	var err error
	if in.OauthDiscovery.DiscoveryUrl != nil {
		err = b.discover(ctx, &c, *in.OauthDiscovery.DiscoveryUrl)
	} else {
		err = b.explicit(&c, in.OauthDiscovery.AuthorizationServerMetadata, in.ClientAuthenticationMethod)
	}
	if err != nil {
		return c, err
	}
	if c.metadata.RequirePushedAuthorizationRequests && c.metadata.PushedAuthorizationRequestEndpoint == "" {
		return c, fault.InvalidField(memberCustom+".oauthDiscovery", "The provider requires pushed authorization requests, and does not say where to.")
	}
	if !signs {
		c.authMethod = authMethodOf(in.ClientAuthenticationMethod, c.metadata.TokenEndpointAuthMethods)
	}
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
func (b *Broker) output(ctx context.Context, p *Provider) (*api.Oauth2ProviderConfigOutput, error) {
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
		return builtInOutput(p, discovery), nil
	}
	custom := &api.CustomOauth2ProviderConfigOutput{OauthDiscovery: discovery, OnBehalfOfTokenExchangeConfig: p.OnBehalfOf}
	if p.ClientID != "" {
		custom.ClientId = &p.ClientID
	}
	if p.DiscoveryURL != "" || len(p.Metadata.TokenEndpointAuthMethods) == 0 {
		custom.ClientAuthenticationMethod = api.ClientAuthenticationMethodTypeClientSecretBasic
		switch p.AuthMethod {
		case oauth.AuthSecretPost:
			custom.ClientAuthenticationMethod = api.ClientAuthenticationMethodTypeClientSecretPost
		case oauth.AuthPrivateKeyJWT:
			custom.ClientAuthenticationMethod = api.ClientAuthenticationMethodTypePrivateKeyJwt
		}
	}
	if p.Private != nil {
		custom.PrivateEndpoint, custom.PrivateEndpointOverrides = p.Private.Endpoint, p.Private.Overrides
	}
	var err error
	if custom.PrivateKeyJwtConfig, err = b.privateKeyJWT(ctx, p); err != nil {
		return nil, err
	}
	return &api.Oauth2ProviderConfigOutput{CustomOauth2ProviderConfig: custom}, nil
}
