package oauth

import (
	"context"
	"net/url"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Grant types of tokens on behalf of somebody else's.
const (
	GrantTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693
	GrantJWTBearer     = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523
)

// Token types of RFC 8693.
const (
	TypeJWT         = "urn:ietf:params:oauth:token-type:jwt"
	TypeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
)

// ClientCredentials gets a token for the client itself (M2M), with one request.
// Parameters for which ReservedTokenParameter is true are left out. For vendors
// with accounts of their own kind (Zoom's Server-to-Server apps) the parameter
// account_id chooses that grant type.
func (c *Client) ClientCredentials(ctx context.Context, s Server, scopes, resources, audiences []string, parameters map[string]string) (Token, error) {
	vendor, err := s.vendor()
	if err != nil {
		return Token{}, err
	}
	grant := "client_credentials"
	if vendor.Quirks.AccountGrant != "" && parameters["account_id"] != "" {
		grant = vendor.Quirks.AccountGrant
	}
	return c.grant(ctx, s, grant, url.Values{}, wanted{scopes, resources, audiences, parameters})
}

// TokenExchange is a request of RFC 8693.
type TokenExchange struct {
	Subject     secret.Text
	SubjectType string      // empty: the subject_token_type of Parameters, else TypeJWT
	Actor       secret.Text // empty: nobody acts for the subject
	ActorType   string      // empty: the actor_token_type of Parameters, else TypeAccessToken
	Scopes      []string
	Resources   []string
	Audiences   []string
	Parameters  map[string]string // those for which ReservedTokenParameter is true are left out, the two types apart
}

// ExchangeToken trades the subject's token for one at this server, with one
// request. What comes back may be of a type that is no access token, if the
// parameters ask for one: see Token.IssuedType.
func (c *Client) ExchangeToken(ctx context.Context, s Server, x TokenExchange) (Token, error) {
	if x.Subject.Empty() {
		return Token{}, fault.New(fault.Internal, "A token exchange lacks its subject.")
	}
	form := url.Values{
		"subject_token":      {x.Subject.Reveal()},
		"subject_token_type": {first(x.SubjectType, x.Parameters["subject_token_type"], TypeJWT)},
	}
	if !x.Actor.Empty() {
		form.Set("actor_token", x.Actor.Reveal())
		form.Set("actor_token_type", first(x.ActorType, x.Parameters["actor_token_type"], TypeAccessToken))
	}
	return c.grant(ctx, s, GrantTokenExchange, form, wanted{x.Scopes, x.Resources, x.Audiences, x.Parameters}, x.Subject, x.Actor)
}

// JWTBearer trades a JWT for a token at this server (RFC 7523 section 2.1), with
// one request. The vendor's preset parameters (Microsoft's
// requested_token_use=on_behalf_of) are added unless parameters has its own.
func (c *Client) JWTBearer(ctx context.Context, s Server, assertion secret.Text, scopes, resources, audiences []string, parameters map[string]string) (Token, error) {
	if assertion.Empty() {
		return Token{}, fault.New(fault.Internal, "A JWT bearer grant lacks its assertion.")
	}
	form := url.Values{"assertion": {assertion.Reveal()}}
	return c.grant(ctx, s, GrantJWTBearer, form, wanted{scopes, resources, audiences, parameters}, assertion)
}

// wanted is what a grant without a person asks for.
type wanted struct {
	scopes, resources, audiences []string
	parameters                   map[string]string
}

func (c *Client) grant(ctx context.Context, s Server, grant string, form url.Values, w wanted, secrets ...secret.Text) (Token, error) {
	vendor, err := s.vendor()
	if err != nil {
		return Token{}, err
	}
	var preset map[string]string
	if vendor.OnBehalfOf.GrantType == grant {
		preset = vendor.OnBehalfOf.Parameters
	}
	for _, parameters := range []map[string]string{preset, w.parameters} {
		for name, value := range parameters {
			if !ReservedTokenParameter(name) {
				form.Set(name, value)
			}
		}
	}
	form.Set("grant_type", grant)
	setScopes(form, w.scopes)
	addAll(form, "resource", w.resources)
	addAll(form, "audience", w.audiences)
	return c.redeem(ctx, s, form, append(secrets, maskable(w.parameters)...)...)
}

// maskable lists the custom parameters that could be secrets. Short ones are
// not: masking them would make an answer unreadable and hide nothing.
func maskable(parameters map[string]string) []secret.Text {
	var list []secret.Text
	for _, value := range parameters {
		if len(value) >= 8 {
			list = append(list, secret.New(value))
		}
	}
	return list
}

// ofTokenRequests are the reserved parameters of token requests, besides those of authorization requests.
var ofTokenRequests = map[string]bool{
	"subject_token": true, "subject_token_type": true, "actor_token": true, "actor_token_type": true,
	"assertion": true, "refresh_token": true, "device_code": true, "auth_req_id": true,
}

// ReservedTokenParameter reports whether a custom parameter of a token request
// would speak for the protocol, as ReservedParameter does for authorization requests.
func ReservedTokenParameter(name string) bool {
	return ReservedParameter(name) || ofTokenRequests[plainName(name)]
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
