package auth

import (
	"crypto/sha256"
	"net/http"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

// sessionHeader is what the Python SDK adds to a websocket's headers after it has signed them.
const sessionHeader = "X-Amzn-Bedrock-Agentcore-Runtime-Session-Id"

// Upgrade authenticates the request that opens a websocket. It has no body, and
// its signature is in its headers or, here alone, in its URL, which somebody has
// signed for a browser: it is good for at most sigv4.MaxLife, and until then as
// often as it is used. What the URL says besides (session, qualifier, parameters
// for the agent) is covered by the signature; headers that mean something must
// be signed like anywhere else, so that whoever has the URL adds nothing to it.
//
// The session's id may be an unsigned header where the rest is signed by headers:
// the Python SDK sends it so. Another's session is not opened by its id.
func (a *Authenticator) Upgrade(r *http.Request) (caller principal.Caller, err error) {
	err = a.counted(r, func() error {
		caller, err = a.upgrade(r)
		return err
	})
	return caller, err
}

func (a *Authenticator) upgrade(r *http.Request) (principal.Caller, error) {
	if r.ContentLength != 0 {
		return principal.Caller{}, fault.New(fault.Invalid, "A request that opens a websocket has no body.")
	}
	parse, excused := sigv4.Parse, []string{sessionHeader}
	if sigv4.Presigned(r) {
		parse, excused = sigv4.ParsePresigned, nil
	}
	header, err := parse(r)
	if err != nil {
		return principal.Caller{}, err
	}
	claim, err := a.claimedBy(r, header, func(header *sigv4.Header) error { return header.CheckScope(a.opts.Region, Service) }, excused...)
	if err != nil {
		return principal.Caller{}, err
	}
	if err := a.proven(r, claim, sha256.Sum256(nil)); err != nil {
		return principal.Caller{}, err
	}
	return claim.caller, nil
}
