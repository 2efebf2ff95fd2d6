// Package oauth holds the OAuth 2.0 and OpenID Connect protocol as a client
// speaks it, without storage: where the browser goes, how codes, refresh tokens,
// client credentials and other people's tokens are redeemed and given back, what
// an authorization server says of itself, and whether a JWT is genuine. Vendors
// are rows of a table (vendors.go).
//
//	Discover ──▶ Metadata ──▶ Authorize ──▶ (browser) ──▶ CheckResponseIssuer
//	                │         (or pushed)                         │
//	                │                      Exchange ◀── code ─────┘
//	                │  ClientCredentials      │
//	                │  ExchangeToken ───────▶ Token ──▶ Refresh ──▶ Token ──▶ Revoke
//	                │  JWTBearer
//	                └──▶ key set ──▶ VerifyJWT ──▶ Claims
//
// Each request to a server is made by post (request.go), which adds the client's
// proof, and read by answer (answer.go).
//
// Invariant: whatever redeems, revokes or pushes is sent at most once per call, to
// its endpoint alone, in a body; PKCE S256 is on for every client but those with a
// secret at a vendor that refuses both together (Quirks.WithoutPKCE); and no error of this package
// carries a code, verifier, token, assertion, client secret or unfiltered bytes of
// an answer.
package oauth

import (
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/memo"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const (
	exchangeTimeout = 10 * time.Second // of one conversation with a provider, retries of GETs included
	bodyLimit       = 1 << 20          // bytes of any answer
)

// Metadata is what an authorization server says of itself, with the JSON names of RFC 8414.
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
	IssuerInResponse                   bool     `json:"authorization_response_iss_parameter_supported,omitempty"` // RFC 9207
	RequirePushedAuthorizationRequests bool     `json:"require_pushed_authorization_requests,omitempty"`          // RFC 9126
}

// AuthMethod is how a client proves itself at the token endpoint.
type AuthMethod string

// The methods, as RFC 8414 metadata spells them.
const (
	AuthSecretBasic AuthMethod = "client_secret_basic" // id and secret in the Authorization header
	AuthSecretPost  AuthMethod = "client_secret_post"  // id and secret in the body
	AuthNone        AuthMethod = "none"                // a public client: id in the body, PKCE proves the rest

	// AuthPrivateKeyJWT signs a short-lived statement with the client's key (RFC 7523): Server.Assertion says how.
	AuthPrivateKeyJWT AuthMethod = "private_key_jwt"

	// AuthOmitted sends no client at all, not even its id: the subject token of an
	// exchange says enough. It is ours (the API's NO_CLIENT), not RFC 8414's.
	AuthOmitted AuthMethod = "omitted"
)

// Server is one provider as one client of it sees it.
type Server struct {
	Vendor       string // row of the vendor table; empty is CustomOauth2
	Metadata     Metadata
	ClientID     string
	ClientSecret secret.Text
	AuthMethod   AuthMethod // empty: the vendor's, else what Metadata offers
	RedirectURL  string
	Assertion    *ClientAssertion // of AuthPrivateKeyJWT
}

// Client speaks the protocol through egress. It is safe for concurrent use.
type Client struct {
	egress   *egress.Client
	now      func() time.Time
	flights  singleflight.Group
	metadata *memo.Cache[string, discovered]    // by discovery URL
	keys     *memo.Cache[string, *keySet]       // by JWKS URL
	verified *memo.Cache[[32]byte, verifiedJWT] // by hash of discovery URL and token
	watch    func(vendor, kind string, took time.Duration, err error)
}

// Watch has do told of each request to a token or revocation endpoint: the
// vendor's name in the table, the grant type or "revoke", and how it ended. Call
// it before the first request.
func (c *Client) Watch(do func(vendor, kind string, took time.Duration, err error)) { c.watch = do }

func (c *Client) told(s Server, kind string, began time.Time, err *error) {
	if c.watch != nil {
		c.watch(s.Vendor, kind, time.Since(began), *err)
	}
}

// New makes a Client. It holds no goroutines and needs no closing.
//
// The caches are bounded by weight and carry each entry's end of life in the
// entry.
func New(e *egress.Client) *Client {
	return &Client{
		egress:   e,
		now:      time.Now,
		metadata: memo.ByWeight[string](cacheWeight, func(d discovered) uint32 { return weigh(d.size) }),
		keys:     memo.ByWeight[string](cacheWeight, func(s *keySet) uint32 { return weigh(s.size) }),
		verified: memo.ByWeight[[32]byte](cacheWeight, func(v verifiedJWT) uint32 { return weigh(v.size) }),
	}
}

// cacheWeight bounds each cache, roughly in bytes: some thousand entries of the
// usual size. A bound by number would not do, because tenants choose the
// documents and an issuer its tokens.
const cacheWeight = 64 << 20

// weigh is what an entry of so many bytes of JSON takes in memory, at worst.
func weigh(size int) uint32 { return uint32(512 + 8*size) }
