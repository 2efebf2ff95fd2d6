package oauth

import "github.com/onbehalf/onbehalf/internal/fault"

// Vendor is one row of the vendor table: what is known of a provider before
// anybody configures it. What varies between vendors is data in this type; the
// protocol's code names no vendor.
type Vendor struct {
	Name                    string            // of the API: GoogleOauth2
	Title                   string            // for people
	Metadata                Metadata          // prefilled; zero where the configuration supplies it
	DiscoveryURL            string            // where Metadata was published, for the API's output
	ScopeSeparator          string            // between scopes of an authorization request
	AuthMethod              AuthMethod        // empty: what Metadata offers
	AuthorizationParameters map[string]string // added to each authorization request, unless the request has its own
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
