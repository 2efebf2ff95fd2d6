package runtime

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/sigv4"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const (
	testAccount = "000000000000"
	testRegion  = "us-east-1"
	testRole    = "arn:aws:iam::000000000000:role/agent"
)

// hosted is the data plane with everything behind it, for real: database, guards,
// identity, an OpenID provider. The agents are HTTP servers of the test, each on a
// listener of its own that the session alone is told of.
type hosted struct {
	*Service
	guard    *auth.Authenticator
	policies *policy.Engine
	audit    *audit.Log
	keeper   *seal.Keeper
	door     *httptest.Server
	idp      *demoidp.Provider
	root     sigv4.Key
	agents   *agents
}

// agents is a driver whose agents run in the test.
type agents struct {
	handler http.Handler
	ping    http.HandlerFunc // nil: they are well
	says    string           // printed by each at its start
	run     func(ctx context.Context, c Command) (int, error)

	mu      sync.Mutex
	started []Launch
	living  []*inProcess
}

func (a *agents) About() string { return "agents of a test" }

func (a *agents) Start(_ context.Context, l Launch) (Process, error) {
	p := &inProcess{agents: a, ended: make(chan struct{})}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ping" && a.ping != nil {
			a.ping(w, r)
			return
		}
		if r.URL.Path == "/ping" {
			_, _ = io.WriteString(w, `{"status":"Healthy"}`)
			return
		}
		a.handler.ServeHTTP(w, r)
	}))
	p.output, p.storage = l.Output, l.Storage
	_, _ = io.WriteString(p.output, a.says)
	if err := p.restore(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = append(a.started, l)
	a.living = append(a.living, p)
	return p, nil
}

func (a *agents) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.started)
}

func (a *agents) newest() *inProcess {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.living[len(a.living)-1]
}

type inProcess struct {
	agents *agents
	server *httptest.Server
	output io.Writer
	storing
	ended chan struct{}
	once  sync.Once
	why   string
}

func (p *inProcess) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", p.server.Listener.Addr().String())
}

func (p *inProcess) Run(ctx context.Context, c Command) (int, error) { return p.agents.run(ctx, c) }
func (p *inProcess) Ended() <-chan struct{}                          { return p.ended }
func (p *inProcess) End() string                                     { return p.why }

func (p *inProcess) Stop(grace time.Duration) {
	p.end("It was stopped.")
	if grace > 0 {
		p.save()
	}
}

func (p *inProcess) end(why string) {
	p.once.Do(func() {
		p.why = why
		close(p.ended)
		p.server.CloseClientConnections()
		go p.server.Close() // it waits for handlers, and one of them may have called this
	})
}

// serving puts a data plane before agents that answer as handler does.
func serving(t testing.TB, handler http.HandlerFunc) *hosted {
	t.Helper()
	return servingOn(t, storetest.Open(t), handler)
}

func servingOn(t testing.TB, db *store.DB, handler http.HandlerFunc) *hosted {
	t.Helper()
	h := &hosted{keeper: storetest.Keeper(t, db, testAccount), agents: &agents{handler: handler}}
	provider := httptest.NewUnstartedServer(nil)
	var err error
	if h.idp, err = demoidp.New(demoidp.Options{Address: provider.Listener.Addr()}); err != nil {
		t.Fatal(err)
	}
	provider.Config.Handler = h.idp
	provider.Start()
	t.Cleanup(provider.Close)
	client, err := egress.New(egress.Options{Allow: []string{"127.0.0.1:*", "localhost:*"}, LoopbackHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	h.guard = auth.New(db, h.keeper, oauth.New(client), auth.Options{Region: testRegion, SpoolFolder: t.TempDir(), Rates: map[string]float64{}})
	if _, err := h.guard.EnsureRoot(t.Context(), testAccount, func(k auth.NewKey) error {
		h.root = sigv4.Key{AccessKeyID: k.ID, Secret: k.Secret}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if h.audit, err = audit.New(t.Context(), db, h.keeper, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.audit.Close() })
	h.policies = policy.New(db)
	door := gate.New(h.guard, h.policies, h.audit)
	identities := identity.New(db, h.keeper, h.guard, identity.Options{Region: testRegion})
	front := httptest.NewUnstartedServer(nil)
	h.Service = New(db, h.keeper, identities, h.guard, door, Options{
		Region: testRegion, PublicURL: "http://" + front.Listener.Addr().String(), Folder: t.TempDir(),
		Driver:    func() (Driver, error) { return h.agents, nil },
		Platform:  http.NotFoundHandler(),
		Proxy:     http.NotFoundHandler(),
		Refuse:    plainly,
		CheckRole: func(*store.Tx, string, string, string) error { return nil },
		Deleted:   func(*store.Tx, string, string) error { return nil },
	})
	t.Cleanup(h.Service.Close)
	front.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Serves(r.URL.EscapedPath()) {
			http.Error(w, "not of the data plane", http.StatusTeapot)
			return
		}
		request := principal.Request{ID: api.NewUUID(), Address: netip.MustParseAddr("127.0.0.1"), Region: testRegion}
		h.Front().ServeHTTP(w, r.WithContext(principal.WithRequest(r.Context(), request)))
	})
	front.Start()
	t.Cleanup(front.Close)
	h.door = front
	return h
}

// owner is the root key's caller on the control plane.
func (h *hosted) admin() principal.Caller {
	return principal.Caller{Kind: principal.Key, Account: testAccount, ARN: "arn:aws:iam::000000000000:root", KeyID: h.root.AccessKeyID, Root: true}
}

// jwt is an authorizer for the people of the demo provider.
func (h *hosted) jwt() *api.AuthorizerConfiguration {
	return &api.AuthorizerConfiguration{CustomJWTAuthorizer: &api.CustomJWTAuthorizerConfiguration{DiscoveryUrl: h.idp.DiscoveryURL(), AllowedAudience: []string{demoidp.SignInClientID}}}
}

func (h *hosted) token(t testing.TB, person string) string {
	t.Helper()
	tokens, err := h.idp.Issue(person, demoidp.SignInClientID, "openid", "profile")
	if err != nil {
		t.Fatal(err)
	}
	return tokens.Access
}

// create makes a runtime; change completes the request.
func (h *hosted) create(t testing.TB, name string, change func(*api.CreateAgentRuntimeRequest)) *api.CreateAgentRuntimeResponse {
	t.Helper()
	request := &api.CreateAgentRuntimeRequest{AgentRuntimeName: name, RoleArn: testRole, AgentRuntimeArtifact: h.artifact(t)}
	if change != nil {
		change(request)
	}
	made, err := h.CreateAgentRuntime(t.Context(), h.admin(), request)
	if err != nil {
		t.Fatal(err)
	}
	if made.Status != api.AgentRuntimeStatusReady {
		got, _ := h.GetAgentRuntime(t.Context(), h.admin(), &api.GetAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId})
		t.Fatalf("the runtime is %s: %+v", made.Status, got.FailureReason)
	}
	return made
}

// artifact is code that could be run here: no test of this room runs it.
func (h *hosted) artifact(t testing.TB) *api.AgentRuntimeArtifact {
	t.Helper()
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip("no small program at hand: ", err)
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	header := &zip.FileHeader{Name: "agent", Method: zip.Deflate}
	header.SetMode(0o755)
	file, err := z.CreateHeader(header)
	if err == nil {
		_, err = file.Write(program)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	bucket, prefix, err := h.PutCode(t.Context(), testAccount, &archive)
	if err != nil {
		t.Fatal(err)
	}
	return &api.AgentRuntimeArtifact{CodeConfiguration: &api.CodeConfiguration{
		Code: &api.Code{S3: &api.S3Location{Bucket: bucket, Prefix: prefix}}, Runtime: api.AgentManagedRuntimeTypeExecutable, EntryPoint: []string{"agent"}}}
}

func speaking(p api.ServerProtocol) func(*api.CreateAgentRuntimeRequest) {
	return func(r *api.CreateAgentRuntimeRequest) {
		r.ProtocolConfiguration = &api.ProtocolConfiguration{ServerProtocol: p}
	}
}

// request builds one of the data plane; headers are pairs.
func (h *hosted) request(t testing.TB, method, path, body string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.door.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// sign signs a request with the root key.
func (h *hosted) sign(t testing.TB, r *http.Request, body string) *http.Request {
	t.Helper()
	return h.signWith(t, h.root, r, body)
}

func (h *hosted) signWith(t testing.TB, key sigv4.Key, r *http.Request, body string) *http.Request {
	t.Helper()
	if err := sigv4.Sign(r, key, testRegion, "bedrock-agentcore", sha256.Sum256([]byte(body)), time.Now()); err != nil {
		t.Fatal(err)
	}
	return r
}

// invoke calls a runtime with the root key's signature.
func (h *hosted) invokes(t testing.TB, arn, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return answer(t, h.sign(t, h.request(t, http.MethodPost, invocationsPath(arn), body, headers...), body))
}

// answer sends a request and reads all of the answer.
func answer(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// user makes a user of the account with a policy, and answers its key.
func (h *hosted) user(t testing.TB, name, policy string) sigv4.Key {
	t.Helper()
	arn := "arn:aws:iam::" + testAccount + ":user/" + name
	if err := h.db.Update(t.Context(), func(tx *store.Tx) error { return h.policies.Put(tx, testAccount, arn, "p", policy) }); err != nil {
		t.Fatal(err)
	}
	key, err := h.guard.CreateKey(t.Context(), arn)
	if err != nil {
		t.Fatal(err)
	}
	return sigv4.Key{AccessKeyID: key.ID, Secret: key.Secret}
}

// records are those of the audit log with an action, oldest first.
func (h *hosted) records(t testing.TB, action string) (found []audit.Record) {
	t.Helper()
	all, _, err := h.audit.List(t.Context(), audit.Query{Account: testAccount})
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range all {
		if record.Action == action {
			found = append([]audit.Record{record}, found...)
		}
	}
	return found
}

func init() { slog.SetDefault(slog.New(slog.DiscardHandler)) }

// statuses are those of wire, which no room imports; what its bodies look like
// the transcripts of internal/server show.
var statuses = map[fault.Kind]int{
	fault.Invalid: 400, fault.NotBuilt: 400, fault.Upstream: 400, fault.Unauthenticated: 401, fault.Denied: 403, fault.NotFound: 404, fault.Conflict: 409,
	fault.Concurrent: 409, fault.QuotaExceeded: 402, fault.Throttled: 429, fault.MissingSignature: 403, fault.UnknownKey: 403, fault.BadSignature: 403,
	fault.StaleSignature: 403, fault.ExpiredToken: 403, fault.RuntimeClient: 424,
}

// plainly renders an error for the tests of this room.
func plainly(w http.ResponseWriter, _ *http.Request, _ *api.Info, err error) {
	f := fault.Of(err)
	status := statuses[f.Kind]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(api.AppendString([]byte(`{"message":`), f.Message), '}'))
}
