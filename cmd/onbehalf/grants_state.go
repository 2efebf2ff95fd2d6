package main

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/client"
)

type grantsStateCmd struct {
	Workload  string   `name:"workload" required:"" placeholder:"NAME" help:"The workload identity that would ask." complete:"workloads"`
	Provider  string   `name:"provider" required:"" placeholder:"NAME" help:"The OAuth2 credential provider." complete:"oauth2"`
	User      string   `name:"user" placeholder:"ID" help:"The user, by the id that the application vouches for."`
	TokenFile string   `name:"token-file" placeholder:"FILE" help:"The user, by a file with their sign-in token; - reads standard input."`
	Scopes    []string `name:"scope" placeholder:"SCOPE" sep:"none" help:"A scope that would be asked for. Repeatable."`
	Flow      string   `name:"flow" enum:"user,m2m,on-behalf-of" default:"user" placeholder:"FLOW" help:"user, m2m or on-behalf-of. Default user."`
	Account   string   `name:"account-label" placeholder:"LABEL" help:"Which of the user's accounts at the provider, where there are several."`
	platform
}

// Help is shown below the flags.
func (grantsStateCmd) Help() string {
	return `Example:
  onbehalf grants state --workload my-agent --user ada --provider google --scope openid
ACTIVE, EXPIRED (the next call renews it), NEEDS_CONSENT or NONE. Nobody is asked and nothing is renewed.`
}

var flows = map[string]client.Oauth2FlowType{"user": client.Oauth2FlowTypeUserFederation, "m2m": client.Oauth2FlowTypeM2m, "on-behalf-of": client.Oauth2FlowTypeOnBehalfOfTokenExchange}

// Run says it.
func (c grantsStateCmd) Run(ctx context.Context, t *terminal) error {
	switch {
	case c.User != "" && c.TokenFile != "":
		return usageError{errors.New("--user and --token-file: the user is named by one")}
	case c.User == "" && c.TokenFile == "" && c.Flow != "m2m":
		return usageError{errors.New("whose? --user ID or --token-file FILE is missing")}
	case c.User != "" && c.Flow == "on-behalf-of":
		return usageError{errors.New("--flow on-behalf-of needs the user's own sign-in token: --token-file")}
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	workload, err := c.workloadToken(ctx, t, p)
	if err != nil {
		return p.advised(err, workloadsList)
	}
	answer, err := p.own.GetResourceTokenState(ctx, &client.GetResourceTokenStateInput{
		WorkloadIdentityToken: workload, ProviderName: &c.Provider, Oauth2Flow: flows[c.Flow], Scopes: append([]string{}, c.Scopes...), AccountLabel: given(c.Account),
	})
	if err != nil {
		return p.advised(err, providersList)
	}
	type state struct {
		State         string     `json:"state"`
		GrantedScopes []string   `json:"grantedScopes,omitempty"`
		MissingScopes []string   `json:"missingScopes,omitempty"`
		Refreshable   bool       `json:"refreshable"`
		Expires       *time.Time `json:"expires,omitempty"`
	}
	s := state{string(answer.State), answer.GrantedScopes, answer.MissingScopes, aws.ToBool(answer.Refreshable), moment(answer.ExpiresAt)}
	return show(t, c.Output, s, field{"State", s.State}, field{"Granted", lines(s.GrantedScopes)}, field{"Missing", lines(s.MissingScopes)}, field{"Token until", exactly(s.Expires, time.Now())})
}

// workloadToken is the workload's and its user's, as an agent gets one.
func (c grantsStateCmd) workloadToken(ctx context.Context, t *terminal, p *connection) (*string, error) {
	operation, in := "GetWorkloadAccessToken", object{"workloadName": c.Workload}
	switch {
	case c.User != "":
		operation, in["userId"] = "GetWorkloadAccessTokenForUserId", c.User
	case c.TokenFile != "":
		token, err := t.secret(ctx, "--token-file", c.TokenFile, "Sign-in token of the user")
		if err != nil {
			return nil, err
		}
		operation, in["userToken"] = "GetWorkloadAccessTokenForJWT", token
	}
	var answer struct {
		Token string `json:"workloadAccessToken"`
	}
	err := p.identity(ctx, operation, in, &answer)
	return &answer.Token, err
}
