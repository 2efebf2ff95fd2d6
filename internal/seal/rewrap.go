package seal

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Rewrap puts everything that is under the platform's key under another one, in
// one transaction: data keys alone, no row. No server may run: one that knows the
// old key only would go on wrapping with it. It says how many data keys there were.
func (k *Keeper) Rewrap(ctx context.Context, to KeyWrapper) (int, error) {
	if to.ID() == k.platform.ID() || to == Gone {
		return 0, fault.New(fault.Invalid, "%s is the key already, or none.", to.ID())
	}
	const own = "WHERE arn = '' ORDER BY account, purpose, generation"
	var before []row
	if err := k.db.View(ctx, func(tx *store.Tx) (err error) { before, err = readRows(tx, own); return err }); err != nil {
		return 0, fault.Wrap(err, "reading data keys")
	}
	after := make([][]byte, len(before))
	for i, r := range before {
		var err error
		if after[i], err = k.rewrap(ctx, r, to); err != nil {
			return 0, err
		}
	}
	err := k.db.Update(ctx, func(tx *store.Tx) error {
		now, err := readRows(tx, own)
		if err != nil {
			return err
		}
		if !same(before, now) {
			return fault.New(fault.Concurrent, "Data keys were made or moved meanwhile: stop every server on this database, and try again.")
		}
		for i, r := range before {
			if _, err := tx.Exec("UPDATE data_keys SET wrapper = $1, wrapped = $2, moved = $3 WHERE account = $4 AND purpose = $5 AND generation = $6",
				to.ID(), after[i], store.Micros(tx.Now), r.account, string(r.purpose), int64(r.generation)); err != nil {
				return err
			}
		}
		return nil
	})
	return len(before), fault.Wrap(err, "moving the platform's data keys")
}
