package broker

import (
	"errors"
	"sync"

	"github.com/onbehalf/onbehalf/internal/store"
)

// hints are the ids that providers had when they were last looked up by name. A
// hint saves a query and is never believed: the id is part of what grants are
// found by, and the query that uses it asks whether that provider is still there
// under that name. Where it finds nothing, the provider is looked up first, as
// without a hint.
type hints struct {
	mu  sync.RWMutex
	ids map[hintKey]string
}

type hintKey struct{ account, name string }

// mostHints bounds the names that are remembered.
const mostHints = 4096

func (h *hints) of(account, name string) (id string, known bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	id, known = h.ids[hintKey{account, name}]
	return id, known
}

func (h *hints) set(account, name, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for other := range h.ids {
		if len(h.ids) < mostHints {
			break
		}
		delete(h.ids, other) // any: it comes back with its next request
	}
	h.ids[hintKey{account, name}] = id
}

// errNoHint says that one query was not enough. It stays inside this room.
var errNoHint = errors.New("the provider has to be looked up")

// hinted is the name of a request's provider and the id that it had; errNoHint where none is known.
func (b *Broker) hinted(account string, r TokenRequest) (name, id string, err error) {
	if name, err = b.requestedName(account, r); err != nil {
		return "", "", err
	}
	id, known := b.hints.of(account, name)
	if !known {
		return "", "", errNoHint
	}
	return name, id, nil
}

// resolveProvider finds the id of a request's provider.
func (b *Broker) resolveProvider(tx *store.Tx, account string, r TokenRequest) (string, error) {
	name, err := b.requestedName(account, r)
	if err != nil {
		return "", err
	}
	id, err := b.providerID(tx, account, name)
	if err == nil {
		b.hints.set(account, name, id)
	}
	return id, err
}

func (b *Broker) requestedName(account string, r TokenRequest) (string, error) {
	if r.ProviderARN == "" {
		return r.ProviderName, nil
	}
	return b.nameInARN(account, r.ProviderARN)
}
