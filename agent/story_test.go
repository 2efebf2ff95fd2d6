package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/agent"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

const callbackURL = "http://localhost:9090/oauth2/callback"

// studio is a real platform, a provider of people, and an agent that may ask them.
type studio struct {
	*servertest.Platform
	client *agent.Client
	states []string // that came back to the application
}

func openStudio(t *testing.T) *studio {
	t.Helper()
	s := &studio{Platform: servertest.Start(t)}
	s.client = agent.NewClient(s.AWS)
	s.client.LocalFile = filepath.Join(t.TempDir(), ".agentcore.json")
	_, err := s.Control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{
		Name: aws.String("greeter"), AllowedResourceOauth2ReturnUrls: []string{callbackURL},
	})
	if err != nil {
		t.Fatal(err)
	}
	app := demoidp.Client{ID: "platform", Secret: "secret-of-the-platform"}
	made, err := s.Control.CreateOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("people"), CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
			OauthDiscovery: &control.Oauth2DiscoveryMemberDiscoveryUrl{Value: s.Demo().DiscoveryURL()}, ClientId: &app.ID, ClientSecret: &app.Secret,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	app.RedirectURIs = []string{*made.CallbackUrl}
	if err := s.Demo().Register(app); err != nil {
		t.Fatal(err)
	}
	return s
}

// of is the context of a request that a person who signed in at the application made.
func (s *studio) of(t *testing.T, person string) context.Context {
	t.Helper()
	out, err := s.Data.GetWorkloadAccessTokenForJWT(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{
		WorkloadName: aws.String("greeter"), UserToken: aws.String(s.UserToken(t, person)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return agent.WithWorkloadToken(t.Context(), *out.WorkloadAccessToken)
}

// options are those of a user's token; who opens the link, and what they decide, is the caller's.
func (s *studio) options(t *testing.T, decision string, who data.UserIdentifier) agent.AccessTokenOptions {
	t.Helper()
	return agent.AccessTokenOptions{
		Provider: "people", Flow: agent.UserFederation, Scopes: []string{"openid", "profile"}, CallbackURL: callbackURL, Client: s.client,
		Poller: agent.IntervalPoller{Interval: 10 * time.Millisecond, Timeout: 2 * time.Minute},
		OnAuthURL: func(ctx context.Context, link string) error {
			arrival, err := servertest.NewPerson(s.DemoURL(), demoidp.Ada).Visit(ctx, link, decision)
			if err != nil {
				return err
			}
			page, err := url.Parse(arrival)
			if err != nil || decision == "deny" {
				return err
			}
			s.states = append(s.states, page.Query().Get("state"))
			_, err = s.Data.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{SessionUri: aws.String(page.Query().Get("session_id")), UserIdentifier: who})
			return err
		},
	}
}

// nameOf asks the provider's own API, with the token, whose it is.
func (s *studio) nameOf(ctx context.Context, token agent.Secret) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.DemoURL()+"/userinfo", nil)
	if err != nil {
		return "", err
	}
	token.SetAuthHeader(r)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var person struct{ Name string }
	err = json.NewDecoder(response.Body).Decode(&person)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return person.Name, err
}

// The first call asks the user; the next ones find what was granted, until one forces the question.
func TestAUsersToken(t *testing.T) {
	t.Parallel()
	s := openStudio(t)
	ada := s.of(t, demoidp.Ada)
	o := s.options(t, "allow", &data.UserIdentifierMemberUserToken{Value: s.UserToken(t, demoidp.Ada)})
	o.CustomState, o.CustomParameters = "state of the application", map[string]string{"access_type": "offline"}
	greet := agent.RequireAccessToken(o, func(ctx context.Context, greeting string, token agent.Secret) (string, error) {
		name, err := s.nameOf(ctx, token)
		return greeting + ", " + name, err
	})
	for range 2 {
		if got, err := greet(ada, "Hello"); err != nil || !strings.HasPrefix(got, "Hello, Ada") {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if got := fmt.Sprint(s.states); got != "[state of the application]" {
		t.Errorf("the application was told %s", got)
	}
	before, err := agent.AccessToken(ada, o)
	if err != nil {
		t.Fatal(err)
	}
	o.ForceAuthentication = true
	after, err := agent.AccessToken(ada, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.states) != 2 || before.Reveal() == after.Reveal() {
		t.Errorf("forced, and asked %d times in all; the old token: %t", len(s.states), before.Reveal() == after.Reveal())
	}
	for _, token := range []agent.Secret{before, after} {
		if strings.Contains(s.Logs.String(), token.Reveal()) {
			t.Error("a token is in the platform's log")
		}
	}
}

// The agent's own token: nobody is asked, and the provider once.
func TestTheAgentsOwnToken(t *testing.T) {
	t.Parallel()
	s := openStudio(t)
	o := agent.AccessTokenOptions{Provider: "people", Flow: agent.M2M, Scopes: []string{"profile"}, Client: s.client}
	first, err := agent.AccessToken(s.of(t, demoidp.Ada), o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := agent.AccessToken(t.Context(), o) // in local development, by another workload
	if err != nil {
		t.Fatal(err)
	}
	if first.IsZero() || again.IsZero() || s.Demo().TokenRequests("client_credentials") == 0 {
		t.Errorf("empty tokens, or nobody asked the provider")
	}
	o.Scopes = []string{"openid"} // needs a person
	if _, err := agent.AccessToken(t.Context(), o); err == nil || !strings.Contains(err.Error(), `access token of "people"`) {
		t.Errorf("a scope that needs a person: %v", err)
	}
}

func TestAKey(t *testing.T) {
	t.Parallel()
	s := openStudio(t)
	if _, err := s.Control.CreateApiKeyCredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: aws.String("weather"), ApiKey: aws.String("key-of-the-story")}); err != nil {
		t.Fatal(err)
	}
	type input struct {
		City string
		Key  agent.Secret `json:"-"`
	}
	forecast := agent.RequireAPIKeyInto("Key", agent.APIKeyOptions{Provider: "weather", Client: s.client}, func(_ context.Context, in input) (string, error) {
		return in.City + " " + in.Key.Reveal(), nil
	})
	for _, ctx := range []context.Context{s.of(t, demoidp.Ada), t.Context()} { // hosted, and in local development
		if got, err := forecast(ctx, input{City: "London"}); err != nil || got != "London key-of-the-story" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := agent.APIKey(t.Context(), agent.APIKeyOptions{Provider: "people", Client: s.client}); !errors.Is(err, agent.ErrNotFound) {
		t.Errorf("a provider of another kind: %v", err)
	}
	if strings.Contains(s.Logs.String(), "key-of-the-story") {
		t.Error("the key is in the platform's log")
	}
}

// A developer's machine: no token in the context, one more file in the folder.
func TestAUsersTokenInLocalDevelopment(t *testing.T) {
	t.Parallel()
	s := openStudio(t)
	o := s.options(t, "allow", nil)
	_, err := agent.AccessToken(t.Context(), o)
	if !errors.Is(err, agent.ErrInvalid) || !strings.Contains(err.Error(), "update-workload-identity --name workload-") || !strings.Contains(err.Error(), callbackURL) {
		t.Fatalf("before the callback URL is registered: %v", err)
	}
	var known struct {
		Name string `json:"workload_identity_name"`
		User string `json:"user_id"`
	}
	if err := json.Unmarshal(read(t, s.client.LocalFile), &known); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Control.UpdateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.UpdateWorkloadIdentityInput{Name: &known.Name, AllowedResourceOauth2ReturnUrls: []string{callbackURL}}); err != nil {
		t.Fatal(err)
	}
	o = s.options(t, "allow", &data.UserIdentifierMemberUserId{Value: known.User})
	type input struct {
		Token agent.Secret `json:"-"`
	}
	greet := agent.RequireAccessTokenInto("Token", o, func(ctx context.Context, in input) (string, error) { return s.nameOf(ctx, in.Token) })
	if got, err := greet(t.Context(), input{}); err != nil || !strings.HasPrefix(got, "Ada") {
		t.Fatalf("%q, %v", got, err)
	}
}

// How it goes wrong at a real platform.
func TestAUsersTokenThatThereIsNot(t *testing.T) {
	t.Parallel()
	s := openStudio(t)
	ada := s.of(t, demoidp.Ada)
	for name, test := range map[string]struct {
		kind   error
		ctx    context.Context
		change func(*agent.AccessTokenOptions)
	}{
		"the user says no":               {agent.ErrConsentFailed, ada, func(o *agent.AccessTokenOptions) { *o = s.options(t, "deny", nil) }},
		"nobody goes through with it":    {agent.ErrConsentTimeout, ada, func(o *agent.AccessTokenOptions) { nobody(o); o.Poller = agent.IntervalPoller{Interval: 1, Timeout: 1} }},
		"nobody is told":                 {agent.ErrConsentNeeded, ada, func(o *agent.AccessTokenOptions) { o.OnAuthURL, o.Poller = nil, nil }},
		"the provider is unknown":        {agent.ErrNotFound, ada, func(o *agent.AccessTokenOptions) { o.Provider = "nobody" }},
		"the callback is not registered": {agent.ErrInvalid, ada, func(o *agent.AccessTokenOptions) { o.CallbackURL = "http://localhost:9091/" }},
		"the workload token is made up":  {agent.ErrAccessDenied, agent.WithWorkloadToken(t.Context(), "made-up-workload-token"), func(*agent.AccessTokenOptions) {}},
		"the credentials are not for it": {agent.ErrCredentials, ada, func(o *agent.AccessTokenOptions) { o.Client = agent.NewClient(stranger(s.AWS)) }},
	} {
		t.Run(name, func(t *testing.T) {
			o := s.options(t, "allow", nil)
			test.change(&o)
			_, err := agent.AccessToken(test.ctx, o)
			var known *agent.Error
			if !errors.Is(err, test.kind) || !errors.As(err, &known) || known.Hint == "" || strings.Contains(err.Error(), "made-up") {
				t.Errorf("want %v, got %v", test.kind, err)
			}
		})
	}
}

// The error of OnAuthURL comes back as it is.
func TestOnAuthURLFails(t *testing.T) {
	t.Parallel()
	s := openStudio(t)
	_, err := agent.AccessToken(s.of(t, demoidp.Ada), s.options(t, "allow", &data.UserIdentifierMemberUserId{Value: "somebody else"}))
	var refused *data.AccessDeniedException
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "OnAuthURL failed") {
		t.Error(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func nobody(o *agent.AccessTokenOptions) {
	o.OnAuthURL = func(context.Context, string) error { return nil }
}

func stranger(c aws.Config) aws.Config {
	c.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIAUNKNOWNUNKNOWN00", SecretAccessKey: strings.Repeat("x", 40)}, nil
	})
	return c
}
