package auth

import (
	"context"
	"log/slog"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// usedEvery is how often the times of last use are written. A key in constant
// use costs one small transaction a minute, whatever its rate.
const usedEvery = time.Minute

// Run writes when keys were last used, until ctx ends, and once more then.
func (a *Authenticator) Run(ctx context.Context) error {
	tick := time.NewTicker(usedEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.writeUsed(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyRead)
			defer cancel()
			a.writeUsed(last)
			return nil
		}
	}
}

// writeUsed is best effort: a time that was not written is written with the next use.
func (a *Authenticator) writeUsed(ctx context.Context) {
	used := a.keys.takeUsed()
	if len(used) == 0 {
		return
	}
	// Append, because no Cache holds keys: the keyring reads them itself.
	err := a.db.Append(ctx, func(tx *store.Tx) error {
		for id, at := range used {
			if _, err := tx.Exec(`UPDATE access_keys SET last_used = $1 WHERE id = $2 AND last_used < $1`, store.Micros(at), id); err != nil {
				return fault.Wrap(err, "storing a key's last use")
			}
		}
		return nil
	})
	if err != nil {
		slog.WarnContext(ctx, "the last use of access keys was not written", "error", err)
	}
}

// use notes that a signature of the key was good.
func (k *cachedKey) use(now time.Time) { k.used.Store(store.Micros(now)) }

// takeUsed is the keys used since the last call, and when.
func (k *keyring) takeUsed() map[string]time.Time {
	k.mu.RLock()
	defer k.mu.RUnlock()
	used := map[string]time.Time{}
	for id, key := range k.keys {
		if at := key.used.Swap(0); at != 0 {
			used[id] = store.Time(at)
		}
	}
	return used
}
