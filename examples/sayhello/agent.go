package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Agent is a small agent whose tools are those of a gateway.
type Agent struct {
	session   *mcp.ClientSession
	transport *gatewayTransport
	tools     []*mcp.Tool

	// Show is called with the link that the person has to open.
	Show func(ctx context.Context, link string) error
	// Expect registers the link's session and yields the outcome of the consent.
	Expect func(sessionURI string) *Consent
	// Pausing is told how long a provider that limits requests is waited for.
	Pausing func(pause string)
	// Timeout bounds the wait for one consent.
	Timeout time.Duration
}

// CreateAgent connects to the gateway with the person's token and lists its
// tools. The MCP version is one of 2025-11-25 and 2026-07-28.
func (p *Platform) CreateAgent(ctx context.Context, gatewayARN, userToken, mcpVersion string) (*Agent, error) {
	id := gatewayARN[strings.LastIndex(gatewayARN, "/")+1:]
	gateway, err := p.Control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: &id})
	if err != nil {
		return nil, fromAWS(err, gatewayProblem, "the gateway is not found", hintNoGateway)
	}
	transport, err := newGatewayTransport(value(gateway.GatewayUrl), userToken, p.Log)
	if err != nil {
		return nil, &GatewayError{Problem{What: "the gateway has no usable URL", Cause: err, Hint: hintNoGateway}}
	}
	// The SDK would answer an input_required result at once and call again: a
	// person needs longer than that, so the agent waits for itself.
	client := mcp.NewClient(&mcp.Implementation{Name: "sayhello", Title: "Say hello", Version: "1.0.0"}, &mcp.ClientOptions{
		Capabilities:   &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
	})
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: value(gateway.GatewayUrl), HTTPClient: &http.Client{Transport: transport, Timeout: 2 * time.Minute}, DisableStandaloneSSE: true, MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: mcpVersion})
	if err != nil {
		return nil, transport.problem(ctx, "the gateway does not accept the agent", err)
	}
	agent := &Agent{session: session, transport: transport, Timeout: 10 * time.Minute}
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			agent.Close()
			return nil, transport.problem(ctx, "the gateway's tools cannot be listed", err)
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
	if !slices.ContainsFunc(a.tools, func(t *mcp.Tool) bool { return t.Name == toolName }) {
		return "", &GatewayError{Problem{What: "the gateway has no tool " + toolName, Hint: "aws bedrock-agentcore-control list-gateway-targets shows its targets: " + targetName + " must be there and READY."}}
	}
	a.transport.token.Store(&userToken)
	call := &mcp.CallToolParams{Name: toolName, Arguments: map[string]any{"personFields": "names"}}
	for range 3 { // a consent that is not enough asks again; more than that is a loop
		result, err := a.call(ctx, call)
		links, state, asked := linksOf(result, err)
		var known interface{ Advice() string }
		switch {
		case asked && len(links) == 0:
			return "", &GatewayError{Problem{What: "the gateway asks for something, but not for a link to be opened", Hint: hintElicitation}}
		case asked:
			if err := a.consent(ctx, links); err != nil {
				return "", err
			}
			call.RequestState, call.InputResponses = state, accepted(result)
		case errors.As(err, &known):
			return "", err
		case err != nil:
			return "", a.transport.problem(ctx, "the tool call failed", err)
		default:
			return a.greeting(result)
		}
	}
	return "", &OAuthError{Problem{What: "the gateway asks for consent again and again", Hint: hintBinding}}
}

// greeting makes a sentence of the profile.
func (a *Agent) greeting(result *mcp.CallToolResult) (string, error) {
	text := textOf(result)
	switch {
	case result.IsError && strings.Contains(text, "/identities/oauth2/authorize"):
		return "", &GatewayError{Problem{What: "the gateway asks for consent in words that no program understands, because it speaks MCP " + a.Protocol(), Hint: hintElicitation}}
	case result.IsError:
		return "", &GatewayError{Problem{What: "the profile is not found: the tool reports an error", Cause: errors.New(text), Hint: hintNoProfile}}
	}
	var profile struct {
		Names []struct {
			DisplayName string `json:"displayName"`
		} `json:"names"`
	}
	if err := json.Unmarshal([]byte(text), &profile); err != nil || len(profile.Names) == 0 || printable(profile.Names[0].DisplayName) == "" {
		return "", &GatewayError{Problem{What: "the profile is not found: the answer has no name in it", Hint: hintNoProfile}}
	}
	return fmt.Sprintf("Hello, %s!", printable(profile.Names[0].DisplayName)), nil
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
