package main

import (
	"encoding/json"
	"fmt"

	"github.com/onbehalf/onbehalf/internal/server"
)

type envCmd struct {
	Data      string `name:"data" env:"ONBEHALF_DATA" type:"path" placeholder:"DIR" help:"Data folder of the platform. Default ~/.local/share/onbehalf."`
	PublicURL string `name:"public-url" env:"ONBEHALF_PUBLIC_URL" placeholder:"URL" help:"The platform's URL. Default: where the platform on this data folder listens, or listened last."`
	Region    string `name:"region" env:"ONBEHALF_REGION" placeholder:"REGION" help:"Region name. Default us-east-1."`
	IAM       bool   `name:"iam" help:"Redirect IAM and STS as well: the calls on roles and their policies, and get-caller-identity."`
	Output    string `name:"output" enum:"sh,dotenv,json" default:"sh" help:"sh (export lines), dotenv or json."`
}

// Help is shown below the flags of env.
func (envCmd) Help() string {
	return `Examples:
  eval "$(onbehalf env)"                    this shell's AWS SDKs and AWS CLI now use the platform
  onbehalf env --output dotenv > .env       for a program that reads .env
  eval "$(onbehalf env --iam)"              also put_role_policy, get_caller_identity and the like
Only the AgentCore endpoints are redirected, and with --iam those of IAM and STS: every other AWS service is left alone.`
}

// Run prints the variables.
func (c envCmd) Run(t *terminal) error {
	variables, err := server.Environment(server.Config{Data: c.Data, PublicURL: c.PublicURL, Region: c.Region})
	if err != nil {
		return hinted{err, "start the platform first: onbehalf serve"}
	}
	if c.IAM {
		variables = server.WithIAM(variables)
	}
	if c.Output == "json" {
		object := map[string]string{}
		for _, v := range variables {
			object[v.Name] = v.Value
		}
		return json.NewEncoder(t.out).Encode(object)
	}
	prefix := "export "
	if c.Output == "dotenv" {
		prefix = ""
	}
	for _, v := range variables {
		if _, err := fmt.Fprintf(t.out, "%s%s=%s\n", prefix, v.Name, server.ShellQuoted(v.Value)); err != nil {
			return err
		}
	}
	return nil
}
