package auth

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Bearer authenticates a caller of the gateway or runtime ownerARN by the JWT in
// the Authorization header, and nowhere else: tokens in a query or a body end up
// in logs. z is the owner's authorizer as the owner knows it at this moment.
//
// Errors: fault.Unauthenticated for a missing or unacceptable token,
// ErrInsufficientScope (fault.Denied) for one that only lacks a scope,
// fault.Throttled after many bad ones from one address, fault.Unavailable or
// Upstream where the issuer's keys cannot be had. A token of nobody's makes a
// Caller without User, which may call and have nothing of a user's.
func (a *Authenticator) Bearer(ctx context.Context, r *http.Request, account, ownerARN string, z Authorizer) (principal.Caller, error) {
	token, err := bearerToken(r.Header)
	if err != nil {
		return principal.Caller{}, err
	}
	address := addressOf(r)
	if err := a.limits.exhausted(LimitBearer, address); err != nil {
		return principal.Caller{}, err
	}
	claims, err := a.verify(ctx, z, token)
	if err != nil {
		if fault.Is(err, fault.Unauthenticated) {
			a.limits.spend(LimitBearer, address)
		}
		return principal.Caller{}, err
	}
	caller := principal.Caller{Kind: principal.Bearer, Account: account, Authorizer: ownerARN, Request: principal.RequestOf(ctx)}
	if caller.User = user(claims); !caller.User.IsZero() {
		caller.UserToken = token
	}
	return caller, nil
}

// verify is the signature, the dates, the issuer, and then the rules.
func (a *Authenticator) verify(ctx context.Context, z Authorizer, token secret.Text) (oauth.Claims, error) {
	claims, err := a.oauth.VerifyJWT(ctx, z.DiscoveryURL, token)
	if err != nil {
		return oauth.Claims{}, err
	}
	return claims, z.admit(claims)
}

// maxToken is longer than any token that a server with the usual header limits lets through.
const maxToken = 64 << 10

func bearerToken(header http.Header) (secret.Text, error) {
	values := header["Authorization"]
	if len(values) == 0 {
		return secret.Text{}, fault.New(fault.Unauthenticated, "Missing Bearer token")
	}
	if len(values) > 1 {
		return secret.Text{}, fault.New(fault.Unauthenticated, "The request has more than one Authorization header.")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimLeft(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return secret.Text{}, fault.New(fault.Unauthenticated, "Missing Bearer token")
	}
	if len(token) > maxToken || strings.ContainsAny(token, " ,\t") {
		return secret.Text{}, fault.New(fault.Unauthenticated, "Invalid Bearer token")
	}
	return secret.New(token), nil
}

// VerifyUser is the person whom a JWT proves, and until when it does.
//
// Without authorizerARN the token must come from a trusted issuer and be made
// for one of that issuer's audiences. With it, the token must satisfy the
// stored authorizer of that gateway or runtime, in this account: it is read each
// time, so a change on another replica counts at once.
//
// Errors: fault.Unauthenticated for a token that is not acceptable or names
// nobody, fault.Denied where the authorizer is gone or a scope is lacking.
func (a *Authenticator) VerifyUser(ctx context.Context, account, authorizerARN string, token secret.Text) (principal.User, time.Time, error) {
	claims, err := a.verifyUser(ctx, account, authorizerARN, token)
	if err != nil {
		return principal.User{}, time.Time{}, err
	}
	return a.namedBy(claims)
}

func (a *Authenticator) verifyUser(ctx context.Context, account, authorizerARN string, token secret.Text) (oauth.Claims, error) {
	if authorizerARN == "" {
		return a.verifyTrusted(ctx, a.opts.TrustedIssuers, token)
	}
	var z Authorizer
	err := a.db.View(ctx, func(tx *store.Tx) (err error) {
		z, err = readAuthorizer(tx, account, authorizerARN)
		return err
	})
	if err != nil {
		return oauth.Claims{}, err
	}
	return a.verify(ctx, z, token)
}

// namedBy is the person whom verified claims name.
func (a *Authenticator) namedBy(claims oauth.Claims) (principal.User, time.Time, error) {
	named := user(claims)
	if named.IsZero() {
		return principal.User{}, time.Time{}, fault.New(fault.Unauthenticated, "The token names no user: it needs a subject that is not the client itself.")
	}
	if !claims.Expiry.After(a.now()) {
		return principal.User{}, time.Time{}, fault.New(fault.Unauthenticated, "The token has expired.")
	}
	return named, claims.Expiry, nil
}
