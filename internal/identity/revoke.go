package identity

import (
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

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
