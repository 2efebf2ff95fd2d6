package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/gateway/openapi"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const callProfile = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"google___get_profile"}}`

// A target gets the user's token from the vault and nothing that came in with
// the call: not the inbound token, no cookie, no MCP or forwarding header.
func TestInboundTokenIsNeverForwarded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var got http.Header
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		_, _ = io.WriteString(w, `{"echo":"`+r.Header.Get("Authorization")+`"}`)
	}))
	t.Cleanup(target.Close)
	g := r.createGateway(t, r.gatewayRequest("g"))
	provider := r.provider(t)
	r.target(t, g.GatewayId, "google", document(target.URL, strings.Replace(oneTool, `"a"`, `"get_profile"`, 1)), userCredential(provider))
	ada := r.token(t, "ada-lovelace")
	r.consent(t, r.link(t, g.GatewayId, ada), "ada-lovelace", ada)
	response, content := r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+ada, "Cookie", "a=b", "Mcp-Session-Id", "s", "X-Forwarded-For", "10.0.0.1",
		"X-Amzn-Bedrock-AgentCore-Runtime-Custom-A", "x", "Forwarded", "for=1", "Mcp-Protocol-Version", "2025-11-25")
	if response.StatusCode != http.StatusOK || !strings.Contains(content, `"isError":false`) {
		t.Fatalf("%d %s", response.StatusCode, content)
	}
	token, bearer := strings.CutPrefix(got.Get("Authorization"), "Bearer ")
	if !bearer || token == "" || token == ada {
		t.Errorf("the target was authorized with %q", got.Get("Authorization"))
	}
	names := []string{}
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"Accept", "Authorization", "User-Agent"}, names); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if strings.Contains(content, token) || strings.Contains(content, ada) {
		t.Errorf("the answer gives a token away: %s", content)
	}
}

// One user's consent is no other's.
func TestGrantsArePerUser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.peopleGateway(t)
	ada, grace := r.token(t, "ada-lovelace"), r.token(t, "grace-hopper")
	r.consent(t, r.link(t, g.GatewayId, ada), "ada-lovelace", ada)
	_, content := r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+grace)
	if !strings.Contains(content, `"isError":true`) || strings.Contains(content, "Lovelace") {
		t.Errorf("Grace got %s", content)
	}
}

// A token that the target does not take any more is told as what it is.
func TestRevokedAtTheProvider(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.peopleGateway(t)
	ada := r.token(t, "ada-lovelace")
	r.consent(t, r.link(t, g.GatewayId, ada), "ada-lovelace", ada)
	_, err := r.idp.RevokeAll("ada-lovelace")
	ok(t, err)
	_, content := r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+ada)
	if !strings.Contains(content, `"isError":true`) || !strings.Contains(content, "revoked the consent") {
		t.Errorf("got %s", content)
	}
	r.idp.FailPeople(http.StatusTooManyRequests, 42*time.Second)
	_, content = r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+ada)
	if !strings.Contains(content, "Retry-After: 42") {
		t.Errorf("got %s", content)
	}
}

// issuer signs whatever claims a test wants.
type issuer struct {
	*httptest.Server
	signer jose.Signer
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	ok(t, err)
	i := &issuer{signer: signer}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/a", "token_endpoint": i.URL + "/t", "response_types_supported": []string{"code"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": i.URL, "aud": "app", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for name, value := range claims {
		all[name] = value
	}
	token, err := jwt.Signed(i.signer).Claims(all).Serialize()
	ok(t, err)
	return token
}

// A caller whose token names no user may list, and call what needs no user; what
// acts for a user is refused with 403.
func TestCallerWithoutUser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	i := newIssuer(t)
	request := r.gatewayRequest("g")
	request.AuthorizerConfiguration.CustomJWTAuthorizer = &api.CustomJWTAuthorizerConfiguration{DiscoveryUrl: i.URL + "/.well-known/openid-configuration", AllowedAudience: []string{"app"},
		CustomClaims: []api.CustomClaimValidationType{{InboundTokenClaimName: "groups", InboundTokenClaimValueType: api.InboundTokenClaimValueTypeStringArray,
			AuthorizingClaimMatchValue: &api.AuthorizingClaimMatchValueType{ClaimMatchOperator: api.ClaimMatchOperatorTypeContains, ClaimMatchValue: &api.ClaimMatchValueType{MatchValueString: pointer("agents")}}}}}
	g := r.createGateway(t, request)
	r.target(t, g.GatewayId, "google", r.peopleAPI(), userCredential(r.provider(t)))
	r.target(t, g.GatewayId, "t", document(scripted(t).URL, scriptedPaths), nil)
	machine := i.token(t, map[string]any{"groups": []string{"agents"}, "client_id": "m"})
	response, _ := r.post(t, g.GatewayId, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "Authorization", "Bearer "+machine)
	if response.StatusCode != http.StatusOK {
		t.Errorf("list: %d", response.StatusCode)
	}
	response, content := r.post(t, g.GatewayId, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t___numbers"}}`, "Authorization", "Bearer "+machine)
	if response.StatusCode != http.StatusOK || !strings.Contains(content, `"isError":false`) {
		t.Errorf("a tool without users: %d %s", response.StatusCode, content)
	}
	response, content = r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+machine)
	if response.StatusCode != http.StatusForbidden || !strings.Contains(content, `"id":1`) || !strings.Contains(content, "acts for a user") {
		t.Errorf("a tool for users: %d %s", response.StatusCode, content)
	}
	person := i.token(t, map[string]any{"groups": []string{"agents"}, "sub": "p"})
	if response, content = r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+person); response.StatusCode != http.StatusOK || linkText.FindString(content) == "" {
		t.Errorf("a person: %d %s", response.StatusCode, content)
	}
	for name, claims := range map[string]map[string]any{
		"another audience": {"groups": []string{"agents"}, "sub": "p", "aud": "other"},
		"expired":          {"groups": []string{"agents"}, "sub": "p", "exp": time.Now().Add(-time.Hour).Unix()},
		"another issuer":   {"groups": []string{"agents"}, "sub": "p", "iss": "https://evil.example.com"},
		"another group":    {"groups": []string{"people"}, "sub": "p"},
		"no group":         {"sub": "p"},
	} {
		if response, _ := r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+i.token(t, claims)); response.StatusCode != http.StatusUnauthorized && response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", name, response.StatusCode)
		}
	}
}

// records are the account's audit records, oldest first.
func (r *rig) records(t *testing.T) []audit.Record {
	t.Helper()
	list, _, err := r.audit.List(t.Context(), audit.Query{Account: account, Limit: 1000})
	ok(t, err)
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

// Each request leaves one record, a call that reaches its target an intent
// before it as well; and no token, code or consent link is in any of them.
func TestCallsAreRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.peopleGateway(t)
	ada := r.token(t, "ada-lovelace")
	before := len(r.records(t))
	link := r.link(t, g.GatewayId, ada)
	r.consent(t, link, "ada-lovelace", ada)
	middle := len(r.records(t))
	_, _ = r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+ada)
	_, _ = r.post(t, g.GatewayId, strings.Replace(callProfile, "get_profile", "nope", 1), "Authorization", "Bearer "+ada)
	_, _ = r.post(t, g.GatewayId, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "Authorization", "Bearer "+ada)
	all := r.records(t)
	var got []string
	for _, record := range all[middle:] {
		if record.Action == "bedrock-agentcore:InvokeGateway" {
			got = append(got, fmt.Sprintf("%s %s %s %s %s", record.Phase, record.Decision, record.Outcome, record.Detail["method"], record.Detail["tool"]))
			if record.Resources[0] != g.GatewayArn || record.Authorizer != g.GatewayArn || record.Workload != g.WorkloadIdentityDetails.WorkloadIdentityArn || !strings.HasSuffix(record.User, "#ada-lovelace") {
				t.Errorf("record %+v", record)
			}
		}
	}
	want := []string{"intent allow  tools/call google___get_profile", "done allow ok tools/call google___get_profile", "done allow invalid tools/call ", "done allow ok tools/list "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if outcome := all[middle-1]; len(all[before:middle]) < 2 {
		t.Errorf("records of the consent: %d, the last %+v", len(all[before:middle]), outcome)
	}
	encoded, err := json.Marshal(all)
	ok(t, err)
	_, code, _ := strings.Cut(link, "request_uri%3A")
	for name, canary := range map[string]string{"the inbound token": ada, "its signature": ada[strings.LastIndexByte(ada, '.')+1:], "the link's request": code} {
		if canary == "" || strings.Contains(string(encoded), canary) {
			t.Errorf("%s is in the audit", name)
		}
	}
}

// What cannot be recorded does not happen.
func TestUnrecordedCallsDoNotHappen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var called atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	t.Cleanup(target.Close)
	g := r.open(t)
	r.target(t, g.GatewayId, "t", document(target.URL, oneTool), nil)
	ok(t, r.audit.Close())
	response, content := r.post(t, g.GatewayId, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t___a"}}`)
	if response.StatusCode != http.StatusInternalServerError || called.Load() != 0 {
		t.Errorf("%d %s; the target was called %d times", response.StatusCode, content, called.Load())
	}
}

// A change is seen at once by the process that made it, and by another replica
// when its copy is not fresh any more.
func TestChangesAreSeen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := newReplica(t, r)
	g := r.open(t)
	list := func(server string) (int, string) {
		response, content := send(t, http.MethodPost, server+"/gateway/"+g.GatewayId+"/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "Host", "localhost")
		return response.StatusCode, content
	}
	for _, server := range []string{r.mcp.URL, other.URL} {
		if status, content := list(server); status != 200 || strings.Contains(content, "t___a") {
			t.Fatalf("%d %s", status, content)
		}
	}
	made := r.target(t, g.GatewayId, "t", plain, nil)
	for _, server := range []string{r.mcp.URL, other.URL} {
		if status, content := list(server); status != 200 || !strings.Contains(content, `"t___a"`) {
			t.Errorf("%d %s", status, content)
		}
	}
	_, err := r.UpdateGatewayTarget(t.Context(), r.admin, &api.UpdateGatewayTargetRequest{GatewayIdentifier: g.GatewayId, TargetId: made.TargetId, Name: secret.Pointer("u"), TargetConfiguration: plain})
	ok(t, err)
	for _, server := range []string{r.mcp.URL, other.URL} {
		if _, content := list(server); !strings.Contains(content, `"u___a"`) {
			t.Errorf("%s", content)
		}
	}
	_, err = r.UpdateGateway(t.Context(), r.admin, &api.UpdateGatewayRequest{GatewayIdentifier: g.GatewayId, Name: "open", RoleArn: role, AuthorizerType: api.AuthorizerTypeCustomJwt, AuthorizerConfiguration: r.jwt()})
	ok(t, err)
	for _, server := range []string{r.mcp.URL, other.URL} {
		if status, _ := list(server); status != http.StatusUnauthorized {
			t.Errorf("after the update: %d", status)
		}
	}
	_, err = r.DeleteGatewayTarget(t.Context(), r.admin, &api.DeleteGatewayTargetRequest{GatewayIdentifier: g.GatewayId, TargetId: made.TargetId})
	ok(t, err)
	_, err = r.DeleteGateway(t.Context(), r.admin, &api.DeleteGatewayRequest{GatewayIdentifier: g.GatewayId})
	ok(t, err)
	for _, server := range []string{r.mcp.URL, other.URL} {
		if status, _ := list(server); status != http.StatusNotFound {
			t.Errorf("after the end: %d", status)
		}
	}
}

// newReplica serves the same database from another Service, which asks the
// database about each call.
func newReplica(t *testing.T, r *rig) *httptest.Server {
	t.Helper()
	service := gateway.New(r.db, r.keeper, r.identity, r.broker, r.guard, r.door, gateway.Options{Region: region, PublicURL: r.mcp.URL, Kinds: []gateway.Kind{openapi.New(r.egress)}})
	service.SetFreshness(0)
	server := httptest.NewServer(service.MCP())
	t.Cleanup(server.Close)
	return server
}

// Many at once: answers do not mix, whatever arrives when.
func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	target := echo(t)
	g := r.open(t)
	r.target(t, g.GatewayId, "t", document(target.URL, `{"/x/{n}":{"get":{"operationId":"x","parameters":[{"name":"n","in":"path","required":true,"schema":{"type":"integer"}}],"responses":{"200":{"description":"ok"}}}}}`), nil)
	var group sync.WaitGroup
	for n := range 40 {
		group.Go(func() {
			request, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, r.mcp.URL+"/gateway/"+g.GatewayId+"/mcp",
				strings.NewReader(fmt.Sprintf(`{"jsonrpc":"2.0","id":"%d","method":"tools/call","params":{"name":"t___x","arguments":{"n":%d}}}`, n, n)))
			request.Header.Set("Content-Type", "application/json")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			content, _ := io.ReadAll(response.Body)
			if !strings.Contains(string(content), fmt.Sprintf(`"id":"%d"`, n)) || !strings.Contains(string(content), fmt.Sprintf(`\"path\":\"/x/%d\"`, n)) {
				t.Errorf("call %d got %s", n, content)
			}
		})
	}
	group.Wait()
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.open(t)
	body := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"` + strings.Repeat("x", 6<<20) + `"}}`
	if response, _ := r.post(t, g.GatewayId, body); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", response.StatusCode)
	}
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.mcp.URL+"/gateway/"+g.GatewayId+"/mcp", io.MultiReader(strings.NewReader(body)))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err == nil {
		defer response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("without a length: status %d", response.StatusCode)
		}
	}
	if response, _ := r.post(t, g.GatewayId, body[:strings.Index(body, "xxx")]+strings.Repeat("x", 5<<20)+`"}}`); response.StatusCode != http.StatusOK {
		t.Errorf("5 MB: status %d", response.StatusCode)
	}
}

// A list is cut into pages, or not, as the gateway says.
func TestListPages(t *testing.T) {
	t.Parallel()
	for _, option := range []map[string]string{{"authorizer": "none", "target": "many"}, {"authorizer": "none", "target": "many", "pagination": "off"}} {
		s := newStage(t, option)
		var seen []string
		for _, invented := range []string{"enp6eg", "AAAAAAAAenp6", "!"} { // not the end of the list: an error
			if _, content := s.post(t, s.id, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"`+invented+`"}}`); !strings.Contains(string(content), "-32602") {
				t.Errorf("the cursor %s is answered with %s", invented, content)
			}
		}
		cursor, pages := "", 0
		for {
			_, content := s.post(t, s.id, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"`+cursor+`"}}`)
			var answer struct {
				Result struct {
					Tools      []struct{ Name string }
					NextCursor string
				}
			}
			ok(t, json.Unmarshal([]byte(content), &answer))
			for _, tool := range answer.Result.Tools {
				seen = append(seen, tool.Name)
			}
			pages++
			if cursor = answer.Result.NextCursor; cursor == "" {
				break
			}
		}
		if want := map[string]int{"": 2, "off": 1}[option["pagination"]]; len(seen) != 101 || pages != want || seen[0] != "many___op_000" || seen[100] != "many___op_100" {
			t.Errorf("%d tools on %d pages", len(seen), pages)
		}
	}
}

// What the operator has not allowed is not reached, and the model is told why.
func TestPrivateTargets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	closed, err := egress.New(egress.Options{})
	ok(t, err)
	_, err = openapi.New(closed).Compile(document("https://127.0.0.1", oneTool))
	if err == nil {
		t.Error("a private address was accepted")
	}
	g := r.open(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	r.target(t, g.GatewayId, "t", document(gone.URL, oneTool), nil)
	gone.Close()
	response, content := r.post(t, g.GatewayId, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t___a"}}`)
	if response.StatusCode != http.StatusOK || !strings.Contains(content, `"isError":true`) {
		t.Errorf("%d %s", response.StatusCode, content)
	}
}
