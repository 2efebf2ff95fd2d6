package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/onbehalf/onbehalf/agent"
)

// gateway is a connection to an MCP gateway, as the user of the call.
type gateway struct {
	*mcp.ClientSession
	tools []Tool
}

// openGateway asks the gateway for its tools. The user's own token goes along,
// where the runtime lets the header Authorization through.
func openGateway(ctx context.Context, url string) (*gateway, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "openaiagent", Version: "1"}, nil)
	asUser := &http.Client{Transport: authorized{agent.Headers(ctx).Get("Authorization")}}
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: asUser, DisableStandaloneSSE: true}, nil)
	if err != nil {
		return nil, fmt.Errorf("the gateway %s: %w", url, err)
	}
	g := &gateway{ClientSession: session}
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			_ = g.Close()
			return nil, fmt.Errorf("the tools of the gateway %s: %w", url, err)
		}
		schema, _ := tool.InputSchema.(map[string]any)
		g.tools = append(g.tools, Tool{Name: tool.Name, Description: tool.Description, Parameters: schema, Call: func(ctx context.Context, arguments json.RawMessage) (string, error) {
			return g.call(ctx, tool.Name, arguments)
		}})
	}
	return g, nil
}

// call is the tool's answer as text. Where the user has to consent first, the
// gateway's answer has the link, and the model passes it on.
func (g *gateway) call(ctx context.Context, name string, arguments json.RawMessage) (string, error) {
	result, err := g.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: arguments})
	if err != nil {
		return "", err
	}
	var text []string
	for _, content := range result.Content {
		if part, ok := content.(*mcp.TextContent); ok {
			text = append(text, part.Text)
		}
	}
	if result.IsError {
		return "", fmt.Errorf("%s", strings.Join(text, "\n"))
	}
	return strings.Join(text, "\n"), nil
}

// authorized sends the user's token with each request.
type authorized struct{ header string }

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.header != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", a.header)
	}
	return http.DefaultTransport.RoundTrip(r)
}
