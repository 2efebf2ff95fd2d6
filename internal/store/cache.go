package store

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/memo"
)

// staleAfter bounds, on SQLite, how long a write by another process (a command of
// the operator on the same file) may go unseen. Writes of this process are seen at once.
const staleAfter = time.Second

// Cache remembers what reads found for as long as nothing was written, so that
// the way of a request that changes nothing needs no statement at all.
//
// One process owns a SQLite file, so a count of its own transactions tells
// whether anything may have changed: any Update makes all entries void. Append
// does not, which is what makes the count worth having. On PostgreSQL, where
// other replicas write, each Read reads.
type Cache[K comparable, V any] struct {
	db      *DB
	entries *memo.Cache[K, remembered[V]]
}

type remembered[V any] struct {
	value      V
	generation int64
	read       time.Time
}

// NewCache makes a cache of at most size entries.
func NewCache[K comparable, V any](db *DB, size int) *Cache[K, V] {
	return &Cache[K, V]{db: db, entries: memo.ByNumber[K, remembered[V]](size)}
}

// Read answers what read found under the key, on the state of now or of a write
// that is not finished yet. Errors are not remembered. Whoever gets the value
// shares it: it must not be changed.
func (c *Cache[K, V]) Read(ctx context.Context, key K, read func(*Tx) (V, error)) (V, error) {
	return c.answer(ctx, key, read, c.db.View)
}

// Look is Read for what one query finds (see DB.Look).
func (c *Cache[K, V]) Look(ctx context.Context, key K, read func(*Tx) (V, error)) (V, error) {
	return c.answer(ctx, key, read, c.db.Look)
}

func (c *Cache[K, V]) answer(ctx context.Context, key K, read func(*Tx) (V, error), view func(context.Context, func(*Tx) error) error) (V, error) {
	// The count is taken before the snapshot: a write in between makes the entry
	// void although it is fresh, never the other way round.
	generation := c.db.generation.Load()
	now := c.db.Now()
	if known, ok := c.entries.GetIfPresent(key); ok && known.generation == generation && now.Sub(known.read) < staleAfter && !now.Before(known.read) {
		return known.value, nil
	}
	var value V
	err := view(ctx, func(tx *Tx) (err error) {
		value, err = read(tx)
		return err
	})
	if err == nil && c.db.exclusive {
		c.entries.Set(key, remembered[V]{value: value, generation: generation, read: now})
	}
	return value, err
}
