package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Agent is a small agent whose tools are those of a gateway.
type Agent struct {
	session *mcp.ClientSession
	token   *bearerTransport
	tools   []*mcp.Tool

	// Show is called with the link that the person has to open, and returns
	// whether somebody plays the person from now on.
	Show func(ctx context.Context, link string) error
	// Expect registers the link's session and yields the outcome of the consent.
	Expect func(sessionURI string) <-chan error
	// Timeout bounds the wait for one consent.
	Timeout time.Duration
}

// bearerTransport adds the user's token to each request, to the gateway's host only.
type bearerTransport struct {
	token atomic.Value
	host  string
	next  http.RoundTripper
}

func (t *bearerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == t.host {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token.Load().(string))
	}
	return t.next.RoundTrip(r)
}

// CreateAgent connects to the gateway with the person's token and lists its
// tools. The MCP version is one of 2025-11-25 and 2026-07-28.
func (p *Platform) CreateAgent(ctx context.Context, gatewayARN, userToken, mcpVersion string) (*Agent, error) {
	id := gatewayARN[strings.LastIndex(gatewayARN, "/")+1:]
	gateway, err := p.Control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: &id})
	if err != nil {
		return nil, fromAWS(err, gatewayProblem, "the gateway is not found", hintNoGateway)
	}
	transport := &bearerTransport{next: http.DefaultTransport}
	transport.token.Store(userToken)
	request, err := http.NewRequest(http.MethodPost, value(gateway.GatewayUrl), nil)
	if err != nil {
		return nil, &GatewayError{Problem{What: "the gateway has no usable URL", Cause: err, Hint: hintNoGateway}}
	}
	transport.host = request.URL.Host
	// The SDK would answer an input_required result at once and call again: a
	// person needs longer than that, so the agent waits for itself.
	client := mcp.NewClient(&mcp.Implementation{Name: "sayhello", Title: "Say hello", Version: "1.0.0"}, &mcp.ClientOptions{
		Capabilities:   &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
	})
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: request.URL.String(), HTTPClient: &http.Client{Transport: transport, Timeout: 2 * time.Minute}, DisableStandaloneSSE: true, MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: mcpVersion})
	if err != nil {
		return nil, &GatewayError{Problem{What: "the gateway does not accept the agent", Cause: err, Hint: "Its inbound authorizer checks issuer, audience and expiry of your sign-in's token; is yours fresh?"}}
	}
	agent := &Agent{session: session, token: transport, Timeout: 10 * time.Minute}
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			agent.Close()
			return nil, &GatewayError{Problem{What: "the gateway's tools cannot be listed", Cause: err, Hint: hintNoGateway}}
		}
		agent.tools = append(agent.tools, tool)
	}
	return agent, nil
}

// Protocol is the MCP version that agent and gateway agreed on.
func (a *Agent) Protocol() string { return a.session.InitializeResult().ProtocolVersion }

// Close ends the connection.
func (a *Agent) Close() { _ = a.session.Close() }

// GreetUser greets the owner of userToken by the name in their account. Where
// the gateway asks for consent first, it shows the link, waits and tries again.
func GreetUser(ctx context.Context, a *Agent, userToken string) (string, error) {
	a.token.token.Store(userToken)
	call := &mcp.CallToolParams{Name: toolName, Arguments: map[string]any{"personFields": "names"}}
	for range 3 { // a consent that is not enough asks again; more than that is a loop
		result, err := a.call(ctx, call)
		links, state, asked := linksOf(result, err)
		switch {
		case asked && len(links) == 0:
			return "", &GatewayError{Problem{What: "the gateway asks for something, but not for a link to be opened", Hint: hintElicitation}}
		case asked:
			if err := a.consent(ctx, links); err != nil {
				return "", err
			}
			call.RequestState, call.InputResponses = state, accepted(result)
		case err != nil:
			return "", &GatewayError{Problem{What: "the tool call failed", Cause: err, Hint: hintNoGateway}}
		default:
			return greeting(result)
		}
	}
	return "", &OAuthError{Problem{What: "the gateway asks for consent again and again", Hint: hintBinding}}
}

var retryAfter = regexp.MustCompile(`(?i)retry[- ]after[^0-9]{0,12}(\d{1,5})`)

// call calls the tool; a provider that limits requests (429) is asked again
// after as long as it says, at most three times and half a minute each.
func (a *Agent) call(ctx context.Context, params *mcp.CallToolParams) (*mcp.CallToolResult, error) {
	for attempt := 0; ; attempt++ {
		result, err := a.session.CallTool(ctx, params)
		text := ""
		if err == nil && result.IsError {
			text = textOf(result)
		}
		if attempt == 3 || !strings.Contains(text, "429") {
			return result, err
		}
		wait := time.Second << attempt
		if match := retryAfter.FindStringSubmatch(text); match != nil {
			seconds, _ := strconv.Atoi(match[1])
			wait = time.Duration(seconds) * time.Second
		}
		if wait > 30*time.Second || pause(ctx, wait) != nil {
			return result, err
		}
	}
}

// consent shows the links and waits until their sessions are completed.
func (a *Agent) consent(ctx context.Context, links []string) error {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	for _, link := range links {
		session := sessionOf(link)
		if session == "" {
			return &GatewayError{Problem{What: "the gateway's link names no session", Hint: hintElicitation}}
		}
		outcome := a.Expect(session)
		if err := a.Show(ctx, link); err != nil {
			return err
		}
		select {
		case err := <-outcome:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return interrupted(ctx, a.Timeout)
		}
	}
	return nil
}

// linksOf finds the links to open in both forms of asking: the error -32042 of
// MCP 2025-11-25, and the input_required result of 2026-07-28, whose state goes
// back with the next call. Entries that are no URLs are passed over.
func linksOf(result *mcp.CallToolResult, err error) (links []string, state string, asked bool) {
	var rpc *jsonrpc.Error
	if errors.As(err, &rpc) && rpc.Code == mcp.CodeURLElicitationRequired {
		var data struct {
			Elicitations []struct{ Mode, URL string } `json:"elicitations"`
		}
		_ = json.Unmarshal(rpc.Data, &data)
		for _, e := range data.Elicitations {
			if e.Mode == "url" && e.URL != "" {
				links = append(links, e.URL)
			}
		}
		return links, "", true
	}
	if err != nil || result == nil || !result.NeedsInput() {
		return nil, "", false
	}
	for _, request := range result.InputRequests {
		if e, ok := request.(*mcp.ElicitParams); ok && e.Mode == "url" && e.URL != "" {
			links = append(links, e.URL)
		}
	}
	return links, result.RequestState, true
}

// accepted answers each question of an input_required result: the person opened the link.
func accepted(result *mcp.CallToolResult) mcp.InputResponseMap {
	if result == nil || len(result.InputRequests) == 0 {
		return nil
	}
	answers := mcp.InputResponseMap{}
	for key := range result.InputRequests {
		answers[key] = &mcp.ElicitResult{Action: "accept"}
	}
	return answers
}

// greeting makes a sentence of the profile.
func greeting(result *mcp.CallToolResult) (string, error) {
	text := textOf(result)
	if result.IsError {
		hint := hintNoProfile
		switch {
		case strings.Contains(text, "429"):
			hint = hintThrottled
		case strings.Contains(text, "/identities/oauth2/authorize"):
			hint = hintElicitation
		}
		return "", &GatewayError{Problem{What: "the tool reports an error", Cause: errors.New(text), Hint: hint}}
	}
	var profile struct {
		Names []struct {
			DisplayName string `json:"displayName"`
		} `json:"names"`
	}
	if err := json.Unmarshal([]byte(text), &profile); err != nil || len(profile.Names) == 0 || profile.Names[0].DisplayName == "" {
		return "", &GatewayError{Problem{What: "the profile has no name in it", Hint: hintNoProfile}}
	}
	return fmt.Sprintf("Hello, %s!", profile.Names[0].DisplayName), nil
}

func textOf(result *mcp.CallToolResult) string {
	var parts []string
	for _, content := range result.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			parts = append(parts, text.Text)
		}
	}
	return strings.Join(parts, "\n")
}
