package identity

import (
	"context"
	"log/slog"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
)

// sweepEvery is how often Run looks for what has ended.
const sweepEvery = time.Minute

// Run deletes, each minute until ctx ends, stored JWTs that have expired and
// cut-offs that no living token can be older than. One replica does it for all.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := s.sweep(ctx); err != nil { // the next one makes it good; what it left is refused by the clock anyway
				slog.WarnContext(ctx, "could not sweep workload tokens", "error", err)
			}
		}
	}
}

func (s *Service) sweep(ctx context.Context) error {
	return s.db.Sweep(ctx, "workload tokens", sweepEvery, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM workload_inbound_tokens WHERE expires <= $1`, store.Micros(tx.Now)); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM workload_token_cutoffs WHERE not_before <= $1`, store.Micros(tx.Now.Add(-tokenLifetime)))
		return err
	})
}
