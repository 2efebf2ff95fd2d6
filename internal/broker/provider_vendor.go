package broker

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// builtIn is the configuration of a vendor whose row is in oauth's table. The
// API has eight structures for it, which say the same with more or fewer members.
type builtIn struct {
	member    string // of the union
	clientID  string
	secret    *secret.Text
	source    api.SecretSourceType
	reference *api.SecretReference
	tenant    *string // Microsoft's

	// Where the vendor has no address of its own; elsewhere they replace the row's.
	issuer, authorizationEndpoint, tokenEndpoint *string
}

// builtInOf reads the member of the union that belongs to the vendor; false where it is not the one given.
func builtInOf(vendor api.CredentialProviderVendorType, input *api.Oauth2ProviderConfigInput) (builtIn, bool) {
	switch vendor {
	case vendorCustom:
	case api.CredentialProviderVendorTypeGoogleOauth2:
		if in := input.GoogleOauth2ProviderConfig; in != nil {
			return builtIn{member: "googleOauth2ProviderConfig", clientID: in.ClientId, secret: in.ClientSecret, source: in.ClientSecretSource, reference: in.ClientSecretConfig}, true
		}
	case api.CredentialProviderVendorTypeGithubOauth2:
		if in := input.GithubOauth2ProviderConfig; in != nil {
			return builtIn{member: "githubOauth2ProviderConfig", clientID: in.ClientId, secret: in.ClientSecret, source: in.ClientSecretSource, reference: in.ClientSecretConfig}, true
		}
	case api.CredentialProviderVendorTypeSlackOauth2:
		if in := input.SlackOauth2ProviderConfig; in != nil {
			return builtIn{member: "slackOauth2ProviderConfig", clientID: in.ClientId, secret: in.ClientSecret, source: in.ClientSecretSource, reference: in.ClientSecretConfig}, true
		}
	case api.CredentialProviderVendorTypeSalesforceOauth2:
		if in := input.SalesforceOauth2ProviderConfig; in != nil {
			return builtIn{member: "salesforceOauth2ProviderConfig", clientID: in.ClientId, secret: in.ClientSecret, source: in.ClientSecretSource, reference: in.ClientSecretConfig}, true
		}
	case api.CredentialProviderVendorTypeMicrosoftOauth2:
		if in := input.MicrosoftOauth2ProviderConfig; in != nil {
			return builtIn{member: "microsoftOauth2ProviderConfig", clientID: in.ClientId, secret: in.ClientSecret, source: in.ClientSecretSource, reference: in.ClientSecretConfig, tenant: in.TenantId}, true
		}
	case api.CredentialProviderVendorTypeAtlassianOauth2:
		if in := input.AtlassianOauth2ProviderConfig; in != nil {
			return builtIn{member: "atlassianOauth2ProviderConfig", clientID: in.ClientId, secret: in.ClientSecret, source: in.ClientSecretSource, reference: in.ClientSecretConfig}, true
		}
	case api.CredentialProviderVendorTypeLinkedinOauth2:
		if in := input.LinkedinOauth2ProviderConfig; in != nil {
			return builtIn{member: "linkedinOauth2ProviderConfig", clientID: in.ClientId, secret: in.ClientSecret, source: in.ClientSecretSource, reference: in.ClientSecretConfig}, true
		}
	default:
		if in := input.IncludedOauth2ProviderConfig; in != nil {
			return builtIn{
				member: "includedOauth2ProviderConfig", clientID: in.ClientId, secret: in.ClientSecret, source: in.ClientSecretSource, reference: in.ClientSecretConfig,
				issuer: in.Issuer, authorizationEndpoint: in.AuthorizationEndpoint, tokenEndpoint: in.TokenEndpoint,
			}, true
		}
	}
	return builtIn{}, false
}

// configureBuiltIn fills in what the row knows. Nothing is asked of the network:
// what a vendor publishes is in the row.
func (b *Broker) configureBuiltIn(ctx context.Context, account string, row oauth.Vendor, in builtIn, public bool) (configuration, error) {
	c := configuration{public: public, vendor: row.Name, metadata: row.Metadata, discoveryURL: row.DiscoveryURL, authMethod: row.AuthMethod}
	if err := b.setClient(ctx, account, &c, in.member, &in.clientID, in.secret, in.source, in.reference); err != nil {
		return c, err
	}
	member := "oauth2ProviderConfigInput." + in.member
	if in.tenant != nil || row.DefaultTenant != "" {
		tenant := ""
		if in.tenant != nil {
			tenant = *in.tenant
		}
		metadata, err := row.ForTenant(tenant)
		if err != nil {
			return c, fault.InvalidField(member+".tenantId", "%s", fault.Of(err).Message).Because(err)
		}
		c.metadata, c.discoveryURL = metadata, "" // the published document is a template
	}
	if err := b.setEndpoints(&c, member, row.Tenanted, in); err != nil {
		return c, err
	}
	if c.authMethod == "" {
		c.authMethod = authMethodOf("", c.metadata.TokenEndpointAuthMethods)
	}
	c.metadata.ScopesSupported = nil
	return c, nil
}

// setEndpoints takes the addresses that the configuration gives. A vendor with
// an address per customer needs all of them: which one it is decides where the secret goes.
func (b *Broker) setEndpoints(c *configuration, member string, needed bool, in builtIn) error {
	for _, each := range []struct {
		name  string
		given *string
		to    *string
	}{
		{"issuer", in.issuer, &c.metadata.Issuer},
		{"authorizationEndpoint", in.authorizationEndpoint, &c.metadata.AuthorizationEndpoint},
		{"tokenEndpoint", in.tokenEndpoint, &c.metadata.TokenEndpoint},
	} {
		if each.given == nil {
			if needed {
				return fault.InvalidField(member+"."+each.name, "%s needs the %s of your own tenant, besides the other two of issuer, authorizationEndpoint and tokenEndpoint.", c.vendor, each.name)
			}
			continue
		}
		// The issuer too: it is where keys would be looked for.
		if err := b.checkURL(member+"."+each.name, *each.given); err != nil {
			return err
		}
		*each.to, c.discoveryURL = *each.given, ""
		// What the row says of the vendor's own server is not true of another one.
		c.metadata.IssuerInResponse, c.metadata.JWKSURI, c.metadata.RevocationEndpoint, c.metadata.PushedAuthorizationRequestEndpoint = false, "", "", ""
	}
	return nil
}

// builtInOutput is the vendor's member of the output union.
func builtInOutput(p *Provider, discovery *api.Oauth2Discovery) *api.Oauth2ProviderConfigOutput {
	id := &p.ClientID
	switch api.CredentialProviderVendorType(p.Vendor) {
	case api.CredentialProviderVendorTypeGoogleOauth2:
		return &api.Oauth2ProviderConfigOutput{GoogleOauth2ProviderConfig: &api.GoogleOauth2ProviderConfigOutput{OauthDiscovery: discovery, ClientId: id}}
	case api.CredentialProviderVendorTypeGithubOauth2:
		return &api.Oauth2ProviderConfigOutput{GithubOauth2ProviderConfig: &api.GithubOauth2ProviderConfigOutput{OauthDiscovery: discovery, ClientId: id}}
	case api.CredentialProviderVendorTypeSlackOauth2:
		return &api.Oauth2ProviderConfigOutput{SlackOauth2ProviderConfig: &api.SlackOauth2ProviderConfigOutput{OauthDiscovery: discovery, ClientId: id}}
	case api.CredentialProviderVendorTypeSalesforceOauth2:
		return &api.Oauth2ProviderConfigOutput{SalesforceOauth2ProviderConfig: &api.SalesforceOauth2ProviderConfigOutput{OauthDiscovery: discovery, ClientId: id}}
	case api.CredentialProviderVendorTypeMicrosoftOauth2:
		return &api.Oauth2ProviderConfigOutput{MicrosoftOauth2ProviderConfig: &api.MicrosoftOauth2ProviderConfigOutput{OauthDiscovery: discovery, ClientId: id}}
	case api.CredentialProviderVendorTypeAtlassianOauth2:
		return &api.Oauth2ProviderConfigOutput{AtlassianOauth2ProviderConfig: &api.AtlassianOauth2ProviderConfigOutput{OauthDiscovery: discovery, ClientId: id}}
	case api.CredentialProviderVendorTypeLinkedinOauth2:
		return &api.Oauth2ProviderConfigOutput{LinkedinOauth2ProviderConfig: &api.LinkedinOauth2ProviderConfigOutput{OauthDiscovery: discovery, ClientId: id}}
	}
	return &api.Oauth2ProviderConfigOutput{IncludedOauth2ProviderConfig: &api.IncludedOauth2ProviderConfigOutput{OauthDiscovery: discovery, ClientId: id}}
}
