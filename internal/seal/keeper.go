package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Keeper seals and opens with the data keys of one database. It is safe for
// concurrent use, and several Keepers (replicas) may share a database.
type Keeper struct {
	db      *store.DB
	wrapper KeyWrapper

	mu    sync.RWMutex
	rings map[slot]loadedRing
}

type slot struct {
	account string
	purpose Purpose
}

type loadedRing struct {
	keys ring
	at   time.Time
}

// fresh is how long a replica may go on sealing with a key that another replica
// has rotated away.
const fresh = time.Minute

// Platform is the account of what belongs to no tenant. NewKeeper makes its data
// keys; it is not 12 digits, so no caller is ever in it.
const Platform = "platform"

// NewKeeper proves that w is the key that the database's data keys were wrapped
// with, and refuses to start where it is not.
func NewKeeper(ctx context.Context, db *store.DB, w KeyWrapper) (*Keeper, error) {
	k := &Keeper{db: db, wrapper: w, rings: make(map[slot]loadedRing)}
	if err := k.prove(ctx); err != nil {
		return nil, err
	}
	if err := k.EnsureAccount(ctx, Platform); err != nil {
		return nil, err
	}
	return k, nil
}

// Sealed reports whether the database has data keys, and so needs the
// key-encryption key they were wrapped with.
func Sealed(ctx context.Context, db *store.DB) (bool, error) {
	var n int64
	err := db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("SELECT count(*) FROM (SELECT 1 FROM data_keys LIMIT 1) AS one").Scan(&n)
	})
	return n > 0, fault.Wrap(err, "looking for data keys")
}

// prove looks for a row wrapped by another key, and unwraps one of this key's.
// The others are unwrapped when they are needed: with a KMS each costs a call.
func (k *Keeper) prove(ctx context.Context) error {
	var foreign string
	var strangers int64
	var own []row
	err := k.db.View(ctx, func(tx *store.Tx) error {
		err := tx.QueryRow("SELECT coalesce(min(wrapper), ''), count(*) FROM data_keys WHERE wrapper <> $1", k.wrapper.ID()).
			Scan(&foreign, &strangers)
		if err != nil {
			return err
		}
		own, err = readRows(tx, "WHERE wrapper = $1 ORDER BY account, purpose, generation LIMIT 1", k.wrapper.ID())
		return err
	})
	if err != nil {
		return fault.Wrap(err, "reading the data keys")
	}
	if strangers > 0 {
		return fault.New(fault.Undecryptable, "The database was sealed with the key %s, and the key given is %s. "+
			"Put back the key that belongs to this database (it was made together with it; look into your backups). "+
			"Without it none of the stored secrets can be read; to begin anew, use an empty database.", foreign, k.wrapper.ID())
	}
	for _, r := range own {
		if _, err := k.unwrap(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// EnsureAccount makes the account's data keys where they are missing. Call it
// when an account is made, outside of a transaction: it opens one.
func (k *Keeper) EnsureAccount(ctx context.Context, account string) error {
	var found []row // not unwrapped: most are not needed at once
	err := k.db.View(ctx, func(tx *store.Tx) (err error) {
		found, err = readRows(tx, "WHERE account = $1 AND generation = 1", account)
		return err
	})
	if err != nil {
		return fault.Wrap(err, "reading data keys")
	}
	for _, p := range purposes {
		if slices.ContainsFunc(found, func(r row) bool { return r.purpose == p }) {
			continue
		}
		if err := k.add(ctx, slot{account, p}, 1); err != nil {
			return err
		}
	}
	return nil
}

// Rotate makes a new data key. From now on values are sealed with it, by other
// replicas within a minute; what older keys sealed still opens. Derive is not
// affected.
func (k *Keeper) Rotate(ctx context.Context, account string, p Purpose) error {
	keys, err := k.load(ctx, slot{account, p})
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return unknownAccount(account, p)
	}
	return k.add(ctx, slot{account, p}, keys.newest().generation+1)
}

// Derive returns 32 bytes for a MAC key: the same for the same account, purpose
// and info for as long as the account lives, whatever is rotated. Different info
// gives keys that say nothing about each other.
func (k *Keeper) Derive(ctx context.Context, account string, p Purpose, info string) ([]byte, error) {
	keys, err := k.ring(ctx, slot{account, p})
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Expand(sha256.New, keys[0].root, "onbehalf derive 1: "+info, keySize)
	return key, fault.Wrap(err, "deriving a key")
}

// add stores a data key of this generation, unless another replica was faster:
// then that one is used. The key is made and wrapped before the transaction,
// because wrapping may be a call to a KMS.
func (k *Keeper) add(ctx context.Context, at slot, generation uint32) error {
	raw := make([]byte, keySize)
	defer clear(raw)
	_, _ = rand.Read(raw) // never fails
	wrapped, err := k.wrapper.Wrap(ctx, raw, boundTo(at.account, at.purpose, generation))
	if err != nil {
		return fault.Wrap(err, "wrapping a data key")
	}
	err = k.db.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO data_keys (account, purpose, generation, wrapper, wrapped, created)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account, purpose, generation) DO NOTHING`,
			at.account, string(at.purpose), int64(generation), k.wrapper.ID(), wrapped, store.Micros(tx.Now))
		return err
	})
	if err != nil {
		return fault.Wrap(err, "storing a data key")
	}
	_, err = k.load(ctx, at)
	return err
}

// current is the key to seal with.
func (k *Keeper) current(ctx context.Context, account string, p Purpose) (*dataKey, error) {
	at := slot{account, p}
	k.mu.RLock()
	loaded, ok := k.rings[at]
	k.mu.RUnlock()
	if ok && time.Since(loaded.at) < fresh {
		return loaded.keys.newest(), nil
	}
	keys, err := k.load(ctx, at)
	switch {
	case err == nil && len(keys) > 0:
		return keys.newest(), nil
	case ok: // the database is away for a moment: the key we have is still good
		return loaded.keys.newest(), nil
	case err != nil:
		return nil, err
	}
	return nil, unknownAccount(account, p)
}

// key is the key of a generation that a sealed value names: from memory, or, as
// another replica may have made it meanwhile, from the database.
func (k *Keeper) key(ctx context.Context, account string, p Purpose, generation uint32) (*dataKey, error) {
	at := slot{account, p}
	k.mu.RLock()
	loaded := k.rings[at]
	k.mu.RUnlock()
	if key := loaded.keys.find(generation); key != nil {
		return key, nil
	}
	keys, err := k.load(ctx, at)
	if err != nil {
		return nil, err
	}
	if key := keys.find(generation); key != nil {
		return key, nil
	}
	return nil, undecryptable()
}

func (k *Keeper) ring(ctx context.Context, at slot) (ring, error) {
	k.mu.RLock()
	loaded, ok := k.rings[at]
	k.mu.RUnlock()
	if ok {
		return loaded.keys, nil
	}
	keys, err := k.load(ctx, at)
	if err == nil && len(keys) == 0 {
		err = unknownAccount(at.account, at.purpose)
	}
	return keys, err
}

func unknownAccount(account string, p Purpose) error {
	return fault.New(fault.Internal, "An internal error occurred: the account has no data key for %s.", p).
		Because(fault.New(fault.NotFound, "account %s: EnsureAccount was not called", account))
}
