package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// bearer adds the inbound token to a client's requests.
type bearer struct{ token string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

// connect connects the official client. It must not take longer than the test has.
func (r *rig) connect(t *testing.T, id, token, version string, options *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, options)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: r.mcp.URL + "/gateway/" + id + "/mcp", HTTPClient: &http.Client{Transport: bearer{token}},
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	ok(t, err)
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// The official Go client lists and calls at each revision.
func TestOfficialClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.peopleGateway(t)
	ada := r.token(t, "ada-lovelace")
	link := r.link(t, g.GatewayId, ada)
	r.consent(t, link, "ada-lovelace", ada)
	for _, version := range []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			session := r.connect(t, g.GatewayId, ada, version, nil)
			if got := session.InitializeResult(); got.ProtocolVersion != version || got.ServerInfo.Name != "hello" {
				t.Errorf("agreed on %+v", got)
			}
			if version < "2026-07-28" {
				ok(t, session.Ping(t.Context(), nil))
			}
			tools, err := session.ListTools(t.Context(), nil)
			ok(t, err)
			if len(tools.Tools) != 1 || tools.Tools[0].Name != "google___get_profile" {
				t.Fatalf("tools: %+v", tools.Tools)
			}
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "google___get_profile"})
			ok(t, err)
			if text := result.Content[0].(*mcp.TextContent).Text; result.IsError || !strings.Contains(text, `"displayName":"Ada Lovelace"`) {
				t.Errorf("error %v: %s", result.IsError, text)
			}
			if structured := result.StructuredContent != nil; structured != (version >= "2025-06-18") {
				t.Errorf("structured content: %v", result.StructuredContent)
			}
			_, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "google___nope"})
			var wire *jsonrpc.Error
			if !errors.As(err, &wire) || wire.Code != jsonrpc.CodeInvalidParams {
				t.Errorf("unknown tool: %v", err)
			}
		})
	}
}

// link is the consent link that a call gets.
func (r *rig) link(t testing.TB, id, token string) string {
	t.Helper()
	_, content := r.post(t, id, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"google___get_profile"}}`, "Authorization", "Bearer "+token)
	link := linkText.FindString(content)
	if link == "" {
		t.Fatalf("no link in %s", content)
	}
	return link
}

// What a client of each revision sees when consent is missing.
func TestOfficialClientWithoutConsent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.peopleGateway(t)
	ada := r.token(t, "ada-lovelace")
	call := func(t *testing.T, session *mcp.ClientSession) (*mcp.CallToolResult, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return session.CallTool(ctx, &mcp.CallToolParams{Name: "google___get_profile"})
	}
	t.Run("2025-06-18 reads a link", func(t *testing.T) {
		result, err := call(t, r.connect(t, g.GatewayId, ada, "2025-06-18", nil))
		ok(t, err)
		if !result.IsError || linkText.FindString(result.Content[0].(*mcp.TextContent).Text) == "" {
			t.Errorf("result: %+v", result)
		}
	})
	t.Run("2025-11-25 gets an error with the link", func(t *testing.T) {
		_, err := call(t, r.connect(t, g.GatewayId, ada, "2025-11-25", nil))
		var wire *jsonrpc.Error
		if !errors.As(err, &wire) || wire.Code != mcp.CodeURLElicitationRequired {
			t.Fatalf("error: %v", err)
		}
		var data struct {
			Elicitations []struct{ Mode, ElicitationID, URL, Message string }
		}
		ok(t, json.Unmarshal(wire.Data, &data))
		if len(data.Elicitations) != 1 || data.Elicitations[0].Mode != "url" || linkText.FindString(data.Elicitations[0].URL) == "" || data.Elicitations[0].ElicitationID == "" {
			t.Errorf("data: %s", wire.Data)
		}
	})
	t.Run("2026-07-28 without a handler gets -32021, once", func(t *testing.T) {
		_, err := call(t, r.connect(t, g.GatewayId, ada, "2026-07-28", nil))
		var wire *jsonrpc.Error
		if !errors.As(err, &wire) || wire.Code != mcp.CodeMissingRequiredClientCapabilities || linkText.FindString(wire.Message) == "" {
			t.Errorf("error: %v", err)
		}
	})
	t.Run("2026-07-28 that only waits gets input_required", func(t *testing.T) {
		session := r.connect(t, g.GatewayId, ada, "2026-07-28", &mcp.ClientOptions{
			Capabilities:   &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
			MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
		})
		result, err := call(t, session)
		ok(t, err)
		asked, _ := result.InputRequests["consent"].(*mcp.ElicitParams)
		if asked == nil || asked.Mode != "url" || linkText.FindString(asked.URL) == "" || result.RequestState == "" {
			t.Fatalf("result: %+v", result)
		}
		r.consent(t, asked.URL, "ada-lovelace", ada)
		result, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "google___get_profile", RequestState: result.RequestState,
			InputResponses: mcp.InputResponseMap{"consent": &mcp.ElicitResult{Action: "accept"}}})
		ok(t, err)
		if result.IsError || !strings.Contains(result.Content[0].(*mcp.TextContent).Text, "Ada Lovelace") {
			t.Errorf("result: %+v", result)
		}
	})
}

// A stock client of the stateless revision answers input_required and tries
// again at once. It must neither hang nor loop, be shown one link however often
// it tries, and succeed when the person was faster.
func TestStockClientNeitherHangsNorLoops(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.peopleGateway(t)
	options := func(handler func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error)) *mcp.ClientOptions {
		return &mcp.ClientOptions{ElicitationHandler: handler,
			Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}}}
	}
	call := func(t *testing.T, session *mcp.ClientSession) (*mcp.CallToolResult, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return session.CallTool(ctx, &mcp.CallToolParams{Name: "google___get_profile"})
	}
	t.Run("accepts without going through", func(t *testing.T) {
		var asked atomic.Int32
		links := map[string]bool{}
		session := r.connect(t, g.GatewayId, r.token(t, "ada-lovelace"), "2026-07-28", options(func(_ context.Context, q *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked.Add(1)
			links[q.Params.URL] = true
			return &mcp.ElicitResult{Action: "accept"}, nil
		}))
		_, err := call(t, session)
		if err == nil || !strings.Contains(err.Error(), "maximum retries") {
			t.Errorf("error: %v", err)
		}
		if asked.Load() > 10 || len(links) != 1 {
			t.Errorf("asked %d times with %d links", asked.Load(), len(links))
		}
	})
	t.Run("declines", func(t *testing.T) {
		var asked atomic.Int32
		session := r.connect(t, g.GatewayId, r.token(t, "ada-lovelace"), "2026-07-28", options(func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked.Add(1)
			return &mcp.ElicitResult{Action: "decline"}, nil
		}))
		result, err := call(t, session)
		ok(t, err)
		if !result.IsError || asked.Load() != 1 {
			t.Errorf("asked %d times: %+v", asked.Load(), result)
		}
	})
	t.Run("goes through at once", func(t *testing.T) {
		ada := r.token(t, "ada-lovelace")
		session := r.connect(t, g.GatewayId, ada, "2026-07-28", options(func(_ context.Context, q *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			r.consent(t, q.Params.URL, "ada-lovelace", ada)
			return &mcp.ElicitResult{Action: "accept"}, nil
		}))
		result, err := call(t, session)
		ok(t, err)
		if result.IsError || !strings.Contains(result.Content[0].(*mcp.TextContent).Text, "Ada Lovelace") {
			t.Errorf("result: %+v", result)
		}
	})
}

// A gateway without the stateless revision serves a stock client all the same:
// the client falls back to the handshake.
func TestStockClientFallsBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	target := scripted(t)
	g := r.open(t, "2025-11-25")
	r.target(t, g.GatewayId, "t", document(target.URL, scriptedPaths), nil)
	session := r.connect(t, g.GatewayId, "none", "", nil)
	if got := session.InitializeResult().ProtocolVersion; got != "2025-11-25" {
		t.Errorf("agreed on %s", got)
	}
	count := 0
	for tool, err := range session.Tools(t.Context(), nil) {
		ok(t, err)
		if strings.HasPrefix(tool.Name, "t___") {
			count++
		}
	}
	if count != 7 {
		t.Errorf("%d tools", count)
	}
}
