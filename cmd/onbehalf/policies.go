package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

type policiesCmd struct {
	Put    policiesPutCmd    `cmd:"" help:"Attach an IAM policy document to a user or role, or replace it." example:"onbehalf policies put api-keys --principal user/ada --document policy.json"`
	Get    policiesGetCmd    `cmd:"" help:"Print a policy document." example:"onbehalf policies get api-keys --principal user/ada"`
	List   policiesListCmd   `cmd:"" help:"List policies." example:"onbehalf policies list --principal user/ada"`
	Delete policiesDeleteCmd `cmd:"" help:"Take a policy away." example:"onbehalf policies delete api-keys --principal user/ada"`
}

// Help is shown below the commands of policies.
func (policiesCmd) Help() string {
	return `Examples:
  onbehalf policies put api-keys --principal user/ada --document policy.json
  onbehalf policies list --principal user/ada
A change counts within a second.`
}

// named is a policy by its principal and name.
type named struct {
	installation
	Name      string `arg:"" name:"name" help:"Name of the policy."`
	Principal string `name:"principal" required:"" placeholder:"user/NAME" help:"user/NAME, role/NAME or an ARN."`
}

func (c named) open(ctx context.Context, t *terminal, fn func(o *server.Operator, account, principal string) error) error {
	return c.installation.open(ctx, t, func(o *server.Operator) error {
		principal, account, err := o.Principal(ctx, c.Account, c.Principal)
		if err != nil {
			return err
		}
		return fn(o, account, principal)
	})
}

type policiesPutCmd struct {
	named
	Document string `name:"document" required:"" placeholder:"FILE" help:"The policy, JSON; - reads standard input."`
}

// Run attaches the policy.
func (c policiesPutCmd) Run(ctx context.Context, t *terminal) error {
	content, err := document(t, c.Document)
	if err != nil {
		return err
	}
	return c.open(ctx, t, func(o *server.Operator, account, principal string) error {
		if err := o.PutPolicy(ctx, account, principal, c.Name, content); err != nil {
			return err
		}
		return c.done(t, "attached to %s", principal)
	})
}

type policiesGetCmd struct{ named }

// Run prints the document as it was attached.
func (c policiesGetCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator, account, principal string) error {
		p, err := o.Policy(ctx, account, principal, c.Name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.out, strings.TrimSpace(p.Document))
		return err
	})
}

type policiesListCmd struct {
	installation
	Principal string `name:"principal" placeholder:"user/NAME" help:"user/NAME, role/NAME or an ARN. Default: all of the account."`
}

// Run lists policies.
func (c policiesListCmd) Run(ctx context.Context, t *terminal) error {
	return c.installation.open(ctx, t, func(o *server.Operator) error {
		principal, account, err := "", "", error(nil)
		if c.Principal == "" {
			account, err = o.Account(ctx, c.Account)
		} else {
			principal, account, err = o.Principal(ctx, c.Account, c.Principal)
		}
		if err != nil {
			return err
		}
		list, err := o.Policies(ctx, account, principal)
		if err != nil {
			return err
		}
		type policy struct {
			Principal string    `json:"principal"`
			Name      string    `json:"name"`
			Updated   time.Time `json:"updated"`
		}
		policies, rows := []policy{}, [][]string{}
		for _, p := range list {
			policies = append(policies, policy{p.Principal, p.Name, p.Updated})
			rows = append(rows, []string{p.Principal, p.Name, when(p.Updated)})
		}
		return c.show(t, policies, []string{"PRINCIPAL", "POLICY", "UPDATED"}, rows)
	})
}

type policiesDeleteCmd struct{ named }

// Run takes the policy away.
func (c policiesDeleteCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator, account, principal string) error {
		if err := o.DeletePolicy(ctx, account, principal, c.Name); err != nil {
			return err
		}
		return c.done(t, "deleted")
	})
}
