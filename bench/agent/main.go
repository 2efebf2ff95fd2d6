// Command agent is the agent of the measurements: it reads what it is sent and
// answers as little, or as many megabytes as the payload says. It stands on the
// standard library alone, so that what is measured is not its own work.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
)

const answer = `{"answer":"The weather is sunny, and it is going to stay so for the rest of the day.","usage":{"input_tokens":112,"output_tokens":23}}`

func main() {
	http.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"Healthy"}`)
	})
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in struct{ Megabytes int }
		if err != nil || json.Unmarshal(body, &in) != nil {
			http.Error(w, "no JSON", http.StatusBadRequest)
			return
		}
		if in.Megabytes == 0 {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		piece := make([]byte, 64<<10)
		for range in.Megabytes << 20 / len(piece) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
