package oauth

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Vendor is one row of the vendor table (vendors.go): what is known of a provider
// before anybody configures it. What varies between vendors is data in this type;
// the protocol's code names no vendor.
type Vendor struct {
	Name                    string            // of the API: GoogleOauth2
	Title                   string            // for people
	Source                  string            // the documentation that the row follows
	Metadata                Metadata          // prefilled; zero where the configuration supplies it
	DiscoveryURL            string            // where Metadata was published, for the API's output
	Tenanted                bool              // issuer and endpoints come from the configuration
	DefaultTenant           string            // where Metadata names {tenant}: the one that stands for all; see ForTenant
	ScopeSeparator          string            // between scopes of an authorization request
	RefreshScope            string            // the scope to ask for where refresh tokens have one; never added unasked
	AuthMethod              AuthMethod        // empty: what Metadata offers
	Audiences               []string          // of authorization requests that name none
	AuthorizationParameters map[string]string // added to each authorization request, unless the request has its own
	OnBehalfOf              OnBehalfOf        // exchange of an inbound token that works without configuration; zero: none
	Revokes                 string            // HintAccessToken or HintRefreshToken where Revoke takes no other; empty: both
	Quirks                  Quirks
}

// OnBehalfOf is a vendor's preset for tokens on behalf of the inbound token's user.
type OnBehalfOf struct {
	GrantType  string            // GrantJWTBearer or GrantTokenExchange
	Parameters map[string]string // added to each request of that grant type, unless the request has its own
}

// Quirks are the ways in which a vendor leaves the standards. The zero value is a vendor that does not.
type Quirks struct {
	WithoutPKCE      bool              // a verifier beside the client's own proof is refused: see Server.pkce
	WithoutRefresh   bool              // there are no refresh tokens
	JSONBody         bool              // requests are JSON objects, not forms
	Headers          map[string]string // of each request
	OKMember         bool              // an answer whose member ok is false is a refusal, whatever its status
	NestedUserToken  bool              // the token may lie in the answer's authed_user
	ScopeSeparator   string            // between scopes of an answer, besides spaces
	AccountGrant     string            // grant type instead of client_credentials where the request has an account_id
	RevokedParameter string            // of a revocation request, instead of token
	GoneCodes        []string          // error codes, or whole messages, that mean invalid_grant
	PassingCodes     []string          // error codes that mean: try again later
}

const customVendor = "CustomOauth2"

// VendorOf finds a row by its name in the API. Callers must not modify what the row refers to.
func VendorOf(name string) (Vendor, bool) {
	v, ok := vendors[name]
	return v, ok
}

// Vendors lists the rows by name, under the same condition.
func Vendors() []Vendor {
	return slices.SortedFunc(maps.Values(vendors), func(a, b Vendor) int { return strings.Compare(a.Name, b.Name) })
}

// The two placeholders of tenants: ours in endpoints, Microsoft's own in issuers.
const (
	tenantOfEndpoint = "{tenant}"
	tenantOfIssuer   = "{tenantid}"
)

var (
	tenantName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)
	tenantID   = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
)

// ForTenant is the row's metadata for one tenant of a vendor whose endpoints name
// it (Microsoft's tenantId); empty is the vendor's default. The issuer names the
// tenant by its id, so for a domain or for all tenants it stays a template, which
// CheckResponseIssuer understands. A tenant that is not a plain name is a
// fault.Invalid, as is one given to a vendor that has none.
func (v Vendor) ForTenant(tenant string) (Metadata, error) {
	m := v.Metadata
	if v.DefaultTenant == "" {
		if tenant != "" {
			return Metadata{}, fault.InvalidField("tenantId", "%s has no tenants.", v.Title)
		}
		return m, nil
	}
	if tenant == "" {
		tenant = v.DefaultTenant
	}
	if !tenantName.MatchString(tenant) {
		return Metadata{}, fault.InvalidField("tenantId", "The tenantId is neither an id nor a domain name.")
	}
	m.AuthorizationEndpoint = strings.ReplaceAll(m.AuthorizationEndpoint, tenantOfEndpoint, tenant)
	m.TokenEndpoint = strings.ReplaceAll(m.TokenEndpoint, tenantOfEndpoint, tenant)
	if tenantID.MatchString(tenant) {
		m.Issuer = strings.ReplaceAll(m.Issuer, tenantOfIssuer, strings.ToLower(tenant))
	}
	return m, nil
}

// sameIssuer compares what a response says with what the metadata says, a template included.
func sameIssuer(known, said string) bool {
	before, after, template := strings.Cut(known, tenantOfIssuer)
	if !template {
		return known == said
	}
	tenant, ok := strings.CutPrefix(said, before)
	if ok {
		tenant, ok = strings.CutSuffix(tenant, after)
	}
	return ok && tenantID.MatchString(tenant)
}

// pkce reports whether codes are bound by a challenge: always, but for vendors
// that refuse it from clients which prove themselves. For these the secret, the
// state and the attempt's cookie have to do; a public client has nothing else.
func (s Server) pkce(vendor Vendor) bool {
	method, err := s.authMethod()
	return !vendor.Quirks.WithoutPKCE || err == nil && method == AuthNone
}

// vendor is the row of a server.
func (s Server) vendor() (Vendor, error) {
	name := s.Vendor
	if name == "" {
		name = customVendor
	}
	v, ok := VendorOf(name)
	if !ok {
		return Vendor{}, fault.New(fault.NotBuilt, "Providers of vendor %s are not supported.", name)
	}
	return v, nil
}
