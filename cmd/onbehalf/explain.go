package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/onbehalf/onbehalf/internal/server"
)

type explainCmd struct {
	installation
	Principal string            `name:"principal" required:"" placeholder:"user/NAME" help:"user/NAME, role/NAME, root or an ARN."`
	Action    string            `name:"action" required:"" placeholder:"SERVICE:NAME" help:"The action, such as bedrock-agentcore:GetResourceApiKey."`
	Resource  string            `name:"resource" default:"*" placeholder:"ARN" help:"The resource. Default *, for actions that name none."`
	Context   map[string]string `name:"context" placeholder:"KEY=VALUE" help:"A condition key of the request, such as aws:SourceIp=10.0.0.1. Repeatable."`
}

// Help is shown below the flags of explain.
func (explainCmd) Help() string {
	return `Example:
  onbehalf explain --principal user/ada --action bedrock-agentcore:GetResourceApiKey \
    --resource arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/apikeycredentialprovider/openai
One call touches several resources (workload identity, token vault, provider) and needs a yes for each.
The exit code is 0 also where the answer is no.`
}

// Run says yes or no and why.
func (c explainCmd) Run(ctx context.Context, t *terminal) error {
	given := map[string][]string{}
	for key, value := range c.Context {
		given[key] = []string{value}
	}
	return c.open(ctx, t, func(o *server.Operator) error {
		principal, account, err := o.Principal(ctx, c.Account, c.Principal)
		if err != nil {
			return err
		}
		e, err := o.Explain(ctx, account, principal, c.Action, c.Resource, given)
		if err != nil {
			return err
		}
		type step struct {
			Policy    string `json:"policy"`
			Statement int    `json:"statement"`
			Sid       string `json:"sid,omitempty"`
			Effect    string `json:"effect"`
			Applies   bool   `json:"applies"`
			Result    string `json:"result"`
		}
		answer := struct {
			Allowed bool   `json:"allowed"`
			Reason  string `json:"reason"`
			Steps   []step `json:"statements"`
		}{e.Allowed, e.Reason, []step{}}
		var rows [][]string
		for _, s := range e.Steps {
			answer.Steps = append(answer.Steps, step{s.Policy, s.Statement, s.Sid, s.Effect, s.Applies, s.Result})
			rows = append(rows, []string{s.Policy, strconv.Itoa(s.Statement), s.Effect, s.Result})
		}
		if c.Output == "table" {
			word := "denied"
			if e.Allowed {
				word = "allowed"
			}
			fmt.Fprintf(t.out, "%s: %s\n", word, e.Reason)
			if len(rows) == 0 {
				return nil
			}
			fmt.Fprintln(t.out)
		}
		return c.show(t, answer, []string{"POLICY", "STATEMENT", "EFFECT", "RESULT"}, rows)
	})
}
