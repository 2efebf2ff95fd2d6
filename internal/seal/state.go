package seal

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// State is how an account's data keys stand.
type State struct {
	Account  string
	ARN      string // of the key that the account chose for its vault; "" is the platform's own
	Wrapper  string // the name of the key around the vault's data keys
	DataKeys int    // of vault and secrets together, those on their way out too
	Newest   time.Time
	Rotation Rotation // the last, or the one under way
}

// States tells how the data keys of an account stand, or those of all accounts.
func (c *Custodian) States(ctx context.Context, account string) ([]State, error) {
	rotations, err := c.Rotations(ctx, account)
	if err != nil {
		return nil, err
	}
	var found []State
	err = c.db.View(ctx, func(tx *store.Tx) error {
		found = nil
		rows, err := tx.Query(`SELECT account, max(CASE WHEN purpose = $1 THEN arn ELSE '' END), max(CASE WHEN purpose = $1 THEN wrapper ELSE '' END), count(*), max(created)
			FROM data_keys WHERE purpose IN ($1, $2) AND generation > 0 AND account <> $3 AND (account = $4 OR $4 = '') GROUP BY account ORDER BY account`,
			string(Vault), string(Secrets), Platform, account)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s State
			var newest int64
			if err := rows.Scan(&s.Account, &s.ARN, &s.Wrapper, &s.DataKeys, &newest); err != nil {
				return err
			}
			s.Newest = store.Time(newest)
			for _, r := range rotations {
				if r.Account == s.Account {
					s.Rotation = r
				}
			}
			found = append(found, s)
		}
		return rows.Err()
	})
	return found, fault.Wrap(err, "reading data keys")
}
