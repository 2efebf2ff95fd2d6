package broker

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

func TestFirstConsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "jwt:ada")
	request := ask("profile", "openid")
	request.State, request.Parameters = secret.New("canary-state"), map[string]string{"access_type": "offline", "prompt": "canary-parameter", "state": "evil", "redirect_uri": "https://evil.example/"}
	link := w.link(t, ada, request)
	if want := publicURL + "/identities/oauth2/authorize?request_uri=" + url.QueryEscape(link.SessionURI); link.AuthorizationURL.Reveal() != want {
		t.Errorf("the link is %s", link.AuthorizationURL.Reveal())
	}

	person := newBrowser("ada")
	attempt := w.open(t, person, link)
	shown := *attempt
	shown.Location, shown.CookieName, shown.CookieValue, shown.Expires = "", "", "", time.Time{}
	if diff := cmp.Diff(Attempt{
		Account: account, WorkloadName: "agent", ProviderName: "google", ProviderTitle: "google", ProviderHost: w.idp.address(), ReturnHost: "app.example",
		Scopes: []string{"openid", "profile"}, CookiePath: CallbackPath + callbackID(account, "google"),
	}, shown); diff != "" {
		t.Errorf("the page shows (-want +got):\n%s", diff)
	}
	location, err := url.Parse(attempt.Location)
	if err != nil {
		t.Fatal(err)
	}
	q := location.Query()
	if q.Get("access_type") != "offline" || q.Get("state") == "evil" || q.Get("redirect_uri") != publicURL+CallbackPath+callbackID(account, "google") || q.Get("scope") != "openid profile" {
		t.Errorf("the provider is asked %v", q)
	}

	// Polling, with the session and without it, gives the same link and never a second one.
	poll := request
	poll.SessionURI = link.SessionURI
	for _, r := range []TokenRequest{poll, request} {
		if again := w.link(t, ada, r); again.SessionURI != link.SessionURI {
			t.Error("a second session was opened")
		}
	}
	err = w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "ada", "agents", time.Hour)))
	wantFault(t, err, fault.Denied, "has not come back from the provider yet")

	landing := w.callback(t, w.allow(t, person, attempt))
	back, _ := w.back.Load(link.SessionURI)
	want := returnURL + "&session_id=" + url.QueryEscape(back.(string)) + "&state=canary-state"
	if landing.ReturnURL != want || landing.Denied || landing.CookieName != attempt.CookieName || landing.CookiePath != attempt.CookiePath {
		t.Errorf("the browser lands at %+v, want %s", landing, want)
	}
	if _, all := w.idp.counts(); all != 0 {
		t.Error("the code was sent before anybody said who came back")
	}
	if got := w.link(t, ada, poll); got.SessionURI != link.SessionURI {
		t.Error("a poll while the code is parked gave another session")
	}

	// A renewed sign-in token of the same person completes.
	if err := w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "ada", "agents", 2*time.Hour))); err != nil {
		t.Fatal(err)
	}
	token := w.token(t, ada, poll)
	if !strings.HasPrefix(token, "canary-access-ada-") || w.token(t, ada, request) != token || w.token(t, ada, ask("openid")) != token {
		t.Errorf("the tokens differ from %s", token)
	}
	if got := w.intents(t, actionRedeem); got != 1 {
		t.Errorf("%d intents to redeem", got)
	}
	if w.idp.lastAuth != "Basic "+base64.StdEncoding.EncodeToString([]byte("client:"+clientSecret)) {
		t.Error("the client did not prove itself by Basic, the default")
	}

	// The same through the operation, as SDKs call it.
	response, err := w.GetResourceOauth2Token(t.Context(), ada, &api.GetResourceOauth2TokenRequest{
		ResourceCredentialProviderName: "google", Scopes: []string{"profile"}, Oauth2Flow: api.Oauth2FlowTypeUserFederation,
	})
	if err != nil || response.AccessToken == nil || response.AccessToken.Reveal() != token || response.AuthorizationUrl != nil || response.SessionUri != nil || response.SessionStatus != "" {
		t.Errorf("the operation answered %+v, %v", response, err)
	}
	w.noCanaries(t, strings.TrimPrefix(link.SessionURI, sessionURIPrefix), q.Get("state"), attempt.CookieValue)
}

// noCanaries looks through every text and every byte of the database for what must not be readable there.
func (w *world) noCanaries(t *testing.T, more ...string) {
	t.Helper()
	canaries := append(more, "canary-", clientSecret)
	err := w.db.View(t.Context(), func(tx *store.Tx) error {
		for _, table := range []string{"workload_identities", "oauth2_providers", "api_key_providers", "grants", "cached_tokens", "authorization_sessions", "authorization_attempts", "audit_blocks"} {
			rows, err := tx.Query(`SELECT * FROM ` + table)
			if err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
			names, err := rows.Columns()
			if err != nil {
				return err
			}
			for rows.Next() {
				values, targets := make([]any, len(names)), make([]any, len(names))
				for i := range values {
					targets[i] = &values[i]
				}
				if err := rows.Scan(targets...); err != nil {
					return err
				}
				for i, value := range values {
					text := fmt.Sprint(value)
					if raw, ok := value.([]byte); ok {
						text = string(raw)
					}
					for _, canary := range canaries {
						if strings.Contains(text, canary) {
							t.Errorf("%s.%s has %q in it", table, names[i], canary)
						}
					}
				}
			}
			if err := rows.Err(); err != nil {
				return err
			}
			_ = rows.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWrongPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "jwt:ada")
	link := w.link(t, ada, ask("profile"))

	// Bob gets Ada's link and goes all the way: he signs in at the provider as himself.
	bob := newBrowser("bob")
	callback := w.allow(t, bob, w.open(t, bob, link))
	w.callback(t, callback)
	err := w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "bob", "agents", time.Hour)))
	wantFault(t, err, fault.Denied, "Invalid or expired session")
	wantFault(t, err, fault.Denied, "another user")
	if _, all := w.idp.counts(); all != 0 {
		t.Error("Bob's code was sent")
	}
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_attempts WHERE code IS NOT NULL`) + w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
		t.Error("something of Bob's was kept")
	}
	// Ada's own attempt to complete cannot take Bob's code.
	err = w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "ada", "agents", time.Hour)))
	wantFault(t, err, fault.Denied, "not come back")
	// Nor can Bob's callback be played again.
	_, err = w.Callback(t.Context(), frontChannel(), callback)
	wantFault(t, err, fault.Denied, "unknown here")

	// Bob's agent gets nothing either.
	poll := ask("profile")
	poll.SessionURI = link.SessionURI
	_, err = w.UserToken(t.Context(), w.as(t, "agent", "jwt:bob"), poll)
	wantFault(t, err, fault.Denied, "Invalid or expired session")

	// The link is free for Ada, with an attempt of her own.
	w.goThrough(t, newBrowser("ada"), link)
	if err := w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "ada", "agents", time.Hour))); err != nil {
		t.Fatal(err)
	}
	if token := w.token(t, ada, poll); !strings.HasPrefix(token, "canary-access-ada-") {
		t.Errorf("Ada got %s", token)
	}
	// And still nobody else can complete it, nor undo it.
	err = w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "bob", "agents", time.Hour)))
	wantFault(t, err, fault.Denied, "another user")
	w.token(t, ada, poll)
}

func TestUserIDAndTokenAreDifferentPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	w.goThrough(t, newBrowser("ada"), link)
	err := w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "ada", "agents", time.Hour)))
	wantFault(t, err, fault.Denied, "opened with a user id and completed with a user token")
	w.goThrough(t, newBrowser("ada"), link)
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	w.token(t, ada, ask("profile"))
	w.link(t, w.as(t, "agent", "jwt:ada"), ask("profile"))
}

func TestTokensThatDoNotComplete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "jwt:ada")
	link := w.link(t, ada, ask("profile"))
	w.goThrough(t, newBrowser("ada"), link)
	stranger := newIDP(t)
	for name, token := range map[string]secret.Text{
		"expired":                 w.idp.jwt(t, "ada", "agents", -time.Hour),
		"for another application": w.idp.jwt(t, "ada", "another", time.Hour),
		"of an untrusted issuer":  stranger.jwt(t, "ada", "agents", time.Hour),
		"no JWT":                  secret.New("a.b.c"),
	} {
		if err := w.completeAs(t.Context(), link, byToken(token)); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("a token that is %s: %v", name, err)
		}
	}
	// What proves nothing spoils nothing.
	if err := w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "ada", "agents", time.Hour))); err != nil {
		t.Error(err)
	}
}

func TestCompletingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	w.goThrough(t, newBrowser("ada"), link)
	for range 3 {
		if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
			t.Fatal(err)
		}
	}
	if _, all := w.idp.counts(); all != 1 {
		t.Errorf("the code was sent %d times", all)
	}
	wantFault(t, w.completeAs(t.Context(), link, byID("bob")), fault.Denied, "another user")
	_, err := w.tryOpen(t.Context(), newBrowser("ada"), link)
	wantFault(t, err, fault.Conflict, "has been used")

	w.later(sessionLifetime)
	wantFault(t, w.completeAs(t.Context(), link, byID("ada")), fault.Denied, "Invalid or expired session")
}

func TestManyCompleteAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second := w.replica(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	w.goThrough(t, newBrowser("ada"), link)
	results := make(chan error)
	for i := range 20 {
		process := []*world{w, second}[i%2]
		go func() { results <- process.completeAs(t.Context(), link, byID("ada")) }()
	}
	for range 20 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if _, all := w.idp.counts(); all != 1 {
		t.Errorf("the code was sent %d times", all)
	}
}

func TestSessionUnderAnOwnersAuthorizer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arn := api.GatewayARN("us-east-1", account, gatewayID)
	caller := principal.Caller{Kind: principal.Bearer, Account: account, User: principal.User{Issuer: w.idp.URL, Subject: "ada"}, Authorizer: arn}
	err := w.db.Update(t.Context(), func(tx *store.Tx) (err error) {
		if caller.Workload, err = w.identity.CreateOwned(tx, account, gatewayID, arn, []string{returnURL}, nil); err != nil {
			return err
		}
		return w.auth.PutAuthorizer(tx, account, arn, authorizerFor(w.idp, "gateway-audience"))
	})
	if err != nil {
		t.Fatal(err)
	}
	link := w.link(t, caller, ask("profile"))
	w.goThrough(t, newBrowser("ada"), link)
	// A token that the operator's trusted issuers would take is not one that this gateway takes.
	if err := w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "ada", "agents", time.Hour))); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a token for another audience: %v", err)
	}
	if err := w.completeAs(t.Context(), link, byToken(w.idp.jwt(t, "ada", "gateway-audience", time.Hour))); err != nil {
		t.Fatal(err)
	}
	w.token(t, caller, TokenRequest{ProviderARN: api.Oauth2CredentialProviderARN("us-east-1", account, "google"), Scopes: []string{"profile"}})
	// The agent's own workload identity, same user, same provider: not its grant.
	w.link(t, w.as(t, "agent", "jwt:ada"), ask("profile"))
}

func TestCallersWhoGetNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	machine := ada
	machine.User = principal.User{}
	_, err := w.UserToken(t.Context(), machine, ask("profile"))
	wantFault(t, err, fault.Invalid, "names none")
	_, err = w.UserToken(t.Context(), root, ask("profile"))
	wantFault(t, err, fault.Invalid, "workload identity")
	_, err = w.GetResourceOauth2Token(t.Context(), root, &api.GetResourceOauth2TokenRequest{
		ResourceCredentialProviderName: "google", Oauth2Flow: api.Oauth2FlowTypeUserFederation, WorkloadIdentityToken: secret.New("not opened by the scope"),
	})
	wantFault(t, err, fault.Invalid, "workload identity")
	for _, r := range []TokenRequest{{ProviderName: "nobody"}, {ProviderARN: api.Oauth2CredentialProviderARN("us-east-1", other, "google")}, {ProviderARN: "google"}} {
		_, err = w.UserToken(t.Context(), ada, r)
		wantFault(t, err, fault.NotFound, "not found")
	}
}

func TestReturnURLs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.workload(t, "silent")
	const text = "You must register and use at least one ResourceOauth2ReturnUrl on your workload identity to use this flow"
	_, err := w.UserToken(t.Context(), w.as(t, "silent", "ada"), ask("profile"))
	wantFault(t, err, fault.Invalid, text)
	ada := w.as(t, "agent", "ada")
	none := ask("profile")
	none.ReturnURL = ""
	_, err = w.UserToken(t.Context(), ada, none)
	wantFault(t, err, fault.Invalid, text)
	for _, near := range []string{"https://app.example/done", returnURL + "&", returnURL + "/", strings.ToUpper(returnURL), strings.ReplaceAll(returnURL, "%2F", "%2f"), "https://evil.example/", returnURL + "#x"} {
		r := ask("profile")
		r.ReturnURL = near
		_, err = w.UserToken(t.Context(), ada, r)
		wantFault(t, err, fault.Invalid, "not one of the allowedResourceOauth2ReturnUrls")
	}
	// A URL that is taken off the list while a session waits is not gone to.
	link := w.link(t, ada, ask("profile"))
	person := newBrowser("ada")
	callback := w.allow(t, person, w.open(t, person, link))
	if _, err := w.identity.UpdateWorkloadIdentity(t.Context(), root, &api.UpdateWorkloadIdentityRequest{Name: "agent", AllowedResourceOauth2ReturnUrls: []string{"https://app.example/other"}}); err != nil {
		t.Fatal(err)
	}
	_, err = w.Callback(t.Context(), frontChannel(), callback)
	wantFault(t, err, fault.Denied, "not allowed any more")
	_, err = w.tryOpen(t.Context(), person, link)
	wantFault(t, err, fault.Denied, "not allowed any more")
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	arn := api.Oauth2CredentialProviderARN("us-east-1", account, "google")
	got, err := w.SubjectOfSession(t.Context(), link.SessionURI)
	if diff := cmp.Diff(Subject{Account: account, Workload: ada.Workload, ProviderARN: arn}, got); diff != "" || err != nil {
		t.Errorf("of the session: %v (-want +got):\n%s", err, diff)
	}
	got, err = w.SubjectOfCallback(t.Context(), callbackID(account, "google"))
	if diff := cmp.Diff(Subject{Account: account, ProviderARN: arn}, got); diff != "" || err != nil {
		t.Errorf("of the callback: %v (-want +got):\n%s", err, diff)
	}
	for _, uri := range []string{"", "urn:ietf:params:oauth:request_uri:", sessionURIPrefix + "guess", link.SessionURI + "x", strings.TrimPrefix(link.SessionURI, sessionURIPrefix)} {
		_, err = w.SubjectOfSession(t.Context(), uri)
		wantFault(t, err, fault.Denied, "Invalid or expired session")
	}
	_, err = w.SubjectOfCallback(t.Context(), callbackID(account, "nobody"))
	wantFault(t, err, fault.NotFound, "not exist")
	// A guard that mixes up accounts finds the room closed too.
	foreign := principal.Caller{Kind: principal.Browser, Account: other}
	_, err = w.Authorize(t.Context(), foreign, link.SessionURI)
	wantFault(t, err, fault.Denied, "Invalid or expired session")
	person := newBrowser("ada")
	callback := w.allow(t, person, w.open(t, person, link))
	_, err = w.Callback(t.Context(), foreign, callback)
	wantFault(t, err, fault.Denied, "unknown here")
	_, err = w.CompleteResourceTokenAuth(t.Context(), principal.Caller{Kind: principal.Key, Account: other, Root: true}, &api.CompleteResourceTokenAuthRequest{SessionUri: link.SessionURI, UserIdentifier: byID("ada")})
	wantFault(t, err, fault.Denied, "Invalid or expired session")
}

func TestRefusalsAreRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	w.goThrough(t, newBrowser("bob"), link)
	back, _ := w.back.Load(link.SessionURI)
	request := &api.CompleteResourceTokenAuthRequest{SessionUri: back.(string), UserIdentifier: byID("bob")}
	scope := func(_ ctx, caller principal.Caller, _ *api.CompleteResourceTokenAuthRequest) (principal.Caller, []gate.Check, error) {
		return caller, []gate.Check{{Action: "bedrock-agentcore:CompleteResourceTokenAuth", Resource: ada.Workload.ARN}}, nil
	}
	_, err := gate.Act(t.Context(), w.gate, root, "bedrock-agentcore:CompleteResourceTokenAuth", scope, request, w.CompleteResourceTokenAuth)
	wantFault(t, err, fault.Denied, "another user")
	record := w.lastRecord(t, "bedrock-agentcore:CompleteResourceTokenAuth")
	if record.Outcome != "denied" || record.Detail["session_user"] != "id:ada" || record.Detail["came_back"] != "id:bob" || !strings.Contains(record.Detail["session_outcome"], "discarded") || record.Detail["session"] == "" {
		t.Errorf("the record says %+v", record)
	}
}
