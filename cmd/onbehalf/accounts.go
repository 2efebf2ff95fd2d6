package main

import (
	"context"
	"strconv"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

type accountsCmd struct {
	Create accountsCreateCmd `cmd:"" help:"Make an account; its root key is shown once." example:"onbehalf accounts create 111111111111"`
	List   accountsListCmd   `cmd:"" help:"List accounts." example:"onbehalf accounts list"`
}

// Help is shown below the commands of accounts.
func (accountsCmd) Help() string {
	return `Examples:
  onbehalf accounts create 111111111111
  onbehalf accounts list`
}

type accountsCreateCmd struct {
	server.Storage
	Output string `name:"output" enum:"table,json" default:"table" help:"table or json."`
	ID     string `arg:"" name:"id" help:"12 digits."`
}

// Run makes the account.
func (c accountsCreateCmd) Run(ctx context.Context, t *terminal) error {
	i := installation{Storage: c.Storage, Output: c.Output}
	return i.open(ctx, t, func(o *server.Operator) error {
		key, err := o.CreateAccount(ctx, c.ID)
		if err != nil {
			return err
		}
		return i.showKey(t, newKey{AccessKeyID: key.ID, SecretAccessKey: key.Secret.Reveal()})
	})
}

type accountsListCmd struct {
	server.Storage
	Output string `name:"output" enum:"table,json" default:"table" help:"table or json."`
}

// Run lists the accounts.
func (c accountsListCmd) Run(ctx context.Context, t *terminal) error {
	i := installation{Storage: c.Storage, Output: c.Output}
	return i.open(ctx, t, func(o *server.Operator) error {
		list, err := o.Accounts(ctx)
		if err != nil {
			return err
		}
		type account struct {
			ID      string    `json:"account"`
			Created time.Time `json:"created"`
			Keys    int       `json:"accessKeys"`
		}
		accounts, rows := []account{}, [][]string{}
		for _, a := range list {
			accounts = append(accounts, account{a.ID, a.Created, a.Keys})
			rows = append(rows, []string{a.ID, when(a.Created), strconv.Itoa(a.Keys)})
		}
		return i.show(t, accounts, []string{"ACCOUNT", "CREATED", "KEYS"}, rows)
	})
}
