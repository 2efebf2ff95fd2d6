package seal

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Offline is a Keeper of the data keys that a transaction sees, for what is not
// committed yet: a backup that is being restored. Every data key is unwrapped, so
// that whoever gets one knows that the keys given are the right ones. It opens
// and derives, and makes no keys.
//
// The vault of an account whose own key is gone stays shut, here as everywhere;
// its account is among lost.
func Offline(ctx context.Context, tx *store.Tx, platform KeyWrapper, declared ...Declared) (k *Keeper, lost []string, err error) {
	k = &Keeper{platform: platform, declared: declared, rings: make(map[slot]loadedRing), refusals: make(map[slot]refusal)}
	rows, err := readRows(tx, "ORDER BY account, purpose, generation")
	if err != nil {
		return nil, nil, fault.Wrap(err, "reading data keys")
	}
	if len(rows) == 0 {
		return nil, nil, fault.New(fault.Invalid, "The backup has no data keys: it is not one of an installation.")
	}
	for i, r := range rows {
		if i%50 == 49 { // a KMS takes its time, and a database ends transactions that say nothing for a minute
			var one int
			if err := tx.QueryRow("SELECT 1").Scan(&one); err != nil {
				return nil, nil, fault.Wrap(err, "reading data keys")
			}
		}
		key, err := k.unwrap(ctx, r)
		if isGone(err) {
			lost = append(lost, r.account)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		k.rings[r.slot] = loadedRing{append(k.rings[r.slot].keys, key), time.Now()}
	}
	return k, lost, nil
}

// Offline is Offline with this Keeper's own keys, for the data keys as they are in
// a transaction's snapshot: a backup that is being made.
func (k *Keeper) Offline(ctx context.Context, tx *store.Tx) (*Keeper, []string, error) {
	return Offline(ctx, tx, k.platform, k.declared...)
}

// Keys lists the keys that the database's data keys are wrapped with: the
// platform's own first, then, by account, those that accounts chose.
func (c *Custodian) Keys(ctx context.Context) (platform string, chosen map[string]string, err error) {
	states, err := c.States(ctx, "")
	chosen = make(map[string]string)
	for _, s := range states {
		if s.ARN != "" {
			chosen[s.Account] = s.ARN
		}
	}
	return c.keeper.platform.ID(), chosen, err
}
