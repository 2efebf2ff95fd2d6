package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

func TestLinksOf(t *testing.T) {
	t.Parallel()
	asks := func(data string) error {
		return &jsonrpc.Error{Code: mcp.CodeURLElicitationRequired, Message: "more", Data: json.RawMessage(data)}
	}
	needs := func(requests string) *mcp.CallToolResult {
		var result mcp.CallToolResult
		if err := json.Unmarshal([]byte(`{"resultType":"input_required","requestState":"sealed","inputRequests":`+requests+`}`), &result); err != nil {
			t.Fatal(err)
		}
		return &result
	}
	const linkA, linkB = `{"method":"elicitation/create","params":{"mode":"url","message":"?","url":"https://a"}}`, `{"method":"elicitation/create","params":{"mode":"url","message":"?","url":"https://b"}}`
	const form = `{"method":"elicitation/create","params":{"mode":"form","message":"?"}}`
	for what, test := range map[string]struct {
		result *mcp.CallToolResult
		err    error
		links  []string
		state  string
		asked  bool
	}{
		"a result":                   {&mcp.CallToolResult{}, nil, nil, "", false},
		"an error":                   {nil, errors.New("no"), nil, "", false},
		"another error of JSON":      {nil, &jsonrpc.Error{Code: -32602}, nil, "", false},
		"a link":                     {nil, asks(`{"elicitations":[{"mode":"url","url":"https://a/?request_uri=x"}]}`), []string{"https://a/?request_uri=x"}, "", true},
		"two, and a form":            {nil, asks(`{"elicitations":[{"mode":"url","url":"https://a"},{"mode":"form","url":"https://b"},{"mode":"url","url":"https://c"}]}`), []string{"https://a", "https://c"}, "", true},
		"no link":                    {nil, asks(`{"elicitations":[{"mode":"url"}]}`), nil, "", true},
		"no data":                    {nil, asks(``), nil, "", true},
		"data that is none":          {nil, asks(`{"elicitations":"x"}`), nil, "", true},
		"the stateless form":         {needs(`{"b":` + linkB + `,"a":` + linkA + `}`), nil, []string{"https://a", "https://b"}, "sealed", true},
		"the stateless form, a form": {needs(`{"a":` + form + `}`), nil, nil, "sealed", true},
	} {
		links, state, asked := linksOf(test.result, test.err)
		if !cmp.Equal(links, test.links) || state != test.state || asked != test.asked {
			t.Errorf("%s: %v, %q, %t", what, links, state, asked)
		}
	}
	if answers := accepted(needs(`{"a":` + linkA + `}`)); len(answers) != 1 || answers["a"].(*mcp.ElicitResult).Action != "accept" {
		t.Errorf("answers are %v", answers)
	}
	if accepted(nil) != nil || accepted(&mcp.CallToolResult{}) != nil {
		t.Error("what was not asked is answered")
	}
}

// A link is handed to a browser: it must be one.
func TestSessionOf(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]string{
		"https://platform.example/authorize?request_uri=urn%3Ax": "urn:x",
		"http://127.0.0.1:7080/authorize?request_uri=urn:x":      "urn:x",
		"http://localhost:7080/authorize?request_uri=urn:x":      "urn:x",
		"http://platform.example/authorize?request_uri=urn:x":    "",
		"https://platform.example/authorize":                     "",
		"https://me:secret@platform.example/?request_uri=urn:x":  "",
		"file:///etc/passwd?request_uri=urn:x":                   "",
		"javascript:alert(1)?request_uri=urn:x":                  "",
		"--help?request_uri=urn:x":                               "",
		"https://platform.example/\x1b[2J?request_uri=urn:x":     "",
		"": "",
	} {
		got, err := sessionOf(link)
		if got != want || (want == "") != (err != nil) {
			t.Errorf("%q: %q, %v", link, got, err)
		}
		if err != nil {
			wants[*GatewayError](t, err, "the gateway's link", "")
		}
	}
}

// What the agent makes of a gateway that it cannot use.
func TestAgentAndItsGateway(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	g := newConsentRig(t, p, CallbackOptions{})
	gateway, err := g.mine.CreateGateway(t.Context(), "hello", g.source(), g.callback.CallbackURL(), GatewayOptions{Inbound: g.signIn, RoleARN: testRole})
	if err != nil {
		t.Fatal(err)
	}
	create := func(arn, token string) error {
		agent, err := g.mine.CreateAgent(t.Context(), arn, token, "2025-11-25")
		if err == nil {
			agent.Close()
		}
		return err
	}
	wants[*GatewayError](t, create(gateway.ARN+"x", g.token), "the gateway is not found", "list-gateways")
	wants[*IdentityError](t, create(gateway.ARN, "nonsense"), "does not accept your sign-in's token", "USER_TOKEN")
	other, err := p.Demo().Issue(demoidp.Ada, g.clientOfOthers(), "openid")
	if err != nil {
		t.Fatal(err)
	}
	wants[*IdentityError](t, create(gateway.ARN, other.ID), "your sign-in's token", "")

	agent := g.agentOf(t, gateway.ARN)
	agent.tools = nil
	_, err = GreetUser(t.Context(), agent, g.token)
	wants[*GatewayError](t, err, "the gateway has no tool google___get_profile", "list-gateway-targets")

	agent = g.agentOf(t, gateway.ARN)
	_, err = GreetUser(t.Context(), agent, "nonsense") // as when it has expired meanwhile
	wants[*IdentityError](t, err, "does not accept your sign-in's token", "USER_TOKEN")

	agent = g.agentOf(t, gateway.ARN)
	if err := g.mine.DeleteGateway(t.Context(), gateway.ARN); err != nil {
		t.Fatal(err)
	}
	_, err = GreetUser(t.Context(), agent, g.token)
	wants[*GatewayError](t, err, "the gateway is not found", "list-gateways")
}

// clientOfOthers is a client of another application at the same provider.
func (g *consentRig) clientOfOthers() string {
	g.t.Helper()
	if err := g.Demo().Register(demoidp.Client{ID: "others", Secret: "x", RedirectURIs: []string{"http://127.0.0.1:1/"}}); err != nil {
		g.t.Fatal(err)
	}
	return "others"
}

// A gateway of before 2025-11-25 asks in words: the agent says so instead of waiting.
func TestAgentWithoutElicitation(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	g := newConsentRig(t, p, CallbackOptions{})
	gateway, err := g.mine.CreateGateway(t.Context(), "old", g.source(), g.callback.CallbackURL(), GatewayOptions{Inbound: g.signIn, RoleARN: testRole})
	if err != nil {
		t.Fatal(err)
	}
	id, mark, role, name := gateway.ARN[strings.LastIndex(gateway.ARN, "/")+1:], ourMark, testRole, "old"
	if _, err := p.Control.UpdateGateway(t.Context(), &bedrockagentcorecontrol.UpdateGatewayInput{
		GatewayIdentifier: &id, Name: &name, Description: &mark, RoleArn: &role, ProtocolType: types.GatewayProtocolTypeMcp,
		ProtocolConfiguration: &types.GatewayProtocolConfigurationMemberMcp{Value: types.MCPGatewayConfiguration{SupportedVersions: []string{"2025-03-26", "2025-06-18"}}},
		AuthorizerType:        types.AuthorizerTypeCustomJwt,
		AuthorizerConfiguration: &types.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: types.CustomJWTAuthorizerConfiguration{
			DiscoveryUrl: aws.String(g.signIn.DiscoveryURL), AllowedAudience: []string{g.signIn.ClientID},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	agent := g.agentOf(t, gateway.ARN)
	agent.Show = func(context.Context, string) error { t.Error("a link is shown"); return nil }
	_, err = GreetUser(t.Context(), agent, g.token)
	wants[*GatewayError](t, err, "in words that no program understands, because it speaks MCP 2025-06-18", "supportedVersions")
	if strings.Contains(err.Error(), "request_uri:") {
		t.Error("the error has the link in it")
	}
}

// A consent that does not help is not asked for without end.
func TestAgentDoesNotLoop(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	g := newConsentRig(t, p, CallbackOptions{})
	agent := g.agent(t, g.source(), "loop")
	shown := 0
	agent.Show = func(context.Context, string) error { shown++; return nil }
	agent.Expect = func(string) *Consent { // somebody says that it is done, and it is not
		c := &Consent{server: g.callback, outcome: make(chan error, 1)}
		c.outcome <- nil
		return c
	}
	_, err := GreetUser(t.Context(), agent, g.token)
	wants[*OAuthError](t, err, "again and again", hintBinding)
	if shown != 3 {
		t.Errorf("the person was asked %d times", shown)
	}
}

// What the consent itself says went wrong counts for more than what its player saw.
func TestAgentBelievesTheOutcome(t *testing.T) {
	t.Parallel()
	a := &Agent{Timeout: time.Minute, Show: func(context.Context, string) error { return errors.New("the page was odd") }}
	c := &Consent{server: &OAuth2CallbackServer{}, outcome: make(chan error, 1)}
	a.Expect = func(string) *Consent { return c }
	links := []string{"https://platform.example/?request_uri=x"}
	if err := a.consent(t.Context(), links); err == nil || err.Error() != "the page was odd" {
		t.Errorf("got %v", err)
	}
	c.outcome <- providerSaidNo("access_denied")
	if err := a.consent(t.Context(), links); !errors.Is(err, errDenied) {
		t.Errorf("got %v", err)
	}
	c.outcome <- nil
	if err := a.consent(t.Context(), links); err != nil {
		t.Errorf("got %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.consent(over, links); !errors.Is(err, errCancelled) {
		t.Errorf("got %v", err)
	}
}

func TestGreeting(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	agent := newConsentRig(t, p, CallbackOptions{}).agentless()
	says := func(text string, isError bool) (string, error) {
		return agent.greeting(&mcp.CallToolResult{IsError: isError, Content: []mcp.Content{&mcp.TextContent{Text: text}}})
	}
	if got, err := says(`{"names":[{"displayName":"Ada \u001b[31mLovelace"}]}`, false); err != nil || got != "Hello, Ada [31mLovelace!" {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{``, `{}`, `{"names":[]}`, `{"names":[{}]}`, `{"names":[{"displayName":"\u0007"}]}`, `no JSON`} {
		_, err := says(text, false)
		wants[*GatewayError](t, err, "profile is not found", "People API")
	}
	_, err := says("The target answered 403 Forbidden.", true)
	wants[*GatewayError](t, err, "403", "scopes")
}

// agentless is enough of an agent to read answers.
func (g *consentRig) agentless() *Agent { return &Agent{} }

func TestThrottled(t *testing.T) {
	t.Parallel()
	a := &Agent{transport: &gatewayTransport{}}
	says := func(text string) *mcp.CallToolResult {
		return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: text}}}
	}
	for text, want := range map[string]time.Duration{
		"The target answered 429 Too Many Requests. Retry-After: 30.":             30 * time.Second,
		"429 Too Many Requests, retry-after=7":                                    7 * time.Second,
		`{"status":429,"retry-after":"12"}`:                                       12 * time.Second,
		"The target answered 429 Too Many Requests. Too many requests; try later": 4 * time.Second,
		"429. Retry-After: Wed, 21 Oct 2015 07:28:00 GMT.":                        0,
		"429. Retry-After: 999999999999.":                                         999999999 * time.Second,
	} {
		if got, throttled := a.throttled(says(text), nil, 2); !throttled || got != want {
			t.Errorf("%s: %s, %t", text, got, throttled)
		}
	}
	later := time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)
	if got, throttled := a.throttled(says("429. Retry-After: "+later+"."), nil, 0); !throttled || got < 18*time.Second || got > 20*time.Second {
		t.Errorf("%s: %s, %t", later, got, throttled)
	}
	for _, text := range []string{"The target answered 403 Forbidden.", "14290 rows", ""} {
		if _, throttled := a.throttled(says(text), nil, 0); throttled {
			t.Errorf("%q is taken for a limit", text)
		}
	}
	fine := says("429")
	fine.IsError = false
	if _, throttled := a.throttled(fine, nil, 0); throttled {
		t.Error("a good answer is taken for a limit")
	}
	var busy mcp.CallToolResult
	if err := json.Unmarshal([]byte(`{"resultType":"input_required","requestState":"sealed"}`), &busy); err != nil {
		t.Fatal(err)
	}
	if got, throttled := a.throttled(&busy, nil, 1); !throttled || got != 2*time.Second {
		t.Errorf("a gateway that asks for nothing but time: %s, %t", got, throttled)
	}
	a.transport.refused.Store(&refusal{http.StatusTooManyRequests, "3"})
	if got, throttled := a.throttled(nil, errors.New("too many"), 0); !throttled || got != 3*time.Second {
		t.Errorf("the gateway's own: %s, %t", got, throttled)
	}
}

// The token goes to the gateway and to nobody else.
func TestTransportKeepsTheToken(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 2)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") }))
	defer elsewhere.Close()
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}))
	defer gateway.Close()
	transport, err := newGatewayTransport(gateway.URL+"/mcp", "the-token", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	look(t, &http.Client{Transport: transport}, gateway.URL+"/mcp")
	if first, second := <-seen, <-seen; first != "Bearer the-token" || second != "" {
		t.Errorf("the gateway got %q, the other %q", first, second)
	}
	if _, err := newGatewayTransport("", "x", nil); err == nil {
		t.Error("a gateway without a URL is fine")
	}
}
