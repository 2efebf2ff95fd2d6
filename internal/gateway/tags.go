package gateway

import (
	"context"
	"encoding/json"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Tags answers a gateway's tags, as change left them; nil changes nothing.
// change may run more than once.
func (s *Service) Tags(ctx context.Context, account, id string, change func(map[string]string) error) (tags map[string]string, err error) {
	do := s.db.Update
	if change == nil {
		do = s.db.View
	}
	err = do(ctx, func(tx *store.Tx) error {
		found, err := findGateway(tx, account, id)
		if err != nil {
			return err
		}
		if tags = found.tags; tags == nil {
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
		_, err = tx.Exec("UPDATE gateways SET tags = $1 WHERE id = $2 AND account = $3", string(encoded), id, account)
		return err
	})
	return tags, fault.Wrap(err, "tagging a gateway")
}
