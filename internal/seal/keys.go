package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const keySize = 32

// dataKey is an unwrapped data key. The key itself is not kept: a cipher and the
// root of derived keys are made of it, which have nothing in common.
type dataKey struct {
	generation uint32
	aead       cipher.AEAD
	root       []byte // input of Derive
}

// newDataKey expands raw and wipes it.
func newDataKey(raw []byte, generation uint32) (*dataKey, error) {
	defer clear(raw)
	if len(raw) != keySize {
		return nil, fault.New(fault.Undecryptable, "A data key does not have %d bytes.", keySize)
	}
	sealing, err := hkdf.Expand(sha256.New, raw, "onbehalf seal 1: encrypt", keySize)
	if err != nil {
		return nil, fault.Wrap(err, "expanding a data key")
	}
	defer clear(sealing)
	aead, err := newAEAD(sealing)
	if err != nil {
		return nil, err
	}
	root, err := hkdf.Expand(sha256.New, raw, "onbehalf seal 1: derive", keySize)
	if err != nil {
		return nil, fault.Wrap(err, "expanding a data key")
	}
	return &dataKey{generation: generation, aead: aead, root: root}, nil
}

// newAEAD makes AES-256-GCM with random 96-bit nonces, the one mode that FIPS
// 140-3 allows to seal without a counter. One key is good for 2^32 messages.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault.Wrap(err, "making a cipher")
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return aead, fault.Wrap(err, "making a cipher")
}

// remains is what is kept of the first data key when it is destroyed: the root of
// derived keys, from which the key itself does not follow. It seals nothing.
func remains(root []byte) (*dataKey, error) {
	if len(root) != keySize {
		return nil, fault.New(fault.Undecryptable, "What is left of a data key does not have %d bytes.", keySize)
	}
	return &dataKey{root: root}, nil
}

// ring is the data keys of one account and purpose, oldest first; never empty,
// and its newest always seals.
type ring []*dataKey

func (r ring) newest() *dataKey {
	if len(r) == 0 {
		return nil
	}
	return r[len(r)-1]
}

// generation is the newest one's; 0 of an empty ring.
func (r ring) generation() uint32 {
	if len(r) == 0 {
		return 0
	}
	return r[len(r)-1].generation
}

func (r ring) find(generation uint32) *dataKey {
	for i := len(r) - 1; i >= 0; i-- { // nearly always the newest
		if r[i].generation == generation {
			return r[i]
		}
	}
	return nil
}
