package main

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/server"
)

type vaultRewrapCmd struct {
	server.Storage
	Output  string `name:"output" enum:"table,json" default:"table" help:"table or json."`
	To      string `name:"to" required:"" placeholder:"WRAPPER" help:"The new key, as in --key-wrapper."`
	Stopped bool   `name:"stopped" help:"No replica is running on the PostgreSQL database."`
}

// Help is shown below the flags.
func (vaultRewrapCmd) Help() string {
	return `Puts the whole platform under another key-encryption key: from the key file to a
KMS, for example. Only data keys are wrapped anew. Stop the platform first, and
start it with the new key. Vaults under a key of their account's own stay there.
Example:
  onbehalf vault rewrap --to 'transit:https://bao.internal:8200#onbehalf'`
}

// Run moves the platform's data keys.
func (c vaultRewrapCmd) Run(ctx context.Context, t *terminal) error {
	i := installation{Storage: c.Storage, Output: c.Output}
	return i.open(ctx, t, func(o *server.Operator) error {
		n, err := o.Rewrap(ctx, c.To, c.Stopped)
		if err != nil {
			return err
		}
		return i.done(t, "%d data keys are under the new key; from now on start with --key-wrapper %s", n, c.To)
	})
}
