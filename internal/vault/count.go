package vault

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/store"
)

// NeedingConsent counts the grants, of all accounts, whose person must be asked
// again. An index holds no others, so that this is cheap however many there are.
func (v *Vault) NeedingConsent(ctx context.Context) (count int64, err error) {
	err = v.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM grants WHERE state = 'needs-consent'`).Scan(&count)
	})
	return count, err
}
