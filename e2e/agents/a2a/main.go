// Command a2a is an agent whose contract is A2A: JSON-RPC at / on port 9000, and a
// card that says where it is called.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { send(w, map[string]string{"status": "Healthy"}) })
	http.HandleFunc("GET /.well-known/agent-card.json", func(w http.ResponseWriter, _ *http.Request) {
		send(w, map[string]any{"name": "weather", "version": "1", "protocolVersion": "0.3.0", "url": os.Getenv("AGENTCORE_RUNTIME_URL"), "capabilities": map[string]bool{"streaming": false}})
	})
	http.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		var call struct {
			ID     any    `json:"id"`
			Method string `json:"method"`
		}
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		send(w, map[string]any{"jsonrpc": "2.0", "id": call.ID, "result": map[string]any{
			"kind": "message", "role": "agent", "messageId": "1", "parts": []any{map[string]string{"kind": "text", "text": call.Method + ": sunny"}},
		}})
	})
	log.Fatal(http.ListenAndServe("0.0.0.0:9000", nil))
}

func send(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
