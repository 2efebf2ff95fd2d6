// Package seal keeps secrets sealed at rest. It is the only package that uses a
// cipher.
//
//	key-encryption key (KeyWrapper: file, transit, AWS KMS; wrapper_spec.go reads the setting)
//	      │ wraps; Move hands an account's vault to another key (choice.go)
//	      ▼
//	data key per account and purpose (table data_keys) ── HKDF ──┬─▶ AES-256-GCM: Seal, Open
//	      │ grows old                                            └─▶ HMAC keys: Derive
//	      ▼
//	Custodian: Rotate, re-seal every row (Table), retire, destroy (custodian.go, reseal.go)
//
// What Seal returns is one format byte, the data key's generation (4 bytes), a
// random nonce (12 bytes), the ciphertext and its tag (16 bytes): 33 bytes more
// than the plaintext. Its associated data is the Context and those first bytes.
//
// Invariant: a sealed value opens under exactly the Context it was sealed with.
// Moved to another row, account, kind or version it does not open, and neither
// does a value of which one bit has changed. The database together with
// everything in it opens nothing without the key-encryption key.
package seal

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Purpose separates data keys by what they protect, so that each can be rotated
// on its own and a value of one is never mistaken for one of another.
type Purpose string

// The purposes. EnsureAccount makes a data key for each.
const (
	Vault    Purpose = "vault"          // columns: tokens that people and providers gave; its key an account may choose
	Secrets  Purpose = "secret"         // columns: client secrets, API keys, access-key secrets, settings of targets
	Tokens   Purpose = "workload-token" // workload access tokens
	Pages    Purpose = "page-token"     // list cursors
	Sessions Purpose = "session"        // state and cookies of the OAuth front channel
	AuditMAC Purpose = "audit"          // the audit chain
)

var purposes = []Purpose{Vault, Secrets, Tokens, Pages, Sessions, AuditMAC}

// Context says which value a ciphertext is. All of it is authenticated, none of
// it is stored with the ciphertext: who opens must know it.
type Context struct {
	Account string
	Purpose Purpose // the zero Purpose is Vault
	Kind    string  // "oauth-client-secret", "grant-access-token": the column, in words
	Row     string  // the row's immutable id
	Version int64   // grows when the row's secret changes, so that an old value cannot be put back
}

func (c Context) purpose() Purpose {
	if c.Purpose == "" {
		return Vault
	}
	return c.Purpose
}

// appendTo encodes c so that no two contexts have the same encoding: each text
// follows its length.
func (c Context) appendTo(b []byte) []byte {
	for _, text := range [...]string{c.Account, string(c.purpose()), c.Kind, c.Row} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(c.Version))
}

const (
	headerSize = 1 + 4   // format, generation
	overhead   = 12 + 16 // nonce, tag
)

// format is the first byte of what is sealed for a purpose. Secrets have one of
// their own because they were once sealed for the vault: those values open still,
// and are sealed anew with the next rotation.
func (p Purpose) format() byte {
	if p == Secrets {
		return 2
	}
	return 1
}

// sealedAs is the context that a value of this format was sealed with.
func (c Context) sealedAs(format byte) (Context, bool) {
	c.Purpose = c.purpose()
	if format == c.Purpose.format() {
		return c, true
	}
	if c.Purpose == Secrets && format == Vault.format() {
		c.Purpose = Vault
		return c, true
	}
	return c, false
}

func appendHeader(b []byte, p Purpose, generation uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, p.format()), generation)
}

// scratch holds buffers for associated data and for plaintexts on their way to
// or from a secret.Text. A buffer is wiped before it goes back.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// giveBack wipes what was used of the buffer. One that has grown large is left to the collector.
func giveBack(buffer *[]byte, used []byte) {
	clear(used)
	if cap(used) <= 64<<10 {
		*buffer = used[:0]
		scratch.Put(buffer)
	}
}

// Seal encrypts plaintext for c. It does not change plaintext; wiping it is the
// caller's, who owns it.
func (k *Keeper) Seal(ctx context.Context, c Context, plaintext []byte) ([]byte, error) {
	key, err := k.current(ctx, c.Account, c.purpose())
	if err != nil {
		return nil, err
	}
	out := appendHeader(make([]byte, 0, headerSize+overhead+len(plaintext)), c.purpose(), key.generation)
	buffer := scratch.Get().(*[]byte)
	bound := c.appendTo(append((*buffer)[:0], out...))
	out = key.aead.Seal(out, nil, plaintext, bound)
	*buffer = bound[:0] // a context is no secret
	scratch.Put(buffer)
	return out, nil
}

// Open decrypts what Seal returned for the same c. The error is
// fault.Undecryptable for a value that is not that; it does not say why.
func (k *Keeper) Open(ctx context.Context, c Context, sealed []byte) ([]byte, error) {
	return k.open(ctx, nil, c, sealed)
}

// open appends the plaintext to into.
func (k *Keeper) open(ctx context.Context, into []byte, c Context, sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize+overhead {
		return nil, undecryptable()
	}
	c, known := c.sealedAs(sealed[0])
	if !known {
		return nil, undecryptable()
	}
	header := sealed[:headerSize]
	key, err := k.key(ctx, c.Account, c.purpose(), binary.BigEndian.Uint32(header[1:]))
	if err != nil {
		return nil, err
	}
	buffer := scratch.Get().(*[]byte)
	bound := c.appendTo(append((*buffer)[:0], header...))
	if into == nil {
		into = make([]byte, 0, len(sealed)-headerSize-overhead)
	}
	plaintext, err := key.aead.Open(into, nil, sealed[headerSize:], bound)
	*buffer = bound[:0]
	scratch.Put(buffer)
	if err != nil {
		return nil, undecryptable()
	}
	return plaintext, nil
}

func undecryptable() error {
	return fault.New(fault.Undecryptable, "A sealed value does not open: it was altered, moved, or sealed with a key that is gone.")
}

// SealText is Seal for a secret.Text.
func (k *Keeper) SealText(ctx context.Context, c Context, text secret.Text) ([]byte, error) {
	buffer := scratch.Get().(*[]byte)
	plaintext := append((*buffer)[:0], text.Reveal()...)
	defer giveBack(buffer, plaintext)
	return k.Seal(ctx, c, plaintext)
}

// OpenText is Open for a secret.Text. Go's strings cannot be wiped: let the Text
// go out of scope with the request that needed it.
func (k *Keeper) OpenText(ctx context.Context, c Context, sealed []byte) (secret.Text, error) {
	buffer := scratch.Get().(*[]byte)
	if size := len(sealed); cap(*buffer) < size {
		*buffer = make([]byte, 0, size) // so that the cipher does not leave a copy behind by growing it
	}
	plaintext, err := k.open(ctx, (*buffer)[:0], c, sealed)
	if err != nil {
		giveBack(buffer, (*buffer)[:cap(*buffer)]) // whatever the cipher may have begun to write
		return secret.Text{}, err
	}
	text := secret.New(string(plaintext))
	giveBack(buffer, plaintext)
	return text, nil
}
