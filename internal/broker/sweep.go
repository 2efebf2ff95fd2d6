package broker

import (
	"context"
	"log/slog"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	// sweepEvery is how often Run looks for what is over.
	sweepEvery = time.Minute
	// rememberFor keeps a session beyond its time, so that who still polls hears how it ended.
	rememberFor = 10 * time.Minute
)

// Run deletes, each minute until ctx ends, what is left of sessions that are
// over: first their codes and verifiers, later the sessions. One replica does it
// for all; what is overdue is refused by the clock, not by the sweep. When ctx
// ends, it waits for refreshes that go on in the background.
func (b *Broker) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			b.background.close()
			return nil
		case <-ticker.C:
			if err := b.sweep(ctx); err != nil { // the next one makes it good
				slog.WarnContext(ctx, "could not sweep authorization sessions", "error", err)
			}
		}
	}
}

func (b *Broker) sweep(ctx context.Context) error {
	return b.db.Sweep(ctx, "authorization sessions", sweepEvery, func(tx *store.Tx) error {
		// A session that is being redeemed keeps its attempt until the redeemer is done, or dead.
		if _, err := tx.Exec(`DELETE FROM authorization_attempts WHERE session_id IN (
				SELECT id FROM authorization_sessions WHERE expires <= $1 AND (state <> $2 OR redeem_until <= $1))`,
			store.Micros(tx.Now), redeeming); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM authorization_sessions WHERE expires <= $1 AND redeem_until <= $2`,
			store.Micros(tx.Now.Add(-rememberFor)), store.Micros(tx.Now))
		return err
	})
}
