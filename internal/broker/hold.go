package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// holding are the times of a lease that its holder renews while a provider is
// being asked: short, because all who wait for a dead holder wait that long.
//
// A holder that cannot renew breaks its request off when giveUp is over, so that
// no two living ones ask at once; what is left until life is for clocks of
// replicas that differ.
type holding struct{ life, renew, giveUp time.Duration }

var usualHolding = holding{life: 15 * time.Second, renew: 3 * time.Second, giveUp: 8 * time.Second}

var errLeaseLost = errors.New("the lease could not be renewed")

// held runs fn, which asks a provider, and renews the lease that was taken for it
// as long as that takes.
func held[T any](ctx context.Context, b *Broker, renew func(*store.Tx) (bool, error), fn func(context.Context) (T, error)) (T, error) {
	ctx, lose := context.WithCancelCause(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		err := fault.Contain("renewing a lease", func() error { b.keepRenewing(ctx, lose, renew); return nil })
		if err != nil { // nobody renews it any more
			slog.ErrorContext(ctx, "a lease is given up", "error", err)
			lose(errLeaseLost)
		}
	})
	defer keeping.Wait()
	defer lose(nil)
	result, err := fn(ctx)
	if err != nil && context.Cause(ctx) == errLeaseLost {
		err = fault.New(fault.Unavailable, "The database could not be reached while the provider was being asked. Try again.").Because(errors.Join(errLeaseLost, err))
	}
	return result, err
}

func (b *Broker) keepRenewing(ctx context.Context, lose context.CancelCauseFunc, renew func(*store.Tx) (bool, error)) {
	ticker := time.NewTicker(b.holding.renew)
	defer ticker.Stop()
	end := time.NewTimer(b.holding.giveUp)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			lose(errLeaseLost)
			return
		case <-ticker.C:
			began, renewed := time.Now(), false
			asking, cancel := context.WithTimeout(ctx, b.holding.renew)
			err := b.db.Append(asking, func(tx *store.Tx) (err error) { // no Cache remembers leases
				renewed, err = renew(tx)
				return err
			})
			cancel()
			switch {
			case err == nil && !renewed:
				lose(errLeaseLost)
				return
			case err == nil:
				end.Reset(b.holding.giveUp - time.Since(began))
			}
		}
	}
}
