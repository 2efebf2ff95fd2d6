package identity

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// sweepEvery is how often Run looks for what has ended.
const sweepEvery = time.Minute

// Revoke makes the tokens that this workload was issued for the user until now
// open no more; later ones do. The zero user means the workload's own tokens.
func (s *Service) Revoke(tx *store.Tx, account, workloadID string, user principal.User) error {
	_, err := tx.Exec(`INSERT INTO workload_token_cutoffs (account, workload_id, user_key, not_before) VALUES ($1, $2, $3, $4)
		ON CONFLICT (workload_id, user_key) DO UPDATE SET not_before = excluded.not_before`,
		account, workloadID, user.String(), store.Micros(tx.Now))
	if store.IsForeignKey(err) {
		return fault.New(fault.NotFound, "The workload identity does not exist any more.")
	}
	return fault.Wrap(err, "revoking workload access tokens")
}

// Run deletes, each minute until ctx ends, stored JWTs that have expired and
// cut-offs that no living token can be older than. Any replica may do it at any time.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			// A failed sweep is made good by the next one; what it leaves is refused by time anyway.
			_ = s.sweep(ctx)
		}
	}
}

func (s *Service) sweep(ctx context.Context) error {
	return s.db.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM workload_inbound_tokens WHERE expires <= $1`, store.Micros(tx.Now)); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM workload_token_cutoffs WHERE not_before <= $1`, store.Micros(tx.Now.Add(-tokenLifetime)))
		return err
	})
}
