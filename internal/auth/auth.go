// Package auth turns a request into the Caller that every act needs, or into a refusal.
//
//	SigV4 request ── Signed ──▶ key or session known ▶ scope ▶ date ▶ signed headers ▶ body read ▶ signature ──▶ Caller{Key, Role}
//	the same, long ─ Spooled ──▶ as Signed, the body in memory or in a file without a name ──▶ Caller, Body
//	bearer token ─── Bearer ──▶ oauth verifies the JWT ▶ the authorizer's rules ──▶ Caller{Bearer}
//	a user's JWT ─── VerifyUser ──▶ trusted issuer and audience, or a stored authorizer ──▶ User
//	a refusal ── SetChallenge ──▶ WWW-Authenticate, where a token or another one would help
//
// It owns the accounts, the access keys with their sealed secrets, the roles and
// the temporary credentials issued for them, and the authorizers of gateways and
// runtimes (table definitions: 020_auth.sql, 022_keys.sql).
//
// Invariant: a Caller's account comes from the key's own row or from the
// resource that was addressed, never from what the request says; and no token
// is trusted for its issuer alone.
package auth

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Service is the signing name that every operation here is signed for, on the
// control plane and the data plane alike.
const Service = "bedrock-agentcore"

// Options is what an operator decides. The zero Options trusts no issuer.
type Options struct {
	Region         string // that signatures must be scoped to; empty is us-east-1
	TrustedIssuers []TrustedIssuer
	Rates          map[string]float64 // of ParseRates; nil is the defaults
	SpoolFolder    string             // for bodies that are too long for memory; empty is the system's folder for temporary files
	SpoolLimit     int64              // bytes that may lie there at once; 0 is 2 GiB

	// NewAccount adds what other rooms give an account to start with, in the
	// transaction that makes it. Nil adds nothing.
	NewAccount func(tx *store.Tx, account string) error
}

// TrustedIssuer is an OpenID provider whose tokens prove a user for workload
// identities that no gateway or runtime owns: those made for one of the audiences.
type TrustedIssuer struct {
	URL       string // exactly as in the token's iss, without a trailing slash that is not there
	Audiences []string
}

// ParseTrustedIssuer reads "URL=audience[,audience…]", as --trusted-issuer has it.
// Commas and equal signs in the URL before the last '=' are the URL's own.
func ParseTrustedIssuer(text string) (TrustedIssuer, error) {
	at := strings.LastIndexByte(text, '=')
	if at <= 0 {
		return TrustedIssuer{}, fault.New(fault.Invalid, "A trusted issuer is written URL=audience[,audience]: the audience is missing.")
	}
	issuer := TrustedIssuer{URL: text[:at], Audiences: strings.Split(text[at+1:], ",")}
	return issuer, issuer.Check()
}

// Check refuses an issuer without an audience: it would let in the tokens that
// its people gave to any other application.
func (i TrustedIssuer) Check() error {
	if !strings.HasPrefix(i.URL, "https://") && !strings.HasPrefix(i.URL, "http://") {
		return fault.New(fault.Invalid, "The trusted issuer is not a URL.")
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		return fault.New(fault.Invalid, "The trusted issuer %s needs at least one audience, and none of them empty.", i.URL)
	}
	return nil
}

// Authenticator answers who is calling. It is safe for concurrent use.
type Authenticator struct {
	db       *store.DB
	keeper   *seal.Keeper
	oauth    *oauth.Client
	opts     Options
	keys     *keyring
	roles    *store.Cache[string, string] // ids by account and name
	limits   *limiter
	throttle *throttle
	spool    *spool
	now      func() time.Time
}

// New makes an Authenticator. Nothing is read until the first request.
func New(db *store.DB, k *seal.Keeper, o *oauth.Client, opts Options) *Authenticator {
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	a := &Authenticator{db: db, keeper: k, oauth: o, opts: opts, now: time.Now}
	clock := func() time.Time { return a.now() }
	a.keys = newKeyring(db, k, clock)
	a.roles = store.NewCache[string, string](db, maxKeys)
	a.limits = newLimiter(clock, opts.Rates)
	a.throttle = newThrottle(opts.Rates)
	a.spool = newSpool(opts.SpoolFolder, opts.SpoolLimit)
	return a
}

// Anonymous is the caller of a gateway without inbound authorization. Whoever
// asks for one says by that that no proof was wanted.
func (a *Authenticator) Anonymous(ctx context.Context, account string) principal.Caller {
	return principal.Caller{Kind: principal.Anonymous, Account: account, Request: principal.RequestOf(ctx)}
}

// Browser is the caller on the OAuth front channel: somebody's browser, proven
// later by state and cookie, or never.
func (a *Authenticator) Browser(ctx context.Context, account string) principal.Caller {
	return principal.Caller{Kind: principal.Browser, Account: account, Request: principal.RequestOf(ctx)}
}

// addressOf is the client's address: through trusted proxies, as the outermost
// handler found it; else the connection's.
func addressOf(r *http.Request) netip.Addr {
	if known := principal.RequestOf(r.Context()).Address; known.IsValid() {
		return known
	}
	connection, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return connection.Addr()
}
