package oauth

import (
	"context"

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
// Parameters for which ReservedTokenParameter is true are left out.
func (c *Client) ClientCredentials(ctx context.Context, s Server, scopes, resources, audiences []string, parameters map[string]string) (Token, error) {
	return Token{}, fault.New(fault.NotBuilt, "Client credentials are being built.")
}

// TokenExchange is a request of RFC 8693.
type TokenExchange struct {
	Subject     secret.Text
	SubjectType string      // empty: the subject_token_type of Parameters, else TypeJWT
	Actor       secret.Text // empty: nobody acts for the subject
	ActorType   string      // empty: TypeAccessToken
	Scopes      []string
	Resources   []string
	Audiences   []string
	Parameters  map[string]string // those for which ReservedTokenParameter is true are left out, subject_token_type apart
}

// ExchangeToken trades the subject's token for one at this server, with one request.
func (c *Client) ExchangeToken(ctx context.Context, s Server, x TokenExchange) (Token, error) {
	return Token{}, fault.New(fault.NotBuilt, "Token exchange is being built.")
}

// JWTBearer trades a JWT for a token at this server (RFC 7523 section 2.1), with
// one request. The vendor's preset parameters (Microsoft's
// requested_token_use=on_behalf_of) are added unless parameters has its own.
func (c *Client) JWTBearer(ctx context.Context, s Server, assertion secret.Text, scopes, resources, audiences []string, parameters map[string]string) (Token, error) {
	return Token{}, fault.New(fault.NotBuilt, "JWT bearer grants are being built.")
}

// ReservedTokenParameter reports whether a custom parameter of a token request would speak for the protocol.
func ReservedTokenParameter(name string) bool { return ReservedParameter(name) }
