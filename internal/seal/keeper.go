package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Keeper seals and opens with the data keys of one database. It is safe for
// concurrent use, and several Keepers (replicas) may share a database.
type Keeper struct {
	db       *store.DB
	platform KeyWrapper
	declared []Declared

	mu       sync.RWMutex
	rings    map[slot]loadedRing
	refusals map[slot]refusal
	turns    map[slot]*sync.Mutex
}

// Declared is a key that the operator lets one account put around its vault.
type Declared struct {
	ARN     string // what SetTokenVaultCMK calls it
	Account string // who may choose it
	Wrapper KeyWrapper
}

type slot struct {
	account string
	purpose Purpose
}

type loadedRing struct {
	keys ring
	at   time.Time
}

// refusal is the last answer of a key that would not unwrap.
type refusal struct {
	err error
	at  time.Time
}

const (
	// fresh is how long a replica may go on sealing with a key that another replica
	// has rotated away.
	fresh = time.Minute

	// stale is for how long it may while the database does not answer. A value that
	// is sealed is stored within minutes, so nothing is sealed with an old key
	// afterwards: it can be destroyed (destroyAfter).
	stale = 5 * time.Minute

	// patience is how long a key that would not unwrap is not asked again.
	patience = 3 * time.Second
)

// Platform is the account of what belongs to no tenant. NewKeeper makes its data
// keys; it is not 12 digits, so no caller is ever in it.
const Platform = "platform"

// NewKeeper proves that w is the key that the database's data keys were wrapped
// with, and that those which accounts chose are declared; it refuses to start
// where it is not so.
func NewKeeper(ctx context.Context, db *store.DB, w KeyWrapper, declared ...Declared) (*Keeper, error) {
	k := &Keeper{db: db, platform: w, declared: declared, rings: make(map[slot]loadedRing), refusals: make(map[slot]refusal), turns: make(map[slot]*sync.Mutex)}
	if err := k.prove(ctx); err != nil {
		return nil, err
	}
	if err := k.complete(ctx); err != nil {
		return nil, err
	}
	return k, k.EnsureAccount(ctx, Platform)
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

// EnsureAccount makes the account's data keys where they are missing. Call it
// when an account is made, outside of a transaction: it opens one.
func (k *Keeper) EnsureAccount(ctx context.Context, account string) error {
	var found []row // not unwrapped: most are not needed at once
	err := k.db.View(ctx, func(tx *store.Tx) (err error) {
		found, err = readRows(tx, "WHERE account = $1", account)
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

// complete makes the data keys of a purpose that a newer version brought.
func (k *Keeper) complete(ctx context.Context) error {
	var accounts []string
	err := k.db.View(ctx, func(tx *store.Tx) (err error) {
		accounts, err = texts(tx, "SELECT account FROM data_keys GROUP BY account HAVING count(DISTINCT purpose) < $1", len(purposes))
		return err
	})
	if err != nil {
		return fault.Wrap(err, "reading data keys")
	}
	for _, account := range accounts {
		if err := k.EnsureAccount(ctx, account); err != nil {
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
	return k.add(ctx, slot{account, p}, keys.generation()+1)
}

// Derive returns 32 bytes for a MAC key: the same for the same account, purpose
// and info for as long as the account lives, whatever is rotated. Different info
// gives keys that say nothing about each other.
func (k *Keeper) Derive(ctx context.Context, account string, p Purpose, info string) ([]byte, error) {
	keys, err := k.ring(ctx, slot{account, p})
	if err != nil {
		return nil, err
	}
	return derive(keys[0].root, info)
}

func derive(root []byte, info string) ([]byte, error) {
	key, err := hkdf.Expand(sha256.New, root, "onbehalf derive 1: "+info, keySize)
	return key, fault.Wrap(err, "deriving a key")
}

// errMoved says that the vault's key changed while a data key was being wrapped with it.
var errMoved = errors.New("seal: the vault was moved to another key meanwhile")

// add stores a data key of this generation, unless another replica was faster:
// then that one is used. The key is made and wrapped before the transaction,
// because wrapping may be a call to a KMS.
func (k *Keeper) add(ctx context.Context, at slot, generation uint32) error {
	raw := make([]byte, keySize)
	defer clear(raw)
	_, _ = rand.Read(raw) // never fails
	for attempt := 1; ; attempt++ {
		err := k.addWrapped(ctx, at, generation, raw)
		if err == nil {
			break
		}
		if !errors.Is(err, errMoved) || attempt == 3 {
			return err
		}
	}
	_, err := k.load(ctx, at)
	return err
}

// addWrapped wraps a data key with the key that wraps the account's others.
func (k *Keeper) addWrapped(ctx context.Context, at slot, generation uint32, raw []byte) error {
	chosen := func(tx *store.Tx) (arn string, err error) {
		return arn, tx.QueryRow("SELECT coalesce(max(arn), '') FROM data_keys WHERE account = $1 AND purpose = $2", at.account, string(at.purpose)).Scan(&arn)
	}
	var arn string
	err := k.db.View(ctx, func(tx *store.Tx) (err error) { arn, err = chosen(tx); return err })
	if err != nil {
		return fault.Wrap(err, "reading a vault's key")
	}
	w, err := k.wrapperOf(at.account, arn)
	if err != nil {
		return err
	}
	wrapped, err := w.Wrap(ctx, raw, boundTo(at.account, at.purpose, generation))
	if err != nil {
		return fault.Wrap(err, "wrapping a data key")
	}
	err = k.db.Update(ctx, func(tx *store.Tx) error {
		if now, err := chosen(tx); err != nil || now != arn {
			return errors.Join(err, errMoved)
		}
		_, err := tx.Exec(`INSERT INTO data_keys (account, purpose, generation, wrapper, wrapped, created, arn)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (account, purpose, generation) DO NOTHING`,
			at.account, string(at.purpose), int64(generation), w.ID(), wrapped, store.Micros(tx.Now), arn)
		return err
	})
	return fault.Wrap(err, "storing a data key")
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
	case err != nil && ok && time.Since(loaded.at) < stale: // the database is away for a moment: the key we have is still good
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
	if generation == 0 {
		return nil, undecryptable() // what is left of a destroyed key: it opens nothing
	}
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
