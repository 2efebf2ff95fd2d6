package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/vault"
)

const (
	// mostAhead bounds the refreshes in the background. Beyond it nothing is lost:
	// the token is refreshed when a caller needs it, as if there were none.
	mostAhead = 32
	// closeAhead is how long the end of the process waits for them: an answer on
	// its way may carry a refresh token that cannot be had twice.
	closeAhead = 10 * time.Second
)

// background is what is being refreshed ahead of its expiry by this process.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	working sync.WaitGroup
	busy    map[string]bool // by grant id
	closed  bool
}

func newBackground() *background {
	ctx, cancel := context.WithCancel(context.Background())
	return &background{ctx: ctx, cancel: cancel, busy: make(map[string]bool)}
}

// begin reserves a grant; false when it is being refreshed already, when too many are, or at the end.
func (a *background) begin(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.busy[id] || len(a.busy) >= mostAhead {
		return false
	}
	a.busy[id] = true
	a.working.Add(1)
	return true
}

func (a *background) end(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, id)
	a.working.Done()
}

// close begins no more and waits a while for what is under way.
func (a *background) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	ended := make(chan struct{})
	go func() { a.working.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(closeAhead):
	}
	a.cancel()
	<-ended // requests end with their context
}

// refreshAhead renews a token that is about to expire while its callers still
// get the old one. Other processes leave it alone meanwhile, because of the lease;
// one that fails is not tried again before its back-off is over. It is an act of
// the platform itself, for the grant's workload and user: no caller waits for it.
func (b *Broker) refreshAhead(grant *vault.Grant) {
	if !b.db.Now().After(grant.NextRefresh) || !b.background.begin(grant.ID) {
		return
	}
	go func() {
		defer b.background.end(grant.ID)
		ctx, cancel := context.WithTimeout(b.background.ctx, leaseLifetime)
		defer cancel()
		err := fault.Contain("refreshing ahead", func() error { return b.renewAhead(ctx, grant) })
		if err != nil { // whoever needs the token hears of it
			slog.InfoContext(ctx, "a token could not be renewed ahead of its expiry", "grant", grant.ID, "error", err)
		}
	}()
}

// renewAhead is refreshAhead in its own goroutine.
func (b *Broker) renewAhead(ctx context.Context, grant *vault.Grant) error {
	t, err := b.leaseRefresh(ctx, grant)
	if err != nil {
		return err
	}
	if t.provider == nil { // another process has done it, or is at it
		select {
		case <-ctx.Done():
		case <-time.After(lookAgain): // its callers need not look each time
		}
		return nil
	}
	caller := gate.System(grant.Account)
	caller.Workload, caller.User = principal.Workload{ID: grant.WorkloadID}, grant.User
	return b.gate.Do(ctx, caller, []gate.Check{{Action: actionRefresh, Resource: t.provider.ARN}}, func(ctx context.Context) error {
		gate.Detail(ctx, "grant", grant.ID)
		gate.Detail(ctx, "ahead", "true")
		_, err := b.redeemRefresh(ctx, caller, t.grant, t)
		return err
	})
}

// lookAgain is how often this process looks whether another one has refreshed a grant ahead.
const lookAgain = time.Second
