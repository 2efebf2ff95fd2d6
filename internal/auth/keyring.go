package auth

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/sigv4"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	// keyFresh is how long a row is believed without another look, and so the
	// longest that a disabled or deleted key goes on working, on every replica.
	// At one second a busy key costs one indexed read per second and process.
	keyFresh = time.Second

	// maxKeys bounds the keys in memory, about half a kilobyte each.
	maxKeys = 4096

	// keyRead bounds one look at the database. It is not the request's own
	// deadline, because several requests may wait for the same look.
	keyRead = 5 * time.Second
)

// keyring keeps the keys in use at hand: their rows, and the signing keys of the
// day, so that a secret is opened once a day and not per request. The secret
// itself is not kept. A signing key is key material too: it lives in this map,
// is dropped the moment its row is found disabled, and is worthless the day after.
type keyring struct {
	db     *store.DB
	keeper *seal.Keeper
	now    func() time.Time
	start  time.Time // ages are measured from here, by the monotonic clock
	looks  singleflight.Group

	mu   sync.RWMutex
	keys map[string]*cachedKey
}

type cachedKey struct {
	keyRow
	checked atomic.Int64 // when the row was last read, nanoseconds since keyring.start
	used    atomic.Int64 // when it last signed, microseconds; 0 where that is written already

	mu      sync.Mutex
	signing [2]daySigningKey // two, because around midnight clocks disagree about the day
}

type daySigningKey struct {
	scope sigv4.Credential
	key   sigv4.SigningKey
}

func newKeyring(db *store.DB, k *seal.Keeper, now func() time.Time) *keyring {
	return &keyring{db: db, keeper: k, now: now, start: time.Now(), keys: map[string]*cachedKey{}}
}

// find is the live key of that id; fault.UnknownKey when there is none. It fails
// closed: when the row cannot be read again, what was known no longer counts.
func (k *keyring) find(ctx context.Context, id string) (*cachedKey, error) {
	k.mu.RLock()
	key := k.keys[id]
	k.mu.RUnlock()
	if key != nil && k.age()-time.Duration(key.checked.Load()) < keyFresh {
		return key, nil
	}
	found, err, _ := k.looks.Do(id, func() (any, error) { return k.look(ctx, id) })
	if err != nil {
		return nil, err
	}
	if key := found.(*cachedKey); key != nil {
		return key, nil
	}
	return nil, unknownKey()
}

func (k *keyring) age() time.Duration { return k.now().Sub(k.start) }

func (k *keyring) look(ctx context.Context, id string) (*cachedKey, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyRead)
	defer cancel()
	asked := k.age() // before the read: what was committed after this moment may have been missed
	var row *keyRow
	err := k.db.Look(ctx, func(tx *store.Tx) (err error) {
		row, err = readKey(tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if row == nil {
		delete(k.keys, id)
		return nil, nil
	}
	key := k.keys[id]
	if key == nil || key.account != row.account || key.arn != row.arn || key.root != row.root || !bytes.Equal(key.sealed, row.sealed) {
		key = &cachedKey{keyRow: *row}
		for other := range k.keys {
			if len(k.keys) < maxKeys {
				break
			}
			delete(k.keys, other) // any: it comes back with its next request
		}
		k.keys[id] = key
	}
	key.checked.Store(int64(asked))
	return key, nil
}

// signingKey is the key's signing key for a scope whose region, service and day
// have been checked. It opens the secret at most once per day and process (more
// often when several requests are the first at once).
func (k *keyring) signingKey(ctx context.Context, key *cachedKey, scope sigv4.Credential) (sigv4.SigningKey, error) {
	key.mu.Lock()
	for i := range key.signing {
		if key.signing[i].scope == scope {
			defer key.mu.Unlock()
			return key.signing[i].key, nil
		}
	}
	key.mu.Unlock()
	text, err := k.keeper.OpenText(ctx, sealContext(key.account, key.id), key.sealed)
	if err != nil {
		return sigv4.SigningKey{}, err
	}
	day := daySigningKey{scope, sigv4.DeriveKey(text, scope)}
	key.mu.Lock()
	defer key.mu.Unlock()
	if key.signing[0].scope != scope {
		key.signing[0], key.signing[1] = day, key.signing[0]
	}
	return day.key, nil
}
