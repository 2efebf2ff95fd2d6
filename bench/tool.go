package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// benchTool is tools/call through the gateway with the user's token injected.
// Its floor is a bare reverse proxy before the same target, which is sent the
// same JSON-RPC request.
func benchTool(ctx context.Context, s settings) ([]result, error) {
	target, err := startChild(ctx, "child-target")
	if err != nil {
		return nil, err
	}
	defer target.stop()
	stage, err := newStage(ctx, strings.TrimPrefix(target.url, "http://"))
	if err != nil {
		return nil, err
	}
	defer stage.close()
	gateway, err := stage.tool(ctx, target.url)
	if err != nil {
		return nil, err
	}
	proxy, err := startChild(ctx, "child-proxy", target.url)
	if err != nil {
		return nil, err
	}
	defer proxy.stop()

	call := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"bench___get_profile","arguments":{"personFields":"names"}}}`)
	request := func(url string) func(context.Context) (*http.Request, error) {
		return func(ctx context.Context) (*http.Request, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(call))
			if err != nil {
				return nil, err
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			r.Header.Set("MCP-Protocol-Version", "2025-11-25")
			r.Header.Set("Authorization", "Bearer "+stage.userToken)
			return r, nil
		}
	}
	if err := stage.consentToTool(ctx, request(gateway)); err != nil {
		return nil, err
	}
	client := newClient(s.connections)
	greeted := func(body []byte) error {
		if !bytes.Contains(body, []byte("Ada Lovelace")) {
			return fmt.Errorf("not the profile: %.300s", body)
		}
		return nil
	}
	ours := &load{client: client, make: request(gateway), check: greeted}
	theirs := &load{client: client, make: request(proxy.url + "/v1/people/me"), check: greeted}
	a, b, err := compare(ctx, s, s.connections, ours, theirs)
	if err != nil {
		return nil, err
	}
	stages, err := stage.profiled(ctx, s, "tool", ours)
	if err != nil {
		return nil, err
	}
	direct := &load{client: client, make: request(target.url + "/v1/people/me"), check: greeted}
	single, alone, err := compare(ctx, s, 1, ours, direct)
	if err != nil {
		return nil, err
	}
	ratio, added := a.rate/b.rate, single.p50-alone.p50
	return []result{{
		what: fmt.Sprintf("tools/call through the gateway, %d connections", s.connections), aim: "0.6 of the reverse proxy's requests/s",
		measured: fmt.Sprintf("%.2f (%.0f of %.0f requests/s; p50 %s, p99 %s)", ratio, a.rate, b.rate, a.p50.Round(time.Microsecond), a.p99.Round(time.Microsecond)),
		met:      ratio >= 0.6, notes: stages,
	}, {
		what: "tools/call through the gateway, added p50 over a direct call, 1 connection", aim: "at most 0.3 ms",
		measured: fmt.Sprintf("%s (%s through the gateway, %s directly)", added.Round(time.Microsecond), single.p50.Round(time.Microsecond), alone.p50.Round(time.Microsecond)),
		met:      added <= 300*time.Microsecond,
	}}, nil
}

// consentToTool makes the first call, which is refused with a link, and consents.
func (s *stage) consentToTool(ctx context.Context, make func(context.Context) (*http.Request, error)) error {
	r, err := make(ctx)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Error struct {
			Data struct {
				Elicitations []struct{ URL string }
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || len(answer.Error.Data.Elicitations) != 1 {
		return fmt.Errorf("%w: %s, %v", errNoLink, response.Status, err)
	}
	return s.consent(ctx, answer.Error.Data.Elicitations[0].URL)
}
