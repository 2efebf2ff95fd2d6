package main

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	datatypes "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

const testRole = "arn:aws:iam::000000000000:role/onbehalf-default"

// consentRig is a callback server before a running platform, with an agent that
// asks for Ada's token itself.
type consentRig struct {
	*servertest.Platform
	t        testing.TB
	mine     *Platform
	callback *OAuth2CallbackServer
	signIn   *SignIn
	token    string // Ada's sign-in
	log      *screen
}

func newConsentRig(t testing.TB, p *servertest.Platform, o CallbackOptions) *consentRig {
	t.Helper()
	g := &consentRig{Platform: p, t: t, log: &screen{}, token: p.UserToken(t, demoidp.Ada)}
	o.Log = slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g.mine = &Platform{Control: p.Control, Data: p.Data, Region: "us-east-1", Log: o.Log}
	g.callback = NewOAuth2CallbackServer("us-east-1", p.Data, o)
	if err := g.callback.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.callback.Stop)
	var err error
	if g.signIn, err = NewSignIn(t.Context(), p.DemoURL()+discoveryPath, demoSignInName, ""); err != nil {
		t.Fatal(err)
	}
	g.callback.UseSignIn(g.signIn)
	g.callback.UseToken(g.token)
	identifier, err := g.signIn.UserTokenIdentifierOf(t.Context(), g.token)
	if err != nil {
		t.Fatal(err)
	}
	if err := StoreTokenInCallbackServer(t.Context(), g.callback.Client(), identifier); err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.mine.CreateWorkloadIdentity(t.Context(), "asker", g.callback.CallbackURL()); err != nil {
		t.Fatal(err)
	}
	if err := g.mine.ensureProvider(t.Context(), &Gateway{ProviderName: "asker-provider"}, g.source()); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *consentRig) source() *ProfileSource {
	return &ProfileSource{Title: "demo provider", PeopleURL: g.DemoURL(), DiscoveryURL: g.DemoURL() + discoveryPath, Register: registerDemoClient(g.DemoURL(), "Test")}
}

// agent makes a gateway and an agent with its tools.
func (g *consentRig) agent(t testing.TB, source *ProfileSource, name string) *Agent {
	t.Helper()
	gateway, err := g.mine.CreateGateway(t.Context(), name, source, g.callback.CallbackURL(), GatewayOptions{Inbound: g.signIn, RoleARN: testRole})
	if err != nil {
		t.Fatal(err)
	}
	return g.agentOf(t, gateway.ARN)
}

func (g *consentRig) agentOf(t testing.TB, arn string) *Agent {
	t.Helper()
	agent, err := g.mine.CreateAgent(t.Context(), arn, g.token, "2025-11-25")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	agent.Timeout = 20 * time.Second
	agent.Expect = func(session string) *Consent { return g.callback.Expect(session, "") }
	return agent
}

// ask is the agent asking for Ada's token itself: the token, or a link and its session.
func (g *consentRig) ask(customState string) (token, link, session string) {
	g.t.Helper()
	name := "asker"
	workload, err := g.Data.GetWorkloadAccessTokenForJWT(g.t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: &name, UserToken: &g.token})
	if err != nil {
		g.t.Fatal(err)
	}
	request := &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: workload.WorkloadAccessToken, ResourceCredentialProviderName: aws.String("asker-provider"),
		Oauth2Flow: datatypes.Oauth2FlowTypeUserFederation, Scopes: googleScopes, ResourceOauth2ReturnUrl: aws.String(g.callback.CallbackURL()),
	}
	if customState != "" {
		request.CustomState = &customState
	}
	answer, err := g.Data.GetResourceOauth2Token(g.t.Context(), request)
	if err != nil {
		g.t.Fatal(err)
	}
	return value(answer.AccessToken), value(answer.AuthorizationUrl), value(answer.SessionUri)
}

// expect asks and registers the session.
func (g *consentRig) expect() (link, session string, c *Consent) {
	g.t.Helper()
	_, link, session = g.ask("")
	return link, session, g.callback.Expect(session, "")
}

// browser is a person at a browser of their own.
type browser struct {
	*servertest.Person
	t testing.TB
}

func newBrowser(t testing.TB, p *servertest.Platform, person string) *browser {
	return &browser{servertest.NewPerson(p.DemoURL(), person), t}
}

// open goes through a consent link and signs in at the application, to its last page.
func (b *browser) open(link string) (page string, status int) {
	b.t.Helper()
	arrival, err := b.Visit(b.t.Context(), link, "allow")
	if err != nil {
		b.t.Fatalf("the link leads nowhere: %v", err)
	}
	return b.arrive(arrival)
}

// arrive opens a page of the application, and signs in where it wants that.
func (b *browser) arrive(at string) (page string, status int) {
	b.t.Helper()
	_, err := b.Visit(b.t.Context(), at, "allow")
	var last *servertest.StoppedError
	if !errors.As(err, &last) {
		b.t.Fatalf("no last page: %v", err)
	}
	return last.Page, last.Status
}

// signedIn is a browser that the callback server knows already.
func (g *consentRig) signedIn(person string) *browser {
	g.t.Helper()
	b := newBrowser(g.t, g.Platform, person)
	if page, status := b.arrive(g.callback.SignInLink()); status != http.StatusOK || !strings.Contains(page, "You are signed in") {
		g.t.Fatalf("%s cannot sign in: %d %s", person, status, page)
	}
	return b
}

// look is one request without anything around it.
func look(t testing.TB, client *http.Client, url string) (page string, response *http.Response) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, client, request)
}

func send(t testing.TB, client *http.Client, request *http.Request) (page string, response *http.Response) {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), response
}

// wants is an error of this type with these texts.
func wants[T interface {
	error
	Advice() string
}](t testing.TB, err error, what, hint string) {
	t.Helper()
	var typed T
	if !errors.As(err, &typed) {
		t.Fatalf("wanted a %T, got %T: %v", typed, err, err)
	}
	if !strings.Contains(err.Error(), what) || !strings.Contains(typed.Advice(), hint) {
		t.Errorf("wanted %q with hint %q, got %q with hint %q", what, hint, err, typed.Advice())
	}
}

// outcome is what became of a consent.
func outcome(t testing.TB, c *Consent) error {
	t.Helper()
	select {
	case err := <-c.Outcome():
		return err
	case <-time.After(90 * time.Second):
		t.Fatal("the consent has no outcome")
		return nil
	}
}

// open consents have no outcome yet.
func stillWaits(t testing.TB, c *Consent) {
	t.Helper()
	select {
	case err := <-c.Outcome():
		t.Fatalf("the consent is over: %v", err)
	default:
	}
}
