package oauth

import (
	"crypto"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// ClientAssertion is how a client signs for itself (private_key_jwt, RFC 7523 section 2.2).
type ClientAssertion struct {
	Algorithm string            // RS256, PS256 or ES256
	Signer    crypto.Signer     // RSA of at least 2048 bits, or ECDSA on P-256
	Header    map[string]string // additional header members: kid, x5t#S256 …
	Payload   map[string]string // additional claims; aud replaces the token endpoint
}

// Check finds what is wrong with an assertion before it is ever used: fault.Invalid
// names the claim, algorithm or key. A nil Signer passes: it may not be known yet.
func (a ClientAssertion) Check() error { return fault.New(fault.NotBuilt, "private_key_jwt is being built.") }
