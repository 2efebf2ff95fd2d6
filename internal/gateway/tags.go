package gateway

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Tags answers a gateway's tags, as change left them; nil changes nothing.
// change may run more than once.
func (s *Service) Tags(ctx context.Context, account, id string, change func(map[string]string) error) (map[string]string, error) {
	tags, err := s.db.Labels(ctx, func(tx *store.Tx) (map[string]string, error) {
		found, err := findGateway(tx, account, id)
		if err != nil {
			return nil, err
		}
		return found.tags, nil
	}, change, func(tx *store.Tx, encoded string) error {
		_, err := tx.Exec("UPDATE gateways SET tags = $1 WHERE id = $2 AND account = $3", encoded, id, account)
		return err
	})
	return tags, fault.Wrap(err, "tagging a gateway")
}
