package demoidp

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const accessTokenType = "at+jwt"

// Tokens is an answer of the token endpoint.
type Tokens struct {
	Access    string `json:"access_token"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"` // seconds
	Refresh   string `json:"refresh_token,omitempty"`
	ID        string `json:"id_token,omitempty"`
	Scope     string `json:"scope,omitempty"`
}

// accessClaims are an access token's, RFC 9068 and the family it can be revoked by.
type accessClaims struct {
	Issuer   string           `json:"iss"`
	Subject  string           `json:"sub"`
	Audience jwt.Audience     `json:"aud"`
	Expiry   *jwt.NumericDate `json:"exp"`
	IssuedAt *jwt.NumericDate `json:"iat"`
	ID       string           `json:"jti"`
	ClientID string           `json:"client_id"`
	Scope    string           `json:"scope,omitempty"`
	Family   string           `json:"family"`
}

func (c accessClaims) allows(scope string) bool {
	return slices.Contains(strings.Fields(c.Scope), scope)
}

type idClaims struct {
	Issuer   string           `json:"iss"`
	Subject  string           `json:"sub"`
	Audience jwt.Audience     `json:"aud"`
	Expiry   *jwt.NumericDate `json:"exp"`
	IssuedAt *jwt.NumericDate `json:"iat"`
	AuthTime *jwt.NumericDate `json:"auth_time,omitempty"`
	Nonce    string           `json:"nonce,omitempty"`
	Party    string           `json:"azp"`
	profile
}

// profile is what the scopes profile and email open, in ID tokens and at /userinfo.
type profile struct {
	Name          string `json:"name,omitempty"`
	GivenName     string `json:"given_name,omitempty"`
	FamilyName    string `json:"family_name,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified *bool  `json:"email_verified,omitempty"`
}

func profileOf(person Person, scopes []string) profile {
	var p profile
	if slices.Contains(scopes, "profile") {
		p.Name, p.GivenName, p.FamilyName = person.Name(), person.GivenName, person.FamilyName
	}
	if slices.Contains(scopes, "email") {
		verified := true
		p.Email, p.EmailVerified = person.Email, &verified
	}
	return p
}

func (p *Provider) mint(c registered, f *family, scopes []string, refresh string, now time.Time) (Tokens, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mintLocked(c, f, scopes, refresh, now)
}

// mintLocked signs the tokens. Caller holds p.mu: a signature takes a
// millisecond, and a demo is not in a hurry.
func (p *Provider) mintLocked(c registered, f *family, scopes []string, refresh string, now time.Time) (Tokens, error) {
	lifetime := p.levers.lifetime
	audience := c.Audience
	if audience == "" {
		audience = p.issuer
	}
	subject := f.Person
	if subject == "" {
		subject = c.ID // client credentials
	}
	access, err := jwt.Signed(p.signing.access).Claims(accessClaims{
		Issuer: p.issuer, Subject: subject, Audience: jwt.Audience{audience},
		Expiry: expiry(now.Add(lifetime)), IssuedAt: jwt.NewNumericDate(now), ID: random(),
		ClientID: c.ID, Scope: strings.Join(scopes, " "), Family: f.ID,
	}).Serialize()
	if err != nil {
		return Tokens{}, err
	}
	tokens := Tokens{Access: access, Type: "Bearer", ExpiresIn: int64(lifetime / time.Second), Refresh: refresh, Scope: strings.Join(scopes, " ")}
	person, known := p.person(f.Person)
	if !known || !slices.Contains(scopes, "openid") {
		return tokens, nil
	}
	tokens.ID, err = jwt.Signed(p.signing.plain).Claims(idClaims{
		Issuer: p.issuer, Subject: person.ID, Audience: jwt.Audience{c.ID}, Party: c.ID,
		Expiry: expiry(now.Add(lifetime)), IssuedAt: jwt.NewNumericDate(now),
		AuthTime: jwt.NewNumericDate(f.AuthTime), Nonce: f.Nonce, profile: profileOf(person, scopes),
	}).Serialize()
	return tokens, err
}

// expiry is a moment in the whole seconds of a token, rounded up: rounded down, a
// token of one second could be over as soon as it is issued, against its expires_in.
func expiry(at time.Time) *jwt.NumericDate {
	return jwt.NewNumericDate(at.Add(time.Second - time.Nanosecond))
}

var errNotAccepted = errors.New("not an access token of this provider, or no longer one")

// openAccess verifies an access token that comes back: signature, type, issuer,
// lifetime, and that it was not revoked.
func (p *Provider) openAccess(raw string) (*accessClaims, error) {
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, errNotAccepted
	}
	if kind, _ := token.Headers[0].ExtraHeaders[jose.HeaderType].(string); kind != accessTokenType {
		return nil, errNotAccepted
	}
	var claims accessClaims
	if err := token.Claims(&p.signing.private.PublicKey, &claims); err != nil {
		return nil, errNotAccepted
	}
	now := p.now()
	if claims.Issuer != p.issuer || claims.Expiry == nil || !now.Before(claims.Expiry.Time()) {
		return nil, errNotAccepted
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, revoked := p.revoked.get(claims.Family, now); revoked {
		return nil, errNotAccepted
	}
	return &claims, nil
}
