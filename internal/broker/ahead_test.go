package broker

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

func canceled(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// aging is a world where ada's token serves, and is about to expire.
func aging(t *testing.T) (*world, principal.Caller, string) {
	t.Helper()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime = 1800 })
	ada := w.consented(t, "agent", "ada", ask("profile"))
	old := w.token(t, ada, ask("profile"))
	w.idp.with(func(p *idp) { p.lifetime = 36000 })
	w.later(1501 * time.Second) // of 1800, the last five minutes have begun
	return w, ada, old
}

func TestRefreshAheadKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	w, ada, old := aging(t)
	second := w.replica(t)
	hold := make(chan struct{})
	w.idp.with(func(p *idp) { p.holdRefresh = hold })
	for range 20 {
		for _, process := range []*world{w, second} {
			if token := process.token(t, ada, ask("profile")); token != old {
				t.Fatal("a token came before the provider had answered")
			}
		}
	}
	<-w.idp.refreshSeen
	close(hold)
	for w.token(t, ada, ask("profile")) == old { // until it is stored
		time.Sleep(time.Millisecond)
	}
	w.background.close()
	second.background.close()
	if refreshes, _ := w.idp.counts(); refreshes != 1 {
		t.Errorf("%d refreshes", refreshes)
	}
	if n := w.intents(t, actionRefresh); n != 1 {
		t.Errorf("%d intents to refresh", n)
	}
	done := w.lastRecord(t, actionRefresh)
	if done.PrincipalKind != string(principal.System) || done.User != "id:ada" || done.WorkloadID != ada.Workload.ID || done.Detail["ahead"] != "true" {
		t.Errorf("recorded as %+v", done)
	}
}

// At the end of the process, what is under way is waited for, and nothing begins any more.
func TestRefreshAheadEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	w, ada, old := aging(t)
	hold := make(chan struct{})
	w.idp.with(func(p *idp) { p.holdRefresh = hold })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	w.token(t, ada, ask("profile"))
	<-w.idp.refreshSeen
	stop()
	select {
	case <-ended:
		t.Fatal("the process ended while the provider answered")
	case <-time.After(50 * time.Millisecond):
	}
	close(hold)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if w.token(t, ada, ask("profile")) == old {
		t.Error("what the provider answered was lost")
	}
	w.later(36000*time.Second - 1501*time.Second - 150*time.Second) // it is due again
	w.token(t, ada, ask("profile"))
	if refreshes, _ := w.idp.counts(); refreshes != 1 {
		t.Errorf("%d refreshes", refreshes)
	}
}

func TestRefreshesInTheBackgroundAreBounded(t *testing.T) {
	t.Parallel()
	a := newBackground()
	for i := range mostAhead {
		if !a.begin(string(rune('a' + i))) {
			t.Fatal("too few")
		}
	}
	if a.begin("one more") || a.begin("a") {
		t.Error("too many")
	}
	a.end("a")
	if !a.begin("one more") {
		t.Error("a free place was not given")
	}
}

// A provider in trouble is asked less and less, and callers hear so at once.
func TestBackOff(t *testing.T) {
	t.Parallel()
	w, ada, old := expiredGrant(t)
	w.idp.with(func(p *idp) { p.tokenStatus = http.StatusServiceUnavailable })
	asked := 0
	for range 100 { // ten minutes, a call every six seconds
		_, err := w.UserToken(t.Context(), ada, ask("profile"))
		if !fault.Is(err, fault.Unavailable) {
			t.Fatalf("got %v", err)
		}
		now, _ := w.idp.counts()
		if now == asked {
			wantFault(t, err, fault.Unavailable, "is asked again in")
			if fault.Of(err).RetryAfter <= 0 {
				t.Error("callers are not told when to come back")
			}
		}
		asked = now
		w.later(6 * time.Second)
	}
	if asked < 6 || asked > 12 {
		t.Errorf("the provider was asked %d times in ten minutes", asked)
	}
	shown := w.onlyGrant(t)
	if shown.RefreshFailures == nil || int(*shown.RefreshFailures) != asked || shown.NextRefreshAt.IsZero() || shown.State != "EXPIRED" {
		t.Errorf("shown as %+v", shown)
	}
	w.idp.with(func(p *idp) { p.tokenStatus = 0 })
	w.later(5 * time.Minute)
	if w.token(t, ada, ask("profile")) == old {
		t.Error("the token was not renewed")
	}
	if shown := w.onlyGrant(t); shown.RefreshFailures != nil || !shown.NextRefreshAt.IsZero() {
		t.Errorf("after a success shown as %+v", shown)
	}
}

// Callers of a token that still lives do not even hear of it.
func TestBackOffWhileTheTokenLives(t *testing.T) {
	t.Parallel()
	w, ada, old := aging(t)
	w.idp.with(func(p *idp) { p.tokenStatus = http.StatusServiceUnavailable })
	for range 110 {
		if w.token(t, ada, ask("profile")) != old {
			t.Fatal("another token")
		}
		w.later(time.Second)
	}
	w.background.close()
	if refreshes, _ := w.idp.counts(); refreshes > 8 {
		t.Errorf("%d refreshes in under two minutes", refreshes)
	}
}

// An operator who mends the credential provider need not wait for the back-off.
func TestBackOffEndsWithAChangeOfTheProvider(t *testing.T) {
	t.Parallel()
	w, ada, old := expiredGrant(t)
	w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = http.StatusUnauthorized, "invalid_client" })
	for range 5 {
		if _, err := w.UserToken(t.Context(), ada, ask("profile")); err == nil {
			t.Fatal("no error")
		}
	}
	if refreshes, _ := w.idp.counts(); refreshes > 2 {
		t.Errorf("%d refreshes", refreshes)
	}
	w.idp.with(func(p *idp) { p.tokenStatus = 0 })
	update(t, w, custom(w.idp, "client"))
	if w.token(t, ada, ask("profile")) == old {
		t.Error("the token was not renewed")
	}
}

// A holder that is slow, and lives, keeps its lease however long the provider
// takes. What passes is the database's time, so that no machine is too slow to renew.
func TestSlowProviderIsAskedByOneAlone(t *testing.T) {
	t.Parallel()
	w, ada, _ := expiredGrant(t)
	w.holding = holding{life: time.Hour, renew: time.Second, giveUp: time.Minute}
	second := w.replica(t)
	second.holding = w.holding
	hold := make(chan struct{})
	w.idp.with(func(p *idp) { p.holdRefresh = hold })
	var waiting sync.WaitGroup
	for _, process := range []*world{w, second} {
		waiting.Go(func() {
			if _, err := process.UserToken(t.Context(), ada, ask("profile")); err != nil {
				t.Error(err)
			}
		})
	}
	<-w.idp.refreshSeen
	for range 4 { // several times the lease
		w.later(45 * time.Minute)
		renewed := w.db.Now().Add(30 * time.Minute).UnixMicro()
		for deadline := time.Now().Add(time.Minute); w.count(t, `SELECT COUNT(*) FROM grants WHERE lease_until > $1`, renewed) == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				close(hold) // the provider's end waits for its answers
				t.Fatal("the lease is not renewed")
			}
		}
	}
	select {
	case <-w.idp.refreshSeen:
		t.Error("two processes asked at once")
	case <-time.After(3 * pollInterval): // in which the second one looks again
	}
	close(hold)
	waiting.Wait()
	if refreshes, _ := w.idp.counts(); refreshes != 1 {
		t.Errorf("%d refreshes", refreshes)
	}
}

// A holder that cannot renew breaks off before anybody else may begin.
func TestHolderThatCannotRenewGivesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.holding = holding{life: time.Minute, renew: 20 * time.Millisecond, giveUp: 100 * time.Millisecond}
	for name, renew := range map[string]func(*store.Tx) (bool, error){
		"lost":       func(*store.Tx) (bool, error) { return false, nil },
		"no answers": func(*store.Tx) (bool, error) { return false, errors.New("the database is away") },
	} {
		began := time.Now()
		var asked atomic.Bool
		_, err := held(t.Context(), w.Broker, renew, func(ctx context.Context) (int, error) {
			asked.Store(true)
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if took := time.Since(began); !asked.Load() || took >= w.holding.life || !fault.Is(err, fault.Unavailable) || !errors.Is(err, errLeaseLost) {
			t.Errorf("%s: after %v: %v", name, took, err)
		}
	}
	w.holding.giveUp, w.holding.renew = time.Minute, time.Second
	renewed, once := make(chan struct{}), sync.Once{}
	got, err := held(t.Context(), w.Broker, func(*store.Tx) (bool, error) { once.Do(func() { close(renewed) }); return true, nil }, func(ctx context.Context) (int, error) {
		select {
		case <-renewed:
			return 7, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	})
	if got != 7 || err != nil {
		t.Errorf("a holder that renewed got %d, %v", got, err)
	}
}
