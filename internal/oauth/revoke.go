package oauth

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Hints of Revoke.
const (
	HintAccessToken  = "access_token"
	HintRefreshToken = "refresh_token"
)

// ErrNoRevocation is found with errors.Is in the fault.Invalid of a server that
// has no endpoint for it, or none for tokens of the hinted kind.
var ErrNoRevocation = errors.New("no revocation endpoint")

// Revoke tells the server that a token is not needed any more (RFC 7009), with
// one request. A server that does not know the token has done so already: no
// error. Revoking a refresh token ends, at most servers, its access tokens too.
func (c *Client) Revoke(ctx context.Context, s Server, token secret.Text, hint string) (err error) {
	vendor, err := s.vendor()
	if err != nil {
		return err
	}
	address := revocationAddress(vendor, s.Metadata)
	if address == "" {
		return fault.New(fault.Invalid, "The provider has no endpoint that revokes tokens.").Because(ErrNoRevocation)
	}
	if vendor.Revokes != "" && hint != "" && hint != vendor.Revokes {
		return fault.New(fault.Invalid, "%s does not revoke tokens of this kind.", vendor.Title).Because(ErrNoRevocation)
	}
	form := url.Values{first(vendor.Quirks.RevokedParameter, "token"): {token.Reveal()}}
	if hint != "" && !vendor.Quirks.JSONBody { // a schema that is checked has no room for hints
		form.Set("token_type_hint", hint)
	}
	defer c.told(s, "revoke", time.Now(), &err)
	got, err := c.post(ctx, request{server: s, endpoint: revocationEndpoint, address: address, form: form, secrets: []secret.Text{token}})
	if err != nil {
		return err
	}
	if got.status >= 200 && got.status <= 299 {
		return nil
	}
	fields, _ := got.members()
	problem := got.problem(fields)
	if problem.Code == "invalid_token" || problem.Code == "invalid_grant" {
		return nil
	}
	return refusal(got.host, problem)
}

// Revokes reports whether the server has an endpoint that takes tokens back.
func (s Server) Revokes() bool {
	vendor, err := s.vendor()
	return err == nil && revocationAddress(vendor, s.Metadata) != ""
}

// revocationAddress is the metadata's endpoint, else the row's: metadata may have
// been stored before the row had one. The same vendor's row says nothing of a
// server that is elsewhere.
func revocationAddress(vendor Vendor, m Metadata) string {
	if m.RevocationEndpoint == "" && m.TokenEndpoint == vendor.Metadata.TokenEndpoint {
		return vendor.Metadata.RevocationEndpoint
	}
	return m.RevocationEndpoint
}
