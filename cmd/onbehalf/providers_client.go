package main

import (
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/server"
)

// oauthClient is the platform's client at a vendor, whichever of the API's nine
// structures that vendor has. An update sends the whole of it, so it also holds
// what no flag says.
type oauthClient struct {
	vendor server.Vendor

	id, secret                                   string
	secretID, secretJSONKey                      string // instead of the secret
	tenant                                       string
	discoveryURL                                 string
	issuer, authorizationEndpoint, tokenEndpoint string
	method                                       string                                  // basic, post; empty: the platform decides
	custom                                       *types.CustomOauth2ProviderConfigOutput // of a custom provider that is there already
}

// managed are the members that all of the structures have.
type managed struct {
	id, secret *string
	config     *types.SecretReference
	source     types.SecretSourceType
}

// ownMember makes the union's member of the vendors that have one of their own;
// the others share includedOauth2ProviderConfig.
var ownMember = map[string]func(m managed) types.Oauth2ProviderConfigInput{
	"google": func(m managed) types.Oauth2ProviderConfigInput {
		return &types.Oauth2ProviderConfigInputMemberGoogleOauth2ProviderConfig{Value: types.GoogleOauth2ProviderConfigInput{ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source}}
	},
	"github": func(m managed) types.Oauth2ProviderConfigInput {
		return &types.Oauth2ProviderConfigInputMemberGithubOauth2ProviderConfig{Value: types.GithubOauth2ProviderConfigInput{ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source}}
	},
	"slack": func(m managed) types.Oauth2ProviderConfigInput {
		return &types.Oauth2ProviderConfigInputMemberSlackOauth2ProviderConfig{Value: types.SlackOauth2ProviderConfigInput{ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source}}
	},
	"salesforce": func(m managed) types.Oauth2ProviderConfigInput {
		return &types.Oauth2ProviderConfigInputMemberSalesforceOauth2ProviderConfig{Value: types.SalesforceOauth2ProviderConfigInput{ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source}}
	},
	"microsoft": func(m managed) types.Oauth2ProviderConfigInput {
		return &types.Oauth2ProviderConfigInputMemberMicrosoftOauth2ProviderConfig{Value: types.MicrosoftOauth2ProviderConfigInput{ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source}}
	},
	"atlassian": func(m managed) types.Oauth2ProviderConfigInput {
		return &types.Oauth2ProviderConfigInputMemberAtlassianOauth2ProviderConfig{Value: types.AtlassianOauth2ProviderConfigInput{ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source}}
	},
	"linkedin": func(m managed) types.Oauth2ProviderConfigInput {
		return &types.Oauth2ProviderConfigInputMemberLinkedinOauth2ProviderConfig{Value: types.LinkedinOauth2ProviderConfigInput{ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source}}
	},
}

// input is the union's member of the vendor.
func (o oauthClient) input() types.Oauth2ProviderConfigInput {
	m := managed{id: given(o.id), secret: given(o.secret)}
	if o.secretID != "" {
		m.secret, m.config, m.source = nil, reference(o.secretID, o.secretJSONKey), types.SecretSourceTypeExternal
	}
	if o.vendor.Short == vendorCustom {
		return o.customInput(m)
	}
	if own := ownMember[o.vendor.Short]; own != nil {
		input := own(m)
		if microsoft, is := input.(*types.Oauth2ProviderConfigInputMemberMicrosoftOauth2ProviderConfig); is {
			microsoft.Value.TenantId = given(o.tenant)
		}
		return input
	}
	return &types.Oauth2ProviderConfigInputMemberIncludedOauth2ProviderConfig{Value: types.IncludedOauth2ProviderConfigInput{
		ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source,
		Issuer: given(o.issuer), AuthorizationEndpoint: given(o.authorizationEndpoint), TokenEndpoint: given(o.tokenEndpoint),
	}}
}

func (o oauthClient) customInput(m managed) types.Oauth2ProviderConfigInput {
	in := types.CustomOauth2ProviderConfigInput{ClientId: m.id, ClientSecret: m.secret, ClientSecretConfig: m.config, ClientSecretSource: m.source}
	if was := o.custom; was != nil {
		in.ClientAuthenticationMethod, in.OnBehalfOfTokenExchangeConfig, in.PrivateKeyJwtConfig = was.ClientAuthenticationMethod, was.OnBehalfOfTokenExchangeConfig, was.PrivateKeyJwtConfig
		in.PrivateEndpoint, in.PrivateEndpointOverrides, in.OauthDiscovery = was.PrivateEndpoint, was.PrivateEndpointOverrides, was.OauthDiscovery
	}
	switch o.method {
	case "basic":
		in.ClientAuthenticationMethod, in.PrivateKeyJwtConfig = types.ClientAuthenticationMethodTypeClientSecretBasic, nil
	case "post":
		in.ClientAuthenticationMethod, in.PrivateKeyJwtConfig = types.ClientAuthenticationMethodTypeClientSecretPost, nil
	}
	metadata, explicit := in.OauthDiscovery.(*types.Oauth2DiscoveryMemberAuthorizationServerMetadata)
	switch {
	case o.discoveryURL != "":
		in.OauthDiscovery = &types.Oauth2DiscoveryMemberDiscoveryUrl{Value: o.discoveryURL}
	case explicit:
		metadata.Value.Issuer, metadata.Value.AuthorizationEndpoint, metadata.Value.TokenEndpoint = given(o.issuer), given(o.authorizationEndpoint), given(o.tokenEndpoint)
		if o.method != "" {
			metadata.Value.TokenEndpointAuthMethods = nil // one of the two says it
		}
	default:
		in.OauthDiscovery = &types.Oauth2DiscoveryMemberAuthorizationServerMetadata{Value: types.Oauth2AuthorizationServerMetadata{
			Issuer: aws.String(o.issuer), AuthorizationEndpoint: aws.String(o.authorizationEndpoint), TokenEndpoint: aws.String(o.tokenEndpoint),
		}}
	}
	return &types.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: in}
}

// needsNoSecret is a client that proves itself by a key, or not at all.
func (o oauthClient) needsNoSecret() bool {
	if o.custom == nil || o.method != "" {
		return false
	}
	return o.custom.ClientAuthenticationMethod != "" && o.custom.ClientAuthenticationMethod != types.ClientAuthenticationMethodTypeClientSecretBasic &&
		o.custom.ClientAuthenticationMethod != types.ClientAuthenticationMethodTypeClientSecretPost
}

// clientOf reads what a provider has, for an update that keeps it.
func clientOf(v server.Vendor, p provider, full *control.GetOauth2CredentialProviderOutput) oauthClient {
	o := oauthClient{vendor: v, id: p.ClientID, secretID: p.SecretID, secretJSONKey: p.SecretJSONKey, discoveryURL: p.DiscoveryURL,
		issuer: p.Issuer, authorizationEndpoint: p.AuthorizationEndpoint, tokenEndpoint: p.TokenEndpoint}
	if custom, is := full.Oauth2ProviderConfigOutput.(*types.Oauth2ProviderConfigOutputMemberCustomOauth2ProviderConfig); is {
		o.custom = &custom.Value
	}
	if v.Tenants {
		o.tenant = tenantIn(v.AuthorizationEndpoint, p.AuthorizationEndpoint)
	}
	// A preset that is sent back would no longer follow the platform's table.
	for _, each := range []struct{ own, preset *string }{
		{&o.issuer, &v.Issuer}, {&o.authorizationEndpoint, &v.AuthorizationEndpoint}, {&o.tokenEndpoint, &v.TokenEndpoint},
	} {
		if o.custom == nil && *each.own == *each.preset {
			*each.own = ""
		}
	}
	return o
}

// override takes what the flags say. Another discovery URL replaces explicit addresses, and the other way round.
func (o *oauthClient) override(f providerFlags) {
	if f.DiscoveryURL != "" {
		o.issuer, o.authorizationEndpoint, o.tokenEndpoint = "", "", ""
	}
	if firstOf(f.Issuer, f.AuthorizationEndpoint, f.TokenEndpoint) != "" {
		o.discoveryURL = ""
	}
	for _, each := range []struct {
		to   *string
		said string
	}{
		{&o.id, f.ClientID}, {&o.tenant, f.Tenant}, {&o.discoveryURL, f.DiscoveryURL}, {&o.issuer, f.Issuer},
		{&o.authorizationEndpoint, f.AuthorizationEndpoint}, {&o.tokenEndpoint, f.TokenEndpoint}, {&o.method, f.AuthMethod},
	} {
		if each.said != "" {
			*each.to = each.said
		}
	}
}

// tenantIn finds the tenant in an address made of the vendor's template, which names it {tenant}.
func tenantIn(template, address string) string {
	before, after, _ := strings.Cut(template, "{tenant}")
	tenant, ok := strings.CutPrefix(address, before)
	if ok {
		tenant, ok = strings.CutSuffix(tenant, after)
	}
	if !ok || tenant != url.PathEscape(tenant) {
		return ""
	}
	return tenant
}

// readClient reads the output union, whose members are alike.
func readClient(output types.Oauth2ProviderConfigOutput, p *provider) {
	var id *string
	var discovery types.Oauth2Discovery
	switch o := output.(type) {
	case *types.Oauth2ProviderConfigOutputMemberAtlassianOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
	case *types.Oauth2ProviderConfigOutputMemberCustomOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
		p.AuthMethod = string(o.Value.ClientAuthenticationMethod)
	case *types.Oauth2ProviderConfigOutputMemberGithubOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
	case *types.Oauth2ProviderConfigOutputMemberGoogleOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
	case *types.Oauth2ProviderConfigOutputMemberIncludedOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
	case *types.Oauth2ProviderConfigOutputMemberLinkedinOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
	case *types.Oauth2ProviderConfigOutputMemberMicrosoftOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
	case *types.Oauth2ProviderConfigOutputMemberSalesforceOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
	case *types.Oauth2ProviderConfigOutputMemberSlackOauth2ProviderConfig:
		id, discovery = o.Value.ClientId, o.Value.OauthDiscovery
	}
	p.ClientID = aws.ToString(id)
	switch d := discovery.(type) {
	case *types.Oauth2DiscoveryMemberDiscoveryUrl:
		p.DiscoveryURL = d.Value
	case *types.Oauth2DiscoveryMemberAuthorizationServerMetadata:
		p.Issuer, p.AuthorizationEndpoint, p.TokenEndpoint = aws.ToString(d.Value.Issuer), aws.ToString(d.Value.AuthorizationEndpoint), aws.ToString(d.Value.TokenEndpoint)
	}
}

func reference(id, key string) *types.SecretReference {
	return &types.SecretReference{SecretId: &id, JsonKey: given(key)}
}

// given is nil for what was not said.
func given(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}
