package identity

import (
	"context"
	"encoding/json"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Tags answers the tags of the identity with this name, as change left them; nil
// changes nothing. change may run more than once.
func (s *Service) Tags(ctx context.Context, account, name string, change func(map[string]string) error) (tags map[string]string, err error) {
	do := s.db.Update
	if change == nil {
		do = s.db.View
	}
	err = do(ctx, func(tx *store.Tx) error {
		found, err := s.named(tx, account, name)
		if err != nil {
			return err
		}
		if tags = found.Tags; tags == nil {
			tags = map[string]string{}
		}
		if change == nil {
			return nil
		}
		if err := change(tags); err != nil {
			return err
		}
		encoded, err := json.Marshal(tags)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE workload_identities SET tags = $1 WHERE id = $2 AND account = $3`, string(encoded), found.ID, account)
		return err
	})
	return tags, fault.Wrap(err, "tagging a workload identity")
}
