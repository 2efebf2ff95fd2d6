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
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second Ctrl-C does not wait for the clean-up
	terminal := isatty.IsTerminal(os.Stdin.Fd()) && isatty.IsTerminal(os.Stdout.Fd())
	os.Exit(run(ctx, os.Args[1:], terminal, os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process. 0 is success, 1 a failure, 2 a configuration that makes no sense, 130 Ctrl-C.
func run(ctx context.Context, args []string, terminal bool, in io.Reader, out, errOut io.Writer) int {
	settings, err := readSettings(args, terminal, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		s := &story{Settings: settings, progress: newProgress(out, errOut, settings.LogLevel), in: bufio.NewReader(in)}
		err = s.tell(ctx)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(errOut, "sayhello:", safe(err))
	var advised interface{ Advice() string }
	if errors.As(err, &advised) && advised.Advice() != "" {
		fmt.Fprintln(errOut, "hint:", advised.Advice())
	}
	var configuration *ConfigurationError
	switch {
	case errors.Is(err, errCancelled):
		return 130
	case errors.As(err, &configuration):
		return 2
	default:
		return 1
	}
}

// story is one run: what it has made so far, and how to undo it.
type story struct {
	*Settings
	*progress
	in       *bufio.Reader
	backend  *Backend
	callback *OAuth2CallbackServer
	signIn   *SignIn
	person   *demoPerson
	undo     []func(context.Context) error // newest last
}

// tell goes through the seven steps and cleans up, however they end.
func (s *story) tell(ctx context.Context) (err error) {
	defer func() {
		stopped := ctx.Err() != nil
		cleanUp := s.cleanUp()
		switch {
		case err == nil:
			err = cleanUp
		case stopped && !errors.Is(err, errCancelled): // whatever failed then, Ctrl-C made it fail
			err = &OAuthError{Problem{What: "stopped", Cause: errCancelled, Hint: hintStopped}}
			if cleanUp != nil {
				err = &OAuthError{Problem{What: "stopped", Cause: errCancelled, Hint: hintLeft}}
			}
		}
	}()

	s.log.Debug("step", "name", "configuration")
	if s.backend, err = OpenBackend(ctx, s.Settings, s.log); err != nil {
		return err
	}
	source, err := s.source()
	if err != nil {
		return err
	}
	s.step(1, "configuration", "%s, %s", s.backend.Description, source.Title)

	if err := s.startCallbackServer(); err != nil {
		return err
	}
	s.step(2, "callback server", "%s", s.callback.baseURL)
	userToken, discoveryURL, err := s.signInUser(ctx)
	if err != nil {
		return err
	}

	if _, err := s.backend.CreateWorkloadIdentity(ctx, s.Name, s.returnURL()); err != nil {
		return err
	}
	// One that an earlier run kept is removed as well, as its gateway and its provider are.
	s.onCleanUp(true, func(ctx context.Context) error { return s.backend.DeleteWorkloadIdentity(ctx, s.Name) })
	s.step(3, "workload identity", "%s", s.Name)

	gateway, err := s.makeGateway(ctx, source, discoveryURL)
	if err != nil {
		return err
	}
	s.step(4, "gateway", "%s with tool %s", gateway.URL, toolName)

	agent, err := s.backend.CreateAgent(ctx, gateway.ARN, userToken, s.MCPVersion)
	if err != nil {
		return err
	}
	defer agent.Close()
	agent.Timeout, agent.Show = s.Timeout, s.show
	agent.Expect = func(session string) <-chan error { return s.callback.Expect(session, "") }
	s.step(5, "agent", "connected, protocol %s, %d %s", agent.Protocol(), len(agent.tools), plural(len(agent.tools), "tool"))

	return s.greet(ctx, agent, gateway, userToken)
}

// greet is step 6. The second greeting shows that consent is asked for once, the
// last line that it was given to the gateway and to nobody else.
func (s *story) greet(ctx context.Context, agent *Agent, gateway *Gateway, userToken string) error {
	asked := false
	show := agent.Show
	agent.Show = func(ctx context.Context, link string) error {
		asked = true
		return show(ctx, link)
	}
	sentence, err := GreetUser(ctx, agent, userToken)
	if err != nil {
		if asked {
			s.finish("not authorized")
		}
		return err
	}
	if asked {
		s.finish("authorized")
		s.more("%s", sentence)
	} else {
		s.step(6, "greeting", "%s", sentence)
	}
	asked = false
	if again, err := GreetUser(ctx, agent, userToken); err != nil {
		return err
	} else if asked {
		return &GatewayError{Problem{What: "the second greeting asked for consent again", Hint: hintBinding}}
	} else {
		s.more("%s (again, without asking)", again)
	}
	sees, err := s.backend.SeesGrantOf(ctx, s.Name, gateway.ProviderName, s.returnURL(), userToken, rand.Text())
	switch {
	case err != nil:
		s.log.Info("the agent's own identity could not be tried", "error", err)
	case sees:
		return &IdentityError{Problem{What: "the agent's own identity got the token that was given to the gateway", Hint: "This must not be: please report it."}}
	default:
		s.more("the agent's own identity cannot use this consent: it was given to the gateway")
	}
	return nil
}

// startCallbackServer is step 2; it stops last but for the platform.
func (s *story) startCallbackServer() (err error) {
	options := CallbackOptions{Port: s.CallbackPort, CertFile: s.CallbackTLS[0], KeyFile: s.CallbackTLS[1], Allow: s.CallbackAllow, ExactToken: s.Backend == "aws"}
	options.WithoutSignIn = s.UserToken != "" && s.Inbound.ClientID == ""
	if s.CallbackURL != "" {
		u, err := url.Parse(s.CallbackURL)
		if err != nil || u.Path != pathCallback {
			return &ConfigurationError{Problem{What: "CALLBACK_URL does not end in " + pathCallback, Hint: "Use " + "http://localhost:9090" + pathCallback + ", or leave it out."}}
		}
		if s.CallbackPort == defaultCallbackPort || u.Port() == fmt.Sprint(s.CallbackPort) {
			options.BaseURL = u.Scheme + "://" + u.Host
		}
	}
	if s.callback, err = NewOAuth2CallbackServer(s.Region, s.backend.Data, options); err != nil {
		return err
	}
	if base, err := url.Parse(s.callback.baseURL); options.WithoutSignIn && (err != nil || (base.Hostname() != "localhost" && base.Hostname() != "127.0.0.1")) {
		return &ConfigurationError{Problem{What: "USER_TOKEN alone completes on this machine only", Hint: "Set INBOUND_DISCOVERY_URL and INBOUND_CLIENT_ID, so that the browser's person can sign in."}}
	}
	return s.callback.Start()
}

func (s *story) returnURL() string { return s.callback.CallbackURL() }

// makeGateway is step 4, with the one thing that a person must do at Google.
func (s *story) makeGateway(ctx context.Context, source *ProfileSource, discoveryURL string) (*Gateway, error) {
	role := or(s.RoleARN, "arn:aws:iam::000000000000:role/onbehalf-default")
	gateway, err := s.backend.CreateGateway(ctx, s.Name, source, s.signIn, discoveryURL, s.returnURL(), role)
	if gateway != nil {
		// Google's provider stays: its callback URL is registered there. A gateway
		// that was found is removed as well, unless it is to be kept.
		s.onCleanUp(source.Register != nil && gateway.ProviderARN != "", func(ctx context.Context) error { return s.backend.DeleteProvider(ctx, gateway.ProviderName) })
		s.onCleanUp(gateway.ARN != "", func(ctx context.Context) error { return s.backend.DeleteGateway(ctx, gateway.ARN) })
	}
	if err != nil {
		return nil, err
	}
	if first, shown := s.firstGoogleRun(); source.Register == nil && first {
		s.more("Register this redirect URI at %s, character by character:", source.Title)
		s.more("  %s", gateway.CallbackURL)
		if s.Inbound.ClientID != "" {
			s.more("and this one at your sign-in provider:")
			s.more("  %s", s.callback.SignInURL())
		}
		if s.Terminal {
			s.more("Then press Enter.")
			if err := s.enter(ctx); err != nil {
				return nil, err
			}
		}
		shown()
	}
	return gateway, nil
}

// show prints the link, opens it where there is a display, and lets the demo
// person consent where that was asked for.
func (s *story) show(ctx context.Context, link string) error {
	s.step(6, "greeting", "the agent needs your consent. Open: %s", link)
	switch {
	case s.AutoConsent:
		s.more("--auto-consent: %s signs in at the demo provider and allows it", demoPersonID)
		s.begin("waiting for you (%s) …", minutes(s.Timeout))
		return s.person.visit(ctx, link)
	case s.person != nil && s.usesDemo() && s.Terminal:
		openBrowser(link)
		s.begin("waiting for you (%s; Enter lets the demo person consent) …", minutes(s.Timeout))
		go func() {
			if s.enter(ctx) == nil {
				s.entered()
				s.begin("%s signs in at the demo provider and allows it …", demoPersonID)
				if err := s.person.visit(ctx, link); err != nil && ctx.Err() == nil { // the wait ends before the last page is read
					s.more("%s", safe(err))
				}
			}
		}()
	default:
		openBrowser(link)
		s.begin("waiting for you (%s) …", minutes(s.Timeout))
	}
	return nil
}

// enter waits for a line on stdin.
func (s *story) enter(ctx context.Context) error {
	line := make(chan error, 1)
	go func() {
		_, err := s.in.ReadString('\n')
		line <- err
	}()
	select {
	case err := <-line:
		return err
	case <-ctx.Done():
		return &ConfigurationError{Problem{What: "stopped", Cause: errCancelled}}
	}
}

// onCleanUp remembers what to undo, unless it is to be kept.
func (s *story) onCleanUp(made bool, undo func(context.Context) error) {
	if made && !s.Keep {
		s.undo = append(s.undo, undo)
	}
}

// cleanUp is step 7. It has a time of its own: after Ctrl-C the run's context is over.
func (s *story) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var problems []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		if err := s.undo[i](ctx); err != nil {
			problems = append(problems, err)
		}
	}
	if s.callback != nil {
		s.callback.Stop()
	}
	if s.backend != nil {
		s.backend.Stop()
		switch {
		case len(problems) > 0:
			s.step(7, "clean-up failed", "something is left behind: %s", safe(problems[0]))
		case s.Keep:
			s.step(7, "kept", "the next run with --keep greets without asking")
		default:
			s.step(7, "cleaned up", "")
		}
	}
	return errors.Join(problems...)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d %s", int(d.Minutes()), plural(int(d.Minutes()), "minute"))
	}
	return d.String()
}
