package demoidp

import "time"

// shelf is a map whose entries expire and whose size is bounded: at the limit
// the entry that would expire first makes room. Provider.mu guards it.
type shelf[V any] struct {
	limit   int
	entries map[string]shelved[V]
}

type shelved[V any] struct {
	value   V
	expires time.Time
}

func newShelf[V any](limit int) *shelf[V] {
	return &shelf[V]{limit: limit, entries: map[string]shelved[V]{}}
}

func (s *shelf[V]) put(key string, value V, now, expires time.Time) {
	if _, known := s.entries[key]; !known && len(s.entries) >= s.limit {
		s.makeRoom(now)
	}
	s.entries[key] = shelved[V]{value, expires}
}

func (s *shelf[V]) get(key string, now time.Time) (V, bool) {
	e, ok := s.entries[key]
	if !ok || !now.Before(e.expires) {
		delete(s.entries, key)
		var zero V
		return zero, false
	}
	return e.value, true
}

func (s *shelf[V]) drop(key string) { delete(s.entries, key) }

func (s *shelf[V]) makeRoom(now time.Time) {
	var first string
	for key, e := range s.entries {
		if !now.Before(e.expires) {
			delete(s.entries, key)
			continue
		}
		if first == "" || e.expires.Before(s.entries[first].expires) {
			first = key
		}
	}
	if len(s.entries) >= s.limit {
		delete(s.entries, first)
	}
}
