package broker

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
	"github.com/onbehalf/onbehalf/internal/vault"
)

const (
	account   = "000000000000"
	other     = "111111111111"
	publicURL = "http://127.0.0.1:7080"
	returnURL = "https://app.example/done?tenant=a%2Fb"
	gatewayID = "gateway-0123456789"
)

var root = principal.Caller{Kind: principal.Key, Account: account, ARN: "arn:aws:iam::000000000000:root", Root: true}

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelWarn) // each audit log tells its head as it closes
	os.Exit(m.Run())
}

// world is the room with everything under it: a database, a provider over HTTP, a gate.
type world struct {
	*Broker
	idp   *idp
	log   *audit.Log
	egr   *egress.Client
	clock *atomic.Int64 // how far the database's clock is ahead

	back *sync.Map // sessionUri -> the session_id that the last browser came back with
}

// newWorld has the workload agent (return URL on its list) and the provider google, which is the idp.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := newBareWorld(t)
	w.workload(t, "agent", returnURL)
	w.provider(t, "google", w.idp)
	return w
}

func newBareWorld(t testing.TB) *world {
	t.Helper()
	clock := &atomic.Int64{}
	db := storetest.OpenAt(t, func() time.Time { return time.Now().Add(time.Duration(clock.Load())) })
	return worldOn(t, db, storetest.Keeper(t, db, account, other), newIDP(t), clock)
}

// worldOn is a process: several of them on one database are replicas.
func worldOn(t testing.TB, db *store.DB, keeper *seal.Keeper, provider *idp, clock *atomic.Int64) *world {
	t.Helper()
	out, err := egress.New(egress.Options{Allow: []string{"127.0.0.1:*"}, LoopbackHTTP: true, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	protocol := oauth.New(out)
	authenticator := auth.New(db, keeper, protocol, auth.Options{TrustedIssuers: []auth.TrustedIssuer{{URL: provider.URL, Audiences: []string{"agents"}}}})
	log, err := audit.New(t.Context(), db, keeper, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	identities := identity.New(db, keeper, authenticator, identity.Options{Region: "us-east-1"})
	b := New(db, keeper, identities, vault.New(db, keeper), protocol, out, authenticator, gate.New(authenticator, policy.New(db), log), Options{Region: "us-east-1", PublicURL: publicURL})
	return &world{Broker: b, idp: provider, log: log, egr: out, clock: clock, back: &sync.Map{}}
}

// replica is another process on the same database.
func (w *world) replica(t testing.TB) *world {
	r := worldOn(t, w.db, w.keeper, w.idp, w.clock)
	r.back = w.back
	return r
}

func (w *world) later(d time.Duration) { w.clock.Add(int64(d)) }

func (w *world) workload(t testing.TB, name string, urls ...string) {
	t.Helper()
	if _, err := w.identity.CreateWorkloadIdentity(t.Context(), root, &api.CreateWorkloadIdentityRequest{Name: name, AllowedResourceOauth2ReturnUrls: urls}); err != nil {
		t.Fatal(err)
	}
}

func custom(p *idp, clientID string) *api.Oauth2ProviderConfigInput {
	discovery := p.discovery()
	return &api.Oauth2ProviderConfigInput{CustomOauth2ProviderConfig: &api.CustomOauth2ProviderConfigInput{
		OauthDiscovery: &api.Oauth2Discovery{DiscoveryUrl: &discovery}, ClientId: &clientID, ClientSecret: secret.Pointer(clientSecret),
	}}
}

func (w *world) provider(t testing.TB, name string, p *idp) *api.CreateOauth2CredentialProviderResponse {
	t.Helper()
	made, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{
		Name: name, CredentialProviderVendor: api.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: custom(p, "client"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// as is a caller whose workload access token names a user: "jwt:ada" by a sign-in token, else by id.
func (w *world) as(t testing.TB, workload, user string) principal.Caller {
	t.Helper()
	var token secret.Text
	if person, ok := strings.CutPrefix(user, "jwt:"); ok {
		response, err := w.identity.GetWorkloadAccessTokenForJWT(t.Context(), root, &api.GetWorkloadAccessTokenForJWTRequest{WorkloadName: workload, UserToken: w.idp.jwt(t, person, "agents", time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		token = response.WorkloadAccessToken
	} else {
		response, err := w.identity.GetWorkloadAccessTokenForUserId(t.Context(), root, &api.GetWorkloadAccessTokenForUserIdRequest{WorkloadName: workload, UserId: user})
		if err != nil {
			t.Fatal(err)
		}
		token = response.WorkloadAccessToken
	}
	caller, err := w.identity.Open(t.Context(), root, token)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

func ask(scopes ...string) TokenRequest {
	return TokenRequest{ProviderName: "google", Scopes: scopes, ReturnURL: returnURL}
}

func (w *world) userToken(t testing.TB, caller principal.Caller, r TokenRequest) *TokenResult {
	t.Helper()
	result, err := w.UserToken(t.Context(), caller, r)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return result
}

// link asks and expects to be told to ask the person.
func (w *world) link(t testing.TB, caller principal.Caller, r TokenRequest) *TokenResult {
	t.Helper()
	result := w.userToken(t, caller, r)
	if !result.Access.Empty() || result.Status != StatusInProgress || result.AuthorizationURL.Empty() || !strings.HasPrefix(result.SessionURI, sessionURIPrefix) {
		t.Fatalf("got %+v, want a link", result)
	}
	return result
}

// token asks and expects an access token.
func (w *world) token(t testing.TB, caller principal.Caller, r TokenRequest) string {
	t.Helper()
	result := w.userToken(t, caller, r)
	if result.Access.Empty() || !result.AuthorizationURL.Empty() || result.SessionURI != "" || result.Status != "" {
		t.Fatalf("got %+v, want a token", result)
	}
	return result.Access.Reveal()
}

// browser is a person's browser: it keeps cookies, and knows who sits there.
type browser struct {
	person  string
	cookies map[string]string
}

func newBrowser(person string) *browser { return &browser{person, map[string]string{}} }

func frontChannel() principal.Caller {
	return principal.Caller{Kind: principal.Browser, Account: account}
}

// open opens a link and stands on the page.
func (w *world) open(t testing.TB, at *browser, link *TokenResult) *Attempt {
	t.Helper()
	attempt, err := w.tryOpen(t.Context(), at, link)
	if err != nil {
		t.Fatal(err)
	}
	return attempt
}

func (w *world) tryOpen(ctx context.Context, at *browser, link *TokenResult) (*Attempt, error) {
	parsed, err := url.Parse(link.AuthorizationURL.Reveal())
	if err != nil {
		return nil, err
	}
	attempt, err := w.Authorize(ctx, frontChannel(), parsed.Query().Get("request_uri"))
	if err == nil {
		at.cookies[attempt.CookieName] = attempt.CookieValue
	}
	return attempt, err
}

// allow presses the button, signs in at the provider and comes back with what it says.
func (w *world) allow(t testing.TB, at *browser, attempt *Attempt) Callback {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, attempt.Location, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Person", at.person)
	response, err := (&http.Transport{}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	back, err := response.Location()
	if err != nil {
		t.Fatalf("the provider answered %d: %v", response.StatusCode, err)
	}
	q := back.Query()
	return Callback{
		ProviderCallbackID: strings.TrimPrefix(back.Path, CallbackPath), State: q.Get("state"), Code: secret.New(q.Get("code")), Issuer: q.Get("iss"), Error: q.Get("error"),
		Cookie: func(name string) string { return at.cookies[name] },
	}
}

func (w *world) callback(t testing.TB, c Callback) *Landing {
	t.Helper()
	landing, err := w.Callback(t.Context(), frontChannel(), c)
	if err != nil {
		t.Fatal(err)
	}
	w.arrived(t, landing)
	return landing
}

// arrived remembers what the application's page gets to know.
func (w *world) arrived(t testing.TB, landing *Landing) {
	t.Helper()
	landed, err := url.Parse(landing.ReturnURL)
	if err != nil {
		t.Fatal(err)
	}
	id := landed.Query().Get("session_id")
	uri, _ := splitSessionID(id)
	w.back.Store(uri, id)
}

// goThrough is the person's whole way, to the application's page.
func (w *world) goThrough(t testing.TB, at *browser, link *TokenResult) *Landing {
	t.Helper()
	return w.callback(t, w.allow(t, at, w.open(t, at, link)))
}

// sessionID is what a browser brings to the application's page.
func sessionID(t testing.TB, landing *Landing) string {
	t.Helper()
	landed, err := url.Parse(landing.ReturnURL)
	if err != nil {
		t.Fatal(err)
	}
	return landed.Query().Get("session_id")
}

// completeAs is the application saying who came back, with what the last browser
// brought; with the sessionUri alone when none has.
func (w *world) completeAs(ctx context.Context, link *TokenResult, who *api.UserIdentifier) error {
	session := link.SessionURI
	if back, came := w.back.Load(session); came {
		session = back.(string)
	}
	return w.completeWith(ctx, session, who)
}

func (w *world) completeWith(ctx context.Context, session string, who *api.UserIdentifier) error {
	_, err := w.CompleteResourceTokenAuth(ctx, root, &api.CompleteResourceTokenAuthRequest{SessionUri: session, UserIdentifier: who})
	return err
}

func byID(id string) *api.UserIdentifier { return &api.UserIdentifier{UserId: &id} }

func byToken(token secret.Text) *api.UserIdentifier { return &api.UserIdentifier{UserToken: &token} }

// consented is a caller who has a grant for the scopes.
func (w *world) consented(t testing.TB, workload, user string, r TokenRequest) principal.Caller {
	t.Helper()
	caller := w.as(t, workload, user)
	link := w.link(t, caller, r)
	person := strings.TrimPrefix(user, "jwt:")
	w.goThrough(t, newBrowser(person), link)
	who := byID(person)
	if caller.User.ID == "" {
		who = byToken(w.idp.jwt(t, person, "agents", time.Hour))
	}
	if err := w.completeAs(t.Context(), link, who); err != nil {
		t.Fatal(err)
	}
	return caller
}

func (w *world) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	if err := w.db.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
		t.Fatal(err)
	}
}

func (w *world) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	if err := w.db.View(t.Context(), func(tx *store.Tx) error { return tx.QueryRow(query, args...).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// intents counts the audit's intents of an action.
func (w *world) intents(t testing.TB, action string) (n int) {
	t.Helper()
	records, _, err := w.log.List(t.Context(), audit.Query{Account: account, Action: action, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if record.Phase == audit.Intent {
			n++
		}
	}
	return n
}

func wantFault(t testing.TB, err error, kind fault.Kind, text string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(fault.Of(err).Message, text) {
		t.Errorf("got %v, want a fault of kind %s that says %q", err, kind, text)
	}
}

type ctx = context.Context

func (w *world) lastRecord(t testing.TB, action string) audit.Record {
	t.Helper()
	records, _, err := w.log.List(t.Context(), audit.Query{Account: account, Action: action, Limit: 1})
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	return records[0]
}

func authorizerFor(p *idp, audience string) auth.Authorizer {
	return auth.Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{audience}}
}

func (w *world) tokenFor(t testing.TB, caller principal.Caller) (secret.Text, error) {
	response, err := w.identity.GetWorkloadAccessTokenForUserId(t.Context(), root, &api.GetWorkloadAccessTokenForUserIdRequest{WorkloadName: caller.Workload.Name, UserId: caller.User.ID})
	if err != nil {
		return secret.Text{}, err
	}
	return response.WorkloadAccessToken, nil
}
