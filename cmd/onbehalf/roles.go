package main

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

type rolesCmd struct {
	Create      rolesCreateCmd      `cmd:"" help:"Make a role, which may do nothing yet." example:"onbehalf roles create agent"`
	PutPolicy   rolesPutPolicyCmd   `cmd:"" help:"Attach an IAM policy document to a role, or replace it." example:"onbehalf roles put-policy agent access --document policy.json"`
	List        rolesListCmd        `cmd:"" help:"List roles." example:"onbehalf roles list"`
	Delete      rolesDeleteCmd      `cmd:"" help:"Delete a role, its policies and the credentials issued for it." example:"onbehalf roles delete agent"`
	Credentials rolesCredentialsCmd `cmd:"" help:"Issue temporary credentials of a role; they are shown once." example:"onbehalf roles credentials agent --duration 15m --output json"`
}

// Help is shown below the commands of roles.
func (rolesCmd) Help() string {
	return `Examples:
  onbehalf roles create agent
  onbehalf roles put-policy agent access --document policy.json
  onbehalf roles credentials agent --duration 15m --output json`
}

type rolesCreateCmd struct {
	installation
	Name string `arg:"" name:"name" help:"Name of the role."`
}

// Run makes the role.
func (c rolesCreateCmd) Run(ctx context.Context, t *terminal) error {
	return c.inAccount(ctx, t, func(o *server.Operator, account string) error {
		if err := o.CreateRole(ctx, account, c.Name); err != nil {
			return err
		}
		return c.done(t, "created arn:aws:iam::%s:role/%s", account, c.Name)
	})
}

type rolesPutPolicyCmd struct {
	installation
	Role     string `arg:"" name:"role" help:"Name of the role."`
	Policy   string `arg:"" name:"policy" help:"Name of the policy."`
	Document string `name:"document" required:"" placeholder:"FILE" help:"The policy, JSON; - reads standard input."`
}

// Run attaches the policy.
func (c rolesPutPolicyCmd) Run(ctx context.Context, t *terminal) error {
	put := policiesPutCmd{named: named{installation: c.installation, Name: c.Policy, Principal: "role/" + c.Role}, Document: c.Document}
	return put.Run(ctx, t)
}

type rolesListCmd struct{ installation }

// Run lists the account's roles.
func (c rolesListCmd) Run(ctx context.Context, t *terminal) error {
	return c.inAccount(ctx, t, func(o *server.Operator, account string) error {
		list, err := o.Roles(ctx, account)
		if err != nil {
			return err
		}
		type role struct {
			ARN     string    `json:"arn"`
			Created time.Time `json:"created"`
		}
		roles, rows := []role{}, [][]string{}
		for _, r := range list {
			roles = append(roles, role{r.ARN(), r.Created})
			rows = append(rows, []string{r.ARN(), when(r.Created)})
		}
		return c.show(t, roles, []string{"ROLE", "CREATED"}, rows)
	})
}

type rolesDeleteCmd rolesCreateCmd

// Run deletes the role.
func (c rolesDeleteCmd) Run(ctx context.Context, t *terminal) error {
	return c.inAccount(ctx, t, func(o *server.Operator, account string) error {
		if err := o.DeleteRole(ctx, account, c.Name); err != nil {
			return err
		}
		return c.done(t, "deleted")
	})
}

type rolesCredentialsCmd struct {
	installation
	Name     string        `arg:"" name:"name" help:"Name of the role."`
	Session  string        `name:"session" default:"operator" help:"Name of the session, as records show it."`
	Duration time.Duration `name:"duration" default:"1h" help:"How long they live, at most 1h."`
}

// Run issues the credentials. The JSON form is that of AWS's credential_process.
func (c rolesCredentialsCmd) Run(ctx context.Context, t *terminal) error {
	return c.inAccount(ctx, t, func(o *server.Operator, account string) error {
		issued, err := o.Credentials(ctx, account, c.Name, c.Session, c.Duration)
		if err != nil {
			return err
		}
		expires := issued.Expires.UTC().Truncate(time.Second)
		return c.showKey(t, newKey{AccessKeyID: issued.KeyID, SecretAccessKey: issued.Secret.Reveal(), SessionToken: issued.SessionToken.Reveal(), Expiration: &expires})
	})
}
