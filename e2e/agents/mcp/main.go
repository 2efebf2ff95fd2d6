// Command mcp is an agent whose contract is MCP: tools at /mcp on port 8000. It is
// stateless, so that a session id which the platform made is as good as any.
package main

import (
	"context"
	"log"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type question struct {
	Place string `json:"place"`
}

func main() {
	server := mcp.NewServer(&mcp.Implementation{Name: "weather", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "weather", Description: "Tells the weather."}, func(_ context.Context, r *mcp.CallToolRequest, in question) (*mcp.CallToolResult, any, error) {
		text := "sunny in " + in.Place
		if r.Extra != nil && r.Extra.Header.Get("WorkloadAccessToken") != "" {
			text += ", for somebody"
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	})
	http.Handle("/mcp", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true}))
	log.Fatal(http.ListenAndServe("0.0.0.0:8000", nil))
}
