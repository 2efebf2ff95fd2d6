package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// linksOf finds the links to open in both forms of asking: the error -32042 of
// MCP 2025-11-25, and the input_required result of 2026-07-28, whose state goes
// back with the next call. Entries that are no URLs are passed over.
func linksOf(result *mcp.CallToolResult, err error) (links []string, state string, asked bool) {
	var rpc *jsonrpc.Error
	if errors.As(err, &rpc) && rpc.Code == mcp.CodeURLElicitationRequired {
		var data struct {
			Elicitations []struct{ Mode, URL string } `json:"elicitations"`
		}
		_ = json.Unmarshal(rpc.Data, &data) // what is not there is not opened
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
	for _, key := range slices.Sorted(maps.Keys(result.InputRequests)) {
		if e, ok := result.InputRequests[key].(*mcp.ElicitParams); ok && e.Mode == "url" && e.URL != "" {
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

// consent shows the links and waits until their sessions are completed.
func (a *Agent) consent(ctx context.Context, links []string) error {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	for _, link := range links {
		session, err := sessionOf(link)
		if err != nil {
			return err
		}
		asked := a.Expect(session)
		shown := a.Show(ctx, link)
		if shown == nil {
			select {
			case err := <-asked.Outcome():
				if err != nil {
					return err
				}
				continue
			case <-ctx.Done():
				return noConsent(ctx, a.Timeout, asked.Reached())
			}
		}
		select {
		case err := <-asked.Outcome(): // knows better what went wrong
			if err != nil {
				return err
			}
		default:
			if ctx.Err() != nil {
				return noConsent(ctx, a.Timeout, asked.Reached())
			}
			return shown
		}
	}
	return nil
}

// sessionOf is the session URI in a consent link. A link is opened by a browser,
// so one that is no web address is not shown to anybody.
func sessionOf(link string) (string, error) {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && (u.Scheme != "http" || !isLoopbackHost(u.Hostname()))) {
		return "", &GatewayError{Problem{What: "the gateway's link is not one to open", Hint: "It must be https, or http on this machine. Is --backend what you meant?"}}
	}
	session := u.Query().Get("request_uri")
	if session == "" {
		return "", &GatewayError{Problem{What: "the gateway's link names no session", Hint: hintElicitation}}
	}
	return session, nil
}
