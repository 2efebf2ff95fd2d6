package gateway

import (
	"context"
	"regexp"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// credential is how a target is paid its respects; nil: with nothing.
//
//	AUTHORIZATION_CODE   the user's token, which the user has consented to
//	TOKEN_EXCHANGE       a token traded for the user's own sign-in token
//	CLIENT_CREDENTIALS   a token of the provider's client: whoever calls
//	API_KEY              the key of an API-key provider: whoever calls
type credential struct {
	grant      api.OAuthGrantType // empty: an API key
	provider   string             // ARN
	scopes     []string
	returnURL  string // of AUTHORIZATION_CODE
	parameters map[string]string
	carrier    Carrier // of an API key
}

// ofUser reports whether the target acts for a user, and so needs one.
func (c *credential) ofUser() bool {
	return c.grant == api.OAuthGrantTypeAuthorizationCode || c.grant == api.OAuthGrantTypeTokenExchange
}

const memberCredential = "credentialProviderConfigurations[0].credentialProvider."

// credentialOf reads the one configuration that a target has.
func credentialOf(c api.CredentialProviderConfiguration) (*credential, error) {
	switch c.CredentialProviderType {
	case api.CredentialProviderTypeOauth:
		if c.CredentialProvider == nil || c.CredentialProvider.OauthCredentialProvider == nil {
			return nil, fault.InvalidField("credentialProviderConfigurations[0].credentialProvider", "The type OAUTH needs credentialProvider.oauthCredentialProvider.")
		}
		return oauthCredential(c.CredentialProvider.OauthCredentialProvider)
	case api.CredentialProviderTypeApiKey:
		if c.CredentialProvider == nil || c.CredentialProvider.ApiKeyCredentialProvider == nil {
			return nil, fault.InvalidField("credentialProviderConfigurations[0].credentialProvider", "The type API_KEY needs credentialProvider.apiKeyCredentialProvider.")
		}
		return keyCredential(c.CredentialProvider.ApiKeyCredentialProvider)
	}
	return nil, notBuilt("credentialProviderConfigurations[0].credentialProviderType", "The credential provider type %s", c.CredentialProviderType)
}

func oauthCredential(o *api.OAuthCredentialProvider) (*credential, error) {
	out := &credential{grant: o.GrantType, provider: o.ProviderArn, scopes: o.Scopes}
	if out.grant == "" {
		out.grant = api.OAuthGrantTypeClientCredentials // what the API takes an absent one for
	}
	if out.grant == api.OAuthGrantTypeAuthorizationCode {
		if o.DefaultReturnUrl == nil || *o.DefaultReturnUrl == "" {
			return nil, fault.InvalidField(memberCredential+"oauthCredentialProvider.defaultReturnUrl", "The grant type AUTHORIZATION_CODE needs defaultReturnUrl: the page to which the user comes back.")
		}
		out.returnURL = *o.DefaultReturnUrl
	}
	if len(o.CustomParameters) > 0 {
		out.parameters = make(map[string]string, len(o.CustomParameters))
		for name, value := range o.CustomParameters {
			out.parameters[name] = value.Reveal()
		}
	}
	return out, nil
}

// A header's name is a token of HTTP; a query parameter's is escaped.
var keyHeader = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

// ownHeaders are those that HTTP itself, or the target's request, has a meaning for.
var ownHeaders = map[string]bool{
	"host": true, "connection": true, "content-length": true, "content-type": true, "content-encoding": true, "transfer-encoding": true, "te": true, "trailer": true,
	"upgrade": true, "expect": true, "accept": true, "accept-encoding": true, "user-agent": true, "keep-alive": true, "proxy-connection": true,
}

func keyCredential(k *api.ApiKeyCredentialProvider) (*credential, error) {
	out := &credential{provider: k.ProviderArn}
	name := ""
	if k.CredentialParameterName != nil {
		name = *k.CredentialParameterName
	}
	if k.CredentialPrefix != nil {
		out.carrier.Prefix = strings.TrimSpace(*k.CredentialPrefix)
	}
	const member = memberCredential + "apiKeyCredentialProvider.credentialParameterName"
	switch k.CredentialLocation {
	case api.ApiKeyCredentialLocationQueryParameter:
		if name == "" {
			return nil, fault.InvalidField(member, "The credentialLocation QUERY_PARAMETER needs credentialParameterName.")
		}
		out.carrier.Query = name
	default:
		if name == "" {
			name = "Authorization"
		}
		if !keyHeader.MatchString(name) || ownHeaders[strings.ToLower(name)] {
			return nil, fault.InvalidField(member, "The header %q cannot carry a key.", clip(name, 100))
		}
		out.carrier.Header = name
	}
	if strings.ContainsAny(out.carrier.Prefix, "\r\n\x00") {
		return nil, fault.InvalidField(memberCredential+"apiKeyCredentialProvider.credentialPrefix", "The credentialPrefix must be one line.")
	}
	return out, nil
}

// own fetches what a target is given whoever the user is, or by trade for what
// the user has brought: nobody has to be asked.
func (s *Service) own(ctx context.Context, x *exchange, c *credential) (secret.Text, error) {
	gate.Detail(ctx, "provider", c.provider)
	ask := broker.TokenRequest{ProviderARN: c.provider, Scopes: c.scopes, Parameters: c.parameters}
	switch c.grant {
	case "":
		return s.broker.APIKey(ctx, x.caller, c.provider)
	case api.OAuthGrantTypeTokenExchange:
		return s.broker.ExchangedToken(ctx, x.caller, ask)
	}
	return s.broker.ClientToken(ctx, x.caller, ask)
}
