package seal

import (
	"bytes"
	"context"
	"crypto/subtle"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Move puts an account's vault under another key, among those that the operator
// declared for the account; an empty ARN is the platform's own. Only the data
// keys are wrapped anew, so it takes as long for a million grants as for one,
// and nobody notices: replicas have the data keys open, and who opens them later
// finds the new key in their rows.
//
// Each data key is unwrapped again with the new key before the old wrapping is
// replaced: a key that only wraps would lose the vault. A vault that is being
// rotated or moved by somebody else meanwhile is fault.Concurrent.
func (k *Keeper) Move(ctx context.Context, account, arn string) (Choice, error) {
	if err := k.mayChoose(account, arn); err != nil {
		return Choice{}, err
	}
	before, err := k.vaultRows(ctx, account)
	if err != nil {
		return Choice{}, err
	}
	moved := false
	for _, r := range before {
		moved = moved || r.arn != arn
	}
	if !moved {
		return k.Chosen(ctx, account)
	}
	to, err := k.wrapperOf(account, arn)
	if err != nil {
		return Choice{}, err
	}
	after := make([][]byte, len(before))
	for i, r := range before {
		after[i], err = k.rewrap(ctx, r, to)
		if isGone(err) {
			return Choice{}, fault.New(fault.Invalid, "The key around the vault does not exist any more: ResetTokenVaultKeyMaterial gives the account an empty vault.").Because(err)
		}
		if err != nil {
			return Choice{}, err
		}
	}
	err = k.db.Update(ctx, func(tx *store.Tx) error {
		now, err := readRows(tx, "WHERE account = $1 AND purpose = $2 ORDER BY generation", account, string(Vault))
		if err != nil {
			return err
		}
		if !same(before, now) {
			return fault.New(fault.Concurrent, "The vault's keys were changed meanwhile. Try again.")
		}
		for i, r := range before {
			if _, err := tx.Exec("UPDATE data_keys SET wrapper = $1, wrapped = $2, arn = $3, moved = $4 WHERE account = $5 AND purpose = $6 AND generation = $7",
				to.ID(), after[i], arn, store.Micros(tx.Now), account, string(Vault), int64(r.generation)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Choice{}, fault.Wrap(err, "moving a vault")
	}
	return k.Chosen(ctx, account)
}

// mayChoose has one answer for a key that was not declared and for one that was
// declared for another account.
func (k *Keeper) mayChoose(account, arn string) error {
	w, err := k.wrapperOf(account, arn)
	if err != nil || w == Gone {
		return fault.New(fault.Invalid, "The key %s is none of those that the operator declared for this account's vault (--kms-key).", arn)
	}
	return nil
}

func (k *Keeper) vaultRows(ctx context.Context, account string) ([]row, error) {
	var rows []row
	err := k.db.View(ctx, func(tx *store.Tx) (err error) {
		rows, err = readRows(tx, "WHERE account = $1 AND purpose = $2 ORDER BY generation", account, string(Vault))
		return err
	})
	if err == nil && len(rows) == 0 {
		err = unknownAccount(account, Vault)
	}
	return rows, fault.Wrap(err, "reading data keys")
}

func (k *Keeper) rewrap(ctx context.Context, r row, to KeyWrapper) ([]byte, error) {
	raw, err := k.unwrapRaw(ctx, r)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	bound := boundTo(r.account, r.purpose, r.generation)
	wrapped, err := to.Wrap(ctx, raw, bound)
	if err != nil {
		return nil, err
	}
	back, err := to.Unwrap(ctx, wrapped, bound)
	defer clear(back)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(raw, back) != 1 {
		return nil, fault.New(fault.Unavailable, "The key %s does not give back what it was given.", to.ID())
	}
	return wrapped, nil
}

// same reports whether the data keys are those that were read, wrapped as they were.
func same(before, now []row) bool {
	if len(before) != len(now) {
		return false
	}
	for i := range before {
		if before[i].generation != now[i].generation || before[i].arn != now[i].arn || !bytes.Equal(before[i].wrapped, now[i].wrapped) {
			return false
		}
	}
	return true
}

// Lost reports whether the key that an account chose for its vault is gone for
// good, as the key's own server says. nil error and false: it exists.
func (k *Keeper) Lost(ctx context.Context, account string) (bool, error) {
	rows, err := k.vaultRows(ctx, account)
	if err != nil {
		return false, err
	}
	for _, r := range rows {
		raw, err := k.unwrapRaw(ctx, r)
		clear(raw)
		if err != nil {
			return isGone(err), ignoreGone(err)
		}
	}
	return false, nil
}
