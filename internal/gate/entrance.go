package gate

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// Signed authenticates a SigV4 request and reads its body; see auth.
func (g *Gate) Signed(w http.ResponseWriter, r *http.Request, limit int64) (principal.Caller, []byte, error) {
	caller, body, err := g.auth.Signed(w, r, limit)
	if err != nil {
		g.refused(r.Context(), "signature", "", err)
	}
	return caller, body, err
}

// Spooled is Signed for long bodies, which the caller closes; see auth.
func (g *Gate) Spooled(w http.ResponseWriter, r *http.Request, limit int64) (principal.Caller, *auth.Body, error) {
	caller, body, err := g.auth.Spooled(w, r, limit)
	if err != nil {
		g.refused(r.Context(), "signature", "", err)
	}
	return caller, body, err
}

// SpooledBearer is Bearer with a long body, which the caller closes; see auth.
func (g *Gate) SpooledBearer(ctx context.Context, w http.ResponseWriter, r *http.Request, limit int64, account, ownerARN string, z auth.Authorizer) (principal.Caller, *auth.Body, error) {
	caller, body, err := g.auth.SpooledBearer(ctx, w, r, limit, account, ownerARN, z)
	if err != nil {
		g.refused(ctx, "bearer", account, err)
	}
	return caller, body, err
}

// Upgrade authenticates the signed request that opens a websocket, presigned
// URLs included, which no other door takes; see auth.
func (g *Gate) Upgrade(r *http.Request) (principal.Caller, error) {
	caller, err := g.auth.Upgrade(r)
	if err != nil {
		g.refused(r.Context(), "signature", "", err)
	}
	return caller, err
}

// SignedQuery is Signed for IAM's and STS's calls, and tells which it is; see auth.
func (g *Gate) SignedQuery(w http.ResponseWriter, r *http.Request, limit int64) (principal.Caller, string, []byte, error) {
	caller, service, body, err := g.auth.SignedQuery(w, r, limit)
	if err != nil {
		g.refused(r.Context(), "signature", "", err)
	}
	return caller, service, body, err
}

// Bearer authenticates a bearer JWT for the gateway or runtime ownerARN; see auth.
func (g *Gate) Bearer(ctx context.Context, r *http.Request, account, ownerARN string, z auth.Authorizer) (principal.Caller, error) {
	caller, err := g.auth.Bearer(ctx, r, account, ownerARN, z)
	if err != nil {
		g.refused(ctx, "bearer", account, err)
	}
	return caller, err
}

// Anonymous is the caller of a gateway without inbound authorization.
func (g *Gate) Anonymous(ctx context.Context, account string) principal.Caller {
	return g.auth.Anonymous(ctx, account)
}

// Browser is a person's browser on the OAuth front channel.
func (g *Gate) Browser(ctx context.Context, account string) principal.Caller {
	return g.auth.Browser(ctx, account)
}

// Unproven counts a browser that came back with a state that nobody knows: a
// failed authentication like the others, sampled and not recorded one by one.
func (g *Gate) Unproven(ctx context.Context, account string, err error) {
	g.refused(ctx, "callback", account, err)
}

// System is the platform itself, at work in the background for one account; an
// empty account is for work that concerns none.
func System(account string) principal.Caller {
	return principal.Caller{Kind: principal.System, Account: account}
}

// Limit holds back an address that asks too often; see auth.
func (g *Gate) Limit(kind string, address netip.Addr) error {
	err := g.auth.Limit(kind, address)
	if err != nil && g.watch.Limit != nil {
		g.watch.Limit(kind)
	}
	return err
}

// LimitOpen holds back an address that asks a gateway without inbound
// authorization too often; see auth. Who is held back is counted and sampled.
func (g *Gate) LimitOpen(ctx context.Context, account string, address netip.Addr) error {
	err := g.auth.LimitOpen(address)
	if err != nil {
		g.refused(ctx, "open gateway", account, err)
	}
	return err
}

const (
	authenticate = "onbehalf:Authenticate" // the action of sampled refusals
	sampleEvery  = time.Minute             // per door and kind of failure
)

// failures counts failed authentication. A record for each would let anybody
// write to the disk at will, so one per door and kind and minute is kept, which
// says how many there were.
type failures struct {
	now func() time.Time

	mu     sync.Mutex
	counts map[failure]*tally
}

type failure struct {
	door string
	kind fault.Kind
}

type tally struct {
	total, told uint64
	at          time.Time // of the last sample
}

// count adds one failure; fresh is how many there were since the last sample,
// and zero when none is due.
func (f *failures) count(what failure) (fresh uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = make(map[failure]*tally)
	}
	t := f.counts[what]
	if t == nil {
		t = &tally{}
		f.counts[what] = t
	}
	t.total++
	now := f.now()
	if now.Sub(t.at) < sampleEvery {
		return 0
	}
	fresh = t.total - t.told
	t.told, t.at = t.total, now
	return fresh
}

// refused counts a failed authentication and records a sample. The caller gets
// the refusal whether or not the sample could be written. A body that is too
// long, or trouble of our own, says nothing about who asks.
func (g *Gate) refused(ctx context.Context, door, account string, err error) {
	if kind := fault.KindOf(err); door != "callback" && !auth.Unproven(err) && kind != fault.Denied && kind != fault.Throttled {
		return
	}
	g.sample(ctx, door, principal.Caller{Account: account}, err)
}

// sample counts a refusal and records one of many.
func (g *Gate) sample(ctx context.Context, door string, caller principal.Caller, err error) {
	kind := fault.KindOf(err)
	if g.watch.Failure != nil {
		g.watch.Failure(door, kind)
	}
	fresh := g.failures.count(failure{door, kind})
	if fresh == 0 {
		return
	}
	r := recordOf(ctx, caller)
	r.Action, r.Decision, r.Phase, r.Outcome = authenticate, audit.Deny, audit.Done, kind.String()
	r.Detail = map[string]string{"door": door, "failures": strconv.FormatUint(fresh, 10)}
	slog.WarnContext(ctx, "authentication failed", "door", door, "kind", kind.String(), "failures", fresh, "address", r.Address)
	_ = g.keep(ctx, r)
}

// Failures is how often authentication failed since the start, by door and kind
// ("signature bad-signature"), for metrics.
func (g *Gate) Failures() map[string]uint64 {
	g.failures.mu.Lock()
	defer g.failures.mu.Unlock()
	totals := make(map[string]uint64, len(g.failures.counts))
	for what, t := range g.failures.counts {
		totals[what.door+" "+what.kind.String()] = t.total
	}
	return totals
}
