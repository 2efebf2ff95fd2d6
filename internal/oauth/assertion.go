package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// ClientAssertion is how a client signs for itself (private_key_jwt, RFC 7523
// section 2.2): a new JWT for each request, with iss and sub the client, aud the
// token endpoint, and jti, iat, nbf and exp made here. No key id is added by
// itself: servers that want one get it through Header (kid or x5t#S256).
type ClientAssertion struct {
	Algorithm string            // RS256, PS256 or ES256
	Signer    crypto.Signer     // RSA of at least 2048 bits, or ECDSA on P-256
	Header    map[string]string // additional header members
	Payload   map[string]string // additional claims; aud replaces the token endpoint
}

const (
	assertionLifetime = 2 * time.Minute // Auth0 takes five at most, FAPI servers less
	maximumClaims     = 10              // of Header and of Payload, as in the API
)

// What nobody but this package says. crit and b64 would change how the rest is read.
var (
	reservedHeader  = map[string]bool{"alg": true, "typ": true, "crit": true, "b64": true}
	reservedPayload = map[string]bool{"iss": true, "sub": true, "jti": true, "exp": true, "iat": true, "nbf": true}
)

// Check finds what is wrong with an assertion before it is ever used. The
// fault.Invalid names the claim, algorithm or key. A nil Signer passes: when a
// provider is configured its key may not be at hand.
func (a ClientAssertion) Check() error {
	switch a.Algorithm {
	case "RS256", "PS256", "ES256":
	default:
		return fault.InvalidField("signingAlgorithm", "The signing algorithm must be RS256, PS256 or ES256.")
	}
	if err := checkClaims("additionalHeaderClaims", a.Header, reservedHeader); err != nil {
		return err
	}
	if err := checkClaims("additionalPayloadClaims", a.Payload, reservedPayload); err != nil {
		return err
	}
	if a.Signer == nil {
		return nil
	}
	switch key := a.Signer.Public().(type) {
	case *rsa.PublicKey:
		if a.Algorithm != "ES256" && key.N.BitLen() >= 2048 {
			return nil
		}
	case *ecdsa.PublicKey:
		if a.Algorithm == "ES256" && key.Curve == elliptic.P256() {
			return nil
		}
	}
	return fault.InvalidField("privateKeySource", "The key does not fit %s: RS256 and PS256 take RSA keys of at least 2048 bits, ES256 takes keys on P-256.", a.Algorithm)
}

func checkClaims(member string, claims map[string]string, reserved map[string]bool) error {
	if len(claims) > maximumClaims {
		return fault.InvalidField(member, "There can be at most %d claims.", maximumClaims)
	}
	for name := range claims {
		if name == "" {
			return fault.InvalidField(member, "A claim has no name.")
		}
		if reserved[name] {
			return fault.InvalidField(member, "The claim %s is set by the service and cannot be given.", name)
		}
	}
	return nil
}

// sign makes the JWT of one request.
func (a *ClientAssertion) sign(clientID, audience string, now time.Time) (secret.Text, error) {
	if a == nil || a.Signer == nil {
		return secret.Text{}, fault.New(fault.Invalid, "The provider authenticates clients by private_key_jwt, and has no key.")
	}
	if clientID == "" {
		return secret.Text{}, fault.New(fault.Invalid, "private_key_jwt needs a clientId.")
	}
	if err := a.Check(); err != nil {
		return secret.Text{}, err
	}
	header := map[string]any{"alg": a.Algorithm, "typ": "JWT"}
	for name, value := range a.Header {
		header[name] = value
	}
	payload := map[string]any{"aud": audience}
	for name, value := range a.Payload {
		payload[name] = value
	}
	payload["iss"], payload["sub"], payload["jti"] = clientID, clientID, rand.Text()
	payload["iat"], payload["nbf"], payload["exp"] = now.Unix(), now.Unix(), now.Add(assertionLifetime).Unix()

	input := segment(header) + "." + segment(payload)
	signature, err := a.signature([]byte(input))
	if err != nil {
		var known *fault.Error
		if errors.As(err, &known) {
			return secret.Text{}, err
		}
		return secret.Text{}, fault.New(fault.Unavailable, "The client's key did not sign. Try again later.").Because(err)
	}
	return secret.New(input + "." + base64.RawURLEncoding.EncodeToString(signature)), nil
}

// segment is a part of a JWT. Strings and numbers alone are in it, so it cannot fail.
func segment(object map[string]any) string {
	encoded, _ := json.Marshal(object)
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// signature signs as RFC 7518 has it: salts of the hash's length, and r and s of
// equal length in place of ASN.1.
func (a *ClientAssertion) signature(input []byte) ([]byte, error) {
	hash := sha256.Sum256(input)
	switch a.Algorithm {
	case "PS256":
		return a.Signer.Sign(rand.Reader, hash[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	case "ES256":
		encoded, err := a.Signer.Sign(rand.Reader, hash[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		return plainSignature(encoded)
	}
	return a.Signer.Sign(rand.Reader, hash[:], crypto.SHA256)
}

// plainSignature turns the ASN.1 of a signer, which may be another machine's
// answer, into the 64 bytes of ES256.
func plainSignature(encoded []byte) ([]byte, error) {
	var pair struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(encoded, &pair)
	if err != nil || len(rest) > 0 || pair.R.Sign() <= 0 || pair.S.Sign() <= 0 || pair.R.BitLen() > 256 || pair.S.BitLen() > 256 {
		return nil, errors.New("the signer's signature is not one of P-256")
	}
	plain := make([]byte, 64)
	pair.R.FillBytes(plain[:32])
	pair.S.FillBytes(plain[32:])
	return plain, nil
}
