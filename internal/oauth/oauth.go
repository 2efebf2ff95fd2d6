// Package oauth holds the OAuth and OpenID Connect protocol, without storage.
package oauth

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Metadata is an authorization server's metadata, named as in RFC 8414.
type Metadata struct {
	Issuer                             string   `json:"issuer,omitempty"`
	AuthorizationEndpoint              string   `json:"authorization_endpoint,omitempty"`
	TokenEndpoint                      string   `json:"token_endpoint,omitempty"`
	JWKSURI                            string   `json:"jwks_uri,omitempty"`
	RevocationEndpoint                 string   `json:"revocation_endpoint,omitempty"`
	PushedAuthorizationRequestEndpoint string   `json:"pushed_authorization_request_endpoint,omitempty"`
	ScopesSupported                    []string `json:"scopes_supported,omitempty"`
	ResponseTypes                      []string `json:"response_types_supported,omitempty"`
	TokenEndpointAuthMethods           []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	CodeChallengeMethods               []string `json:"code_challenge_methods_supported,omitempty"`
	IssuerInResponse                   bool     `json:"authorization_response_iss_parameter_supported,omitempty"`
	RequirePushedAuthorizationRequests bool     `json:"require_pushed_authorization_requests,omitempty"`
}

// AuthMethod is how a client proves itself at the token endpoint.
type AuthMethod string

// The methods, as RFC 8414 metadata spells them.
const (
	AuthSecretBasic AuthMethod = "client_secret_basic"
	AuthSecretPost  AuthMethod = "client_secret_post"
	AuthNone        AuthMethod = "none"
)

// Server is one provider as one client of it sees it.
type Server struct {
	Vendor       string // row of the vendor table; empty is CustomOauth2
	Metadata     Metadata
	ClientID     string
	ClientSecret secret.Text
	AuthMethod   AuthMethod // empty: the vendor's
	RedirectURL  string
}

// Vendor is one row of the vendor table.
type Vendor struct {
	Name                    string
	Title                   string
	Metadata                Metadata
	DiscoveryURL            string
	ScopeSeparator          string
	AuthMethod              AuthMethod
	AuthorizationParameters map[string]string
}

// VendorOf finds a row by its API name.
func VendorOf(name string) (Vendor, bool) { return Vendor{}, false }

// Client speaks the protocol through egress.
type Client struct{}

// New makes a Client.
func New(e *egress.Client) *Client { return &Client{} }

var errNotBuilt = fault.New(fault.NotBuilt, "not built")

// Discover fetches an authorization server's metadata.
func (c *Client) Discover(ctx context.Context, discoveryURL string) (Metadata, error) {
	return Metadata{}, errNotBuilt
}

// CheckResponseIssuer is the mix-up check of RFC 9207 for a callback.
func CheckResponseIssuer(m Metadata, iss string) error { return errNotBuilt }

// Authorization is what one authorization asks for.
type Authorization struct {
	State      string
	Verifier   secret.Text
	Scopes     []string
	Resources  []string
	Audiences  []string
	Parameters map[string]string // never override the protocol's own
}

// AuthorizationURL is where the browser goes.
func AuthorizationURL(s Server, a Authorization) (string, error) { return "", errNotBuilt }

// Token is a token endpoint's answer.
type Token struct {
	Access  secret.Text
	Refresh secret.Text // empty on a refresh: keep the old one
	ID      secret.Text
	Type    string
	Expiry  time.Time // zero: unknown
	Scopes  []string  // nil: as asked
}

// Exchange redeems a code, with one request.
func (c *Client) Exchange(ctx context.Context, s Server, code, verifier secret.Text, a Authorization) (Token, error) {
	return Token{}, errNotBuilt
}

// Refresh redeems a refresh token, with one request.
func (c *Client) Refresh(ctx context.Context, s Server, refresh secret.Text, scopes, resources []string) (Token, error) {
	return Token{}, errNotBuilt
}

// Error is what a token endpoint complained of.
type Error struct {
	Code       string // of RFC 6749: invalid_grant …; empty when there was none
	Status     int    // 0: no answer
	Transient  bool   // trying again later may help; says nothing about the grant
	RetryAfter time.Duration
}

// Error is safe to show.
func (e *Error) Error() string { return "oauth: " + e.Code }

// NewVerifier makes a PKCE code verifier.
func NewVerifier() secret.Text { return secret.Text{} }

// Challenge is the S256 challenge of a verifier.
func Challenge(verifier secret.Text) string { return "" }

// Claims are what a verified JWT says.
type Claims struct {
	Issuer    string
	Subject   string
	Audience  []string
	ClientID  string // client_id, azp or cid
	Scopes    []string
	Expiry    time.Time
	NotBefore time.Time
	IssuedAt  time.Time
	Raw       map[string]any
}

// VerifyJWT verifies a token of the issuer behind a discovery URL.
func (c *Client) VerifyJWT(ctx context.Context, discoveryURL string, raw secret.Text) (Claims, error) {
	return Claims{}, errNotBuilt
}

// VerifyIssuer is VerifyJWT by the issuer's own URL.
func (c *Client) VerifyIssuer(ctx context.Context, issuer string, raw secret.Text) (Claims, error) {
	return Claims{}, errNotBuilt
}

// PeekIssuer reads the unverified issuer.
func PeekIssuer(raw secret.Text) (string, error) { return "", errNotBuilt }
