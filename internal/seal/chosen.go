package seal

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Choice is the key that wraps an account's vault, and since when things are so.
type Choice struct {
	ARN     string    // of the key that the account chose; "" is the platform's own
	Changed time.Time // when the vault last got a new data key or another key around it
}

// Chosen tells which key an account's vault is under.
func (k *Keeper) Chosen(ctx context.Context, account string) (Choice, error) {
	var c Choice
	var changed, keys int64
	err := k.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT coalesce(max(arn), ''), coalesce(max(CASE WHEN moved > created THEN moved ELSE created END), 0), count(*)
			FROM data_keys WHERE account = $1 AND purpose = $2 AND generation > 0`, account, string(Vault)).Scan(&c.ARN, &changed, &keys)
	})
	if err == nil && keys == 0 {
		return Choice{}, unknownAccount(account, Vault)
	}
	c.Changed = store.Time(changed)
	return c, fault.Wrap(err, "reading a vault's key")
}
