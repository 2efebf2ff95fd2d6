package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
)

type gatewaysToolsCmd struct {
	listing
	ofGateway
	TokenFile string `name:"token-file" placeholder:"FILE" help:"File with a user's sign-in token, for a gateway that wants one; - reads standard input." complete:"files"`
}

// Help is shown below the flags.
func (gatewaysToolsCmd) Help() string {
	return `Examples:
  onbehalf gateways tools open
  sign-in | onbehalf gateways tools greeter --token-file -`
}

// tool is a tool in JSON, as MCP has it.
type tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"inputSchema,omitempty"`
}

// Run asks the gateway itself, as an MCP client does.
func (c gatewaysToolsCmd) Run(ctx context.Context, t *terminal) error {
	p, g, err := c.in(ctx, t)
	if err != nil {
		return err
	}
	token := ""
	if g.Authorizer.Type != "NONE" {
		if strings.HasPrefix(p.endpoint, "https:") && !strings.HasPrefix(g.URL, "https:") {
			return fmt.Errorf("the gateway's URL %s is not https, as the platform's is: no token is sent there", g.URL)
		}
		if token, err = t.secret(ctx, "--token-file", c.TokenFile, "Sign-in token of a user of "+g.Name); err != nil {
			return err
		}
	}
	row := func(v tool) []string { return []string{v.Name, firstLine(v.Description)} }
	return p.advised(list(t, c.Output, columns("TOOL", "DESCRIPTION~"), row, "Gateway "+g.Name+" has no tools: it has no targets.", first(c.listing, p.tools(ctx, g, token))), gatewaysList)
}

// largestAnswer of a gateway to tools/list.
const largestAnswer = 64 << 20

func (c *connection) tools(ctx context.Context, g gateway, token string) iter.Seq2[tool, error] {
	cursor := ""
	return pages(func() ([]tool, bool, error) {
		params := map[string]string{}
		if cursor != "" {
			params["cursor"] = cursor
		}
		body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
		if err != nil {
			return nil, false, err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL, bytes.NewReader(body))
		if err != nil {
			return nil, false, err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "application/json, text/event-stream")
		request.Header.Set("MCP-Protocol-Version", "2025-11-25")
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := c.settings.HTTPClient.Do(request)
		if err != nil {
			return nil, false, err
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
		if err != nil {
			return nil, false, err
		}
		var said struct {
			Result *struct {
				Tools      []tool `json:"tools"`
				NextCursor string `json:"nextCursor"`
			} `json:"result"`
			Error *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		unreadable := json.Unmarshal(answer, &said)
		switch {
		case response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden:
			return nil, false, hinted{fmt.Errorf("gateway %s does not take this token (HTTP status %d)", g.Name, response.StatusCode), "onbehalf gateways show " + g.ID + " says whose tokens count"}
		case unreadable == nil && said.Error != nil:
			return nil, false, errors.New(said.Error.Message)
		case unreadable != nil || said.Result == nil:
			return nil, false, fmt.Errorf("%s does not answer as a gateway does (HTTP status %d)", g.URL, response.StatusCode)
		}
		cursor = said.Result.NextCursor
		return said.Result.Tools, cursor != "", nil
	})
}

func firstLine(text string) string {
	for i, r := range text {
		if r == '\n' {
			return text[:i]
		}
	}
	return text
}
