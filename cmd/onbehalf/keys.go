package main

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

type keysCmd struct {
	Create    keysCreateCmd    `cmd:"" help:"Make an access key for a user; the secret is shown once."`
	List      keysListCmd      `cmd:"" help:"List access keys." example:"onbehalf keys list --output json"`
	Disable   keysDisableCmd   `cmd:"" help:"Stop an access key, within a second." example:"onbehalf keys disable AKIAIOSFODNN7EXAMPLE"`
	Enable    keysEnableCmd    `cmd:"" help:"Let a disabled access key work again." example:"onbehalf keys enable AKIAIOSFODNN7EXAMPLE"`
	Delete    keysDeleteCmd    `cmd:"" help:"Delete a user's access key." example:"onbehalf keys delete AKIAIOSFODNN7EXAMPLE"`
	ResetRoot keysResetRootCmd `cmd:"" help:"Replace the account's root key."`
}

// Help is shown below the commands of keys.
func (keysCmd) Help() string {
	return `Examples:
  onbehalf keys create --principal user/ada
  onbehalf keys list --output json
  onbehalf keys disable AKIAIOSFODNN7EXAMPLE
A user may do what its policies say, and without any nothing: see onbehalf policies.`
}

type keysCreateCmd struct {
	installation
	Principal string `name:"principal" required:"" placeholder:"user/NAME" help:"The user that the key is for: user/NAME or an ARN. It needs no making."`
}

// Help is shown below the flags.
func (keysCreateCmd) Help() string {
	return `Example:
  onbehalf keys create --principal user/ada >> ~/.aws/credentials`
}

// Run makes the key.
func (c keysCreateCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator) error {
		user, account, err := o.Principal(ctx, c.Account, c.Principal)
		if err != nil {
			return err
		}
		key, err := o.CreateKey(ctx, account, user)
		if err != nil {
			return err
		}
		return c.showKey(t, newKey{AccessKeyID: key.ID, SecretAccessKey: key.Secret.Reveal()})
	})
}

type keysListCmd struct{ installation }

// Run lists the keys of one account, or of all.
func (c keysListCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator) error {
		list, err := o.Keys(ctx, c.Account)
		if err != nil {
			return err
		}
		type key struct {
			ID        string     `json:"accessKeyId"`
			Principal string     `json:"principal"`
			State     string     `json:"state"`
			Created   time.Time  `json:"created"`
			LastUsed  *time.Time `json:"lastUsed,omitempty"`
		}
		keys, rows := []key{}, [][]string{}
		for _, k := range list {
			shown := key{ID: k.ID, Principal: k.Principal, State: k.State, Created: k.Created}
			if !k.LastUsed.IsZero() {
				shown.LastUsed = &k.LastUsed
			}
			keys = append(keys, shown)
			rows = append(rows, []string{k.ID, k.Principal, k.State, when(k.Created), when(k.LastUsed)})
		}
		return c.show(t, keys, []string{"KEY", "PRINCIPAL", "STATE", "CREATED", "LAST USED"}, rows)
	})
}

type keysDisableCmd struct {
	installation
	ID string `arg:"" name:"key-id" help:"Id of the access key."`
}

// Run disables the key.
func (c keysDisableCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator) error {
		if err := o.SetKey(ctx, c.ID, false); err != nil {
			return err
		}
		return c.done(t, "disabled")
	})
}

type keysEnableCmd keysDisableCmd

// Run enables the key.
func (c keysEnableCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator) error {
		if err := o.SetKey(ctx, c.ID, true); err != nil {
			return err
		}
		return c.done(t, "enabled")
	})
}

type keysDeleteCmd keysDisableCmd

// Run deletes the key.
func (c keysDeleteCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator) error {
		if err := o.DeleteKey(ctx, c.ID); err != nil {
			return err
		}
		return c.done(t, "deleted")
	})
}

type keysResetRootCmd struct{ installation }

// Help is shown below the flags.
func (keysResetRootCmd) Help() string {
	return `The old root key ends within a second. The new one goes into the data folder's
credentials file where that had the old one, and is shown otherwise.
Example:
  onbehalf keys reset-root`
}

// Run replaces the root key.
func (c keysResetRootCmd) Run(ctx context.Context, t *terminal) error {
	return c.inAccount(ctx, t, func(o *server.Operator, account string) error {
		key, file, err := o.ResetRoot(ctx, account)
		switch {
		case err != nil:
			return err
		case file != "":
			return c.done(t, "the new root key %s is in %s", key.ID, file)
		}
		return c.showKey(t, newKey{AccessKeyID: key.ID, SecretAccessKey: key.Secret.Reveal()})
	})
}
