package oauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const (
	clockSkew        = 60 * time.Second
	verifiedLifetime = 60 * time.Second // a token that verified is believed this long without looking again
	maximumJWT       = 128 << 10        // bytes; the API's own limit for a user token
	maximumTries     = 8                // keys tried for a token that names none
)

// algorithms are those a signature may have: none and the HS* family, where
// whoever can verify can also sign, are not among them.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Claims are what a verified JWT says. They are shared with a cache: read only.
type Claims struct {
	Issuer    string
	Subject   string // empty where the token has none
	Audience  []string
	ClientID  string   // of client_id, azp and cid the first that is there
	Scopes    []string // of scope and scp, as a string or a list
	Expiry    time.Time
	NotBefore time.Time // zero where the token has none
	IssuedAt  time.Time // zero where the token has none
	Raw       map[string]any
	// Raw holds all claims as encoding/json decodes them, numbers as json.Number.
}

type verifiedJWT struct {
	claims Claims
	until  time.Time
	size   int // bytes of the token
}

// VerifyJWT verifies the signature, issuer and times of a token by the keys of
// the issuer behind a discovery URL. Whom the token is for is left to the caller.
//
// What is wrong with the token is a fault.Unauthenticated; that the issuer
// cannot be asked is a fault.Unavailable or fault.Upstream.
func (c *Client) VerifyJWT(ctx context.Context, discoveryURL string, raw secret.Text) (Claims, error) {
	key := cacheKey(discoveryURL, raw)
	if hit, ok := c.verified.GetIfPresent(key); ok && c.now().Before(hit.until) {
		return hit.claims, nil
	}
	signed, err := parse(raw)
	if err != nil {
		return Claims{}, err
	}
	metadata, err := c.Discover(ctx, discoveryURL)
	if err != nil {
		return Claims{}, err
	}
	if metadata.JWKSURI == "" {
		return Claims{}, fault.New(fault.Upstream, "The issuer %s publishes no keys.", metadata.Issuer)
	}
	payload, err := c.verifySignature(ctx, metadata.JWKSURI, signed)
	if err != nil {
		return Claims{}, err
	}
	now := c.now()
	claims, err := readClaims(payload, metadata.Issuer, now)
	if err != nil {
		return Claims{}, err
	}
	if until := earlier(claims.Expiry, now.Add(verifiedLifetime)); now.Before(until) {
		c.verified.Set(key, verifiedJWT{claims, until, raw.Len()})
	}
	return claims, nil
}

// VerifyIssuer is VerifyJWT for an issuer with OpenID Connect discovery.
func (c *Client) VerifyIssuer(ctx context.Context, issuer string, raw secret.Text) (Claims, error) {
	return c.VerifyJWT(ctx, strings.TrimSuffix(issuer, "/")+wellKnown[0], raw)
}

// PeekIssuer reads the issuer of a token without verifying anything: only to
// choose among issuers that are trusted already.
func PeekIssuer(raw secret.Text) (string, error) {
	signed, err := parse(raw)
	if err != nil {
		return "", err
	}
	claims, err := decodeClaims(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return "", err
	}
	issuer, _ := claims["iss"].(string)
	if issuer == "" {
		return "", unauthenticated("The token names no issuer.")
	}
	return fullIssuer(issuer), nil
}

func unauthenticated(message string) error { return fault.New(fault.Unauthenticated, "%s", message) }

// cacheKey stands for a token in the cache, which so holds no tokens.
func cacheKey(discoveryURL string, raw secret.Text) [32]byte {
	text := make([]byte, 0, len(discoveryURL)+1+raw.Len())
	text = append(append(append(text, discoveryURL...), 0), raw.Reveal()...)
	key := sha256.Sum256(text)
	clear(text)
	return key
}

// parse reads the compact form, and refuses what cannot be an access or ID token
// before any key is looked up.
func parse(raw secret.Text) (*jose.JSONWebSignature, error) {
	if raw.Len() > maximumJWT {
		return nil, unauthenticated("The token is too long.")
	}
	signed, err := jose.ParseSignedCompact(raw.Reveal(), algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, unauthenticated("The token is not a JWT signed with an accepted algorithm.") // the cause quotes the token
	}
	// A logout token or a client assertion of the same issuer is signed with the
	// same keys; its type says that it is no token to come in with (RFC 8725, 3.11).
	kind, _ := signed.Signatures[0].Header.ExtraHeaders[jose.HeaderType].(string)
	kind = strings.TrimPrefix(strings.ToLower(kind), "application/")
	if strings.HasSuffix(kind, "+jwt") && kind != "at+jwt" {
		return nil, unauthenticated("The token is of another type than an access or ID token.")
	}
	return signed, nil
}

func (c *Client) verifySignature(ctx context.Context, jwksURL string, signed *jose.JSONWebSignature) ([]byte, error) {
	set, err := c.keysAt(ctx, jwksURL, nil)
	if err != nil {
		return nil, err
	}
	if payload, ok := set.verify(signed); ok {
		return payload, nil
	}
	// The issuer may have new keys.
	renewed, err := c.keysAt(ctx, jwksURL, set)
	if err != nil {
		return nil, err
	}
	if renewed != set {
		if payload, ok := renewed.verify(signed); ok {
			return payload, nil
		}
	}
	return nil, unauthenticated("The token's signature is not of a key that its issuer publishes.")
}

func (s *keySet) verify(signed *jose.JSONWebSignature) ([]byte, bool) {
	header := signed.Signatures[0].Header
	tries := 0
	for _, key := range s.keys {
		if !fits(key, header) {
			continue
		}
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload, true
		}
		if tries++; tries == maximumTries {
			break
		}
	}
	return nil, false
}

func decodeClaims(payload []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var raw map[string]any
	if decoder.Decode(&raw) != nil || raw == nil {
		return nil, unauthenticated("The token's claims are not a JSON object.")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, unauthenticated("The token's claims are not a JSON object.")
	}
	return raw, nil
}

// readClaims checks the claims of a payload whose signature is verified.
func readClaims(payload []byte, issuer string, now time.Time) (Claims, error) {
	raw, err := decodeClaims(payload)
	if err != nil {
		return Claims{}, err
	}
	claims := Claims{Raw: raw}
	claims.Issuer, _ = raw["iss"].(string)
	claims.Issuer = fullIssuer(claims.Issuer)
	if claims.Issuer != issuer {
		return Claims{}, unauthenticated("The token is from another issuer than the one expected.")
	}
	if _, isEvent := raw["events"]; isEvent {
		return Claims{}, unauthenticated("The token is of another type than an access or ID token.") // a logout token without its type
	}
	var ok [4]bool
	claims.Expiry, ok[0] = numericDate(raw, "exp")
	claims.NotBefore, ok[1] = numericDate(raw, "nbf")
	claims.IssuedAt, ok[2] = numericDate(raw, "iat")
	claims.Audience, ok[3] = stringOrList(raw["aud"])
	claims.Subject, _ = raw["sub"].(string)
	if slices.Contains(ok[:], false) || raw["sub"] != nil && claims.Subject == "" {
		return Claims{}, unauthenticated("One of the token's registered claims is of the wrong type.")
	}
	switch {
	case claims.Expiry.IsZero():
		return Claims{}, unauthenticated("The token has no expiry.")
	case !now.Before(claims.Expiry.Add(clockSkew)):
		return Claims{}, unauthenticated("The token has expired.")
	case claims.NotBefore.After(now.Add(clockSkew)), claims.IssuedAt.After(now.Add(clockSkew)):
		return Claims{}, unauthenticated("The token is not valid yet.")
	}
	for _, name := range []string{"client_id", "azp", "cid"} {
		if claims.ClientID, _ = raw[name].(string); claims.ClientID != "" {
			break
		}
	}
	for _, name := range []string{"scope", "scp"} {
		list, _ := stringOrList(raw[name])
		for _, item := range list {
			for scope := range strings.FieldsSeq(item) {
				if !slices.Contains(claims.Scopes, scope) {
					claims.Scopes = append(claims.Scopes, scope)
				}
			}
		}
	}
	return claims, nil
}

// fullIssuer spells Google's issuer in full: Google documents that its tokens
// may carry it without the scheme, and one person must not become two.
func fullIssuer(issuer string) string {
	if issuer == "accounts.google.com" {
		return "https://accounts.google.com"
	}
	return issuer
}

// numericDate reads seconds since 1970, fractions allowed. Absent is zero and fine.
func numericDate(raw map[string]any, name string) (time.Time, bool) {
	value := raw[name]
	if value == nil {
		return time.Time{}, true
	}
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > 253402300799 { // the last second of 9999
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true
}

func stringOrList(value any) ([]string, bool) {
	switch v := value.(type) {
	case nil:
		return nil, true
	case string:
		return []string{v}, true
	case []any:
		list := make([]string, 0, len(v))
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, false
			}
			list = append(list, s)
		}
		return list, true
	}
	return nil, false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
