package consent_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/consent"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
	"github.com/onbehalf/onbehalf/internal/vault"
)

const (
	account   = "000000000000"
	returnURL = "https://app.example/done"
	back      = "?back=https%3A%2F%2Fapp.example%2Fchat"
)

// world is the front channel on a real broker, with the demo provider over HTTP.
type world struct {
	url     string
	demo    *demoidp.Provider
	broker  *broker.Broker
	records *audit.Log
	caller  principal.Caller // the agent's, for the user "ada"
	agents  *identity.Service
	late    atomic.Int64 // how far the clock is ahead
	address atomic.Pointer[netip.Addr]
	logs    buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return worldWith(t, demoidp.Options{})
}

func worldWith(t *testing.T, o demoidp.Options) *world {
	t.Helper()
	w := &world{}
	front, provider := httptest.NewUnstartedServer(nil), httptest.NewUnstartedServer(nil)
	w.url = "http://" + front.Listener.Addr().String()
	now := func() time.Time { return time.Now().Add(time.Duration(w.late.Load())) }

	var err error
	o.Address = provider.Listener.Addr()
	if w.demo, err = demoidp.New(o); err != nil {
		t.Fatal(err)
	}
	provider.Config.Handler = w.demo
	provider.Start()
	t.Cleanup(provider.Close)

	db := storetest.OpenAt(t, now)
	keeper := storetest.Keeper(t, db, account)
	out, err := egress.New(egress.Options{Allow: []string{provider.Listener.Addr().String()}, LoopbackHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	protocol := oauth.New(out)
	authenticator := auth.New(db, keeper, protocol, auth.Options{Region: "us-east-1", TrustedIssuers: []auth.TrustedIssuer{{URL: w.demo.Issuer(), Audiences: []string{demoidp.SignInClientID}}}})
	if w.records, err = audit.New(t.Context(), db, keeper, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.records.Close() })
	guard := gate.New(authenticator, policy.New(db), w.records)
	w.agents = identity.New(db, keeper, authenticator, identity.Options{Region: "us-east-1"})
	w.broker = broker.New(db, keeper, w.agents, vault.New(db, keeper), protocol, out, authenticator, guard, broker.Options{
		Region: "us-east-1", PublicURL: w.url, SignIns: []broker.SignIn{{Issuer: w.demo.Issuer(), ClientID: demoidp.SignInClientID}},
	})

	log := slog.New(slog.NewTextHandler(&w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	handler := consent.New(guard, w.broker, consent.Options{PublicURL: w.url, Log: log, Now: now})
	front.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		known := principal.Request{ID: "the-request-id"}
		if address := w.address.Load(); address != nil {
			known.Address = *address
		}
		handler.ServeHTTP(rw, r.WithContext(principal.WithRequest(r.Context(), known)))
	})
	front.Start()
	t.Cleanup(front.Close)

	w.caller = principal.Caller{Kind: principal.Key, Account: account, Root: true}
	if _, err := w.agents.CreateWorkloadIdentity(t.Context(), w.caller, &api.CreateWorkloadIdentityRequest{
		Name: "mail-agent", AllowedResourceOauth2ReturnUrls: []string{returnURL, w.url + broker.DonePath, w.url + broker.DonePath + back, w.url + broker.DonePath + "?next=x"},
	}); err != nil {
		t.Fatal(err)
	}
	id, hidden, discovery := "app", secret.New("the secret"), w.demo.DiscoveryURL()
	made, err := w.broker.CreateOauth2CredentialProvider(t.Context(), w.caller, &api.CreateOauth2CredentialProviderRequest{
		Name: "demo-provider", CredentialProviderVendor: api.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &api.Oauth2ProviderConfigInput{CustomOauth2ProviderConfig: &api.CustomOauth2ProviderConfigInput{
			ClientId: &id, ClientSecret: &hidden, OauthDiscovery: &api.Oauth2Discovery{DiscoveryUrl: &discovery},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.demo.Register(demoidp.Client{ID: id, Secret: hidden.Reveal(), Name: "Mail agent", RedirectURIs: []string{*made.CallbackUrl}}); err != nil {
		t.Fatal(err)
	}
	token, err := w.agents.GetWorkloadAccessTokenForUserId(t.Context(), w.caller, &api.GetWorkloadAccessTokenForUserIdRequest{WorkloadName: "mail-agent", UserId: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if w.caller, err = w.agents.Open(t.Context(), w.caller, token.WorkloadAccessToken); err != nil {
		t.Fatal(err)
	}
	return w
}

// ask asks for a token as the agent does; the answer is the token or a link.
func (w *world) ask(t *testing.T, change ...func(*broker.TokenRequest)) *broker.TokenResult {
	t.Helper()
	request := broker.TokenRequest{ProviderName: "demo-provider", Scopes: []string{"openid", "profile"}, ReturnURL: returnURL}
	for _, c := range change {
		c(&request)
	}
	result, err := w.broker.UserToken(t.Context(), w.caller, request)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (w *world) link(t *testing.T) string {
	t.Helper()
	return w.ask(t).AuthorizationURL.Reveal()
}

// browser keeps cookies and follows no redirect by itself.
type browser struct {
	t      *testing.T
	person string // who sits there
	*http.Client
}

func newBrowser(t *testing.T) browser {
	jar, _ := cookiejar.New(nil) // never fails without options
	return browser{t, demoidp.Ada, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type answer struct {
	status int
	header http.Header
	body   string
}

const html = "text/html,application/xhtml+xml,*/*;q=0.8"

func (b browser) do(method, address, accept string, form url.Values) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := b.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

func (b browser) get(address string) answer { b.t.Helper(); return b.do("GET", address, html, nil) }

var (
	button = regexp.MustCompile(`class="button" href="([^"]+)"`)
	field  = regexp.MustCompile(`name="request" value="([^"]+)"`)
)

// open opens the link and returns where the page's button leads.
func (b browser) open(link string) string {
	b.t.Helper()
	page := b.get(link)
	found := button.FindStringSubmatch(page.body)
	if page.status != http.StatusOK || found == nil {
		b.t.Fatalf("no consent page, %d:\n%s", page.status, page.body)
	}
	return strings.ReplaceAll(found[1], "&amp;", "&")
}

// decide goes through the demo provider as its person and returns the callback's URL.
func (b browser) decide(w *world, location, decision string) string {
	b.t.Helper()
	page := b.get(location)
	for _, step := range []struct {
		path string
		form url.Values
	}{{"/signin", url.Values{"person": {b.person}}}, {"/consent", url.Values{"decision": {decision}}}} {
		if !strings.Contains(page.body, `action="`+step.path+`"`) {
			continue
		}
		step.form.Set("request", field.FindStringSubmatch(page.body)[1])
		if page = b.do("POST", w.demo.Issuer()+step.path, html, step.form); page.status == http.StatusSeeOther && strings.HasPrefix(page.header.Get("Location"), "/") {
			page = b.get(w.demo.Issuer() + page.header.Get("Location"))
		}
	}
	if page.status != http.StatusSeeOther {
		b.t.Fatalf("the provider does not send the browser back, %d:\n%s", page.status, page.body)
	}
	return page.header.Get("Location")
}

// buffer collects logs; safe for concurrent use.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
