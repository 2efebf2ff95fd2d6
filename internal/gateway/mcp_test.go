package gateway_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestSmoke(t *testing.T) {
	r := newRig(t)
	g := r.peopleGateway(t)
	token := r.token(t, "ada-lovelace")
	bearer := []string{"Authorization", "Bearer " + token, "Mcp-Protocol-Version", "2025-11-25"}
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"google___get_profile"}}`,
	} {
		response, content := r.post(t, g.GatewayId, body, bearer...)
		t.Log(response.StatusCode, content)
	}
	_, content := r.post(t, g.GatewayId, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"google___get_profile"}}`, bearer[:2]...)
	link := content[strings.Index(content, "http"):strings.Index(content, `"}]`)]
	t.Log(link)
	r.consent(t, link, "ada-lovelace", token)
	response, content := r.post(t, g.GatewayId, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"google___get_profile"}}`, bearer...)
	t.Log(response.StatusCode, content)
	if response.StatusCode != http.StatusOK || !strings.Contains(content, "Ada") {
		t.Fatal("no greeting")
	}
}
