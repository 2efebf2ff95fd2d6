package runtime

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Tags answers a runtime's tags, as change left them; nil changes nothing.
func (s *Service) Tags(ctx context.Context, account, id string, change func(map[string]string) error) (map[string]string, error) {
	tags, err := s.db.Labels(ctx, func(tx *store.Tx) (map[string]string, error) {
		row, err := findRuntime(tx, account, id)
		if err != nil {
			return nil, err
		}
		return row.tags, nil
	}, change, func(tx *store.Tx, encoded string) error {
		_, err := tx.Exec("UPDATE agent_runtimes SET tags = $1 WHERE id = $2 AND account = $3", encoded, id, account)
		return err
	})
	return tags, fault.Wrap(err, "tagging an agent runtime")
}

// EndpointTags is Tags of an endpoint.
func (s *Service) EndpointTags(ctx context.Context, account, id, name string, change func(map[string]string) error) (map[string]string, error) {
	tags, err := s.db.Labels(ctx, func(tx *store.Tx) (map[string]string, error) {
		e, err := findEndpoint(tx, account, id, name)
		if err != nil {
			return nil, err
		}
		return e.tags, nil
	}, change, func(tx *store.Tx, encoded string) error {
		_, err := tx.Exec("UPDATE agent_runtime_endpoints SET tags = $1 WHERE runtime_id = $2 AND name = $3 AND account = $4", encoded, id, name, account)
		return err
	})
	return tags, fault.Wrap(err, "tagging an endpoint of an agent runtime")
}

// Check finds a runtime of the account, or an endpoint of it; fault.NotFound.
func (s *Service) Check(tx *store.Tx, account, id, endpoint string) error {
	_, err := findRuntime(tx, account, id)
	if err == nil && endpoint != "" {
		_, err = findEndpoint(tx, account, id, endpoint)
	}
	return err
}
