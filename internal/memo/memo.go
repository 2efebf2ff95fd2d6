// Package memo is the bounded cache of every room: so many entries, or entries of
// so much weight together. Which of them goes first is otter's to decide.
//
//	a room ── K, V ──▶ Cache[K, V] ── any, any ──▶ otter.Cache, compiled once
//
// otter is generic, and generic code is compiled anew for each shape of its
// arguments: half a megabyte of program for each kind of cache, a third of it
// in memory at rest. Here its arguments are always the same two. The price is
// that a key which is no pointer is boxed for each look, some tens of nanoseconds.
//
// Invariant: nobody else names otter.
package memo

import "github.com/maypok86/otter/v2"

// Cache is safe for concurrent use. It has no goroutine and needs no closing: an
// entry's end of life, if it has one, is a member of its value. otter's own
// expiry would keep a goroutine for each cache.
type Cache[K comparable, V any] struct{ entries *otter.Cache[any, any] }

// ByNumber makes a cache of at most so many entries.
func ByNumber[K comparable, V any](most int) *Cache[K, V] {
	return &Cache[K, V]{otter.Must(&otter.Options[any, any]{MaximumSize: most})}
}

// ByWeight makes a cache whose values weigh at most so much together.
func ByWeight[K comparable, V any](most uint64, weigh func(V) uint32) *Cache[K, V] {
	return &Cache[K, V]{otter.Must(&otter.Options[any, any]{
		MaximumWeight: most,
		Weigher: func(_, value any) uint32 {
			v, _ := value.(V)
			return weigh(v)
		},
	})}
}

// GetIfPresent is the value of a key, and whether there is one.
func (c *Cache[K, V]) GetIfPresent(key K) (V, bool) {
	kept, present := c.entries.GetIfPresent(key)
	value, _ := kept.(V) // the zero V where there is none
	return value, present
}

// Set keeps a value, unless it is too heavy to be kept at all.
func (c *Cache[K, V]) Set(key K, value V) { c.entries.Set(key, value) }

// Invalidate forgets a key.
func (c *Cache[K, V]) Invalidate(key K) { c.entries.Invalidate(key) }

// InvalidateAll forgets all of them.
func (c *Cache[K, V]) InvalidateAll() { c.entries.InvalidateAll() }

// Size is how many entries there are and what they weigh together, once all have
// gone that have to go.
func (c *Cache[K, V]) Size() (entries int, weight uint64) {
	c.entries.CleanUp()
	return c.entries.EstimatedSize(), c.entries.WeightedSize()
}
