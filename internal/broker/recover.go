package broker

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Recover ends what a process that died was at: its refreshes may be tried
// again, its redemptions have failed. Without it they end by themselves, some
// seconds or a minute later, and users wait that long.
//
// Call it before the first request, and only where no other process can be at
// work on this database: it ends the work of the living as well.
func (b *Broker) Recover(ctx context.Context) error {
	err := b.db.Update(ctx, func(tx *store.Tx) error {
		if err := b.vault.ReleaseAll(tx); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE authorization_sessions SET redeem_until = $1 WHERE state = $2 AND redeem_until > $1`, store.Micros(tx.Now), redeeming)
		return err
	})
	return fault.Wrap(err, "ending what a dead process was at")
}
