package oauth

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Authorization is what one authorization asks for.
type Authorization struct {
	State      string            // unguessable, compared by the callback
	Verifier   secret.Text       // from NewVerifier; its challenge alone is in the URL
	Nonce      string            // of a sign-in: the ID token has to repeat it
	Scopes     []string          // none: the provider's default
	Resources  []string          // RFC 8707, each a resource parameter
	Audiences  []string          // each an audience parameter
	Parameters map[string]string // the vendor's extras; those for which ReservedParameter is true are left out
}

// NewVerifier makes a PKCE code verifier of 256 random bits.
func NewVerifier() secret.Text { return secret.New(oauth2.GenerateVerifier()) }

// Challenge is the S256 challenge of a verifier, which is no secret.
func Challenge(verifier secret.Text) string {
	return oauth2.S256ChallengeFromVerifier(verifier.Reveal())
}

// reserved are the parameters that the protocol sets, or that would replace what it sets.
var reserved = map[string]bool{
	"client_id": true, "client_secret": true, "client_assertion": true, "client_assertion_type": true,
	"redirect_uri": true, "response_type": true, "response_mode": true, "scope": true, "state": true, "nonce": true,
	"code": true, "code_verifier": true, "code_challenge": true, "code_challenge_method": true, "grant_type": true,
	"request": true, "request_uri": true, "registration": true, "resource": true, "audience": true, "iss": true, "dpop_jkt": true,
}

// ReservedParameter reports whether a custom parameter would speak for the
// protocol. Servers read names more loosely than the RFC writes them: some
// ignore case, PHP turns dots and spaces into underscores and drops what follows
// a bracket. A name that any of them could mistake is reserved.
func ReservedParameter(name string) bool {
	name = plainName(name)
	return name == "" || reserved[name]
}

// plainName is what the loosest reader makes of a parameter's name.
func plainName(name string) string {
	name, _, _ = strings.Cut(name, "[")
	return strings.NewReplacer(".", "_", " ", "_", "\x00", "").Replace(strings.ToLower(strings.TrimSpace(name)))
}

// AuthorizationURL is where the browser goes to ask for consent. The query of
// the configured endpoint is kept; of equal names the protocol's parameters win
// over the endpoint's, the endpoint's over those of the request, and these over
// the vendor's.
func AuthorizationURL(s Server, a Authorization) (string, error) {
	vendor, err := s.vendor()
	if err != nil {
		return "", err
	}
	return authorizationURL(vendor, s, a)
}

func authorizationURL(vendor Vendor, s Server, a Authorization) (string, error) {
	if s.Metadata.RequirePushedAuthorizationRequests {
		return "", fault.New(fault.Invalid, "The provider requires pushed authorization requests.")
	}
	endpoint, kept, query, err := authorizationQuery(vendor, s, a)
	if err != nil {
		return "", err
	}
	return withQuery(endpoint, kept, query), nil
}

// authorizationQuery is the endpoint, what of its own query is kept, and the parameters of the request.
func authorizationQuery(vendor Vendor, s Server, a Authorization) (endpoint *url.URL, kept []string, query url.Values, err error) {
	if a.State == "" || a.Verifier.Len() < 43 || s.ClientID == "" {
		return nil, nil, nil, fault.New(fault.Internal, "An authorization lacks its client, state or verifier.")
	}
	endpoint, err = url.Parse(s.Metadata.AuthorizationEndpoint)
	if err != nil || !forBrowsers(endpoint) {
		return nil, nil, nil, fault.New(fault.Invalid, "The provider's authorization endpoint is not an https URL.")
	}

	taken := map[string]bool{}
	for pair := range strings.SplitSeq(endpoint.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if pair == "" || err != nil || ReservedParameter(name) {
			continue
		}
		kept = append(kept, pair)
		taken[name] = true
	}
	query = url.Values{}
	for _, parameters := range []map[string]string{vendor.AuthorizationParameters, a.Parameters} {
		for name, value := range parameters {
			if !taken[name] && !ReservedParameter(name) {
				query.Set(name, value)
			}
		}
	}
	query.Set("response_type", "code")
	query.Set("client_id", s.ClientID)
	query.Set("state", a.State)
	if a.Nonce != "" {
		query.Set("nonce", a.Nonce)
	}
	if s.pkce(vendor) {
		query.Set("code_challenge", Challenge(a.Verifier))
		query.Set("code_challenge_method", "S256")
	}
	if s.RedirectURL != "" {
		query.Set("redirect_uri", s.RedirectURL)
	}
	if len(a.Scopes) > 0 {
		query.Set("scope", strings.Join(a.Scopes, vendor.ScopeSeparator))
	}
	addAll(query, "resource", a.Resources)
	audiences := a.Audiences
	if len(audiences) == 0 {
		audiences = vendor.Audiences
	}
	addAll(query, "audience", audiences)
	return endpoint, kept, query, nil
}

// withQuery puts the query together. A space as + is right, and misread by some;
// %20 is read by all.
func withQuery(endpoint *url.URL, kept []string, query url.Values) string {
	all := append(kept, strings.ReplaceAll(query.Encode(), "+", "%20"))
	endpoint.RawQuery = strings.Join(all, "&")
	return endpoint.String()
}

// forBrowsers reports whether a browser may be sent to the URL: https, or http
// on this machine. The address may be private: it is the person's browser that
// goes there, not this server.
func forBrowsers(u *url.URL) bool {
	if u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && addr.IsLoopback())
}

// CheckResponseIssuer is the mix-up check of RFC 9207 for a callback: iss is the
// response's parameter, empty if there was none. It is compared whenever it is
// there, and must be there if the server's metadata promises it; an issuer with
// {tenantid} is any tenant's. The error is a
// fault.Denied: the code must not be redeemed.
func CheckResponseIssuer(m Metadata, iss string) error {
	if iss == "" && m.IssuerInResponse {
		return fault.New(fault.Denied, "The answer does not say which provider it is from, although this provider always does.")
	}
	if iss != "" && !sameIssuer(m.Issuer, iss) {
		return fault.New(fault.Denied, "The answer is from another provider than the one that was asked.")
	}
	return nil
}
