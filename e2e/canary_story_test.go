package e2e

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
)

// Canaries of our own.
const (
	secretState     = "canary-state-Qm1vXo8r2LkTz5Wn"
	secretParameter = "canary-parameter-Hc7yUe4pSd9BfJ3a"
	secretTooLong   = "canary-too-long-Rk2sVg6xNp0MqC8t"
)

// Every secret that comes up in the stories, good ends and bad, is looked for
// in everything that is written down: found nowhere.
func TestSecretsAreWrittenNowhere(t *testing.T) {
	t.Parallel()
	s := startScene(t)
	seen := &canaries{}
	seen.add("client secret", s.client.Secret)
	seen.add("custom state", secretState)
	seen.add("custom parameter", secretParameter)
	seen.add("refused client secret", secretTooLong)
	w := &watch{canaries: seen, next: s.idp.tokens.next}
	s.idp.tokens.next = w
	heard := s.listenTo(seen)
	rootKey(t, s.platform, seen)

	said := s.goodEnds(w)
	said += s.badEnds(w, heard)

	for _, kind := range []string{"client secret", "code", "PKCE verifier", "state", "cookie", "access token", "refresh token", "user JWT", "workload access token", "session", "root secret key"} {
		if !slices.Contains(seen.kinds(), kind) {
			t.Errorf("the story has no %s in it", kind)
		}
	}
	t.Logf("%d secrets of %v", len(seen.values), seen.kinds())

	for _, kind := range seen.in(s.logs.everything()) {
		t.Errorf("the platform's log has a %s in it", kind)
	}
	for _, kind := range seen.in(said) {
		t.Errorf("sayhello says a %s", kind)
	}
	for client, l := range heard {
		if len(l.answers) == 0 {
			t.Errorf("nothing that the platform answers to %s was looked at", client)
		}
		for _, answer := range l.answers {
			for _, kind := range seen.in(answer, l.except...) {
				t.Errorf("an answer to %s has a %s in it: %.200s", client, kind, answer)
			}
		}
	}
	for _, found := range seen.inRows(s.platform) {
		t.Errorf("a row has a %s in it", found)
	}
	for _, found := range seen.inFolder(t, s.data) {
		t.Errorf("while it runs: a %s", found)
	}
	s.kill()
	for _, found := range seen.inFolder(t, s.data) {
		t.Errorf("after kill -9: a %s", found)
	}
	s.start()
	s.stop()
	for _, found := range seen.inFolder(t, s.data) {
		t.Errorf("after a stop: a %s", found)
	}
}

// rootKey adds what the two files of the folder hold that may hold secrets.
func rootKey(t *testing.T, p *platform, seen *canaries) {
	t.Helper()
	credentials, err := p.aws.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen.add("root secret key", credentials.SecretAccessKey)
	key, err := os.ReadFile(filepath.Join(p.data, "key-encryption-key"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(key)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			seen.add("key-encryption key", line)
		}
	}
}

// listenTo puts listeners on all ways of the scene to the platform.
func (s *scene) listenTo(seen *canaries) map[string]*listener {
	heard := map[string]*listener{
		"the control plane": {canaries: seen},
		"the data plane":    {canaries: seen},
		"MCP":               {canaries: seen, except: []string{"session"}}, // the link is for the one who asked
		"a browser":         {canaries: seen},
	}
	through := func(name string) *http.Client { return &http.Client{Transport: heard[name]} }
	s.control = bedrockagentcorecontrol.NewFromConfig(s.aws, func(o *bedrockagentcorecontrol.Options) { o.HTTPClient = through("the control plane") })
	s.platform.client = bedrockagentcore.NewFromConfig(s.aws, func(o *bedrockagentcore.Options) { o.HTTPClient = through("the data plane") })
	return heard
}

// goodEnds are the stories as they should be. It returns what sayhello said.
func (s *scene) goodEnds(w *watch) (said string) {
	s.t.Helper()
	ada := s.signInSeen(w, demoidp.Ada)
	agent := s.speakFor(s.agent, ada)
	secrets := func(r *bedrockagentcore.GetResourceOauth2TokenInput) {
		r.CustomState = aws.String(secretState)
		r.CustomParameters = map[string]string{"access_type": "offline", "login_hint": secretParameter}
	}
	link, session := s.link(agent, secrets)
	if got := s.allow(link, demoidp.Ada); got != session {
		s.t.Fatal("another session")
	}
	if err := s.complete(session, ada); err != nil {
		s.t.Fatal(err)
	}
	s.access(agent, secrets)

	// Grace's token is refreshed, with a client secret that was changed meanwhile.
	grace := s.signInSeen(w, demoidp.Grace)
	agent = s.speakFor(s.agent, grace)
	s.idp.SetLifetime(shortLife)
	s.consent(agent, grace, demoidp.Grace)
	time.Sleep(shortLife + 20*time.Millisecond)
	s.idp.SetLifetime(time.Hour)
	s.access(agent)
	if s.idp.TokenRequests("refresh_token") == 0 {
		s.t.Fatal("nothing was refreshed")
	}

	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		h := sayHello(s.t, append(s.program(), "LOG_LEVEL=DEBUG"), "--backend", s.url, "--demo-provider", s.idp.url, "--mcp-version", version, "--name", "canary-"+version)
		h.greets("Ada Lovelace")
		said += s.said(w, h)
	}
	return said
}

// signInSeen is a sign-in whose tokens are canaries.
func (s *scene) signInSeen(w *watch, person string) (jwt string) {
	s.t.Helper()
	tokens, err := s.idp.Issue(person, demoidp.SignInClientID, "openid", "profile")
	if err != nil {
		s.t.Fatal(err)
	}
	w.add("access token", tokens.Access)
	w.add("refresh token", tokens.Refresh)
	w.add("user JWT", tokens.ID)
	return tokens.ID
}

// said is what sayhello printed and logged, without the link that it has to show; the link's session is a canary.
func (s *scene) said(w *watch, h *hello) string {
	link := h.link()
	w.addSession("session", link)
	return strings.Replace(h.out.String(), link, "", 1) + h.errOut.String()
}

// badEnds are the ways to go wrong, each of them an opportunity to say too much.
func (s *scene) badEnds(w *watch, heard map[string]*listener) (said string) {
	s.t.Helper()
	ctx := s.t.Context()
	ada, grace := s.signInSeen(w, demoidp.Ada), s.signInSeen(w, demoidp.Grace)

	// The wrong person, a denial, and callbacks that are wrong.
	s.createAgent("second")
	agent := s.speakFor("second", ada)
	link, session := s.link(agent)
	s.allow(link, demoidp.Grace)
	refused(s.t, s.complete(session, grace), "AccessDeniedException")
	browser := servertest.NewPerson(s.idp.url, demoidp.Ada)
	browser.HTTP.Transport = heard["a browser"]
	for _, wrong := range []string{link + "x", s.url + "/identities/oauth2/authorize?request_uri=" + ada, s.url + "/identities/oauth2/callback/unknown?code=" + grace + "&state=" + ada} {
		var stopped *servertest.StoppedError
		if _, err := browser.Visit(ctx, wrong, "allow"); !errors.As(err, &stopped) || stopped.Status < 400 {
			s.t.Errorf("a wrong link leads somewhere: %v", err)
		}
	}
	if _, err := browser.Visit(ctx, link, "deny"); err != nil {
		s.t.Error(err)
	}

	// A provider that answers with what it was told.
	for i, bad := range []func(http.ResponseWriter, string){
		func(w http.ResponseWriter, told string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":"invalid_request","error_description":%q,"error_uri":"https://example.com/?told=%[1]s"}`, told)
		},
		func(w http.ResponseWriter, told string) { fmt.Fprintf(w, `{"error":%q}`, told) },
		func(w http.ResponseWriter, told string) { http.Error(w, "<h1>"+told, http.StatusInternalServerError) },
		func(w http.ResponseWriter, told string) {
			fmt.Fprintf(w, `{"access_token":["%s"],"token_type":%[1]q`, told)
		},
		func(w http.ResponseWriter, told string) {
			w.Header().Set("Location", "http://127.0.0.1:1/?"+strings.ReplaceAll(told, " ", "+"))
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
	} {
		name := fmt.Sprintf("told-%d", i)
		s.createAgent(name)
		agent := s.speakFor(name, ada)
		link, session := s.link(agent)
		s.allow(link, demoidp.Ada)
		w.misbehave(bad)
		if err := s.complete(session, ada); err == nil {
			s.t.Errorf("bad answer %d is taken for a token", i)
		}
		if _, err := s.try(ctx, agent, poll(session)); err == nil {
			s.t.Errorf("bad answer %d: the session goes on", i)
		}
		w.misbehave(nil)
		// The same at a refresh.
		s.idp.SetLifetime(shortLife)
		s.consent(agent, ada, demoidp.Ada)
		s.idp.SetLifetime(time.Hour)
	}
	time.Sleep(shortLife + 20*time.Millisecond)
	w.misbehave(func(w http.ResponseWriter, told string) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, told)
	})
	if _, err := s.try(ctx, s.speakFor("told-0", ada)); err == nil {
		s.t.Error("a failed refresh gives a token")
	}
	w.misbehave(nil)

	s.badRequests(ada, grace)
	s.badCalls(heard["MCP"], ada)

	h := startHello(s.t, append(s.program(), "LOG_LEVEL=DEBUG"), "--backend", s.url, "--demo-provider", s.idp.url, "--auto-consent=false", "--name", "denied")
	arrival, err := servertest.NewPerson(s.idp.url, demoidp.Ada).Visit(ctx, h.link(), "deny")
	if err != nil {
		s.t.Fatal(err)
	}
	get(s.t, arrival)
	h.wait()
	return s.said(w, h)
}

// badRequests have secrets where they do not belong.
func (s *scene) badRequests(ada, grace string) {
	ctx := s.t.Context()
	long := secretTooLong + strings.Repeat("x", 4000)
	_, err := s.control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("too-long"), CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: discovered(s.idp.DiscoveryURL(), demoidp.Client{ID: "x", Secret: long}),
	})
	refused(s.t, err, "ValidationException")
	s.update(discovered(s.idp.DiscoveryURL(), s.client))
	for _, lookup := range []func() error{
		func() error {
			_, err := s.control.GetOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: &s.provider})
			return err
		},
		func() error {
			_, err := s.control.ListOauth2CredentialProviders(ctx, &bedrockagentcorecontrol.ListOauth2CredentialProvidersInput{})
			return err
		},
	} {
		if err := lookup(); err != nil {
			s.t.Error(err)
		}
	}
	refused(s.t, s.complete("urn:ietf:params:oauth:request_uri:none", grace), "AccessDeniedException")
	token, parts := s.speakFor(s.agent, ada), strings.Split(ada, ".")
	_, err = s.platform.client.GetWorkloadAccessTokenForJWT(ctx, &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{
		WorkloadName: &s.agent, UserToken: aws.String(parts[0] + "." + strings.Split(grace, ".")[1] + "." + parts[2]),
	})
	refused(s.t, err, "UnauthorizedException")
	_, err = s.try(ctx, ada)
	refused(s.t, err, "UnauthorizedException")
	_, err = s.try(ctx, token[:len(token)-4]+"AAAA")
	refused(s.t, err, "UnauthorizedException")

	// Where a name belongs: the answer quotes it, as AWS's does, to the caller whose own it is. The log does not.
	s.control, s.platform.client = bedrockagentcorecontrol.NewFromConfig(s.aws), bedrockagentcore.NewFromConfig(s.aws)
	for what, try := range map[string]func() error{
		"a JWT as a name": func() error {
			_, err := s.control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: &ada})
			return err
		},
		"a token as a return URL": func() error {
			_, err := s.try(ctx, token, func(r *bedrockagentcore.GetResourceOauth2TokenInput) {
				r.ResourceOauth2ReturnUrl, r.ForceAuthentication = aws.String("https://"+token), aws.Bool(true)
			})
			return err
		},
		"a token as a provider": func() error {
			_, err := s.try(ctx, token, func(r *bedrockagentcore.GetResourceOauth2TokenInput) { r.ResourceCredentialProviderName = &token })
			return err
		},
		"a token as a session": func() error { return s.complete(token, ada) },
		"a JWT as a user id": func() error {
			_, err := s.platform.client.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{
				SessionUri: aws.String("urn:ietf:params:oauth:request_uri:none"), UserIdentifier: &data.UserIdentifierMemberUserId{Value: ada},
			})
			return err
		},
	} {
		if err := try(); err == nil {
			s.t.Errorf("%s is accepted", what)
		}
	}
}

// badCalls are requests of MCP that are refused.
func (s *scene) badCalls(heard *listener, ada string) {
	idp, name := s.idp, "mcp-canary"
	j := startJourney(s.t, s.platform, idp, &receipts{}, name)
	heard.add("user JWT", j.jwt)
	heard.add("client secret", "secret-of-"+name)
	if err := j.travel(s.t.Context(), legs[:5]); err != nil {
		s.t.Fatal(err)
	}
	for _, bad := range []struct{ bearer, body string }{
		{ada[:len(ada)-6] + "AAAAAA", `{}`}, {s.speakFor(s.agent, ada), `{}`}, {ada, ada}, {ada, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":` + ada + `}`},
		{ada, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"people___get_profile","arguments":{"personFields":"names"}}}`},
	} {
		request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/gateway/"+j.gatewayID+"/mcp", strings.NewReader(bad.body))
		if err != nil {
			s.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+bad.bearer)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "application/json, text/event-stream")
		response, err := (&http.Client{Transport: heard}).Do(request)
		if err != nil {
			s.t.Fatal(err)
		}
		_ = response.Body.Close()
	}
}

// The search finds what is there: a canary that was planted in a copy.
func TestPlantedSecretsAreFound(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	name := "something"
	if _, err := p.control.CreateWorkloadIdentity(context.WithoutCancel(t.Context()), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name}); err != nil {
		t.Fatal(err)
	}
	p.stop()
	const secret = "planted-Zx9_Lm4-Vb7Qe2Tn8Kc5Jw1Rs6Yg3Hd0"
	seen := &canaries{}
	seen.add("secret", secret)
	if found := append(seen.inFolder(t, p.data), seen.inRows(p)...); len(found) > 0 {
		t.Fatalf("found before anything was planted: %v", found)
	}
	for form, text := range map[string]string{
		"as it is": "x" + secret + "y", "half of it": secret[:21], "escaped": "https://example.com/?a=planted-Zx9_Lm4-Vb7Qe2Tn8Kc5Jw1Rs6Yg3Hd0&b",
		"basic": "Basic " + base64.StdEncoding.EncodeToString([]byte("client:"+secret)), "a form in base64": base64.URLEncoding.EncodeToString([]byte("code=12&secret=" + secret + "&x=1")),
	} {
		if len(seen.in("level=DEBUG msg="+text)) == 0 {
			t.Errorf("%s: not found in a log", form)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(p.data, "onbehalf.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	plant := func(statement string, args ...any) {
		t.Helper()
		if _, err := db.Exec(statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	plant(`CREATE TABLE planted (value BLOB)`)
	plant(`PRAGMA wal_checkpoint(TRUNCATE)`)
	plant(`INSERT INTO planted VALUES ($1)`, []byte("sealed? "+secret))
	if found := seen.inFolder(t, p.data); !slices.Contains(found, "secret in onbehalf.db-wal") {
		t.Errorf("not found in the write-ahead log: %v", found)
	}
	plant(`PRAGMA wal_checkpoint(TRUNCATE)`)
	if found := seen.inFolder(t, p.data); !slices.Contains(found, "secret in onbehalf.db") {
		t.Errorf("not found in the database file: %v", found)
	}
	if found := seen.inRows(p); len(found) == 0 {
		t.Error("not found in a row")
	}
	if err := os.WriteFile(filepath.Join(p.data, "note"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := seen.inFolder(t, p.data); !slices.Contains(found, "secret in note") {
		t.Errorf("not found in another file: %v", found)
	}
}
