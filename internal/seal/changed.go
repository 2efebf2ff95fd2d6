package seal

import (
	"context"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Changed tells when the account's newest data key of a purpose was made.
func (k *Keeper) Changed(ctx context.Context, account string, p Purpose) (time.Time, error) {
	var created int64
	err := k.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT created FROM data_keys WHERE account = $1 AND purpose = $2 ORDER BY generation DESC LIMIT 1`, account, string(p)).Scan(&created)
	})
	if errors.Is(err, store.ErrNoRows) {
		return time.Time{}, unknownAccount(account, p)
	}
	return store.Time(created), fault.Wrap(err, "reading a data key's age")
}
