package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/agent/deploy"
)

type agentConfigureCmd struct {
	Entrypoint     string        `name:"entrypoint" short:"e" placeholder:"FILE" help:"What is started: a file of Python or Node, a Go package, or a command line."`
	Name           string        `name:"name" short:"n" placeholder:"NAME" help:"Letters, digits and underscores. Default: the folder's."`
	Requirements   string        `name:"requirements" placeholder:"FILE" help:"requirements.txt or pyproject.toml of a Python agent."`
	Language       string        `name:"language" enum:",python,node,go,command" default:"" placeholder:"LANGUAGE" help:"python, node, go or command."`
	Python         string        `name:"python" placeholder:"VERSION" help:"Python's version, 3.10 to 3.14. Default: the folder's, else this machine's."`
	Build          string        `name:"build" placeholder:"COMMAND" help:"Run this in the folder before it is packaged."`
	Description    string        `name:"description" placeholder:"TEXT" help:"What it is for."`
	Role           string        `name:"role" placeholder:"ROLE" help:"Role to run under: a name or an ARN. Default: launch makes agent-NAME."`
	CreateRole     bool          `name:"create-role" help:"Make that role now, with the trust policy that it needs."`
	Protocol       string        `name:"protocol" enum:",HTTP,MCP,A2A,AGUI" default:"" placeholder:"PROTOCOL" help:"HTTP (default), MCP, A2A or AGUI."`
	Environment    []string      `name:"env" sep:"none" placeholder:"NAME=VALUE" help:"A variable of the agent. Never a secret: those are fetched from the vault."`
	IdleTimeout    time.Duration `name:"idle-timeout" placeholder:"15m" help:"A session without calls ends after this. Default 15m."`
	MaxLifetime    time.Duration `name:"max-lifetime" placeholder:"8h" help:"Every session ends after this. Default 8h."`
	Headers        []string      `name:"request-header" placeholder:"NAME" help:"A header of callers that goes on to the agent."`
	Storage        []string      `name:"session-storage" placeholder:"FOLDER" help:"A folder such as /mnt/data, whose files a session finds again after it has ended."`
	DiscoveryURL   string        `name:"discovery-url" placeholder:"URL" help:"Callers bring tokens of this OpenID provider, instead of signing."`
	Audiences      []string      `name:"audience" help:"An audience of these tokens."`
	Clients        []string      `name:"client" help:"A client that they may be issued to."`
	Scopes         []string      `name:"scope" help:"A scope of which they must have one."`
	NonInteractive bool          `name:"non-interactive" help:"Ask nothing: what cannot be found out is an error."`
	agentFile
}

// Help is shown below the flags.
func (agentConfigureCmd) Help() string {
	return `Examples:
  onbehalf agent configure                               # asks for what the folder does not say
  onbehalf agent configure --entrypoint agent.py --name my_agent --requirements requirements.txt
  onbehalf agent configure --language go --entrypoint ./cmd/agent --non-interactive
  onbehalf agent configure --language command --entrypoint "ruby agent.rb"
  onbehalf agent configure --session-storage /mnt/data
  onbehalf agent configure --discovery-url https://id.example.com/.well-known/openid-configuration --audience my-app
Run again, it changes what its flags say and keeps the rest.`
}

// Run writes the settings.
func (c agentConfigureCmd) Run(ctx context.Context, t *terminal) error {
	a, err := c.before()
	if err != nil {
		return err
	}
	if err := c.apply(a); err != nil {
		return err
	}
	_, person := t.keyboard()
	person = person && !c.NonInteractive
	q := questions{t: t, answers: bufio.NewReader(t.in)}
	if err := c.detect(ctx, q, a, person); err != nil {
		return err
	}
	if err := a.Save(); err != nil {
		return usageError{err}
	}
	for _, name := range a.Suspicious() {
		fmt.Fprintf(t.err, "warning: %s looks like a secret. Keep it in the vault: onbehalf providers create api-key\n", plain(name))
	}
	role, err := c.role(ctx, q, a, person)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, map[string]string{"name": a.Name, "file": a.Settings(), "language": string(a.Language), "entrypoint": a.Entrypoint, "roleArn": role})
	}
	if role == "" {
		role = a.RoleName() + map[bool]string{true: ", which launch makes"}[a.Role == ""]
	}
	if err := show(t, c.Output, nil, field{"Agent", a.Name}, field{"Language", language(a)}, field{"Entry point", a.Entrypoint}, field{"Requirements", a.Requirements},
		field{"Role", role}, field{"Settings", relative(a.Settings())}); err != nil {
		return err
	}
	if _, seen := screen(t.err); seen {
		fmt.Fprintln(t.err, "Try it here: onbehalf agent dev. Put it on the platform: onbehalf agent launch")
	}
	return nil
}

func language(a *deploy.Agent) string {
	return strings.TrimSpace(string(a.Language) + " " + a.Python)
}

// before are the settings that are there, or none.
func (c agentConfigureCmd) before() (*deploy.Agent, error) {
	file, err := filepath.Abs(firstOf(c.File, deploy.File))
	if err != nil {
		return nil, err
	}
	a, err := deploy.Load(file)
	if errors.Is(err, deploy.ErrNotConfigured) {
		return deploy.New(filepath.Dir(file), file), nil
	}
	if err != nil {
		return nil, hinted{err, "mend that line, or delete the file"}
	}
	return a, nil
}

// apply puts in what the flags say.
func (c agentConfigureCmd) apply(a *deploy.Agent) error {
	text := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	if c.Language != "" && a.Language != deploy.Language(c.Language) || c.Entrypoint != "" && c.Entrypoint != a.Entrypoint {
		a.Language, a.Entrypoint = deploy.Language(c.Language), "" // they belong together
	}
	text(&a.Entrypoint, c.Entrypoint)
	text(&a.Name, c.Name)
	text(&a.Requirements, filepath.ToSlash(c.Requirements))
	text(&a.Python, c.Python)
	text(&a.Build, c.Build)
	text(&a.Description, c.Description)
	text(&a.Role, c.Role)
	text(&a.Protocol, c.Protocol)
	for _, variable := range c.Environment {
		name, value, ok := strings.Cut(variable, "=")
		if !ok || name == "" {
			return usageError{fmt.Errorf("--env %s is not like LOG_LEVEL=debug", variable)}
		}
		if a.Environment == nil {
			a.Environment = map[string]string{}
		}
		a.Environment[name] = value
	}
	if c.IdleTimeout != 0 {
		a.IdleTimeout = c.IdleTimeout
	}
	if c.MaxLifetime != 0 {
		a.MaxLifetime = c.MaxLifetime
	}
	if c.Headers != nil {
		a.Headers = c.Headers
	}
	if c.Storage != nil {
		a.Storage = c.Storage
	}
	return c.authorize(a)
}

// authorize says whose tokens may call. What no flag says stays.
func (c agentConfigureCmd) authorize(a *deploy.Agent) error {
	if c.DiscoveryURL == "" && c.Audiences == nil && c.Clients == nil && c.Scopes == nil {
		return nil
	}
	if a.Authorizer == nil {
		a.Authorizer = &deploy.Authorizer{}
	}
	if a.Authorizer.DiscoveryURL = firstOf(c.DiscoveryURL, a.Authorizer.DiscoveryURL); a.Authorizer.DiscoveryURL == "" {
		return usageError{errors.New("--audience, --client and --scope are about the tokens of a provider: name it with --discovery-url")}
	}
	for to, said := range map[*[]string][]string{&a.Authorizer.Audiences: c.Audiences, &a.Authorizer.Clients: c.Clients, &a.Authorizer.Scopes: c.Scopes} {
		if said != nil {
			*to = said
		}
	}
	return nil
}

// flagOf is the flag that says a setting.
var flagOf = map[string]string{"language": "--language", "entrypoint": "--entrypoint", "name": "--name"}

// detect finds out the rest, and asks a person for what it cannot.
func (c agentConfigureCmd) detect(ctx context.Context, q questions, a *deploy.Agent, person bool) error {
	if person && a.Name == "" {
		proposed := *a
		if proposed.Detect() == nil { // all but the name is plain: it is the one thing to agree on
			if err := q.decide(ctx, a, &deploy.Undecided{Setting: "name"}, proposed.Name); err != nil {
				return err
			}
		}
	}
	for {
		err := a.Detect()
		undecided, open := deploy.IsUndecided(err)
		if err == nil {
			return nil
		}
		if !open {
			return usageError{err}
		}
		if !person {
			return usageError{hinted{err, "say which: " + flagOf[undecided.Setting]}}
		}
		if err := q.decide(ctx, a, undecided, ""); err != nil {
			return err
		}
	}
}

// questionOf is what a person is asked for a setting.
var questionOf = map[string]string{"language": "Language", "entrypoint": "Entry point", "name": "Name of the agent"}

// decide has a person say what the folder does not, until it is something that can be.
func (q questions) decide(ctx context.Context, a *deploy.Agent, open *deploy.Undecided, proposed string) error {
	choices := open.Choices
	if open.Setting == "language" && len(choices) == 0 {
		for _, l := range deploy.Languages {
			choices = append(choices, string(l))
		}
	}
	for {
		value, err := q.ask(ctx, questionOf[open.Setting], proposed, choices)
		if err != nil {
			return err
		}
		// It is tried among settings that are right, so that what is wrong with it is the answer's.
		trial := deploy.New(a.Folder(), a.Settings())
		trial.Name, trial.Language, trial.Entrypoint = "agent", deploy.Command, "agent"
		switch open.Setting {
		case "language":
			trial.Language = deploy.Language(value)
			err = trial.Check()
		case "entrypoint":
			trial.Language, trial.Entrypoint = a.Language, value
			err = trial.Detect()
		default:
			trial.Name = value
			err = trial.Check()
		}
		switch {
		case err != nil:
			fmt.Fprintln(q.t.err, told(err.Error()))
			continue
		case open.Setting == "language":
			a.Language = trial.Language
		case open.Setting == "entrypoint":
			a.Entrypoint = value
		default:
			a.Name = value
		}
		return nil
	}
}

// questions are put to the person at the terminal.
type questions struct {
	t       *terminal
	answers *bufio.Reader // one for all: it may have read ahead
}

// ask puts one. A choice is answered by its number or its name.
func (q questions) ask(ctx context.Context, what, proposed string, choices []string) (string, error) {
	for i, choice := range choices {
		fmt.Fprintf(q.t.err, "  %d  %s\n", i+1, plain(choice))
	}
	question := what
	if proposed != "" {
		question += " [" + proposed + "]"
	}
	fmt.Fprint(q.t.err, plain(question)+": ")
	answer, err := q.t.line(ctx, func() ([]byte, error) {
		line, err := q.answers.ReadString('\n')
		return []byte(line), err
	})
	if errors.Is(err, io.EOF) { // Ctrl-D
		fmt.Fprintln(q.t.err)
		return "", errStopped
	}
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(answer))
	if n, err := strconv.Atoi(text); err == nil && n >= 1 && n <= len(choices) {
		return choices[n-1], nil
	}
	if text = firstOf(text, proposed); text == "" {
		return q.ask(ctx, what, proposed, choices)
	}
	return text, nil
}

// agrees puts a question that is answered by yes or no.
func (q questions) agrees(ctx context.Context, what string) (bool, error) {
	for {
		answer, err := q.ask(ctx, what, "yes", nil)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(answer) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
	}
}

// role makes the agent's role where that is wanted, and answers its ARN; "" where it is left to launch.
func (c agentConfigureCmd) role(ctx context.Context, q questions, a *deploy.Agent, person bool) (string, error) {
	wanted := c.CreateRole
	if !wanted && person && a.Role == "" {
		var err error
		if wanted, err = q.agrees(ctx, "Make the role "+a.RoleName()+" now, which only this agent can take on?"); err != nil {
			return "", err
		}
	}
	if !wanted {
		return "", nil
	}
	h, err := c.at(ctx, q.t, a)
	if err == nil {
		var arn string
		if arn, _, err = h.agents.MakeRole(ctx, a); err == nil {
			return arn, nil
		}
		err = h.told(err)
	}
	if c.CreateRole {
		return "", err
	}
	fmt.Fprintln(q.t.err, "The role is not made yet; launch makes it:", told(err.Error()))
	return "", nil
}
