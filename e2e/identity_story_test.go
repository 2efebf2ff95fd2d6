package e2e

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/store"
)

// The person is who they are, whichever of their JWTs says so. AWS compares the
// bytes; here a renewed one completes as well.
func TestRenewedTokenOfTheSamePersonCompletes(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	before := s.signIn(demoidp.Ada)
	agent := s.speakFor(s.agent, before)
	link, session := s.link(agent)
	s.allow(link, demoidp.Ada)

	out, err := s.try(t.Context(), agent, poll(session))
	if err != nil || out.AccessToken != nil || out.SessionStatus != data.SessionStatusInProgress {
		t.Fatalf("a consent at the provider gave a token before anybody said whose it is: %v", err)
	}
	after := s.signIn(demoidp.Ada)
	for after == before { // its times are in seconds
		time.Sleep(50 * time.Millisecond)
		after = s.signIn(demoidp.Ada)
	}
	if err := s.complete(session, after); err != nil {
		t.Fatalf("a renewed JWT of the same person does not complete: %v", err)
	}
	polled, direct := s.access(agent, poll(session)), s.access(s.speakFor(s.agent, after))
	if polled != direct {
		t.Error("the session and the grant have different access tokens")
	}
	if name := s.whose(polled); name != "Ada Lovelace" {
		t.Errorf("the token is %s's", name)
	}
	if err := s.complete(session, before); err != nil {
		t.Errorf("the same person again, as SDKs do after a lost connection: %v", err)
	}
	if got := s.idp.TokenRequests("authorization_code"); got != 1 {
		t.Errorf("the code was sent %d times", got)
	}
}

// whose asks the People API whose token it is.
func (s *scene) whose(access string) string {
	s.t.Helper()
	request, _ := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.idp.url+"/v1/people/me?personFields=names", nil)
	request.Header.Set("Authorization", "Bearer "+access)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	for _, name := range []string{"Ada Lovelace", "Grace Hopper"} {
		if strings.Contains(string(body), name) {
			return name
		}
	}
	return response.Status
}

// A session is one person's, at one agent, for ten minutes, once.
func TestSessionsThatDoNotComplete(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	ada, grace := s.signIn(demoidp.Ada), s.signIn(demoidp.Grace)
	agent := s.speakFor(s.agent, ada)

	// Not come back yet.
	link, session := s.link(agent)
	refused(t, s.complete(session, ada), "AccessDeniedException")

	// Come back, but as somebody else, in each of the ways to be somebody else.
	s.allow(link, demoidp.Ada)
	refused(t, s.complete(session, grace), "AccessDeniedException")
	s.allow(link, demoidp.Ada) // the link is good again, the code of before is not
	told, _ := s.told(session)
	_, err := s.platform.client.CompleteResourceTokenAuth(t.Context(), &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: &told, UserIdentifier: &data.UserIdentifierMemberUserId{Value: demoidp.Ada},
	})
	refused(t, err, "AccessDeniedException") // a user id is vouched for by the application; it is nobody's JWT
	if got := s.idp.TokenRequests("authorization_code"); got != 0 {
		t.Fatalf("%d codes of refused completions were redeemed", got)
	}

	// A JWT that is not believed: expired, for another audience, of an issuer nobody trusts, tampered with.
	s.allow(link, demoidp.Ada)
	s.idp.SetLifetime(-2 * time.Hour)
	expired := s.signIn(demoidp.Ada)
	s.idp.SetLifetime(time.Hour)
	other, err := s.idp.Issue(demoidp.Ada, s.client.ID, "openid")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := startProvider(t).Issue(demoidp.Ada, demoidp.SignInClientID, "openid")
	if err != nil {
		t.Fatal(err)
	}
	head, signature, _ := strings.Cut(ada[strings.IndexByte(ada, '.')+1:], ".")
	graces := strings.Split(grace, ".")
	for what, jwt := range map[string]string{
		"expired": expired, "another audience": other.ID, "an untrusted issuer": stranger.ID,
		"another's claims": strings.Split(ada, ".")[0] + "." + graces[1] + "." + signature,
		"no signature":     "eyJhbGciOiJub25lIn0." + head + ".AA",
	} {
		t.Run(what, func(t *testing.T) { refused(t, s.complete(session, jwt), "UnauthorizedException") })
	}

	// None of that was the person's fault: they finish.
	if err := s.complete(session, ada); err != nil {
		t.Fatalf("after what others tried, the person cannot finish: %v", err)
	}
	// Replayed by another, and polled by another agent, another user, or the agent speaking for itself.
	refused(t, s.complete(session, grace), "AccessDeniedException")
	s.createAgent("other-agent")
	alone, err := s.platform.client.GetWorkloadAccessToken(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: &s.agent})
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]struct{ token, code string }{
		"another agent's":       {s.speakFor("other-agent", ada), "AccessDeniedException"},
		"another user's":        {s.speakFor(s.agent, grace), "AccessDeniedException"},
		"a token of no user":    {*alone.WorkloadAccessToken, "ValidationException"},
		"no token, but the urn": {session, "UnauthorizedException"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := s.try(t.Context(), try.token, poll(session))
			refused(t, err, try.code)
		})
	}
	// A session of nowhere, and one of another installation.
	refused(t, s.complete("urn:ietf:params:oauth:request_uri:made-up", ada), "AccessDeniedException")
	elsewhere := startScene(t)
	foreign := elsewhere.signIn(demoidp.Ada)
	foreignLink, foreignSession := elsewhere.link(elsewhere.speakFor(elsewhere.agent, foreign))
	elsewhere.allow(foreignLink, demoidp.Ada)
	refused(t, s.complete(foreignSession, ada), "AccessDeniedException")
	if err := elsewhere.complete(foreignSession, foreign); err != nil {
		t.Errorf("at home it completes: %v", err)
	}
}

// The ten minutes are moved, not waited for: while the platform is down, its
// sessions are made older.
func TestSessionsEndAfterTenMinutes(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	ada := s.signIn(demoidp.Ada)
	agent := s.speakFor(s.agent, ada)
	s.createAgent("finished")
	finishing := s.speakFor("finished", ada)

	doneLink, done := s.link(finishing)
	s.allow(doneLink, demoidp.Ada)
	if err := s.complete(done, ada); err != nil {
		t.Fatal(err)
	}
	openLink, open := s.link(agent)
	parkedLink, parked := s.link(agent, func(r *bedrockagentcore.GetResourceOauth2TokenInput) { r.CustomState = aws.String("another question") })
	if open == parked {
		t.Fatal("two questions share a session")
	}
	s.allow(parkedLink, demoidp.Ada)

	s.stop()
	s.age(11 * time.Minute)
	s.start()

	refused(t, s.complete(parked, ada), "AccessDeniedException")
	refused(t, s.complete(done, ada), "AccessDeniedException")
	_, err := s.try(t.Context(), agent, poll(open))
	refused(t, err, "AccessDeniedException")
	var stopped *servertest.StoppedError
	if _, err := servertest.NewPerson(s.idp.url, demoidp.Ada).Visit(t.Context(), openLink, "allow"); !errors.As(err, &stopped) || stopped.Status < 400 {
		t.Errorf("an old link still leads somewhere: %v", err)
	}
	if got := s.idp.TokenRequests("authorization_code"); got != 1 {
		t.Errorf("codes were redeemed %d times, and one session was completed", got)
	}
	if s.access(finishing) == "" {
		t.Error("what was granted in time is gone")
	}
	if link, session := s.link(agent); link == openLink || session == open {
		t.Error("an old link is handed out again")
	}
}

// age makes everything that waits for a person older.
func (s *scene) age(by time.Duration) {
	s.t.Helper()
	db, err := store.Open(s.t.Context(), store.Options{Path: filepath.Join(s.data, "onbehalf.db")})
	if err != nil {
		s.t.Fatal(err)
	}
	err = db.Update(s.t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE authorization_sessions SET created = created - $1, expires = expires - $1`, by.Microseconds())
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// Whatever is sent to the return URL decides who the person is, so it is one of
// the agent's own, byte for byte.
func TestReturnURLsOffTheListDoNotStart(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	token := s.speakFor(s.agent, s.signIn(demoidp.Ada))
	for _, url := range []string{
		returnURL + "/", returnURL + "?a=b", returnURL + "/../elsewhere", strings.ToUpper(returnURL), "https://localhost:9090/oauth2/callback",
		"http://localhost:9090.evil.example/oauth2/callback", "http://localhost:9090@evil.example/oauth2/callback", "http://evil.example/", "http://localhost:9090/OAuth2/callback",
	} {
		_, err := s.try(t.Context(), token, func(r *bedrockagentcore.GetResourceOauth2TokenInput) { r.ResourceOauth2ReturnUrl = &url })
		problem := &data.ValidationException{}
		if !errors.As(err, &problem) {
			t.Errorf("%s: want ValidationException, got %v", url, err)
			continue
		}
		if len(problem.FieldList) != 1 || *problem.FieldList[0].Name != "resourceOauth2ReturnUrl" {
			t.Errorf("%s: the exception does not name the field: %+v", url, problem.FieldList)
		}
	}
	_, err := s.try(t.Context(), token, func(r *bedrockagentcore.GetResourceOauth2TokenInput) { r.ResourceOauth2ReturnUrl = nil })
	if problem := refused(t, err, "ValidationException"); !strings.Contains(problem.ErrorMessage(), "You must register and use at least one ResourceOauth2ReturnUrl on your workload identity") {
		t.Errorf("without a return URL AWS's own text is expected, not %q", problem.ErrorMessage())
	}
	// A URL that was on the list when the link was made, and is not any more, gets nobody there either.
	link, _ := s.link(token)
	_, err = s.control.UpdateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.UpdateWorkloadIdentityInput{Name: &s.agent, AllowedResourceOauth2ReturnUrls: []string{"http://localhost:9091/"}})
	if err != nil {
		t.Fatal(err)
	}
	if arrival, err := servertest.NewPerson(s.idp.url, demoidp.Ada).Visit(t.Context(), link, "allow"); err == nil {
		t.Errorf("the browser was sent to %s, which is not on the list any more", arrival)
	}
}

// Chats and mail scanners open links before people do.
func TestLinkPreviewsSpoilNothing(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	ada := s.signIn(demoidp.Ada)
	token := s.speakFor(s.agent, ada)
	link, session := s.link(token)
	preview := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	look := func(method, target, accept string) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := preview.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		return response
	}
	for range 25 { // more than the attempts that one link keeps
		if got := look(http.MethodGet, link, "text/html").StatusCode; got != http.StatusOK {
			t.Fatalf("a GET for the page: %d", got)
		}
	}
	if got := look(http.MethodHead, link, "*/*").StatusCode; got != http.StatusOK {
		t.Errorf("a HEAD: %d", got)
	}
	followed := look(http.MethodGet, link, "*/*") // a scanner that follows redirects, as far as the provider's sign-in
	if followed.StatusCode != http.StatusFound {
		t.Fatalf("a GET of a program: %d", followed.StatusCode)
	}
	look(http.MethodGet, followed.Header.Get("Location"), "text/html")
	if out, err := s.try(t.Context(), token, poll(session)); err != nil || out.SessionStatus != data.SessionStatusInProgress {
		t.Fatalf("after the previews the session is not open: %v", err)
	}

	// The person's own browser keeps its attempt while previews go on, and the callback URL can be previewed too.
	person := servertest.NewPerson(s.idp.url, demoidp.Ada)
	var callback string
	person.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	person.HTTP.Transport = beforeCallback(func(url string) {
		callback = url
		look(http.MethodHead, url, "*/*")
		if got := look(http.MethodGet, url, "text/html").StatusCode; got < 400 { // no cookie
			t.Errorf("a callback without the cookie is answered with %d", got)
		}
		look(http.MethodGet, link, "text/html")
	})
	arrival, err := person.Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatalf("after the previews the person cannot go through: %v", err)
	}
	if callback == "" {
		t.Fatal("the callback was never previewed")
	}
	if got := look(http.MethodGet, callback, "text/html").StatusCode; got < 400 {
		t.Errorf("a replayed callback is answered with %d", got)
	}
	if err := s.complete(sessionOf(t, arrival), ada); err != nil {
		t.Fatalf("after the previews the session does not complete: %v", err)
	}
	if name := s.whose(s.access(token)); name != "Ada Lovelace" {
		t.Errorf("the token is %s's", name)
	}
	if got := look(http.MethodGet, link, "text/html").StatusCode; got < 400 {
		t.Errorf("a used link is answered with %d", got)
	}
}

// beforeCallback runs before a browser's request to the platform's callback goes out.
type beforeCallback func(url string)

func (f beforeCallback) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, "/identities/oauth2/callback/") {
		f(r.URL.String())
	}
	return http.DefaultTransport.RoundTrip(r)
}

// What the provider sends back has to be what was asked for, in the browser that asked.
func TestForgedCallbacksAreRefused(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	ada := s.signIn(demoidp.Ada)
	link, session := s.link(s.speakFor(s.agent, ada))
	for what, forge := range map[string]func(url.Values){
		"another state":    func(q url.Values) { q.Set("state", "forged") },
		"no state":         func(q url.Values) { q.Del("state") },
		"another issuer":   func(q url.Values) { q.Set("iss", "https://evil.example") },
		"no issuer":        func(q url.Values) { q.Del("iss") },
		"two codes":        func(q url.Values) { q.Add("code", "another") },
		"no code":          func(q url.Values) { q.Del("code") },
		"a code and error": func(q url.Values) { q.Set("error", "access_denied") },
	} {
		person := servertest.NewPerson(s.idp.url, demoidp.Ada)
		person.HTTP.Transport = forgeCallback(forge)
		var stopped *servertest.StoppedError
		if _, err := person.Visit(t.Context(), link, "allow"); !errors.As(err, &stopped) || stopped.Status < 400 || stopped.Status >= 500 {
			t.Errorf("%s: %v", what, err)
		}
		if err := s.complete(session, ada); err == nil {
			t.Fatalf("%s: the session completes", what)
		}
	}
	if got := s.idp.TokenRequests("authorization_code"); got != 0 {
		t.Errorf("%d forged answers were redeemed", got)
	}
	s.allow(link, demoidp.Ada)
	if err := s.complete(session, ada); err != nil {
		t.Errorf("the real answer after the forged ones: %v", err)
	}
}

type forgeCallback func(url.Values)

func (f forgeCallback) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, "/identities/oauth2/callback/") {
		r = r.Clone(r.Context())
		query := r.URL.Query()
		f(query)
		r.URL.RawQuery = query.Encode()
	}
	return http.DefaultTransport.RoundTrip(r)
}

// A gateway's workload identity is the gateway's: whoever could mint tokens for
// it would read the grants of all its users. The platform's root key is no exception.
func TestGatewaysWorkloadIdentityIsTheGatewaysAlone(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	ctx := context.WithoutCancel(t.Context())
	made, err := s.control.CreateGateway(ctx, &bedrockagentcorecontrol.CreateGatewayInput{
		Name: aws.String("people-gateway"), RoleArn: aws.String("arn:aws:iam::000000000000:role/onbehalf-default"),
		ProtocolType: control.GatewayProtocolTypeMcp, AuthorizerType: control.AuthorizerTypeCustomJwt,
		AuthorizerConfiguration: &control.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: control.CustomJWTAuthorizerConfiguration{
			DiscoveryUrl: aws.String(s.idp.DiscoveryURL()), AllowedAudience: []string{demoidp.SignInClientID},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.WorkloadIdentityDetails == nil || made.WorkloadIdentityDetails.WorkloadIdentityArn == nil {
		t.Fatal("the gateway does not say which workload identity it owns")
	}
	arn := *made.WorkloadIdentityDetails.WorkloadIdentityArn
	name := arn[strings.LastIndexByte(arn, '/')+1:]
	if name != *made.GatewayId {
		t.Errorf("the identity is called %s and not after its gateway %s", name, *made.GatewayId)
	}
	shown, err := s.control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: &name})
	if err != nil || *shown.WorkloadIdentityArn != arn {
		t.Fatalf("the identity cannot be looked at: %v", err)
	}

	jwt := s.signIn(demoidp.Ada)
	_, alone := s.platform.client.GetWorkloadAccessToken(ctx, &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: &name})
	_, forJWT := s.platform.client.GetWorkloadAccessTokenForJWT(ctx, &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: &name, UserToken: &jwt})
	_, forID := s.platform.client.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: &name, UserId: aws.String(demoidp.Ada)})
	for _, err := range []error{alone, forJWT, forID} {
		if problem := refused(t, err, "AccessDeniedException"); !strings.Contains(problem.ErrorMessage(), "WorkloadIdentity is linked to a service and cannot retrieve an access token by the caller") {
			t.Errorf("AWS's own text is expected, not %q", problem.ErrorMessage())
		}
	}
	// Nor is it changed, deleted or made behind the gateway's back.
	_, err = s.control.UpdateWorkloadIdentity(ctx, &bedrockagentcorecontrol.UpdateWorkloadIdentityInput{Name: &name, AllowedResourceOauth2ReturnUrls: []string{returnURL}})
	refused(t, err, "ValidationException")
	_, err = s.control.DeleteWorkloadIdentity(ctx, &bedrockagentcorecontrol.DeleteWorkloadIdentityInput{Name: &name})
	refused(t, err, "ValidationException")
	_, err = s.control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name})
	refused(t, err, "ValidationException")

	// With the gateway it goes, and a token of a namesake's is its own.
	if _, err := s.control.DeleteGateway(ctx, &bedrockagentcorecontrol.DeleteGatewayInput{GatewayIdentifier: made.GatewayId}); err != nil {
		t.Fatal(err)
	}
	_, err = s.control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: &name})
	refused(t, err, "ResourceNotFoundException")
}
