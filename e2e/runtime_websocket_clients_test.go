package e2e

import (
	"encoding/json"
	"path/filepath"
	"testing"
)

// The published Python and TypeScript packages open an agent's websocket, by a
// URL that they have presigned and by signed headers, each in its own way: without the
// port, with a session's id that is not signed.
func TestWebSocketsOfThePublishedClients(t *testing.T) {
	t.Parallel()
	python := filepath.Join("clients", ".venv", "bin", "python")
	need(t, "the published packages", exists(python) && exists(filepath.Join("clients", "node_modules", "bedrock-agentcore")))
	h := startHosting(t)
	a := h.host("socket", goAgent(t, "agents/echo"))
	env := append(h.environment(), "PYTHONDONTWRITEBYTECODE=1")
	for name, line := range map[string][]string{
		"Python":     {python, filepath.Join("clients", "websocket_python.py")},
		"TypeScript": {"node", filepath.Join("clients", "websocket_typescript.mjs")},
	} {
		one := session(name)
		out, errOut, code := command(t, env, line[0], line[1], h.url, a.arn, one)
		var got struct{ Presigned, Headers string }
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
			t.Errorf("%s: exit %d, %v: %s", name, code, err, errOut)
			continue
		}
		if want := one + " hello"; got.Presigned != want || got.Headers != want {
			t.Errorf("%s: %+v, want %q", name, got, want)
		}
	}
}
