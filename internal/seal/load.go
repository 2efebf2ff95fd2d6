package seal

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// row is one of table data_keys.
type row struct {
	slot
	generation uint32
	wrapper    string
	wrapped    []byte
}

func readRows(tx *store.Tx, where string, args ...any) ([]row, error) {
	rows, err := tx.Query("SELECT account, purpose, generation, wrapper, wrapped FROM data_keys "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.account, &r.purpose, &r.generation, &r.wrapper, &r.wrapped); err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	return found, rows.Err()
}

// load reads the keys of an account and purpose into memory; keys that are there
// already are not unwrapped again. It returns an empty ring where there are none.
func (k *Keeper) load(ctx context.Context, at slot) (ring, error) {
	var rows []row
	err := k.db.View(ctx, func(tx *store.Tx) (err error) {
		rows, err = readRows(tx, "WHERE account = $1 AND purpose = $2 ORDER BY generation", at.account, string(at.purpose))
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, "reading data keys")
	}
	if len(rows) == 0 {
		return nil, nil
	}
	k.mu.RLock()
	known := k.rings[at].keys
	k.mu.RUnlock()
	keys := make(ring, 0, len(rows))
	for _, r := range rows {
		key := known.find(r.generation)
		if key == nil {
			if key, err = k.unwrap(ctx, r); err != nil {
				return nil, err
			}
		}
		keys = append(keys, key)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.rings[at].keys) > len(keys) { // a slower reader must not take back a rotation
		return k.rings[at].keys, nil
	}
	k.rings[at] = loadedRing{keys, time.Now()}
	return keys, nil
}

func (k *Keeper) unwrap(ctx context.Context, r row) (*dataKey, error) {
	if r.wrapper != k.wrapper.ID() {
		return nil, fault.New(fault.Undecryptable, "A data key was wrapped with the key %s, and the key given is %s.", r.wrapper, k.wrapper.ID())
	}
	raw, err := k.wrapper.Unwrap(ctx, r.wrapped, boundTo(r.account, r.purpose, r.generation))
	if err != nil {
		return nil, err
	}
	return newDataKey(raw, r.generation)
}
