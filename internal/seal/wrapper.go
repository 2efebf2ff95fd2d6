package seal

import (
	"context"
	"fmt"
)

// KeyWrapper is where the key-encryption key lives. A wrapper is given data keys
// to wrap and never sees what they seal.
type KeyWrapper interface {
	// ID names the key. It is stored beside what the key has wrapped, and two
	// different keys never have the same.
	ID() string
	// Wrap encrypts a data key. bound says whose key it is: Unwrap succeeds only
	// with the same.
	Wrap(ctx context.Context, dataKey []byte, bound string) ([]byte, error)
	// Unwrap is the inverse of Wrap. The caller wipes what it returns.
	Unwrap(ctx context.Context, wrapped []byte, bound string) ([]byte, error)
}

// boundTo is the bound of a data key: readable, because a KMS writes it into its own log.
func boundTo(account string, p Purpose, generation uint32) string {
	return fmt.Sprintf("onbehalf data key %q %q %d", account, string(p), generation)
}
