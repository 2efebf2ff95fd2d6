package auth

import (
	"context"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// TrustedIssuers are the operator's, for all workload identities that have none of their own.
func (a *Authenticator) TrustedIssuers() []TrustedIssuer { return a.opts.TrustedIssuers }

// VerifyUserOf is VerifyUser for the issuers that somebody trusts: one of them
// must have made the token, for one of its audiences.
func (a *Authenticator) VerifyUserOf(ctx context.Context, trusted []TrustedIssuer, token secret.Text) (principal.User, time.Time, error) {
	claims, err := a.verifyTrusted(ctx, trusted, token)
	if err != nil {
		return principal.User{}, time.Time{}, err
	}
	return a.namedBy(claims)
}

// CheckIssuer asks whether an issuer that a tenant names can be trusted for
// anything: it is reached like any other address that a tenant chooses (egress
// refuses private ones), publishes keys, and calls itself by the very name that
// its tokens will have. The fault.Invalid says what is wrong.
func (a *Authenticator) CheckIssuer(ctx context.Context, issuer TrustedIssuer) error {
	if err := issuer.Check(); err != nil {
		return err
	}
	metadata, err := a.oauth.Discover(ctx, strings.TrimSuffix(issuer.URL, "/")+"/.well-known/openid-configuration")
	switch {
	case err != nil:
		return fault.New(fault.Invalid, "The issuer %s cannot be used. %s", issuer.URL, fault.Of(err).Message).Because(err)
	case metadata.Issuer != issuer.URL:
		return fault.New(fault.Invalid, "The issuer calls itself %s: give it exactly like that.", metadata.Issuer)
	case metadata.JWKSURI == "":
		return fault.New(fault.Invalid, "The issuer %s publishes no keys.", issuer.URL)
	}
	return nil
}

func (a *Authenticator) verifyTrusted(ctx context.Context, trusted []TrustedIssuer, token secret.Text) (oauth.Claims, error) {
	issuer, err := oauth.PeekIssuer(token)
	if err != nil {
		return oauth.Claims{}, err
	}
	var audiences []string // of every row for this issuer
	for _, t := range trusted {
		if t.URL == issuer {
			audiences = append(audiences, t.Audiences...)
		}
	}
	// Nothing is fetched from an issuer that nobody named: its URL comes from
	// a token that anybody can write.
	if len(audiences) == 0 {
		return oauth.Claims{}, fault.New(fault.Unauthenticated, "The token's issuer is not trusted here. An operator can add it with --trusted-issuer, or for one workload identity with PutTrustedIssuers.")
	}
	claims, err := a.oauth.VerifyIssuer(ctx, issuer, token)
	if err != nil {
		return oauth.Claims{}, err
	}
	if claims.Issuer != issuer {
		return oauth.Claims{}, fault.New(fault.Unauthenticated, "The token's issuer is not who signed it.")
	}
	if !overlap(audiences, claims.Audience) {
		return oauth.Claims{}, mismatch("aud")
	}
	return claims, nil
}
