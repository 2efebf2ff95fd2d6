package seal

import (
	"context"
	"errors"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Gone stands for a key that was destroyed: --kms-key ARN=gone. With it the
// server starts although the vault of an account is lost, and
// ResetTokenVaultKeyMaterial gives that account an empty one.
var Gone KeyWrapper = gone{}

type gone struct{}

// ID implements KeyWrapper.
func (gone) ID() string { return "gone" }

// Wrap implements KeyWrapper: nobody can choose this key.
func (gone) Wrap(context.Context, []byte, string) ([]byte, error) {
	return nil, keyGone("that was named")
}

// Unwrap implements KeyWrapper.
func (gone) Unwrap(context.Context, []byte, string) ([]byte, error) {
	return nil, keyGone("that was named")
}

// errGone is in the error of a key that does not exist any more: the one after
// which a vault may be reset.
var errGone = errors.New("seal: the key-encryption key is gone")

func keyGone(id string) error {
	return fault.New(fault.Undecryptable, "The key %s does not exist any more, and what was sealed under it cannot be opened.", id).Because(errGone)
}

func isGone(err error) bool { return errors.Is(err, errGone) }

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}
