package gate

import (
	"context"
	"sync"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// act is one act under way: what its record will say.
type act struct {
	caller   principal.Caller
	action   string
	checks   []Check
	decision string

	mu     sync.Mutex // a handler may add details from several goroutines
	detail map[string]string
	ended  bool
}

type actKey struct{}

// Detail adds a fact to the record of the act under way: a grant's id, a
// provider's name, how a session ended. The last value of a key counts; outside
// of an act, or after it, nothing happens. Never a secret: values are masked
// once more, but that net has holes.
func Detail(ctx context.Context, key, value string) {
	a, _ := ctx.Value(actKey{}).(*act)
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	if a.detail == nil {
		a.detail = make(map[string]string)
	}
	a.detail[key] = value
}

// record ends the act and says how.
func (a *act) record(ctx context.Context, err error) audit.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	r := recordOf(ctx, a.caller)
	r.Action, r.Decision, r.Phase, r.Detail, r.Outcome = a.action, a.decision, audit.Done, a.detail, audit.OK
	if err != nil {
		r.Outcome = fault.KindOf(err).String()
	}
	r.Resources = make([]string, len(a.checks))
	for i, check := range a.checks {
		r.Resources[i] = check.Resource
	}
	return r
}

// recordOf says who asks, for whom, through what.
func recordOf(ctx context.Context, caller principal.Caller) audit.Record {
	request := caller.Request
	if request == (principal.Request{}) {
		request = principal.RequestOf(ctx)
	}
	r := audit.Record{
		Account: caller.Account, RequestID: request.ID, PrincipalKind: string(caller.Kind), Principal: caller.ARN, KeyID: caller.KeyID,
		Workload: caller.Workload.ARN, WorkloadID: caller.Workload.ID, User: caller.User.String(), Authorizer: caller.Authorizer,
	}
	if caller.Kind == principal.Bearer && r.Principal == "" {
		r.Principal = r.User
	}
	if request.Address.IsValid() {
		r.Address = request.Address.String()
	}
	return r
}

// contained runs fn and turns a panic into an error, so that it is recorded like
// any other end.
func contained(fn func() error) error { return fault.Contain("acting", fn) }
