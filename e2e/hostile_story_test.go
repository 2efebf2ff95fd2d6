package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// patience is how long a caller waits at most for a provider that misbehaves: one
// conversation is bounded at 10 s, and the machine may be busy.
const patience = 25 * time.Second

// siege is a platform among providers that misbehave.
type siege struct {
	*platform
	t    *testing.T
	idp  *hostile
	user string // workload access token of a user
}

// Whatever a provider does, callers are told in time and in the API's own errors,
// nothing that was stored is lost by it, the platform's memory stays as it was, and
// nobody inside is reached through it.
func TestProvidersThatMisbehave(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(inside.Close)
	ways := misbehaviours(inside.URL + "/secrets")
	idp := startHostile(t)
	flags := []string{"--dev", "--egress-allow", idp.host}
	names := slices.Sorted(maps.Keys(ways))
	for i := range names {
		flags = append(flags, "--trusted-issuer", idp.issuer(fmt.Sprintf("keys-%d", i))+"=app", "--trusted-issuer", idp.issuer(fmt.Sprintf("signin-%d", i))+"=app")
	}
	s := &siege{platform: startPlatform(t, flags...), t: t, idp: idp}
	agent := "besieged"
	if _, err := s.control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &agent, AllowedResourceOauth2ReturnUrls: []string{returnURL}}); err != nil {
		t.Fatal(err)
	}
	issued, err := s.client.GetWorkloadAccessTokenForUserId(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: &agent, UserId: aws.String("ada")})
	if err != nil {
		t.Fatal(err)
	}
	s.user = *issued.WorkloadAccessToken
	before := s.peak()

	trials := map[string]func(t *testing.T, folder string, how http.HandlerFunc){
		"discovery": s.discovery, "m2m": s.clientCredentials, "code": s.code, "refresh": s.refresh, "keys": s.keys, "signin": s.signInDiscovery,
	}
	room := make(chan struct{}, 32) // most of the time is spent waiting
	var waiting sync.WaitGroup
	for endpoint, trial := range trials {
		for i, name := range names {
			waiting.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				t.Run(endpoint+" "+name, func(t *testing.T) { trial(t, fmt.Sprintf("%s-%d", endpoint, i), ways[name]) })
			})
		}
	}
	waiting.Wait()
	if n := reached.Load(); n != 0 {
		t.Errorf("providers led the platform inside %d times", n)
	}
	if after := s.peak(); after > before+96 {
		t.Errorf("the platform's memory rose from %d to %d MB at its peak", before, after)
	} else {
		t.Logf("%d trials; the platform's memory was at most %d MB, %d before", len(trials)*len(names), after, before)
	}
	if panics := strings.Count(s.logs.everything(), "a handler panicked"); panics != 0 {
		t.Errorf("%d handlers panicked", panics)
	}
}

// peak is the most memory that the process ever had, in MB.
func (p *platform) peak() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.process.Process.Pid))
	if err != nil {
		p.t.Skip("no /proc here")
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	kilobytes, _ := strconv.Atoi(string(found[1]))
	return kilobytes >> 10
}

// told wants a modelled error that says something, in time.
func told(t *testing.T, operation string, began time.Time, err error) {
	t.Helper()
	if took := time.Since(began); took > patience {
		t.Errorf("%s took %s", operation, took)
	}
	var known smithy.APIError
	if !errors.As(err, &known) {
		t.Fatalf("%s: want an error of the API, got %v", operation, err)
	}
	i := slices.IndexFunc(api.Operations, func(op *api.Info) bool { return op.Name == operation })
	if !slices.Contains(api.Operations[i].Errors, known.ErrorCode()) {
		t.Errorf("%s does not know %s: %s", operation, known.ErrorCode(), known.ErrorMessage())
	}
	message := known.ErrorMessage()
	if message == "" || strings.Contains(message, "An internal error occurred") || len(message) > 1000 || strings.ContainsAny(message, "\x00\n\r<\u202e") {
		t.Errorf("%s: the message of %s is not one for people: %.300q", operation, known.ErrorCode(), message)
	}
}

// again tries until it works, for what a failure made the platform wary of.
func again(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("with an honest provider: %v", err)
}

func (s *siege) create(ctx context.Context, folder string) (err error) {
	_, err = s.control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: &folder, CredentialProviderVendor: "CustomOauth2", Oauth2ProviderConfigInput: discovered(s.idp.discovery(folder), demoidp.Client{ID: "platform", Secret: "a secret"}),
	})
	return err
}

func (s *siege) discovery(t *testing.T, folder string, how http.HandlerFunc) {
	s.idp.misbehave(folder, ".well-known/openid-configuration", how)
	began := time.Now()
	told(t, "CreateOauth2CredentialProvider", began, s.create(t.Context(), folder))
	if _, err := s.control.GetOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: &folder}); err == nil {
		t.Error("half of a credential provider was stored")
	}
	s.idp.misbehave(folder, ".well-known/openid-configuration", nil)
	again(t, func() error { return s.create(t.Context(), folder) })
}

// ask asks for a token of the folder's provider.
func (s *siege) ask(t *testing.T, folder string, flow data.Oauth2FlowType, force bool) (*bedrockagentcore.GetResourceOauth2TokenOutput, error) {
	request := &bedrockagentcore.GetResourceOauth2TokenInput{WorkloadIdentityToken: &s.user, ResourceCredentialProviderName: &folder, Scopes: []string{"read"}, Oauth2Flow: flow}
	if flow == data.Oauth2FlowTypeUserFederation {
		request.ResourceOauth2ReturnUrl = aws.String(returnURL)
		request.ForceAuthentication = &force
	}
	return s.client.GetResourceOauth2Token(t.Context(), request)
}

func (s *siege) clientCredentials(t *testing.T, folder string, how http.HandlerFunc) {
	if err := s.create(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	s.idp.misbehave(folder, "token", how)
	began := time.Now()
	_, err := s.ask(t, folder, data.Oauth2FlowTypeM2m, false)
	told(t, "GetResourceOauth2Token", began, err)
	s.idp.misbehave(folder, "token", nil)
	again(t, func() error {
		_, err := s.ask(t, folder, data.Oauth2FlowTypeM2m, false)
		return err
	})
}

// walk goes through a link and completes the session.
func (s *siege) walk(t *testing.T, folder string) error {
	t.Helper()
	out, err := s.ask(t, folder, data.Oauth2FlowTypeUserFederation, false)
	if err != nil || out.AuthorizationUrl == nil {
		t.Fatalf("no link: %v", err)
	}
	arrival, err := servertest.NewPerson(s.idp.url, "").Visit(t.Context(), *out.AuthorizationUrl, "allow")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.client.CompleteResourceTokenAuth(t.Context(), &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: aws.String(sessionOf(t, arrival)), UserIdentifier: &data.UserIdentifierMemberUserId{Value: "ada"},
	})
	return err
}

func (s *siege) code(t *testing.T, folder string, how http.HandlerFunc) {
	if err := s.create(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	s.idp.misbehave(folder, "token", how)
	began := time.Now()
	told(t, "CompleteResourceTokenAuth", began, s.walk(t, folder))
	if asked := s.idp.asked(folder, "token"); asked != 1 {
		t.Errorf("the code was sent %d times", asked)
	}
	s.idp.misbehave(folder, "token", nil)
	if err := s.walk(t, folder); err != nil {
		t.Fatalf("the user cannot consent again: %v", err)
	}
	if out, err := s.ask(t, folder, data.Oauth2FlowTypeUserFederation, false); err != nil || out.AccessToken == nil {
		t.Errorf("after that there is no token: %v", err)
	}
}

// refresh has a grant that has just expired when its provider begins to misbehave.
func (s *siege) refresh(t *testing.T, folder string, how http.HandlerFunc) {
	if err := s.create(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	s.idp.set(folder, func(state *hostileTokens) { state.lifetime = 1 })
	if err := s.walk(t, folder); err != nil {
		t.Fatal(err)
	}
	expired := time.After(time.Second)
	s.idp.misbehave(folder, "token", how)
	s.idp.set(folder, func(state *hostileTokens) { state.lifetime = 3600 })
	<-expired
	began := time.Now()
	out, err := s.ask(t, folder, data.Oauth2FlowTypeUserFederation, false)
	if err == nil {
		t.Fatalf("no error: token %t, link %t", out.AccessToken != nil, out.AuthorizationUrl != nil)
	}
	told(t, "GetResourceOauth2Token", began, err)
	s.idp.misbehave(folder, "token", nil)
	again(t, func() error {
		out, err := s.ask(t, folder, data.Oauth2FlowTypeUserFederation, false)
		if err == nil && out.AccessToken == nil {
			t.Fatal("the grant is lost: the user is asked again")
		}
		return err
	})
	if consents := s.idp.asked(folder, "authorization_code"); consents != 1 {
		t.Errorf("the user consented %d times", consents)
	}
}

// signInTrial has a user's JWT whose issuer misbehaves at an endpoint.
func (s *siege) signInTrial(t *testing.T, folder, endpoint string, how http.HandlerFunc) {
	signIn := func(issuer, audience string) error {
		_, err := s.client.GetWorkloadAccessTokenForJWT(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{
			WorkloadName: aws.String("besieged"), UserToken: aws.String(s.idp.jwt(t, issuer, audience)),
		})
		return err
	}
	s.idp.misbehave(folder, endpoint, how)
	began := time.Now()
	told(t, "GetWorkloadAccessTokenForJWT", began, signIn(s.idp.issuer(folder), "app"))
	s.idp.misbehave(folder, endpoint, nil)
	again(t, func() error { return signIn(s.idp.issuer(folder), "app") })
	for name, err := range map[string]error{
		"for another audience": signIn(s.idp.issuer(folder), "another-app"), "of another issuer": signIn(s.idp.issuer("stranger"), "app"), "of an issuer that is not a URL": signIn("x", "app"),
	} {
		if err == nil {
			t.Errorf("a token %s is good", name)
			continue
		}
		told(t, "GetWorkloadAccessTokenForJWT", time.Now(), err)
	}
}

func (s *siege) keys(t *testing.T, folder string, how http.HandlerFunc) {
	s.signInTrial(t, folder, "keys", how)
}

func (s *siege) signInDiscovery(t *testing.T, folder string, how http.HandlerFunc) {
	s.signInTrial(t, folder, ".well-known/openid-configuration", how)
}

// A provider that gives no refresh token makes a grant that ends with its access
// token: the user is asked again. One that gives none with a refresh means the
// old one to stay.
func TestProvidersThatGiveNoRefreshToken(t *testing.T) {
	t.Parallel()
	idp := startHostile(t)
	s := &siege{platform: startPlatform(t, "--dev", "--egress-allow", idp.host), t: t, idp: idp}
	agent := "besieged"
	if _, err := s.control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &agent, AllowedResourceOauth2ReturnUrls: []string{returnURL}}); err != nil {
		t.Fatal(err)
	}
	issued, err := s.client.GetWorkloadAccessTokenForUserId(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: &agent, UserId: aws.String("ada")})
	if err != nil {
		t.Fatal(err)
	}
	s.user = *issued.WorkloadAccessToken
	for _, folder := range []string{"never", "once"} {
		if err := s.create(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
		idp.set(folder, func(state *hostileTokens) { state.lifetime, state.silent = 1, folder == "never" })
		if err := s.walk(t, folder); err != nil {
			t.Fatal(err)
		}
	}
	idp.set("once", func(state *hostileTokens) { state.silent = true })
	expired := time.After(time.Second)
	<-expired
	if out, err := s.ask(t, "never", data.Oauth2FlowTypeUserFederation, false); err != nil || out.AuthorizationUrl == nil || out.AccessToken != nil {
		t.Errorf("without a refresh token the user is not asked again: %v", err)
	}
	for refreshes := 1; refreshes <= 2; refreshes++ {
		out, err := s.ask(t, "once", data.Oauth2FlowTypeUserFederation, false)
		if err != nil || out.AccessToken == nil {
			t.Fatalf("the old refresh token is not used for refresh %d: %v", refreshes, err)
		}
		if asked := idp.asked("once", "refresh_token"); asked != refreshes {
			t.Errorf("%d refreshes, want %d", asked, refreshes)
		}
		<-time.After(time.Second)
	}
}
