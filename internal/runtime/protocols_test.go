package runtime

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
)

// TestMCP: Mcp-Session-Id is what a client comes back to its session by, whether
// the platform made it or the agent.
func TestMCP(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), "notifications/"):
			w.WriteHeader(http.StatusAccepted)
			return
		case strings.Contains(string(body), `"stateful"`) && r.Header.Get(headerMCP) == "":
			w.Header().Set(headerMCP, "made-by-the-agent")
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "%s mcp=%q session=%s", r.URL.Path, r.Header.Get(headerMCP), r.Header.Get(headerSession))
	})
	arn := h.create(t, "mcp", speaking(api.ServerProtocolMcp)).AgentRuntimeArn

	// Stateless: the platform's id goes to client and agent alike.
	response, body := h.invokes(t, arn, `{"jsonrpc":"2.0","id":1,"method":"initialize"}`)
	id := response.Header.Get(headerMCP)
	if response.StatusCode != 200 || id != response.Header.Get(headerSession) || body != `/mcp mcp="" session=`+id {
		t.Fatalf("%d %s %v", response.StatusCode, body, response.Header)
	}
	// A client keeps Mcp-Session-Id; SDKs of AWS invent another runtime session each time.
	response, body = h.invokes(t, arn, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, headerMCP, id, headerSession, api.NewUUID())
	if body != fmt.Sprintf("/mcp mcp=%q session=%s", id, id) || response.Header.Get(headerMCP) != id || h.agents.count() != 1 {
		t.Errorf("%s %v, %d agents", body, response.Header, h.agents.count())
	}
	// Without initialize, the agent gets the session's id.
	response, body = h.invokes(t, arn, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	if id := response.Header.Get(headerSession); body != fmt.Sprintf("/mcp mcp=%q session=%s", id, id) {
		t.Errorf("%s", body)
	}
	if response, body := h.invokes(t, arn, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, headerMCP, id); response.StatusCode != 202 || body != "" {
		t.Errorf("%d %q", response.StatusCode, body)
	}

	// Stateful: the agent's id leads back to its session.
	response, _ = h.invokes(t, arn, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"x":"stateful"}}`)
	session := response.Header.Get(headerSession)
	if response.Header.Get(headerMCP) != "made-by-the-agent" {
		t.Fatalf("%v", response.Header)
	}
	if _, body = h.invokes(t, arn, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, headerMCP, "made-by-the-agent"); body != `/mcp mcp="made-by-the-agent" session=`+session {
		t.Errorf("%s, want session %s", body, session)
	}
	// It is the caller's who got it, and nobody else's.
	stranger := h.user(t, "stranger", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock-agentcore:*","Resource":"*"}]}`)
	_, body = answer(t, h.signWith(t, stranger, h.request(t, "POST", invocationsPath(arn), "{}", headerMCP, "made-by-the-agent"), "{}"))
	if strings.Contains(body, session) {
		t.Errorf("a stranger came into the session: %s", body)
	}
}

// An agent that gives out another Mcp-Session-Id with each answer fills no memory:
// the newest of them lead back to its session.
func TestMCPIDsAreBounded(t *testing.T) {
	t.Parallel()
	var answers atomic.Int64
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(headerMCP, fmt.Sprint("number-", answers.Add(1)))
		_, _ = io.WriteString(w, r.Header.Get(headerSession))
	})
	arn := h.create(t, "mcp", speaking(api.ServerProtocolMcp)).AgentRuntimeArn
	session := api.NewUUID()
	const calls = 3 * givenConversations
	for range calls {
		if response, body := h.invokes(t, arn, "{}", headerSession, session); response.StatusCode != 200 || body != session {
			t.Fatalf("%d %s", response.StatusCode, body)
		}
	}
	h.mcp.mu.Lock()
	kept := len(h.mcp.known)
	h.mcp.mu.Unlock()
	if kept > givenConversations {
		t.Errorf("%d ids are kept", kept)
	}
	if _, body := h.invokes(t, arn, "{}", headerMCP, fmt.Sprint("number-", calls)); body != session {
		t.Errorf("the newest id leads to %s", body)
	}
	if _, body := h.invokes(t, arn, "{}", headerMCP, "number-1"); body == session {
		t.Error("an id that should be forgotten is known")
	}
}

// TestA2A: AWS's codes of JSON-RPC errors, the request's own id with them, and
// the card as the agent says it.
func TestA2A(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/agent-card.json") {
			_, _ = io.WriteString(w, ` {"name":"card","url":"x"} `)
			return
		}
		http.Error(w, "no "+r.URL.Path, http.StatusInternalServerError)
	})
	arn := h.create(t, "a2a", speaking(api.ServerProtocolA2a)).AgentRuntimeArn
	for name, c := range map[string]struct {
		path, session string
		status        int
		body          string
	}{
		"an agent's error": {invocationsPath(arn) + "/", api.NewUUID(), 424, `{"jsonrpc":"2.0","id":"seven","error":{"code":-32055,"message":"Received error (500) from runtime. no /"}}`},
		"a bad session":    {invocationsPath(arn), "short", 400, `{"jsonrpc":"2.0","id":"seven","error":{"code":-32052,`},
	} {
		body := `{"jsonrpc":"2.0","id":"seven","method":"message/send"}`
		response, got := answer(t, h.sign(t, h.request(t, "POST", c.path, body, headerSession, c.session), body))
		if response.StatusCode != c.status || !strings.HasPrefix(got, c.body) || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", name, response.StatusCode, got)
		}
	}
	// Access denied is as it is for everybody.
	if response, body := answer(t, h.request(t, "POST", invocationsPath(arn), "{}")); response.StatusCode != 403 || strings.Contains(body, "jsonrpc") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	card := h.sign(t, h.request(t, "GET", strings.TrimSuffix(invocationsPath(arn), pathInvocations)+pathCard, ""), "")
	if response, body := answer(t, card); response.StatusCode != 200 || body != ` {"name":"card","url":"x"} ` || response.Header.Get(headerSession) == "" {
		t.Errorf("%d %q", response.StatusCode, body)
	}
	plain := h.create(t, "plain", nil).AgentRuntimeArn
	before := h.agents.count()
	card = h.sign(t, h.request(t, "GET", strings.TrimSuffix(invocationsPath(plain), pathInvocations)+pathCard, ""), "")
	if response, _ := answer(t, card); response.StatusCode != 400 || h.agents.count() != before {
		t.Errorf("a card of HTTP: %d", response.StatusCode)
	}
}

// TestAGUI: what fails before the stream is one event, with the status that it has elsewhere.
func TestAGUI(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "it hurts", http.StatusInternalServerError)
	})
	made := h.create(t, "ui", func(r *api.CreateAgentRuntimeRequest) {
		speaking(api.ServerProtocolAgui)(r)
		r.AuthorizerConfiguration = h.jwt()
	})
	path := invocationsPath(made.AgentRuntimeArn)
	token := "Bearer " + h.token(t, "ada-lovelace")
	for name, c := range map[string]struct {
		headers []string
		status  int
		code    string
	}{
		"no token":         {nil, 401, "UNAUTHORIZED"},
		"no JWT":           {[]string{"Authorization", "Bearer x"}, 403, "ACCESS_DENIED"},
		"a bad session":    {[]string{"Authorization", token, headerSession, "short"}, 400, "VALIDATION_ERROR"},
		"an agent's error": {[]string{"Authorization", token}, 424, "AGENT_ERROR"},
	} {
		response, body := answer(t, h.request(t, "POST", path, "{}", c.headers...))
		if response.StatusCode != c.status || response.Header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(body, `data: {"type":"RUN_ERROR","message":"`) || !strings.HasSuffix(body, `","code":"`+c.code+"\"}\n\n") {
			t.Errorf("%s: %d %q", name, response.StatusCode, body)
		}
		if c.status == 401 && response.Header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: no challenge", name)
		}
	}
}

func TestOtherPorts(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host, r.URL.Path) })
	made := h.create(t, "custom", func(r *api.CreateAgentRuntimeRequest) {
		port, path := int32(8123), "/chat/completions"
		r.ProtocolConfiguration = &api.ProtocolConfiguration{ServerProtocol: api.ServerProtocolHttp, Port: &port, Path: &path}
	})
	if response, body := h.invokes(t, made.AgentRuntimeArn, "{}"); response.StatusCode != 200 || body != "localhost:8123/chat/completions" {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	if port := h.agents.started[0].Port; port != 8123 {
		t.Errorf("port %d", port)
	}
}

// A session's agent is called where its own version listens, also when the endpoint
// serves another by now.
func TestSessionKeepsItsPath(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s%s", r.Host, r.URL.Path) })
	made := h.create(t, "moving", nil)
	session := api.NewUUID()
	if _, body := h.invokes(t, made.AgentRuntimeArn, "{}", headerSession, session); body != "localhost:8080/invocations" {
		t.Fatal(body)
	}
	port, path := int32(8081), "/v2"
	if _, err := h.UpdateAgentRuntime(t.Context(), h.admin(), &api.UpdateAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId, RoleArn: testRole, AgentRuntimeArtifact: h.artifact(t),
		ProtocolConfiguration: &api.ProtocolConfiguration{ServerProtocol: api.ServerProtocolHttp, Port: &port, Path: &path}}); err != nil {
		t.Fatal(err)
	}
	if _, body := h.invokes(t, made.AgentRuntimeArn, "{}", headerSession, session); body != "localhost:8080/invocations" {
		t.Errorf("the session that runs: %s", body)
	}
	if _, body := h.invokes(t, made.AgentRuntimeArn, "{}"); body != "localhost:8081/v2" {
		t.Errorf("another: %s", body)
	}
}

// FuzzPaths: whatever a path is, it names a runtime of well-formed account, id and
// endpoint, or is refused; and none is served that is not of the data plane.
func FuzzPaths(f *testing.F) {
	for _, seed := range []string{"/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A000000000000%3Aruntime%2Fa-0123456789/invocations", "/runtimes/a-0123456789/ws?accountId=000000000000&qualifier=x",
		"/runtimes//invocations", "/runtimes/a/b/invocations", "/runtimes/%2e%2e/commands?accountId=%00", "/runtimes/x/invocations/"} {
		f.Add(seed)
	}
	s := &Service{options: Options{Region: testRegion}}
	f.Fuzz(func(t *testing.T, target string) {
		r, err := http.NewRequest("POST", "http://host"+target, nil)
		if err != nil || !Serves(r.URL.EscapedPath()) {
			return
		}
		segment, rest, ok := split(r.URL.EscapedPath())
		if !ok || "/runtimes/"+segment+rest != r.URL.EscapedPath() || strings.Contains(segment, "/") || operations[rest] == nil && rest != pathMetadata {
			t.Fatalf("%q is %q and %q", target, segment, rest)
		}
		named, err := s.referenced(r.URL)
		if err != nil {
			return
		}
		if !isAccount(named.account) || !plainName(named.id, 128) || !plainName(named.endpoint, 64) {
			t.Fatalf("%q names %+v", target, named)
		}
	})
}

// FuzzHeaders: nothing that a caller sends, and nothing that an allow-list names,
// stands where the agent reads who asks and for whom.
func FuzzHeaders(f *testing.F) {
	f.Add("WorkloadAccessToken", "x-amz-bedrock-agentcore-identity-wat", "forged")
	f.Add("X-Tenant", "Authorization", "Bearer x")
	f.Add("X_Amzn_Bedrock_AgentCore_Runtime_User_Id", "x_amz-bedrock_agentcore-identity_wat", "forged")
	f.Fuzz(func(t *testing.T, name, listed, value string) {
		settings := &api.UpdateAgentRuntimeRequest{RequestHeaderConfiguration: &api.RequestHeaderConfiguration{RequestHeaderAllowlist: []string{name, listed}}}
		from := http.Header{}
		for _, n := range []string{name, listed, headerToken, headerOldToken, headerCallback, headerRequest, headerSession, headerUser, "Cookie", "Host", "Connection", "Transfer-Encoding"} {
			from.Set(n, value)
		}
		out, err := incoming(forwardedOf(settings), from)
		if err != nil {
			return
		}
		for n := range out {
			if ours[n] || ours[asRead(n)] || n == "Cookie" || n == "Host" || n == "Connection" || n == "Transfer-Encoding" {
				t.Fatalf("%q went through an allow-list of %q and %q", n, name, listed)
			}
		}
	})
}
