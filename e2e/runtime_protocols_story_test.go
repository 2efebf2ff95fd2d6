package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/coder/websocket"
)

func speaking(protocol control.ServerProtocol) func(*createRuntime) {
	return func(r *createRuntime) {
		r.ProtocolConfiguration = &control.ProtocolConfiguration{ServerProtocol: protocol}
	}
}

// An A2A agent: its card says where it is called, and there it answers.
func TestHostedA2AAgent(t *testing.T) {
	t.Parallel()
	h := startHosting(t)
	a := h.host("a2a", goAgent(t, "agents/a2a"), speaking(control.ServerProtocolA2a))
	one := session("one")
	card, err := h.client.GetAgentCard(t.Context(), &bedrockagentcore.GetAgentCardInput{AgentRuntimeArn: &a.arn, RuntimeSessionId: &one})
	if err != nil {
		t.Fatal(err)
	}
	var described struct{ Name, URL string }
	if text, err := json.Marshal(mustValue(t, card)); err != nil || json.Unmarshal(text, &described) != nil || described.Name != "weather" || described.URL != a.url+"/runtimes/"+url.QueryEscape(a.arn)+"/invocations" && described.URL != a.url+"/runtimes/"+url.QueryEscape(a.arn)+"/invocations/" {
		t.Errorf("the card: %+v, %v", described, err)
	}
	if said := a.say(call{session: one, payload: map[string]any{"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": map[string]any{}}}); !strings.Contains(said, "message/send: sunny") || !strings.Contains(said, `"id":7`) {
		t.Errorf("message/send: %s", said)
	}
	// Errors of the platform are JSON-RPC errors there.
	if text, err := a.try(call{session: "short", payload: map[string]any{"jsonrpc": "2.0", "id": 7, "method": "message/send"}}); err == nil {
		t.Errorf("a session id that is too short: %s", text)
	}
}

func mustValue(t *testing.T, card *bedrockagentcore.GetAgentCardOutput) (value any) {
	t.Helper()
	if err := card.AgentCard.UnmarshalSmithyDocument(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// A websocket, by the URL that the published Python package presigns (its shape:
// the session's id and the qualifier are query parameters, which are signed), and by
// signed headers; what was not signed is refused.
func TestHostedWebSocket(t *testing.T) {
	t.Parallel()
	h := startHosting(t)
	a := h.host("socket", goAgent(t, "agents/echo"))
	one := session("one")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	address := a.url + "/runtimes/" + url.QueryEscape(a.arn) + "/ws"
	query := url.Values{"qualifier": {"DEFAULT"}, sessionHeader: {one}, "X-Amz-Expires": {"300"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := h.aws.Credentials.Retrieve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const emptyBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, credentials, request, emptyBody, "bedrock-agentcore", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	talk := func(what, address string, header http.Header) {
		t.Helper()
		c, response, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPHeader: header})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		defer c.CloseNow()
		if got := response.Header.Get(sessionHeader); got != "" && got != one {
			t.Errorf("%s: session %q", what, got)
		}
		if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, text, err := c.Read(ctx); err != nil || string(text) != one+" hello" {
			t.Errorf("%s: %q %v", what, text, err)
		}
	}
	talk("a presigned URL", signed, nil)

	request, err = http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(sessionHeader, one)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, emptyBody, "bedrock-agentcore", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	talk("signed headers", address, request.Header)

	for what, address := range map[string]string{
		"without a signature":       address,
		"with another session's id": strings.Replace(signed, one, session("two"), 1),
		"longer than 300 seconds":   strings.Replace(signed, "X-Amz-Expires=300", "X-Amz-Expires=3600", 1),
	} {
		if c, response, err := websocket.Dial(ctx, address, nil); err == nil {
			_ = c.CloseNow()
			t.Errorf("%s: it is opened", what)
		} else if response == nil || response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Elsewhere a presigned URL opens nothing.
	response, err := http.Post(strings.Replace(signed, "/ws?", "/invocations?", 1), "application/json", strings.NewReader(`{"do":"echo"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusForbidden {
		t.Errorf("a presigned invocation: %d %s", response.StatusCode, text)
	}
}
