package identity

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Tags answers the tags of the identity with this name, as change left them; nil
// changes nothing. change may run more than once.
func (s *Service) Tags(ctx context.Context, account, name string, change func(map[string]string) error) (map[string]string, error) {
	tags, err := s.db.Labels(ctx, func(tx *store.Tx) (map[string]string, error) {
		found, err := s.named(tx, account, name)
		return found.Tags, err
	}, change, func(tx *store.Tx, encoded string) error {
		_, err := tx.Exec(`UPDATE workload_identities SET tags = $1 WHERE account = $2 AND name = $3`, encoded, account, name)
		return err
	})
	return tags, fault.Wrap(err, "tagging a workload identity")
}
