package main

import (
	"context"
	"fmt"
	"os"

	"github.com/onbehalf/onbehalf/agent/deploy"
)

type agentDevCmd struct {
	Port     int    `name:"port" default:"8090" help:"Where the agent is called on this machine."`
	UserID   string `name:"user-id" placeholder:"USER" help:"On whose behalf, where a call names nobody. Default: the user of .agentcore.json."`
	NoReload bool   `name:"no-reload" help:"Do not start it anew when a file changes."`
	agentFile
}

// Help is shown below the flags.
func (agentDevCmd) Help() string {
	return `Examples:
  onbehalf agent dev
  onbehalf agent dev --user-id ada --port 9000
In another terminal:
  onbehalf agent invoke Hello --dev
  curl -d '{"prompt": "Hello"}' localhost:8090/invocations
The agent gets a session id and the user's workload token, as on a runtime, and the platform's
address and this terminal's AWS credentials in its environment. Ctrl-C ends all of it.`
}

// Run runs the agent until Ctrl-C.
func (c agentDevCmd) Run(ctx context.Context, t *terminal) error {
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	line := func(text string) { fmt.Fprintln(t.out, readable(t, text)) }
	err = h.agents.Dev(ctx, h.agent, deploy.DevOptions{Port: c.Port, UserID: c.UserID, NoReload: c.NoReload, Line: line, Environment: c.environment(h)})
	return h.told(err)
}

// environment says where the platform is. The key is that of this terminal: named, never put in.
func (c agentDevCmd) environment(h *host) []string {
	list := []string{dataVariable + "=" + h.endpoint, controlVariable + "=" + h.endpoint, "AWS_REGION=" + h.settings.Region, "AWS_DEFAULT_REGION=" + h.settings.Region}
	named := firstOf(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_PROFILE"), os.Getenv("AWS_SHARED_CREDENTIALS_FILE"))
	if c.Profile != "" {
		return append(list, "AWS_PROFILE="+c.Profile)
	}
	if folder, err := c.folder(); err == nil && (named == "" || folder[controlVariable] == h.endpoint) {
		list = append(list, "AWS_PROFILE="+folder["AWS_PROFILE"], "AWS_SHARED_CREDENTIALS_FILE="+folder["AWS_SHARED_CREDENTIALS_FILE"])
	}
	return list
}
