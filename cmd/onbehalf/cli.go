package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// serving is as much of the command line as starting the platform needs.
type serving struct {
	Config string   `name:"config" env:"ONBEHALF_CONFIG" type:"path" placeholder:"FILE" help:"YAML file with settings, under the flags' own names. Flags and environment win over it."`
	Serve  serveCmd `cmd:"" help:"Run the platform." group:"Platform"`
}

// commands is the command line: one field per command family, one file each.
type commands struct {
	serving

	Env        envCmd        `cmd:"" help:"Print the variables that point AWS SDKs and the AWS CLI at it." group:"Platform"`
	Model      modelCmd      `cmd:"" help:"Print the model of our own operations, for the AWS CLI and boto3." group:"Platform"`
	Version    versionCmd    `cmd:"" help:"Print the version." example:"onbehalf version --output json" group:"Platform"`
	Completion completionCmd `cmd:"" help:"Print what makes a shell complete commands, flags and names." group:"Platform"`

	Agent     agentCmd     `cmd:"" help:"Agents: host one, call it, watch it." group:"Daily work"`
	Workloads workloadsCmd `cmd:"" help:"Workload identities: the names under which agents ask for tokens." group:"Daily work"`
	Providers providersCmd `cmd:"" help:"Credential providers: OAuth2 clients at vendors, and API keys." group:"Daily work"`
	Grants    grantsCmd    `cmd:"" help:"Grants: what users allowed which workload, and taking it back." group:"Daily work"`
	Gateways  gatewaysCmd  `cmd:"" help:"Gateways: MCP servers before your APIs." group:"Daily work"`
	Targets   targetsCmd   `cmd:"" help:"Targets: the APIs behind a gateway." group:"Daily work"`

	Audit auditCmd `cmd:"" help:"The record of every act: who did what, for whom." group:"Audit"`

	Vault   vaultCmd   `cmd:"" help:"Token vaults: their keys, and sealing them anew." group:"Keys and copies"`
	Backup  backupCmd  `cmd:"" help:"Copy a whole installation to a file, sealed." group:"Keys and copies"`
	Restore restoreCmd `cmd:"" help:"Fill an empty database from a backup." group:"Keys and copies"`

	Accounts accountsCmd `cmd:"" help:"Tenants." group:"Who may do what"`
	Keys     keysCmd     `cmd:"" help:"Access keys." group:"Who may do what"`
	Roles    rolesCmd    `cmd:"" help:"Roles, and temporary credentials for them." group:"Who may do what"`
	Policies policiesCmd `cmd:"" help:"IAM policies of users and roles." group:"Who may do what"`
	Explain  explainCmd  `cmd:"" help:"Say why a principal may or may not do an action." group:"Who may do what"`
}

// terminal is what a command may read from and write to.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

// hinted is an error that also says what to do about it.
type hinted struct {
	error
	hint string
}

// grammarOf is what kong is to know of the command line. Of the whole it makes a
// model of some thousand parts, which costs 5 ms and a megabyte for as long as the
// command runs: the platform, which runs for weeks, is started without.
func grammarOf(args []string) (grammar any, line *serving) {
	if len(args) > 0 && args[0] == "serve" {
		line = &serving{}
		return line, line
	}
	all := &commands{}
	return all, &all.serving
}

func newParser(ctx context.Context, grammar any, line *serving, t *terminal, exit func(code int)) (*kong.Kong, error) {
	parser, err := kong.New(grammar,
		kong.Name("onbehalf"),
		kong.Description("Lets AI agents act on behalf of people without holding their passwords. Speaks the API of Amazon Bedrock AgentCore.\n\nExamples:\n  onbehalf serve --dev\n  eval \"$(onbehalf env)\" && aws bedrock-agentcore-control list-workload-identities"),
		kong.Writers(t.out, t.err),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Resolvers(settingsFile()),
		kong.Bind(t, line),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err == nil {
		withExamples(parser.Model.Node)
	}
	return parser, err
}

// run is main without the process: it returns the exit code. 0 is success, 1 a
// command that failed, 2 a command line that makes no sense.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	grammar, line := grammarOf(args)
	exit := -1
	parser, err := newParser(ctx, grammar, line, &terminal{in: in, out: out, err: errOut}, func(code int) { exit = code })
	if err != nil {
		fmt.Fprintln(errOut, "onbehalf:", err)
		return 2
	}
	if len(args) == 0 {
		if err := overview(out, parser.Model); err != nil {
			return 1
		}
		return 0
	}
	if args[0] == completeCommand {
		complete(ctx, parser.Model, args[1:], out)
		return 0
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		hint := "onbehalf --help lists the commands and their flags"
		var wrong *kong.ParseError
		if errors.As(err, &wrong) && wrong.Context.Selected() != nil {
			hint = "onbehalf --help lists the commands; " + wrong.Context.Selected().FullPath() + " --help shows what this one takes"
		}
		var file *settingsError
		if errors.As(err, &file) {
			// kong puts the flag in front that it was about to look up
			err, hint = file, "onbehalf serve --help lists the settings; the file has the flags' names, without the hyphens in front"
		}
		fmt.Fprintln(errOut, "onbehalf:", err)
		fmt.Fprintln(errOut, "hint:", hint)
		return 2
	}
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(errOut, "onbehalf:", told(err.Error()))
		var advice hinted
		if errors.As(err, &advice) && advice.hint != "" {
			fmt.Fprintln(errOut, "hint:", told(advice.hint))
		}
		if usage := (usageError{}); errors.As(err, &usage) {
			return 2
		}
		return 1
	}
	return 0
}
