package seal

import (
	"context"
	"sync"
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
	arn        string
	retired    int64
}

// readRows reads data keys that are wrapped: those whose wrapping key was lost,
// and which are only there to be cleared away, have no wrapper.
func readRows(tx *store.Tx, where string, args ...any) ([]row, error) {
	rows, err := tx.Query("SELECT account, purpose, generation, wrapper, wrapped, arn, retired FROM data_keys "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.account, &r.purpose, &r.generation, &r.wrapper, &r.wrapped, &r.arn, &r.retired); err != nil {
			return nil, err
		}
		if r.wrapper != "" {
			found = append(found, r)
		}
	}
	return found, rows.Err()
}

func texts(tx *store.Tx, query string, args ...any) ([]string, error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		found = append(found, text)
	}
	return found, rows.Err()
}

// load reads the keys of an account and purpose into memory; keys that are there
// already are not unwrapped again, so that a KMS which is down takes away
// nothing that was open. It returns an empty ring where there are none.
func (k *Keeper) load(ctx context.Context, at slot) (ring, error) {
	if k.db == nil { // Offline has loaded all there is
		return k.rings[at].keys, nil
	}
	var rows []row
	err := k.db.View(ctx, func(tx *store.Tx) (err error) {
		rows, err = readRows(tx, "WHERE account = $1 AND purpose = $2 ORDER BY generation", at.account, string(at.purpose))
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, "reading data keys")
	}
	if len(rows) == 0 || len(rows) == 1 && rows[0].generation == 0 {
		return nil, nil
	}
	keys, complete := k.remembered(at, rows)
	if !complete {
		if keys, err = k.unwrapAll(ctx, at, rows); err != nil {
			return nil, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rings[at].keys.generation() > keys.generation() { // a slower reader must not take back a rotation
		return k.rings[at].keys, nil
	}
	k.rings[at] = loadedRing{keys, time.Now()}
	return keys, nil
}

// remembered is the ring of these rows as far as memory has it.
func (k *Keeper) remembered(at slot, rows []row) (keys ring, complete bool) {
	k.mu.RLock()
	known := k.rings[at].keys
	k.mu.RUnlock()
	keys, complete = make(ring, len(rows)), true
	for i, r := range rows {
		keys[i] = known.find(r.generation)
		complete = complete && keys[i] != nil
	}
	return keys, complete
}

// unwrapAll asks the key's server for what memory lacks. A server that would not
// answer is left alone for a moment: callers that come meanwhile have the same
// error at once, and so never queue behind it.
func (k *Keeper) unwrapAll(ctx context.Context, at slot, rows []row) (ring, error) {
	turn := k.turn(at)
	turn.Lock()
	defer turn.Unlock()
	keys, complete := k.remembered(at, rows)
	if complete {
		return keys, nil
	}
	k.mu.RLock()
	last, refused := k.refusals[at]
	k.mu.RUnlock()
	if refused && time.Since(last.at) < patience {
		return nil, last.err
	}
	for i, r := range rows {
		if keys[i] != nil {
			continue
		}
		var err error
		if keys[i], err = k.unwrap(ctx, r); err != nil {
			if ctx.Err() == nil {
				k.mu.Lock()
				k.refusals[at] = refusal{err, time.Now()}
				k.mu.Unlock()
			}
			return nil, err
		}
	}
	k.mu.Lock()
	delete(k.refusals, at)
	k.mu.Unlock()
	return keys, nil
}

// turn is the queue of one account and purpose: a thousand callers need the same
// answer, and none of them waits for another account's key.
func (k *Keeper) turn(at slot) *sync.Mutex {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.turns[at] == nil {
		k.turns[at] = new(sync.Mutex)
	}
	return k.turns[at]
}

// unwrap opens a row's data key.
func (k *Keeper) unwrap(ctx context.Context, r row) (*dataKey, error) {
	raw, err := k.unwrapRaw(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.generation == 0 {
		return remains(raw)
	}
	return newDataKey(raw, r.generation)
}

// unwrapRaw is unwrap for who wraps the key anew, and then wipes it.
func (k *Keeper) unwrapRaw(ctx context.Context, r row) ([]byte, error) {
	w, err := k.wrapperOf(r.account, r.arn)
	if err != nil {
		return nil, err
	}
	if err := fits(w, r); err != nil {
		return nil, err
	}
	return w.Unwrap(ctx, r.wrapped, boundTo(r.account, r.purpose, r.generation))
}

// forget drops what memory has of an account's keys: they were replaced.
func (k *Keeper) forget(at slot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.rings, at)
	delete(k.refusals, at)
}
