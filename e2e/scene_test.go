package e2e

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// returnURL is the application's page of the scenes. Nobody listens there: the
// demo person stops at the redirect to it.
const returnURL = "http://localhost:9090/oauth2/callback"

// scene is a platform with one agent (a workload identity) and one credential
// provider, at a demo provider in the test's own process.
type scene struct {
	*platform
	t        *testing.T
	idp      *provider
	client   demoidp.Client // the platform's, at the demo provider
	agent    string
	provider string
	back     sync.Map // the link's session -> what the application's page was told last
}

func startScene(t *testing.T) *scene {
	t.Helper()
	idp := startProvider(t)
	s := &scene{
		platform: startPlatform(t, idp.flags()...), t: t, idp: idp, agent: "greeter", provider: "people",
		client: demoidp.Client{ID: "platform", Secret: "secret-of-the-platform-at-the-demo-provider"},
	}
	s.createAgent(s.agent)
	made, err := s.control.CreateOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: &s.provider, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: discovered(idp.DiscoveryURL(), s.client),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.client.RedirectURIs = []string{*made.CallbackUrl}
	if err := idp.Register(s.client); err != nil {
		t.Fatal(err)
	}
	return s
}

// discovered is the configuration of a client whose provider describes itself.
func discovered(discoveryURL string, c demoidp.Client) control.Oauth2ProviderConfigInput {
	return &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
		OauthDiscovery: &control.Oauth2DiscoveryMemberDiscoveryUrl{Value: discoveryURL}, ClientId: &c.ID, ClientSecret: &c.Secret,
	}}
}

func (s *scene) createAgent(name string) {
	s.t.Helper()
	_, err := s.control.CreateWorkloadIdentity(s.t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{
		Name: &name, AllowedResourceOauth2ReturnUrls: []string{returnURL},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// signIn is a sign-in of the person at the application: a new JWT each time.
func (s *scene) signIn(person string) string {
	s.t.Helper()
	tokens, err := s.idp.Issue(person, demoidp.SignInClientID, "openid", "profile")
	if err != nil {
		s.t.Fatal(err)
	}
	return tokens.ID
}

// speakFor is the agent's workload access token for the user of a JWT.
func (s *scene) speakFor(agent, jwt string) string {
	s.t.Helper()
	token, err := s.platform.client.GetWorkloadAccessTokenForJWT(s.t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: &agent, UserToken: &jwt})
	if err != nil {
		s.t.Fatal(err)
	}
	return *token.WorkloadAccessToken
}

// try asks for the user's token of the scene's provider; change may adjust the request.
func (s *scene) try(ctx context.Context, token string, change ...func(*bedrockagentcore.GetResourceOauth2TokenInput)) (*bedrockagentcore.GetResourceOauth2TokenOutput, error) {
	request := &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: &token, ResourceCredentialProviderName: &s.provider, Scopes: []string{"profile", "openid"},
		Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(returnURL),
		CustomParameters: map[string]string{"access_type": "offline"}, // so that there is a refresh token, as at Google
	}
	for _, f := range change {
		f(request)
	}
	return s.platform.client.GetResourceOauth2Token(ctx, request)
}

// link asks, and wants to be told to ask the user.
func (s *scene) link(token string, change ...func(*bedrockagentcore.GetResourceOauth2TokenInput)) (link, session string) {
	s.t.Helper()
	out, err := s.try(s.t.Context(), token, change...)
	switch {
	case err != nil:
		s.t.Fatal(err)
	case out.AccessToken != nil:
		s.t.Fatal("there is an access token already, and a link was expected")
	case out.AuthorizationUrl == nil || out.SessionUri == nil || out.SessionStatus != data.SessionStatusInProgress:
		s.t.Fatalf("neither an access token nor a whole link: url %t, session %t, status %q", out.AuthorizationUrl != nil, out.SessionUri != nil, out.SessionStatus)
	}
	return *out.AuthorizationUrl, *out.SessionUri
}

// access asks, and wants the access token.
func (s *scene) access(token string, change ...func(*bedrockagentcore.GetResourceOauth2TokenInput)) string {
	s.t.Helper()
	out, err := s.try(s.t.Context(), token, change...)
	if err != nil {
		s.t.Fatal(err)
	}
	if out.AccessToken == nil {
		s.t.Fatalf("no access token but a link, status %q", out.SessionStatus)
	}
	return *out.AccessToken
}

func poll(session string) func(*bedrockagentcore.GetResourceOauth2TokenInput) {
	return func(r *bedrockagentcore.GetResourceOauth2TokenInput) { r.SessionUri = &session }
}

// allow is a person with a fresh browser who opens the link and allows what it
// asks for. It returns the session that the application's page is told of.
func (s *scene) allow(link, person string) (session string) {
	s.t.Helper()
	arrival, err := servertest.NewPerson(s.idp.url, person).Visit(s.t.Context(), link, "allow")
	if err != nil {
		s.t.Fatalf("%s could not go through with the link: %v", person, err)
	}
	told := sessionOf(s.t, arrival)
	session, _, _ = strings.Cut(told, ".")
	s.back.Store(session, told)
	return session
}

// told is what the application's page was told last of a link's session.
func (s *scene) told(session string) (sessionID string, ok bool) {
	told, ok := s.back.Load(session)
	if !ok {
		return "", false
	}
	return told.(string), true
}

// sessionOf is the session_id of the URL at which a browser arrived.
func sessionOf(t *testing.T, arrival string) string {
	t.Helper()
	landed, err := url.Parse(arrival)
	if err != nil || landed.Query().Get("session_id") == "" || landed.Scheme+"://"+landed.Host+landed.Path != returnURL {
		t.Fatalf("the browser did not arrive at the application with a session_id")
	}
	return landed.Query().Get("session_id")
}

// complete tells the platform that the user of the JWT came back.
func (s *scene) complete(session, jwt string) error {
	if told, ok := s.told(session); ok {
		session = told
	}
	_, err := s.platform.client.CompleteResourceTokenAuth(s.t.Context(), &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: &session, UserIdentifier: &data.UserIdentifierMemberUserToken{Value: jwt},
	})
	return err
}

// consent goes through with the link that the agent is given now.
func (s *scene) consent(token, jwt, person string) {
	s.t.Helper()
	link, session := s.link(token)
	if got := s.allow(link, person); got != session {
		s.t.Fatal("the application is told of another session than the agent")
	}
	if err := s.complete(session, jwt); err != nil {
		s.t.Fatal(err)
	}
}

// refused wants an error of the API with this code, and gives it for a closer look.
func refused(t testing.TB, err error, code string) smithy.APIError {
	t.Helper()
	var known smithy.APIError
	if !errors.As(err, &known) {
		t.Fatalf("want %s, got %v", code, err)
	}
	if known.ErrorCode() != code {
		t.Fatalf("want %s, got %s: %s", code, known.ErrorCode(), known.ErrorMessage())
	}
	return known
}
