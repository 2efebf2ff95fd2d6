// Package gate is the one way in. (Unfinished: signatures first.)
package gate

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// Check is policy.Check, for the doors and rooms that know only gate.
type Check = policy.Check

// The actions of a browser on the OAuth front channel.
const (
	ActionAuthorize = policy.ActionAuthorize
	ActionCallback  = policy.ActionCallback
	ActionConnect   = policy.ActionConnect
)

// Gate decides and records.
type Gate struct {
	auth   *auth.Authenticator
	policy *policy.Engine
	log    *audit.Log
}

func New(a *auth.Authenticator, p *policy.Engine, l *audit.Log) *Gate { return &Gate{a, p, l} }

// Scope yields a request's checks and may add workload and user to the caller.
type Scope[Req any] func(ctx context.Context, caller principal.Caller, request *Req) (principal.Caller, []Check, error)

// Act is check, act and record in one.
func Act[Req, Resp any](ctx context.Context, g *Gate, caller principal.Caller, action string, scope Scope[Req], request *Req,
	fn func(context.Context, principal.Caller, *Req) (*Resp, error)) (*Resp, error) {
	return nil, fault.New(fault.Internal, "gate: unfinished")
}

// Do is Act for raw handlers, browsers and background work.
func (g *Gate) Do(ctx context.Context, caller principal.Caller, checks []Check, fn func(context.Context) error) error {
	return fault.New(fault.Internal, "gate: unfinished")
}

// Intent is written and durable before an act with outside effect.
func (g *Gate) Intent(ctx context.Context, caller principal.Caller, check Check, detail map[string]string) error {
	return fault.New(fault.Internal, "gate: unfinished")
}

// Detail adds a fact to the record under way; never a secret.
func Detail(ctx context.Context, key, value string) {}

// System is the caller of the platform's own background work.
func System(account string) principal.Caller {
	return principal.Caller{Kind: principal.System, Account: account}
}

func (g *Gate) Signed(w http.ResponseWriter, r *http.Request, limit int64) (principal.Caller, []byte, error) {
	return g.auth.Signed(w, r, limit)
}
func (g *Gate) Bearer(ctx context.Context, r *http.Request, account, ownerARN string, z auth.Authorizer) (principal.Caller, error) {
	return g.auth.Bearer(ctx, r, account, ownerARN, z)
}
func (g *Gate) Anonymous(ctx context.Context, account string) principal.Caller {
	return g.auth.Anonymous(ctx, account)
}
func (g *Gate) Browser(ctx context.Context, account string) principal.Caller {
	return g.auth.Browser(ctx, account)
}
func (g *Gate) Limit(kind string, addr netip.Addr) error { return g.auth.Limit(kind, addr) }
