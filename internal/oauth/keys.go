package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const (
	keysFresh   = 15 * time.Minute // a withdrawn key is believed this long
	keysStale   = time.Hour        // and this long while the issuer cannot be reached
	keysPause   = 10 * time.Second // between two fetches, whoever asks for them
	maximumKeys = 200
)

// keySet is what was last heard from one JWKS URL. It is not modified, but replaced.
type keySet struct {
	keys      []jose.JSONWebKey
	fetched   time.Time // zero: never
	attempted time.Time
	err       error // of the last attempt
	size      int   // bytes of the document
}

// keysAt is the key set of a URL: cached, fetched by one caller for all, and
// fetched at most once per keysPause. With renew the cached set was seen and
// found wanting; the result is the same set if it is too early for another.
func (c *Client) keysAt(ctx context.Context, address string, renew *keySet) (*keySet, error) {
	cached := func() (*keySet, bool) {
		set, ok := c.keys.GetIfPresent(address)
		if !ok {
			return nil, false
		}
		now := c.now()
		return set, now.Sub(set.fetched) < keysFresh && set != renew || now.Sub(set.attempted) < keysPause
	}
	if set, ok := cached(); ok {
		return set.orError(c.now(), renew != nil)
	}
	found, err := c.shared(ctx, "keys "+address, func(ctx context.Context) (any, error) {
		set, ok := cached() // again: another flight may just have landed
		if ok {
			return set, nil
		}
		next := &keySet{attempted: c.now()}
		body, err := c.fetch(ctx, address)
		if err == nil {
			next.keys, err = readKeys(body)
			next.fetched, next.size = next.attempted, len(body)
		}
		if err != nil {
			next = &keySet{attempted: c.now(), err: err}
			if set != nil {
				next.keys, next.fetched, next.size = set.keys, set.fetched, set.size
			}
		}
		c.keys.Set(address, next)
		return next, nil
	})
	if err != nil {
		return nil, err
	}
	return found.(*keySet).orError(c.now(), renew != nil)
}

// orError is the set while it may be used, else why there is none. Who asked for
// newer keys is not helped by the old ones: he hears that there was no answer,
// not that his token is bad.
func (s *keySet) orError(now time.Time, renewing bool) (*keySet, error) {
	if s.err != nil && (renewing || now.Sub(s.fetched) >= keysStale) {
		return nil, unshared(s.err)
	}
	return s, nil
}

// readKeys keeps the keys of a JWKS that signatures can be verified with. One
// that is malformed or of an unknown type does not spoil the others (RFC 7517
// section 5).
func readKeys(body []byte) ([]jose.JSONWebKey, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &document) != nil || document.Keys == nil {
		return nil, fault.New(fault.Upstream, "The issuer's key set is not readable.")
	}
	var keys []jose.JSONWebKey
	for _, raw := range document.Keys[:min(len(document.Keys), maximumKeys)] {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && (key.Use == "" || key.Use == "sig") && verifies(key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// verifies accepts public keys of a size that is neither weak nor a burden.
// Symmetric keys, and private ones that someone published, are left out.
func verifies(key jose.JSONWebKey) bool {
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return key.Valid()
	}
	return false
}

// fits reports whether a key may have made a signature with this header.
func fits(key jose.JSONWebKey, header jose.Header) bool {
	if header.KeyID != "" && key.KeyID != header.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
		return false
	}
	switch key.Key.(type) {
	case *rsa.PublicKey:
		return header.Algorithm[0] == 'R' || header.Algorithm[0] == 'P'
	case *ecdsa.PublicKey:
		return header.Algorithm[:2] == "ES"
	default:
		return header.Algorithm == string(jose.EdDSA)
	}
}
