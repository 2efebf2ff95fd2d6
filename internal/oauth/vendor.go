package oauth

import (
	"maps"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Vendor is one row of the vendor table: what is known of a provider before
// anybody configures it. What varies between vendors is data in this type; the
// protocol's code names no vendor.
type Vendor struct {
	Name                    string            // of the API: GoogleOauth2
	Title                   string            // for people
	Source                  string            // the vendor's documentation that the row follows
	Metadata                Metadata          // prefilled; zero where the configuration supplies it
	DiscoveryURL            string            // where Metadata was published, for the API's output
	Tenanted                bool              // issuer and endpoints come from the configuration
	DefaultTenant           string            // where Metadata has {tenant}: what stands for it when nothing is configured; see ForTenant
	ScopeSeparator          string            // between scopes of an authorization request
	AuthMethod              AuthMethod        // empty: what Metadata offers
	AuthorizationParameters map[string]string // added to each authorization request, unless the request has its own
	OnBehalfOf              OnBehalfOf        // exchange of an inbound token that works without configuration; zero: none
	Quirks                  Quirks
}

// OnBehalfOf is a vendor's preset for tokens on behalf of the inbound token's user.
type OnBehalfOf struct {
	GrantType  string            // GrantJWTBearer or GrantTokenExchange
	Parameters map[string]string // added to each such request, unless the request has its own
}

// Quirks are the ways in which a vendor leaves the standards. The zero value is a vendor that does not.
type Quirks struct {
	JSONBody        bool              // token requests are JSON objects, not forms
	Headers         map[string]string // of each request: User-Agent and the like
	NestedUserToken bool              // the user's token may lie in the answer's authed_user
	ScopeSeparator  string            // between scopes of an answer, besides spaces
	NoRefresh       bool              // there are no refresh tokens
	NoVerifier      bool              // a token request with a code_verifier is refused
	AccountGrant    string            // grant type instead of client_credentials where the request has an account_id
	GoneCodes       []string          // error codes or whole messages that mean invalid_grant
	PassingCodes    []string          // error codes that mean: try again later
}

const customVendor = "CustomOauth2"

// vendors is the table. Its rows are read only.
var vendors = map[string]Vendor{
	customVendor: {
		Name:           customVendor,
		Title:          "OAuth 2.0 provider",
		ScopeSeparator: " ",
	},
	"GoogleOauth2": {
		Name:         "GoogleOauth2",
		Title:        "Google",
		DiscoveryURL: "https://accounts.google.com/.well-known/openid-configuration",
		Metadata: Metadata{
			Issuer:                   "https://accounts.google.com",
			AuthorizationEndpoint:    "https://accounts.google.com/o/oauth2/v2/auth",
			TokenEndpoint:            "https://oauth2.googleapis.com/token",
			JWKSURI:                  "https://www.googleapis.com/oauth2/v3/certs",
			RevocationEndpoint:       "https://oauth2.googleapis.com/revoke",
			ScopesSupported:          []string{"openid", "email", "profile"},
			ResponseTypes:            []string{"code", "token", "id_token", "code token", "code id_token", "token id_token", "code token id_token", "none"},
			TokenEndpointAuthMethods: []string{"client_secret_post", "client_secret_basic"},
			CodeChallengeMethods:     []string{"plain", "S256"},
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretPost,
	},
}

// VendorOf finds a row by its name in the API. Callers must not modify what the row refers to.
func VendorOf(name string) (Vendor, bool) {
	v, ok := vendors[name]
	return v, ok
}

// Vendors lists the rows, by name.
func Vendors() []Vendor {
	return slices.SortedFunc(maps.Values(vendors), func(a, b Vendor) int { return strings.Compare(a.Name, b.Name) })
}

// ForTenant is the row's metadata for one tenant of a vendor whose endpoints
// name it (Microsoft's tenantId); empty is the vendor's default. A tenant that is
// not a plain name is a fault.Invalid. Rows without tenants ignore it.
func (v Vendor) ForTenant(tenant string) (Metadata, error) {
	return v.Metadata, nil
}

// vendor is the row of a server.
func (s Server) vendor() (Vendor, error) {
	name := s.Vendor
	if name == "" {
		name = customVendor
	}
	v, ok := VendorOf(name)
	if !ok {
		return Vendor{}, fault.New(fault.NotBuilt, "Providers of vendor %s are not supported yet.", name)
	}
	return v, nil
}
