package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// keep stores an inbound JWT that is too large to travel, until its end.
func (s *Service) keep(ctx context.Context, account, workloadID string, token secret.Text, until time.Time) (string, error) {
	id := rand.Text()
	sealed, err := s.keeper.SealText(ctx, inboundContext(account, id), token)
	if err != nil {
		return "", err
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO workload_inbound_tokens (id, account, workload_id, sealed, expires) VALUES ($1, $2, $3, $4, $5)`,
			id, account, workloadID, sealed, store.Micros(until))
		if store.IsForeignKey(err) {
			return fault.New(fault.NotFound, "The workload identity does not exist any more.")
		}
		return err
	})
	return id, fault.Wrap(err, "storing an inbound token")
}

// kept reads it back; an empty text once it has been swept, since the workload
// access token may outlive the JWT that it was made from.
func (s *Service) kept(tx *store.Tx, account, id string) (secret.Text, error) {
	var sealed []byte
	err := tx.QueryRow(`SELECT sealed FROM workload_inbound_tokens WHERE id = $1 AND account = $2 AND expires > $3`, id, account, store.Micros(tx.Now)).Scan(&sealed)
	if errors.Is(err, store.ErrNoRows) {
		return secret.Text{}, nil
	}
	if err != nil {
		return secret.Text{}, err
	}
	return s.keeper.OpenText(tx.Context(), inboundContext(account, id), sealed)
}

func inboundContext(account, id string) seal.Context {
	return seal.Context{Account: account, Kind: "inbound-jwt", Row: id}
}
