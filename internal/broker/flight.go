package broker

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// shared does fn once for all callers of this process that ask for the same key
// at the same time. Each of them waits as long as its own request lives; fn goes
// on when they have all gone, because a provider may have answered something that cannot be had twice.
func shared[T any](ctx context.Context, group *singleflight.Group, key string, fn func(context.Context) (T, error)) (none T, _ error) {
	flight := group.DoChan(key, func() (any, error) {
		detached, cancel := unhurried(ctx)
		defer cancel()
		return fault.ContainValue("asking a provider", func() (T, error) { return fn(detached) })
	})
	select {
	case result := <-flight:
		if result.Err != nil {
			return none, result.Err
		}
		return result.Val.(T), nil
	case <-ctx.Done():
		return none, fault.New(fault.Unavailable, "The request ended before the provider had answered.").Because(ctx.Err())
	}
}

// unhurried is a context that outlives its caller's, by as long as a lease lasts.
func unhurried(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), leaseLifetime)
}

// pause waits until it is worth looking again at what another process does.
func pause(ctx context.Context) error {
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "Another process is at this and has not finished. Try again.").Because(ctx.Err())
	}
}
