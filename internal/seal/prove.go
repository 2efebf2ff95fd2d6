package seal

import (
	"context"
	"errors"
	"log/slog"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// prove looks for data keys that the keys given did not wrap, and unwraps one of
// the platform's. The others are unwrapped when they are needed: with a KMS each
// costs a call. Vaults under a key of their account's choice are the exception:
// they are few, and who starts the server should learn of a key that is wrong.
func (k *Keeper) prove(ctx context.Context) error {
	var foreign string
	var strangers int64
	var own, moved []row
	err := k.db.View(ctx, func(tx *store.Tx) error {
		err := tx.QueryRow("SELECT coalesce(min(wrapper), ''), count(*) FROM data_keys WHERE arn = '' AND wrapper <> '' AND wrapper <> $1", k.platform.ID()).
			Scan(&foreign, &strangers)
		if err != nil {
			return err
		}
		if own, err = readRows(tx, "WHERE arn = '' AND wrapper = $1 ORDER BY account, purpose, generation LIMIT 1", k.platform.ID()); err != nil {
			return err
		}
		moved, err = readRows(tx, "WHERE arn <> '' ORDER BY account, purpose, generation")
		return err
	})
	if err != nil {
		return fault.Wrap(err, "reading the data keys")
	}
	if strangers > 0 {
		return fault.New(fault.Undecryptable, "The database was sealed with the key %s, and the key given is %s. "+
			"Put back the key that belongs to this database (it was made together with it; look into your backups). "+
			"Without it none of the stored secrets can be read; to begin anew, use an empty database.", foreign, k.platform.ID())
	}
	for _, r := range own {
		if _, err := k.unwrap(ctx, r); err != nil {
			return err
		}
	}
	return k.proveMoved(ctx, moved)
}

// proveMoved loads the vaults under keys that accounts chose. A key that is not
// declared, or is not the one it should be, stops the start. One that does not
// answer, or was destroyed by its owner, does not: it is that account's vault
// alone, and the others must not go down with it.
func (k *Keeper) proveMoved(ctx context.Context, rows []row) error {
	seen := make(map[slot]bool)
	for _, r := range rows {
		w, err := k.wrapperOf(r.account, r.arn)
		if err == nil {
			err = fits(w, r)
		}
		if err != nil {
			return err
		}
		if seen[r.slot] {
			continue
		}
		seen[r.slot] = true
		if _, err := k.load(ctx, r.slot); fault.Is(err, fault.Unavailable) || errors.Is(err, errGone) {
			slog.Error("an account's vault cannot be opened: its key does not answer", "account", r.account, "key", r.arn, "error", err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// wrapperOf is the key that an ARN stands for; of the platform where there is none.
func (k *Keeper) wrapperOf(account, arn string) (KeyWrapper, error) {
	if arn == "" {
		return k.platform, nil
	}
	for _, d := range k.declared {
		if d.ARN == arn && d.Account == account {
			return d.Wrapper, nil
		}
	}
	return nil, fault.New(fault.Undecryptable, "The vault of account %s is under the key %s, which is not declared here. Start with --kms-key %s=WRAPPER, as before.", account, arn, arn)
}

// fits refuses a key that is not the one a data key was wrapped with.
func fits(w KeyWrapper, r row) error {
	switch {
	case w.ID() == r.wrapper || w == Gone:
		return nil
	case r.arn == "":
		return fault.New(fault.Undecryptable, "A data key was wrapped with the key %s, and the key given is %s.", r.wrapper, w.ID())
	}
	return fault.New(fault.Undecryptable, "The vault of account %s was moved to %s when that was the key %s, and now it is declared as %s. Declare it as it was.", r.account, r.arn, r.wrapper, w.ID())
}
