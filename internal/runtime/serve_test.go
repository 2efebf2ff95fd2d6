package runtime

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/sigv4"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// showHeaders answers the headers that the agent got, as JSON.
func showHeaders(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(r.Header)
}

func TestHeadersTowardTheAgent(t *testing.T) {
	t.Parallel()
	h := serving(t, showHeaders)
	made := h.create(t, "headers", func(r *api.CreateAgentRuntimeRequest) {
		r.RequestHeaderConfiguration = &api.RequestHeaderConfiguration{RequestHeaderAllowlist: []string{"X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team", "X-Tenant"}}
	})
	ask := func(headers ...string) http.Header {
		t.Helper()
		response, body := h.invokes(t, made.AgentRuntimeArn, "{}", headers...)
		var got http.Header
		if err := json.Unmarshal([]byte(body), &got); err != nil || response.StatusCode != 200 {
			t.Fatalf("%d %s", response.StatusCode, body)
		}
		if got.Get(headerSession) != response.Header.Get(headerSession) || len(got.Get(headerRequest)) != 36 {
			t.Errorf("session and request: %v", got)
		}
		got.Del(headerSession)
		got.Del(headerRequest)
		got.Del("Content-Length")
		return got
	}
	got := ask("Content-Type", "application/json", "Accept", "text/event-stream", "Accept-Encoding", "gzip", "User-Agent", "caller", "Cookie", "a=b", "Traceparent", "00-a-b-01",
		"Baggage", "k=v", "X-Tenant", "acme", "X-Other", "no", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team", "red", "X-Forwarded-For", "1.2.3.4",
		headerRequest, "mine", headerToken, "forged", headerOldToken, "forged", headerCallback, "https://evil.example")
	want := http.Header{"Content-Type": {"application/json"}, "Accept": {"text/event-stream"}, "Traceparent": {"00-a-b-01"}, "Baggage": {"k=v"}, "X-Tenant": {"acme"},
		"X-Amzn-Bedrock-Agentcore-Runtime-Custom-Team": {"red"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	if _, err := h.identity.UpdateWorkloadIdentity(t.Context(), h.admin(), &api.UpdateWorkloadIdentityRequest{Name: made.AgentRuntimeId,
		AllowedResourceOauth2ReturnUrls: []string{"https://app.example.com/back", "https://app.example.com/other"}}); err != nil {
		t.Fatal(err)
	}
	h.shelf.SetFreshness(0)

	// With a user the agent gets a token of the runtime's own workload, twice, and where people come back to.
	got = ask(headerUser, "alice", headerToken, "forged")
	token := got.Get(headerToken)
	if token == "" || token != got.Get(headerOldToken) || got.Get(headerCallback) != "https://app.example.com/back" || got.Get(headerUser) != "" {
		t.Fatalf("headers %v", got)
	}
	caller, err := h.identity.Open(t.Context(), principal.Caller{Kind: principal.Role, Account: testAccount}, secret.New(token))
	if err != nil || caller.User != (principal.User{ID: "alice"}) || caller.Workload.Name != made.AgentRuntimeId {
		t.Errorf("%+v %v", caller, err)
	}
	if response, body := h.invokes(t, made.AgentRuntimeArn, "{}", "X-Tenant", strings.Repeat("x", 5000)); response.StatusCode != 400 || !strings.Contains(body, "longer than") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestActingForAUserNeedsItsOwnPermission(t *testing.T) {
	t.Parallel()
	h := serving(t, showHeaders)
	made := h.create(t, "users", nil)
	policy := func(actions string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[` + actions + `],"Resource":["` + made.AgentRuntimeArn + `","` + made.AgentRuntimeArn + `/runtime-endpoint/*"]}]}`
	}
	plain := h.user(t, "plain", policy(`"bedrock-agentcore:InvokeAgentRuntime"`))
	trusted := h.user(t, "trusted", policy(`"bedrock-agentcore:InvokeAgentRuntime","bedrock-agentcore:InvokeAgentRuntimeForUser"`))
	session := api.NewUUID()
	for name, c := range map[string]struct {
		user   string
		want   int
		signed func(*http.Request) *http.Request
	}{
		"plain, for nobody": {"", 200, func(r *http.Request) *http.Request { return h.signWith(t, plain, r, "{}") }},
		"plain, for alice":  {"alice", 403, func(r *http.Request) *http.Request { return h.signWith(t, plain, r, "{}") }},
		"trusted":           {"alice", 200, func(r *http.Request) *http.Request { return h.signWith(t, trusted, r, "{}") }},
		"too long":          {strings.Repeat("a", 129), 400, func(r *http.Request) *http.Request { return h.signWith(t, trusted, r, "{}") }},
	} {
		r := h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}")
		if c.user != "" {
			r.Header.Set(headerUser, c.user)
		}
		if response, body := answer(t, c.signed(r)); response.StatusCode != c.want {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	}
	// A session is whose it is: another user of the same caller, and another caller, are refused.
	open := func(user string, headers ...string) int {
		response, _ := h.invokes(t, made.AgentRuntimeArn, "{}", append(headers, headerSession, session, headerUser, user)...)
		return response.StatusCode
	}
	if first, again, other := open("alice"), open("alice"), open("bob"); first != 200 || again != 200 || other != 403 {
		t.Errorf("alice %d, again %d, bob %d", first, again, other)
	}
	r := h.signWith(t, trusted, h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}", headerSession, session, headerUser, "alice"), "{}")
	if response, _ := answer(t, r); response.StatusCode != 403 {
		t.Errorf("another principal: %d", response.StatusCode)
	}
}

func TestBearerTokens(t *testing.T) {
	t.Parallel()
	h := serving(t, showHeaders)
	made := h.create(t, "people", func(r *api.CreateAgentRuntimeRequest) { r.AuthorizerConfiguration = h.jwt() })
	signedOnly := h.create(t, "machines", nil)
	path := invocationsPath(made.AgentRuntimeArn)
	token := h.token(t, demoidp.Ada)
	metadata := h.door.URL + path + "/.well-known/oauth-protected-resource?qualifier=DEFAULT"
	for name, c := range map[string]struct {
		request   *http.Request
		status    int
		body      string
		challenge string
	}{
		"no token":  {h.request(t, "POST", path, "{}"), 401, `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Missing Authentication Token"}}`, `Bearer resource_metadata="` + metadata + `"`},
		"no JWT":    {h.request(t, "POST", path, "{}", "Authorization", "Bearer garbage"), 403, `{"message":"OAuth authorization failed: Failed to parse token"}`, ""},
		"altered":   {h.request(t, "POST", path, "{}", "Authorization", "Bearer "+token[:len(token)-8]+"AAAAAAAA"), 401, "", `Bearer error="invalid_token", resource_metadata="` + metadata + `"`},
		"signed":    {h.sign(t, h.request(t, "POST", path, "{}"), "{}"), 403, "", ""},
		"the wrong": {h.request(t, "POST", invocationsPath(signedOnly.AgentRuntimeArn), "{}", "Authorization", "Bearer "+token), 403, "", ""},
		"a user id": {h.request(t, "POST", path, "{}", "Authorization", "Bearer "+token, headerUser, "alice"), 400, "", ""},
	} {
		response, body := answer(t, c.request)
		if response.StatusCode != c.status || c.body != "" && body != c.body || response.Header.Get("Www-Authenticate") != c.challenge {
			t.Errorf("%s: %d %s %q", name, response.StatusCode, body, response.Header.Get("Www-Authenticate"))
		}
		if (name == "signed" || name == "the wrong") && !strings.Contains(body, "Authorization method mismatch.") {
			t.Errorf("%s: %s", name, body)
		}
	}
	response, body := answer(t, h.request(t, "POST", path, "{}", "Authorization", "Bearer "+token, "Origin", "https://app.example.com"))
	var got http.Header
	if err := json.Unmarshal([]byte(body), &got); err != nil || response.StatusCode != 200 || response.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%d %s %v", response.StatusCode, body, response.Header)
	}
	if got.Get("Authorization") != "" || got.Get("Origin") != "" {
		t.Errorf("the agent got %v", got)
	}
	caller, err := h.identity.Open(t.Context(), principal.Caller{Kind: principal.Role, Account: testAccount}, secret.New(got.Get(headerToken)))
	if err != nil || caller.User.Subject == "" || caller.Authorizer != made.AgentRuntimeArn || caller.UserToken.Reveal() != token {
		t.Errorf("%+v %v", caller.User, err)
	}
	// Another person has another session, whatever its id.
	session := response.Header.Get(headerSession)
	other := h.request(t, "POST", path, "{}", "Authorization", "Bearer "+h.token(t, demoidp.Grace), headerSession, session)
	if response, body := answer(t, other); response.StatusCode != 403 {
		t.Errorf("another person: %d %s", response.StatusCode, body)
	}

	stop := strings.TrimSuffix(path, pathInvocations) + pathStop
	if response, body := answer(t, h.request(t, "POST", stop, "{}", "Authorization", "Bearer "+h.token(t, demoidp.Grace), headerSession, session)); response.StatusCode != 403 {
		t.Errorf("stopped by another person: %d %s", response.StatusCode, body)
	}
	if response, body := answer(t, h.request(t, "POST", stop, "{}", "Authorization", "Bearer "+token, headerSession, session)); response.StatusCode != 200 {
		t.Errorf("stopped: %d %s", response.StatusCode, body)
	}

	response, body = answer(t, h.request(t, "GET", strings.TrimPrefix(metadata, h.door.URL), ""))
	var document struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
	}
	if err := json.Unmarshal([]byte(body), &document); err != nil || response.StatusCode != 200 || document.Resource != h.door.URL+path+"?qualifier=DEFAULT" ||
		!slices.Equal(document.AuthorizationServers, []string{h.idp.Issuer()}) {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	if response, _ := answer(t, h.request(t, "GET", invocationsPath(signedOnly.AgentRuntimeArn)+"/.well-known/oauth-protected-resource", "")); response.StatusCode != 404 {
		t.Errorf("metadata of a runtime without tokens: %d", response.StatusCode)
	}
	if response, _ := answer(t, h.request(t, "OPTIONS", path, "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST")); response.StatusCode != 200 ||
		response.Header.Get("Access-Control-Allow-Origin") != "*" || response.Header.Get("Access-Control-Max-Age") != "172800" || response.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %d %v", response.StatusCode, response.Header)
	}
}

// TestForwardedToken: a runtime may let its users' tokens through to its agent; they
// are in no log and in no error all the same.
func TestForwardedToken(t *testing.T) {
	t.Parallel()
	var h *hosted
	h = serving(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(h.lastAgent().output, "called with", r.Header.Get("Authorization"))
		http.Error(w, "cannot use "+r.Header.Get("Authorization"), http.StatusBadGateway)
	})
	made := h.create(t, "careless", func(r *api.CreateAgentRuntimeRequest) {
		r.AuthorizerConfiguration = h.jwt()
		r.RequestHeaderConfiguration = &api.RequestHeaderConfiguration{RequestHeaderAllowlist: []string{"Authorization"}}
	})
	token := h.token(t, demoidp.Ada)
	response, body := answer(t, h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}", "Authorization", "Bearer "+token))
	if response.StatusCode != 424 || !strings.Contains(body, "cannot use Bearer "+redacted) || strings.Contains(body, token) {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	session := response.Header.Get(headerSession)
	logs, err := h.GetAgentRuntimeLogs(t.Context(), h.admin(), &api.GetAgentRuntimeLogsRequest{AgentRuntimeId: made.AgentRuntimeId, RuntimeSessionId: &session})
	if err != nil {
		t.Fatal(err)
	}
	if said := fmt.Sprint(logs.Events); !strings.Contains(said, "called with Bearer "+redacted) || strings.Contains(said, token) {
		t.Errorf("%s", said)
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	h := serving(t, echo)
	made := h.create(t, "scoped", func(r *api.CreateAgentRuntimeRequest) {
		r.AuthorizerConfiguration = h.jwt()
		r.AuthorizerConfiguration.CustomJWTAuthorizer.AllowedScopes = []string{"agents"}
	})
	response, _ := answer(t, h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}", "Authorization", "Bearer "+h.token(t, demoidp.Ada)))
	if challenge := response.Header.Get("Www-Authenticate"); response.StatusCode != 403 || !strings.Contains(challenge, `error="insufficient_scope"`) || !strings.Contains(challenge, `scope="agents"`) {
		t.Errorf("%d %s", response.StatusCode, challenge)
	}
}

// TestServedWithoutReads: a warm call reads nothing of the runtime, and a change
// made here is seen by the next one.
func TestServedWithoutReads(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") })
	made := h.create(t, "warm", nil)
	h.shelf.SetFreshness(1 << 62)
	call := func() int {
		response, _ := h.invokes(t, made.AgentRuntimeArn, "{}")
		return response.StatusCode
	}
	call()
	before := h.shelf.Loads()
	for range 5 {
		call()
	}
	if reads := h.shelf.Loads() - before; reads != 0 {
		t.Errorf("%d reads", reads)
	}
	if _, err := h.UpdateAgentRuntime(t.Context(), h.admin(), &api.UpdateAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId, RoleArn: testRole, AgentRuntimeArtifact: h.artifact(t), AuthorizerConfiguration: h.jwt()}); err != nil {
		t.Fatal(err)
	}
	if got := call(); got != 403 {
		t.Errorf("after the update signatures count no more, and it is %d", got)
	}
	if _, err := h.DeleteAgentRuntime(t.Context(), h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId}); err != nil {
		t.Fatal(err)
	}
	if got := call(); got != 404 {
		t.Errorf("deleted: %d", got)
	}
}

// TestAnotherAccount: who is of another account comes in where the policies of
// runtime and endpoint let him, and acts for people of the runtime's account only
// where they say that, too.
func TestAnotherAccount(t *testing.T) {
	t.Parallel()
	h := serving(t, showHeaders)
	made := h.create(t, "shared", nil)
	stranger, err := h.guard.CreateAccount(t.Context(), "111111111111")
	if err != nil {
		t.Fatal(err)
	}
	key := sigv4.Key{AccessKeyID: stranger.ID, Secret: stranger.Secret}
	call := func(headers ...string) (int, string) {
		t.Helper()
		response, body := answer(t, h.signWith(t, key, h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}", headers...), "{}"))
		return response.StatusCode, body
	}
	permit := func(arn string, actions ...string) {
		t.Helper()
		document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":["bedrock-agentcore:` +
			strings.Join(actions, `","bedrock-agentcore:`) + `"],"Resource":"` + arn + `"}]}`
		if err := h.db.Update(t.Context(), func(tx *store.Tx) error { return h.policies.PutResource(tx, testAccount, arn, document) }); err != nil {
			t.Fatal(err)
		}
	}
	if status, body := call(); status != 403 {
		t.Errorf("no policy: %d %s", status, body)
	}
	permit(made.AgentRuntimeArn, "InvokeAgentRuntime")
	if status, body := call(); status != 403 {
		t.Errorf("the runtime's policy alone: %d %s", status, body)
	}
	permit(made.AgentRuntimeArn+"/runtime-endpoint/DEFAULT", "InvokeAgentRuntime")
	if status, body := call(); status != 200 {
		t.Errorf("both: %d %s", status, body)
	}
	if status, body := call(headerUser, "alice"); status != 403 {
		t.Errorf("for alice: %d %s", status, body)
	}
	permit(made.AgentRuntimeArn, "InvokeAgentRuntime", "InvokeAgentRuntimeForUser")
	permit(made.AgentRuntimeArn+"/runtime-endpoint/DEFAULT", "InvokeAgentRuntime", "InvokeAgentRuntimeForUser")
	status, body := call(headerUser, "alice")
	var got http.Header
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	// The token is the runtime's: it opens where the agent lives, and not where the caller does.
	token := secret.New(got.Get(headerToken))
	if _, err := h.identity.Open(t.Context(), principal.Caller{Kind: principal.Role, Account: testAccount}, token); err != nil {
		t.Error(err)
	}
	if _, err := h.identity.Open(t.Context(), principal.Caller{Kind: principal.Key, Account: "111111111111"}, token); err == nil {
		t.Error("the token opens in the caller's account")
	}
}

// TestProgramsShareNoSession: tokens that name no person are told apart by their client.
func TestProgramsShareNoSession(t *testing.T) {
	t.Parallel()
	claims := func(json string) *call {
		r, _ := http.NewRequest("POST", "/", nil)
		encode := base64.RawURLEncoding.EncodeToString
		r.Header.Set("Authorization", "Bearer "+encode([]byte(`{"alg":"ES256"}`))+"."+encode([]byte(json))+".sig")
		return &call{r: r, caller: principal.Caller{Kind: principal.Bearer, Account: testAccount, Authorizer: "a"}}
	}
	one, same, other := claims(`{"iss":"i","sub":"c1","client_id":"c1"}`), claims(`{"iss":"i","sub":"c1","client_id":"c1","exp":9}`), claims(`{"iss":"i","sub":"c2","client_id":"c2"}`)
	if ownerOf(one.holder()) != ownerOf(same.holder()) || ownerOf(one.holder()) == ownerOf(other.holder()) {
		t.Errorf("%+v %+v %+v", ownerOf(one.holder()), ownerOf(same.holder()), ownerOf(other.holder()))
	}
	one.caller.User = principal.User{Issuer: "i", Subject: "ada"}
	if one.holder().ARN != "" {
		t.Error("a person's session belongs to a client")
	}
}

// TestShelfOnBothEngines: a change that another replica made is seen once the
// look is due.
func TestShelfOnBothEngines(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := servingOn(t, db, echo)
		made := h.create(t, "replicas", nil)
		named := reference{testAccount, made.AgentRuntimeId, DefaultEndpoint}
		first, err := h.shelf.Find(t.Context(), named)
		if err != nil {
			t.Fatal(err)
		}
		change := func(statement string) {
			t.Helper()
			if err := db.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(statement, made.AgentRuntimeId); return err }); err != nil {
				t.Fatal(err)
			}
		}
		h.shelf.SetFreshness(0)
		if again, err := h.shelf.Find(t.Context(), named); err != nil || again != first {
			t.Errorf("it was read anew: %v", err)
		}
		change("DELETE FROM agent_runtime_endpoints WHERE runtime_id = $1")
		if _, err := h.shelf.Find(t.Context(), named); !fault.Is(err, fault.NotFound) {
			t.Errorf("deleted elsewhere: %v", err)
		}
		h.shelf.SetFreshness(1 << 62)
		if _, err := h.shelf.Find(t.Context(), named); !fault.Is(err, fault.NotFound) {
			t.Errorf("it came back: %v", err)
		}
	})
}
