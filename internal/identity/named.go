package identity

import (
	"errors"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Named reads an identity by the name that callers use; fault.NotFound when there is none.
func (s *Service) Named(tx *store.Tx, account, name string) (Identity, error) {
	return s.named(tx, account, name)
}

// IDsAfter lists at most limit ids of the account's workload identities, in the
// order of ids, after one of them.
func (s *Service) IDsAfter(tx *store.Tx, account, after string, limit int) ([]string, error) {
	rows, err := tx.Query(`SELECT id FROM workload_identities WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3`, account, after, limit)
	if err != nil {
		return nil, fault.Wrap(err, "listing workload identities")
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fault.Wrap(err, "listing workload identities")
		}
		ids = append(ids, id)
	}
	return ids, fault.Wrap(errors.Join(rows.Err(), rows.Close()), "listing workload identities")
}
