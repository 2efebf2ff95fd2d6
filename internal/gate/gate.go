// Package gate is the one way in: who asks (auth), may they (policy), write it
// down (audit), as one act.
//
//	door ── request ──▶ Signed, Bearer, Browser, Anonymous ──▶ Caller
//	Caller ──▶ Act or Do ──▶ scope ──▶ policy ──▶ the room's method ──▶ record, durable ──▶ the answer
//	                                                 └─ Intent, durable, before an effect outside
//
// Invariant: nothing runs that was not permitted, and no answer leaves whose
// record is not durable. Whatever happens (a refusal, an error, a panic, a
// client that hangs up) leaves exactly one record; where it cannot be written,
// the answer is dropped and the caller gets fault.Internal. Requests beyond a
// principal's limit begin no act: they are counted and sampled, like failed
// authentication, so that a flood does not write to the disk.
package gate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// Check is policy's question, for the doors and rooms that know only gate.
type Check = policy.Check

// Any is the resource of an action that names none.
const Any = policy.Any

// The actions that policy knows by name.
const (
	InvokeGateway   = policy.InvokeGateway
	ActionAuthorize = policy.ActionAuthorize
	ActionCallback  = policy.ActionCallback
	ActionConnect   = policy.ActionConnect
)

// Gate is the guard of one server. It is safe for concurrent use.
type Gate struct {
	auth     *auth.Authenticator
	policy   *policy.Engine
	log      *audit.Log
	failures failures
	watch    Watch
}

// New joins the three guards.
func New(a *auth.Authenticator, p *policy.Engine, l *audit.Log) *Gate {
	return &Gate{auth: a, policy: p, log: l, failures: failures{now: time.Now}}
}

// Scope says what a request touches: at least one check. It may put Workload,
// User, UserToken and Authorizer into the Caller (from a workload access token);
// who the caller is, it cannot change. With an error it returns as much of both
// as is known, for the record.
type Scope[Req any] func(ctx context.Context, caller principal.Caller, request *Req) (principal.Caller, []Check, error)

// Act does one operation: scope, policy, fn, record, in that order, and returns
// when the record is durable. action is the record's name of the whole; what is
// permitted follows from scope's checks alone.
//
// fn's answer is dropped when its error is not nil. A panic in scope or fn
// becomes fault.Internal. Never call Act inside a transaction: the record has
// one of its own.
func Act[Req, Resp any](ctx context.Context, g *Gate, caller principal.Caller, action string, scope Scope[Req], request *Req,
	fn func(context.Context, principal.Caller, *Req) (*Resp, error)) (*Resp, error) {
	var response *Resp
	err := g.perform(ctx, caller, action,
		func(ctx context.Context) (principal.Caller, []Check, error) { return scope(ctx, caller, request) },
		func(ctx context.Context, caller principal.Caller) (err error) {
			response, err = fn(ctx, caller, request)
			return err
		})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// Do is Act for raw handlers, browsers and background work: the checks are known
// beforehand, and the first one's action names the whole in the record.
//
// What fn has written to a connection has left already; a handler that streams
// writes an Intent first.
func (g *Gate) Do(ctx context.Context, caller principal.Caller, checks []Check, fn func(context.Context) error) error {
	action := "onbehalf:Nothing" // refused by policy, and recorded under this name
	if len(checks) > 0 {
		action = checks[0].Action
	}
	return g.perform(ctx, caller, action,
		func(context.Context) (principal.Caller, []Check, error) { return caller, checks, nil },
		func(ctx context.Context, _ principal.Caller) error { return fn(ctx) })
}

// Intent records that something with an effect outside is about to happen
// (redeem a code, refresh or revoke a token, call a tool, invoke an agent), and
// returns when that is durable. It belongs inside an act that was decided, and
// decides nothing itself. When it fails, do not go on.
func (g *Gate) Intent(ctx context.Context, caller principal.Caller, check Check, detail map[string]string) error {
	if caller.Kind == principal.Nobody {
		return fault.Wrap(errNobody, "recording an intent")
	}
	if ctx.Err() != nil {
		return fault.New(fault.Unavailable, "The request was cancelled.").Because(context.Cause(ctx))
	}
	r := recordOf(ctx, caller)
	r.Action, r.Resources, r.Detail = check.Action, []string{check.Resource}, detail
	r.Decision, r.Phase = audit.Allow, audit.Intent
	return g.keep(ctx, r)
}

var (
	errNobody  = errors.New("gate: no caller")
	errAltered = errors.New("gate: a scope changed who the caller is")
)

// perform is Act and Do without their types.
func (g *Gate) perform(ctx context.Context, caller principal.Caller, action string,
	scope func(context.Context) (principal.Caller, []Check, error), fn func(context.Context, principal.Caller) error) error {
	if err := g.auth.Throttle(caller, action); err != nil {
		g.sample(ctx, "limit", caller, err)
		return err
	}
	a := &act{caller: caller, action: action, decision: audit.Deny}
	began := time.Now()
	err := contained(func() error { return g.decide(ctx, a, scope) })
	if err == nil {
		a.decision = audit.Allow
		err = contained(func() error { return fn(context.WithValue(ctx, actKey{}, a), a.caller) })
	}
	record := a.record(ctx, err)
	if unkept := g.keep(ctx, record); unkept != nil {
		return unkept
	}
	if g.watch.Act != nil {
		g.watch.Act(&record, time.Since(began))
	}
	if errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler) // net/http's way to cut a connection in the middle of an answer
	}
	return err
}

// decide asks scope what is touched, and policy whether it may be.
func (g *Gate) decide(ctx context.Context, a *act, scope func(context.Context) (principal.Caller, []Check, error)) error {
	enriched, checks, err := scope(ctx)
	a.checks = checks
	switch {
	case sameCaller(a.caller, enriched):
		a.caller = enriched
	case err == nil:
		return fault.Wrap(errAltered, "deciding")
	}
	if err != nil {
		return err
	}
	return g.policy.Decide(ctx, a.caller, checks)
}

// sameCaller compares what proved the caller.
func sameCaller(a, b principal.Caller) bool {
	return a.Kind == b.Kind && a.Account == b.Account && a.ARN == b.ARN && a.KeyID == b.KeyID && a.Root == b.Root && a.Request == b.Request
}

// keep makes the record durable. A client that hangs up does not shorten the
// wait, which audit bounds.
func (g *Gate) keep(ctx context.Context, r audit.Record) error {
	ctx = context.WithoutCancel(ctx)
	err := g.log.Append(ctx, r)
	if err != nil {
		slog.ErrorContext(ctx, "an act could not be recorded", "action", r.Action, "request", r.RequestID, "decision", r.Decision, "outcome", r.Outcome, "error", err)
	}
	return err
}
