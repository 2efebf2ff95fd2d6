package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// shortLife is the shortest lifetime that a provider can give a token: it speaks in seconds.
const shortLife = time.Second

// expire gives a person's consent whose access token has expired by now. What
// the provider issues from then on lives for an hour.
func (s *scene) expire(person string) (token, access string) {
	s.t.Helper()
	jwt := s.signIn(person) // which lives longer
	token = s.speakFor(s.agent, jwt)
	s.idp.SetLifetime(shortLife)
	s.consent(token, jwt, person)
	access = s.idp.tokens.secrets()[0]
	time.Sleep(shortLife + 20*time.Millisecond)
	s.idp.SetLifetime(time.Hour)
	return token, access
}

// A provider that rotates takes a refresh token that comes twice for theft: the
// user would be asked again because a hundred requests came at once.
func TestExpiredTokenIsRefreshedOnceForAHundredCallers(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	token, before := s.expire(demoidp.Ada)
	s.idp.tokens.hold(400 * time.Millisecond) // so that all of them wait
	const callers = 100
	var waiting sync.WaitGroup
	start := make(chan struct{})
	got, failures := make([]string, callers), make([]error, callers)
	for i := range callers {
		waiting.Go(func() {
			<-start
			out, err := s.try(t.Context(), token)
			if failures[i] = err; err == nil && out.AccessToken != nil {
				got[i] = *out.AccessToken
			}
		})
	}
	close(start)
	waiting.Wait()
	for i := range callers {
		switch {
		case failures[i] != nil:
			t.Fatalf("caller %d: %v", i, failures[i])
		case got[i] == "" || got[i] != got[0]:
			t.Fatalf("caller %d has no token, or another than caller 0", i)
		case got[i] == before:
			t.Fatalf("caller %d has the expired token", i)
		}
	}
	if requests := s.idp.TokenRequests("refresh_token"); requests != 1 {
		t.Errorf("the provider was asked %d times", requests)
	}
	if name := s.whose(got[0]); name != "Ada Lovelace" {
		t.Errorf("the refreshed token is %s's", name)
	}
	if s.access(token) != got[0] {
		t.Error("a fresh token is refreshed again")
	}
	s.restart()
	if s.access(token) != got[0] || s.idp.TokenRequests("refresh_token") != 1 {
		t.Error("the refreshed token did not survive a restart")
	}
}

func (s *scene) restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

// One user's refresh is nobody else's.
func TestEachUserIsRefreshedForThemselves(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	ada, _ := s.expire(demoidp.Ada)
	grace, _ := s.expire(demoidp.Grace)
	var waiting sync.WaitGroup
	for range 10 {
		for token, name := range map[string]string{ada: "Ada Lovelace", grace: "Grace Hopper"} {
			waiting.Go(func() {
				out, err := s.try(t.Context(), token)
				if err != nil || out.AccessToken == nil {
					t.Errorf("%s: %v", name, err)
				} else if got := s.whose(*out.AccessToken); got != name {
					t.Errorf("%s was given the token of %s", name, got)
				}
			})
		}
	}
	waiting.Wait()
	if requests := s.idp.TokenRequests("refresh_token"); requests != 2 {
		t.Errorf("two users were refreshed with %d requests", requests)
	}
}

// A provider that is down is no reason to ask the user again, and is not stormed:
// who asks too soon hears at once when the provider will be asked again.
func TestFailingProviderKeepsTheGrant(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	token, before := s.expire(demoidp.Ada)
	for _, status := range []int{http.StatusInternalServerError, http.StatusTooManyRequests} {
		s.idp.FailTokens(status)
		for asked, deadline := s.idp.TokenRequests("refresh_token"), time.Now().Add(time.Minute); ; {
			began := time.Now()
			out, err := s.try(t.Context(), token)
			if err == nil {
				t.Fatalf("a provider that answers %d: token %t, link %t", status, out.AccessToken != nil, out.AuthorizationUrl != nil)
			}
			problem := refused(t, err, "InternalServerException")
			if now := s.idp.TokenRequests("refresh_token"); now == asked && began.Before(deadline) { // left alone after the failure of before
				if !strings.Contains(problem.ErrorMessage(), "is asked again in") {
					t.Errorf("%d: %s", status, problem.ErrorMessage())
				}
				time.Sleep(50 * time.Millisecond)
				continue
			} else if now != asked+1 {
				t.Fatalf("%d: the provider was asked %d times, and %d times before", status, now, asked)
			}
			// An SDK tries a 500 again by itself.
			if !strings.Contains(problem.ErrorMessage(), "nothing is lost") {
				t.Errorf("%d: the message does not say that nothing is lost: %s", status, problem.ErrorMessage())
			}
			_, err = s.try(t.Context(), token)
			if asked++; time.Since(began) >= 500*time.Millisecond<<(asked-1) { // what a provider is left alone at least; a busy machine has another try
				asked = s.idp.TokenRequests("refresh_token")
				continue
			}
			if problem := refused(t, err, "InternalServerException"); !strings.Contains(problem.ErrorMessage(), "is asked again in") {
				t.Errorf("%d: %s", status, problem.ErrorMessage())
			}
			if now := s.idp.TokenRequests("refresh_token"); now != asked {
				t.Errorf("%d: the provider was asked %d times", status, now)
			}
			break
		}
	}
	s.restart() // nothing of that is only in memory
	s.idp.FailTokens(0)
	after := s.renewed(token, before)
	if s.whose(after) != "Ada Lovelace" {
		t.Error("the token of after is not a new one of Ada's")
	}
	if consents := s.idp.TokenRequests("authorization_code"); consents != 1 {
		t.Errorf("Ada consented %d times", consents)
	}
}

// renewed asks until there is another token than before: a provider that failed is left alone for some seconds.
func (s *scene) renewed(token, before string) string {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := s.try(s.t.Context(), token)
		switch {
		case err != nil:
			refused(s.t, err, "InternalServerException")
		case out.AccessToken == nil:
			s.t.Fatal("a link instead of the token")
		case *out.AccessToken != before:
			return *out.AccessToken
		}
	}
	s.t.Fatal("the token is not renewed when the provider is back")
	return ""
}

// While the old token still lives, a provider that is down costs nobody anything.
func TestFailingProviderIsNotNoticedBeforeExpiry(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	jwt := s.signIn(demoidp.Ada)
	token := s.speakFor(s.agent, jwt)
	s.idp.SetLifetime(3 * time.Second) // due for renewal in the last fifth
	s.consent(token, jwt, demoidp.Ada)
	before := s.idp.tokens.secrets()[0] // asking for it could already renew it, on a busy machine
	s.idp.FailTokens(http.StatusInternalServerError)
	for deadline := time.Now().Add(20 * time.Second); s.idp.TokenRequests("refresh_token") == 0; time.Sleep(25 * time.Millisecond) {
		out, err := s.try(t.Context(), token)
		switch {
		case time.Now().After(deadline):
			t.Fatal("the token was never due for renewal")
		case err != nil:
			// The machine was too slow to ask within that time: then it has expired.
			refused(t, err, "InternalServerException")
		case out.AccessToken == nil || *out.AccessToken != before:
			t.Fatal("before its expiry the token is not handed out as it is")
		}
	}
	s.idp.SetLifetime(time.Hour)
	s.idp.FailTokens(0)
	s.renewed(token, before)
}

// What the person has taken back is gone, and only they can give it again.
func TestInvalidGrantAsksForConsentAgain(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	token, before := s.expire(demoidp.Ada)
	if ended, err := s.idp.RevokeAll(demoidp.Ada); err != nil || ended == 0 {
		t.Fatalf("nothing was taken back: %d, %v", ended, err)
	}
	var waiting sync.WaitGroup
	sessions := make([]string, 20)
	for i := range sessions {
		waiting.Go(func() {
			out, err := s.try(t.Context(), token)
			if err != nil || out.SessionUri == nil || out.AccessToken != nil {
				t.Errorf("no link: %v", err)
				return
			}
			sessions[i] = *out.SessionUri
		})
	}
	waiting.Wait()
	for _, session := range sessions {
		if session != sessions[0] {
			t.Error("one question has two links")
		}
	}
	if requests := s.idp.TokenRequests("refresh_token"); requests != 1 {
		t.Errorf("the dead refresh token was sent %d times", requests)
	}
	s.consent(token, s.signIn(demoidp.Ada), demoidp.Ada)
	after := s.access(token)
	if after == before || s.whose(after) != "Ada Lovelace" {
		t.Error("the new consent gives no new token of Ada's")
	}
}

// A refresh token is a key to an account. Whoever may change a credential
// provider must not thereby be able to have old ones sent to themselves.
func TestChangedTokenEndpointNeverReceivesAnOldRefreshToken(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	other := startProvider(t)
	s.stop() // to be allowed to reach the other one as well
	s.flags = append(s.flags, "--egress-allow", other.host)
	s.start()
	token, before := s.expire(demoidp.Ada)
	sealed := s.speakFor(s.agent, s.signIn(demoidp.Grace)) // Grace has been through, and her code is parked
	parkedLink, parked := s.link(sealed)
	s.allow(parkedLink, demoidp.Grace)

	// A new secret alone keeps the grants, and is used from now on.
	s.client.Secret = "another-secret-of-the-platform-at-the-demo-provider"
	for _, at := range []*provider{s.idp, other} {
		if err := at.Register(s.client); err != nil {
			t.Fatal(err)
		}
	}
	s.update(discovered(s.idp.DiscoveryURL(), s.client))
	fresh := s.access(token)
	if fresh == before || s.idp.TokenRequests("refresh_token") != 1 {
		t.Fatal("a new secret alone lost the grant")
	}

	// The token endpoint alone becomes another one: as a thief would have it.
	secrets := s.idp.tokens.secrets()
	if len(secrets) < 4 {
		t.Fatalf("the first provider gave %d tokens only: this proves nothing", len(secrets))
	}
	s.update(explicit(s.client, s.idp.url, s.idp.url+"/authorize", other.url+"/token"))
	_, old := s.link(token)
	if err := s.complete(parked, s.signIn(demoidp.Grace)); err == nil {
		t.Error("a code of the old provider was completed at the new one")
	}
	if heard := other.tokens.heard(); len(heard) != 0 {
		t.Fatalf("the new endpoint has heard %d requests before anybody consented to it", len(heard))
	}

	// All of it becomes another one. Whoever consents there has a grant there.
	s.update(discovered(other.DiscoveryURL(), s.client))
	if got, err := s.try(t.Context(), token, poll(old)); err == nil && got.AccessToken != nil {
		t.Error("an old session gives a token of the new provider")
	}
	link, session := s.link(token)
	arrival, err := servertest.NewPerson(other.url, demoidp.Ada).Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatal(err)
	}
	told := sessionOf(t, arrival)
	if !strings.HasPrefix(told, session+".") {
		t.Error("the application is told of another session than the agent")
	}
	s.back.Store(session, told)
	other.SetLifetime(shortLife)
	if err := s.complete(session, s.signIn(demoidp.Ada)); err != nil { // who signs in at the first one still
		t.Fatal(err)
	}
	time.Sleep(shortLife + 20*time.Millisecond)
	other.SetLifetime(time.Hour)
	s.access(token)
	heard := other.tokens.heard()
	if len(heard) != 2 || other.TokenRequests("refresh_token") != 1 || other.TokenRequests("authorization_code") != 1 {
		t.Errorf("the new provider has heard %d requests instead of a code and a refresh", len(heard))
	}
	for _, request := range heard {
		for _, old := range secrets {
			if strings.Contains(request, old) || strings.Contains(request, url.QueryEscape(old)) {
				t.Fatal("the new provider was sent a token of the old one")
			}
		}
	}

	// Back at the first, its old grant does not come back to life: it is asked for.
	s.update(discovered(s.idp.DiscoveryURL(), s.client))
	s.link(token)
	if got := s.idp.TokenRequests("refresh_token"); got != 1 {
		t.Errorf("the first provider was sent %d refresh tokens, 1 of them before it was changed", got)
	}
	if got := len(other.tokens.heard()); got != 2 {
		t.Errorf("the second provider has heard %d requests by now", got)
	}
}

// update replaces the configuration of the scene's credential provider.
func (s *scene) update(input control.Oauth2ProviderConfigInput) {
	s.t.Helper()
	updated, err := s.control.UpdateOauth2CredentialProvider(context.WithoutCancel(s.t.Context()), &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
		Name: &s.provider, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: input,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if *updated.CallbackUrl != s.client.RedirectURIs[0] {
		s.t.Error("an update changed the callback URL")
	}
}

// explicit is a configuration without discovery.
func explicit(c demoidp.Client, issuer, authorize, token string) control.Oauth2ProviderConfigInput {
	return &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
		OauthDiscovery: &control.Oauth2DiscoveryMemberAuthorizationServerMetadata{Value: control.Oauth2AuthorizationServerMetadata{
			Issuer: &issuer, AuthorizationEndpoint: &authorize, TokenEndpoint: &token, ResponseTypes: []string{"code"},
		}},
		ClientId: aws.String(c.ID), ClientSecret: aws.String(c.Secret),
	}}
}

// tokenLog stands before a provider and keeps what goes over its token endpoint.
type tokenLog struct {
	next http.Handler

	mu     sync.Mutex
	wait   time.Duration
	asked  []string
	issued []string
}

// hold makes the provider take its time.
func (l *tokenLog) hold(wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wait = wait
}

func (l *tokenLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" {
		l.next.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	l.mu.Lock()
	l.asked = append(l.asked, r.Header.Get("Authorization")+" "+string(body))
	wait := l.wait
	l.mu.Unlock()
	time.Sleep(wait)
	l.next.ServeHTTP(&tokenAnswer{w, l}, r)
}

type tokenAnswer struct {
	http.ResponseWriter
	log *tokenLog
}

func (a *tokenAnswer) Write(p []byte) (int, error) {
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if json.Unmarshal(p, &tokens) == nil {
		a.log.mu.Lock()
		for _, token := range []string{tokens.Access, tokens.Refresh} {
			if token != "" {
				a.log.issued = append(a.log.issued, token)
			}
		}
		a.log.mu.Unlock()
	}
	return a.ResponseWriter.Write(p)
}

// heard is the requests that came, credentials and all.
func (l *tokenLog) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.asked...)
}

// secrets is the access and refresh tokens that were given out.
func (l *tokenLog) secrets() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.issued...)
}
