package vault

import (
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// ReleaseAll gives back every lease. It is for a process that knows that it is
// alone: what a dead one held would otherwise keep users waiting until it runs out.
func (v *Vault) ReleaseAll(tx *store.Tx) error {
	_, err := tx.Exec(`UPDATE grants SET lease_holder = '', lease_until = 0 WHERE lease_until > 0`)
	return fault.Wrap(err, "releasing the grants")
}
