package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/agent/deploy"
)

// agentCmd hosts agents: package agent/deploy with a terminal around it.
type agentCmd struct {
	Configure   agentConfigureCmd   `cmd:"" help:"Find out what the agent in this folder is, and write its settings."`
	Launch      agentLaunchCmd      `cmd:"" help:"Package the agent and put it on the platform, or its next version."`
	Status      agentStatusCmd      `cmd:"" help:"Say how it is: version, endpoints, sessions." example:"onbehalf agent status"`
	Invoke      agentInvokeCmd      `cmd:"" help:"Call it, and print what it answers as it comes."`
	Logs        agentLogsCmd        `cmd:"" help:"Print what its sessions printed." example:"onbehalf agent logs --follow"`
	Sessions    agentSessionsCmd    `cmd:"" help:"List its sessions that run now." example:"onbehalf agent sessions"`
	StopSession agentStopSessionCmd `cmd:"" help:"End a session: the last one that was invoked, or another." example:"onbehalf agent stop-session"`
	Policy      agentPolicyCmd      `cmd:"" help:"Say what it may do."`
	Dev         agentDevCmd         `cmd:"" help:"Run it here, in the foreground, with identity from the platform."`
	Destroy     agentDestroyCmd     `cmd:"" help:"Remove it: runtime, sessions, policy and the role that launch made." example:"onbehalf agent destroy --yes"`
}

// Help is shown below the commands of agent.
func (agentCmd) Help() string {
	return `Examples, in the agent's folder:
  onbehalf agent configure --entrypoint my_agent.py --name my_agent --requirements requirements.txt
  onbehalf agent launch
  onbehalf agent policy put policy.json
  onbehalf agent invoke '{"prompt": "How much is 2X2?"}' --user-id ada
  onbehalf agent logs --follow
Settings are in onbehalf-agent.yaml: commit it. What launching found out is in .onbehalf.`
}

// agentFile is what the commands of agent have in common.
type agentFile struct {
	File string `name:"file" short:"f" placeholder:"FILE" help:"The agent's settings. Default: onbehalf-agent.yaml in this folder."`
	platform
}

// load reads the settings.
func (f agentFile) load() (*deploy.Agent, error) {
	a, err := deploy.Load(firstOf(f.File, deploy.File))
	if errors.Is(err, deploy.ErrNotConfigured) {
		return nil, hinted{err, "in the agent's folder: onbehalf agent configure; or say where its settings are: --file FILE"}
	}
	return a, err
}

// host is a platform with an agent.
type host struct {
	*connection
	agents *deploy.Client
	agent  *deploy.Agent

	bearer, dev bool // of a call: it brings a token; it is for the agent of dev
}

// host finds the agent and the platform.
func (f agentFile) host(ctx context.Context, t *terminal) (*host, error) {
	a, err := f.load()
	if err != nil {
		return nil, err
	}
	return f.at(ctx, t, a)
}

func (f agentFile) at(ctx context.Context, t *terminal, a *deploy.Agent) (*host, error) {
	c, err := f.connect(ctx, t)
	if err != nil {
		return nil, err
	}
	settings := c.settings
	// An agent may take a quarter of an hour, and its answer may be a stream: no limit here, Ctrl-C ends it.
	if waiting, ok := settings.HTTPClient.(patient); ok {
		if plain, ok := waiting.inner.(*awshttp.BuildableClient); ok {
			settings.HTTPClient = plain.WithTimeout(0)
		}
	}
	agents, err := deploy.NewClient(settings, func(o *deploy.Options) {
		o.BaseEndpoint, o.Progress = c.endpoint, t.progress(f.Output)
	})
	return &host{connection: c, agents: agents, agent: a}, err
}

// progress tells a person what happens: on standard error, and nobody where JSON is asked for.
func (t *terminal) progress(output string) func(deploy.Progress) {
	bold, reset := "", ""
	if colored(t.err) {
		bold, reset = "\x1b[1m", "\x1b[0m"
	}
	return func(p deploy.Progress) {
		if output == "json" || p.Output { // a build's output is shown when it fails
			return
		}
		fmt.Fprintf(t.err, "%s%-10s%s %s\n", bold, p.Step, reset, plain(p.Text))
	}
}

const agentStatus = "onbehalf agent status"

// told words what went wrong with an agent.
func (h *host) told(err error) error {
	var build *deploy.BuildError
	var failed *deploy.FailedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &build):
		for line := range strings.Lines(build.Output) {
			fmt.Fprintln(h.t.err, "  "+tabbed(strings.TrimRight(line, "\r\n")))
		}
		return hinted{err, "all of what it printed is in " + relative(build.Log)}
	case errors.As(err, &failed):
		return hinted{err, "mend that, then launch again: onbehalf agent launch"}
	case errors.Is(err, deploy.ErrTaken):
		return hinted{err, "to take it over: --auto-update-on-conflict; or give the agent another name: onbehalf agent configure --name NAME"}
	case errors.Is(err, deploy.ErrNotLaunched):
		return hinted{err, "onbehalf agent launch puts it there"}
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted{err, "does another agent run there? --port names another port"}
	case errors.Is(err, deploy.ErrNoSession):
		return hinted{err, "onbehalf agent sessions lists those that run"}
	}
	advised := h.advised(err, agentStatus)
	if strings.HasPrefix(advised.Error(), "Authorization method mismatch") {
		if h.bearer {
			return hinted{advised, "the agent has no authorizer and takes signed requests: leave --bearer-token-file out; or give it one: onbehalf agent configure --discovery-url URL, then launch"}
		}
		return hinted{advised, "an agent with an authorizer takes tokens, and no signed requests: --bearer-token-file FILE"}
	}
	var said smithy.APIError
	if errors.As(err, &said) && said.ErrorCode() == "RuntimeClientError" {
		advised = errors.New(readableLines(said.ErrorMessage()))
		if strings.Contains(said.ErrorMessage(), "is not authorized to perform") && !h.dev {
			return hinted{advised, "a policy of the agent's role lets it: onbehalf agent policy put FILE"}
		}
		if strings.Contains(said.ErrorMessage(), "Runtime-User-Id") { // so say the SDKs where no workload token came
			return hinted{advised, "the agent has to know on whose behalf it is called: --user-id USER"}
		}
		if strings.Contains(said.ErrorMessage(), `Unknown file extension ".ts"`) {
			return hinted{advised, `the platform's Node.js runs no TypeScript as it is (22.18 does): onbehalf agent configure --build "npm run build" --entrypoint dist/agent.js, then launch`}
		}
		return hinted{advised, whereItPrints(h.dev)}
	}
	return advised
}

func whereItPrints(dev bool) string {
	if dev {
		return "the terminal of onbehalf agent dev shows what the agent printed"
	}
	return "onbehalf agent logs shows what the agent printed"
}

// relative is a path as somebody in this folder would type it.
func relative(path string) string {
	if here, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(short) {
			return short
		}
	}
	return path
}

type agentLaunchCmd struct {
	Adopt bool `name:"auto-update-on-conflict" help:"Take over a runtime of this name that was launched from elsewhere: for build servers."`
	Clean bool `name:"clean" help:"Install all packages anew."`
	agentFile
}

// Help is shown below the flags.
func (agentLaunchCmd) Help() string {
	return `Examples:
  onbehalf agent launch
  onbehalf agent launch --auto-update-on-conflict --output json      # on a build server
Each launch makes a version: the next call begins a session with it, those that run keep theirs.
Left out of the package: version control, caches, virtual environments, and what looks like a
secret (.env, keys, credentials). .agentignore leaves out more, in the manner of .gitignore.`
}

// Run launches the agent.
func (c agentLaunchCmd) Run(ctx context.Context, t *terminal) error {
	began := time.Now()
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	r, err := h.agents.Launch(ctx, h.agent, deploy.LaunchOptions{Adopt: c.Adopt, Clean: c.Clean})
	if err != nil {
		return h.told(err)
	}
	if c.Output == "json" {
		return writeJSON(t.out, r)
	}
	_, err = fmt.Fprintf(t.out, "%s is READY: version %s, after %s.\n%s\n", h.agent.Name, r.Version, time.Since(began).Round(10*time.Millisecond), r.ARN)
	if _, person := screen(t.err); person {
		fmt.Fprintln(t.err, `Call it: onbehalf agent invoke '{"prompt": "Hello"}'`)
	}
	return err
}

type agentStatusCmd struct{ agentFile }

// Run shows it.
func (c agentStatusCmd) Run(ctx context.Context, t *terminal) error {
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	s, err := h.agents.Status(ctx, h.agent)
	if err != nil {
		return h.told(err)
	}
	var endpoints []string
	for _, e := range s.Endpoints {
		text := fmt.Sprintf("%s: version %s, %s", e.Name, e.Live, e.Status)
		if e.Target != "" && e.Target != e.Live {
			text += ", going to version " + e.Target
		}
		endpoints = append(endpoints, text)
	}
	workload := ""
	if s.Workload != nil {
		workload = s.Workload.ARN
	}
	sessions := ""
	if s.Sessions != nil {
		sessions = fmt.Sprint(*s.Sessions)
	}
	now := time.Now()
	return show(t, c.Output, s, field{"Name", s.Name}, field{"Status", s.Status}, field{"Reason", s.FailureReason}, field{"Version", s.Version},
		field{"Endpoints", lines(endpoints)}, field{"Sessions", sessions}, field{"ARN", s.ARN}, field{"Role", s.RoleARN}, field{"Workload identity", workload},
		field{"Created", exactly(&s.Created, now)}, field{"Updated", exactly(&s.Updated, now)}, field{"Platform", h.endpoint})
}

type agentDestroyCmd struct {
	Yes   bool `name:"yes" help:"Do not ask."`
	Adopt bool `name:"auto-update-on-conflict" hidden:"" help:"Also one that was launched from elsewhere."`
	agentFile
}

// Run removes the agent.
func (c agentDestroyCmd) Run(ctx context.Context, t *terminal) error {
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	question := "Remove the agent " + h.agent.Name + " from " + h.endpoint + ", with its sessions, its policy and the role that launch made?"
	if err := t.sure(ctx, c.Yes, question); err != nil {
		return err
	}
	gone, err := h.agents.Destroy(ctx, h.agent, c.Adopt)
	if err != nil {
		return h.told(err)
	}
	if c.Output == "json" {
		return writeJSON(t.out, gone)
	}
	if gone.Runtime == "" && gone.Role == "" {
		_, err = fmt.Fprintln(t.out, "there was nothing to remove")
		return err
	}
	_, err = fmt.Fprintf(t.out, "removed; %s stays\n", relative(h.agent.Settings()))
	return err
}

type agentPolicyCmd struct {
	Put agentPolicyPutCmd `cmd:"" help:"Attach an IAM policy document to its role, in place of the one before." example:"onbehalf agent policy put policy.json"`
}

type agentPolicyPutCmd struct {
	Document string `arg:"" name:"policy" help:"The policy, JSON; - reads standard input." complete:"files"`
	agentFile
}

// Run attaches the document as it stands.
func (c agentPolicyPutCmd) Run(ctx context.Context, t *terminal) error {
	content, err := document(t, c.Document)
	if err != nil {
		return err
	}
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	role, err := h.agents.PutPolicy(ctx, h.agent, content)
	if err != nil {
		return h.told(err)
	}
	if c.Output == "json" {
		return writeJSON(t.out, map[string]string{"roleArn": role, "policyName": h.agent.PolicyName()})
	}
	_, err = fmt.Fprintf(t.out, "attached to %s; it counts within a second\n", role)
	return err
}
