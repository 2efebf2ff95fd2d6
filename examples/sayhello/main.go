// Command sayhello is an agent that greets you by the name in your account,
// after you allowed it: the main job of the platform from end to end.
//
//	you ─▶ agent ─▶ gateway ─ no consent yet ─▶ link ─▶ you, in the browser
//	                   ▲                                   │ allow
//	                   └── tool call, now with a token ◀───┘ callback server completes for you
//
// It talks to the platform through the official AWS and MCP SDKs only, so it
// runs the same against a platform in this process, one that is running
// (--backend URL), and Amazon Bedrock AgentCore (--backend aws).
//
//	main.go             the seven steps, and how they end
//	callback_server.go  where a consent ends: who sits at this browser?
//	agent.go            the agent, its tool call, and what it does when it is asked for consent
//	gateway.go          the gateway and its target; provider.go its credential provider
//	identity.go         workload identities and user tokens
//	errors.go           what can go wrong, why, and what to do about it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/mattn/go-isatty"

	"github.com/onbehalf/onbehalf/internal/server"
)

func main() {
	server.Init()
	ctx, hurry := interrupts()
	os.Exit(run(ctx, process{
		args: os.Args[1:], lookup: os.LookupEnv, in: os.Stdin, out: os.Stdout, err: os.Stderr,
		terminal: isatty.IsTerminal(os.Stdin.Fd()) && isatty.IsTerminal(os.Stdout.Fd()),
		hurry:    hurry, browse: openBrowser,
	}))
}

// interrupts ends the first context at Ctrl-C (or SIGTERM) and the second at the
// next one: the first stops the story, the second the waiting for its clean-up.
// The process is not killed by either, so nothing is left half written.
func interrupts() (stopped, hurry context.Context) {
	stopped, stop := context.WithCancel(context.Background())
	hurry, hasten := context.WithCancel(context.Background())
	arrived := make(chan os.Signal, 2)
	signal.Notify(arrived, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-arrived
		stop()
		<-arrived
		hasten()
	}()
	return stopped, hurry
}

// process is what the operating system gives to main, so that a test can give its own.
type process struct {
	args     []string
	lookup   func(string) (string, bool) // the environment
	in       io.Reader
	out, err io.Writer
	terminal bool              // a person sits there
	hurry    context.Context   // ends when the person does not want to wait for the clean-up
	browse   func(link string) // opens a link on the person's display
}

// The exit codes.
const (
	exitDone      = 0
	exitFailed    = 1
	exitMisuse    = 2 // a ConfigurationError: the same again fails the same
	exitCancelled = 130
)

// run is main without the process.
func run(ctx context.Context, p process) int {
	settings, err := readSettings(p)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err == nil {
		err = newStory(settings, p).tell(ctx)
	}
	return report(err, p.err)
}

// report prints one message and one hint, and chooses the exit code.
func report(err error, out io.Writer) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(out, "sayhello:", safe(err))
	var advised interface{ Advice() string }
	if errors.As(err, &advised) {
		fmt.Fprintln(out, "hint:", redact(advised.Advice()))
	}
	var configuration *ConfigurationError
	switch {
	case errors.Is(err, errCancelled):
		return exitCancelled
	case errors.As(err, &configuration):
		return exitMisuse
	}
	return exitFailed
}

// story is one run: what it has made so far, and how to undo it.
type story struct {
	*Settings
	*progress
	process  process
	keyboard *keyboard
	cleaner  cleaner
	signIn   *SignIn     // where the person who asks signs in
	person   *demoPerson // plays the person at the demo provider; nil without one
	backend  *Backend
	callback *OAuth2CallbackServer
}

func newStory(settings *Settings, p process) *story {
	return &story{Settings: settings, process: p, keyboard: &keyboard{in: p.in}, progress: newProgress(p.out, p.err, settings.LogLevel)}
}

// tell goes through the seven steps and cleans up, however they end.
func (s *story) tell(ctx context.Context) (err error) {
	defer func() { err = s.end(ctx, err) }()

	if err := s.findOwnSignIn(ctx); err != nil {
		return err
	}
	if s.backend, err = OpenBackend(ctx, s.Settings, s.signIn, s.log, s.logs); err != nil {
		return err
	}
	source, err := s.source(ctx)
	if err != nil {
		return err
	}
	s.step(1, "configuration", "%s, %s", s.backend.Description, source.Title)

	if err := s.startCallbackServer(ctx); err != nil {
		return err
	}
	s.step(2, "callback server", "%s", s.callback.CallbackBaseURL())

	if err := s.makeIdentity(ctx); err != nil {
		return err
	}
	s.step(3, "workload identity", "%s", s.Name)

	gateway, err := s.makeGateway(ctx, source)
	if err != nil {
		return err
	}
	s.step(4, "gateway", "%s with tool %s", gateway.URL, toolName)
	if err := s.showRedirectURIs(ctx, source, gateway); err != nil {
		return err
	}
	userToken, err := s.signInUser(ctx)
	if err != nil {
		return err
	}

	agent, err := s.makeAgent(ctx, gateway, userToken)
	if err != nil {
		return err
	}
	defer agent.Close()
	s.step(5, "agent", "connected, protocol %s, %d %s", agent.Protocol(), len(agent.tools), plural(len(agent.tools), "tool"))

	return s.greet(ctx, agent, gateway, userToken)
}

// greet is step 6. The second greeting shows that consent is asked for once, the
// last line that it was given to the gateway and to nobody else.
func (s *story) greet(ctx context.Context, agent *Agent, gateway *Gateway, userToken string) error {
	asked := false
	agent.Show = func(ctx context.Context, link string) error {
		asked = true
		return s.show(ctx, link)
	}
	sentence, err := GreetUser(ctx, agent, userToken)
	switch {
	case err != nil && asked:
		s.finish("not authorized")
		return err
	case err != nil:
		return err
	case asked:
		s.finish("authorized")
		s.more("%s", sentence)
	default:
		s.step(6, "greeting", "%s", sentence)
	}
	asked = false
	again, err := GreetUser(ctx, agent, userToken)
	switch {
	case err != nil:
		return err
	case asked:
		return &GatewayError{Problem{What: "the second greeting asked for consent again", Hint: hintBinding}}
	}
	s.more("%s (again, without asking)", again)

	sees, err := s.backend.SeesGrantOf(ctx, s.Name, gateway.ProviderName, s.callback.CallbackURL(), userToken)
	switch {
	case ctx.Err() != nil:
		return stopped()
	case err != nil:
		s.more("whether the agent's own identity can use this consent was not tried: %s", safe(err))
	case sees:
		return &IdentityError{Problem{What: "the agent's own identity got the token that was given to the gateway", Hint: "This must not be: please report it."}}
	default:
		s.more("the agent's own identity cannot use this consent: it was given to the gateway")
	}
	return nil
}
