// Package chatmodel stands in for a language model: a local server that speaks the
// chat-completions API as OpenAI and as Azure OpenAI do, so that agents are shown
// and tested without a key and without the network. It is no model. It knows few
// things:
//
//	user says "use NAME", a tool of that name offered ─▶ calls that tool
//	user asks for arithmetic, a calculator is offered ─▶ calls that tool
//	user asks about weather, a weather tool is offered ─▶ calls that tool
//	a tool has answered                                ─▶ says what it answered
//	user asks what was said before                     ─▶ says it, from the messages it was sent
//
// Invariant: it answers only whoever has its key, and only from the request: it
// remembers nothing between two of them.
package chatmodel

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Server is the stand-in; the zero value answers nobody. Use it as an http.Handler.
type Server struct {
	Key        string        // what callers present: Authorization: Bearer, or Azure's api-key
	Deployment string        // Azure's; "" answers any
	Pause      time.Duration // between the chunks of a stream

	calls atomic.Int64
}

// Calls is how many completions were asked for with the right key.
func (s *Server) Calls() int64 { return s.calls.Load() }

type message struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	ToolCallID string          `json:"tool_call_id"`
	ToolCalls  []toolCall      `json:"tool_calls"`
}

// text is the message's content: a string, or parts that have texts.
func (m message) text() string {
	var plain string
	if json.Unmarshal(m.Content, &plain) == nil {
		return plain
	}
	var parts []struct{ Text string }
	_ = json.Unmarshal(m.Content, &parts)
	for _, part := range parts {
		plain += part.Text
	}
	return plain
}

type toolCall struct {
	Index    *int     `json:"index,omitempty"` // in chunks of a stream
	ID       string   `json:"id"`
	Type     string   `json:"type"`
	Function function `json:"function"`
}

type function struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

type request struct {
	Model    string    `json:"model"`
	Messages []message `json:"messages"`
	Stream   bool      `json:"stream"`
	Tools    []struct {
		Function struct {
			Name       string `json:"name"`
			Parameters struct {
				Properties map[string]json.RawMessage `json:"properties"`
			} `json:"parameters"`
		} `json:"function"`
	} `json:"tools"`
}

// ServeHTTP answers POST /v1/chat/completions and Azure's
// /openai/deployments/NAME/chat/completions?api-version=….
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if deployment, azure := strings.CutPrefix(r.URL.Path, "/openai/deployments/"); azure {
		name, rest, _ := strings.Cut(deployment, "/")
		if rest != "chat/completions" || s.Deployment != "" && name != s.Deployment {
			fail(w, http.StatusNotFound, "DeploymentNotFound", "The API deployment for this resource does not exist.")
			return
		}
		if r.URL.Query().Get("api-version") == "" {
			fail(w, http.StatusNotFound, "404", "Resource not found")
			return
		}
		key = r.Header.Get("Api-Key")
	} else if r.URL.Path != "/v1/chat/completions" && r.URL.Path != "/chat/completions" {
		fail(w, http.StatusNotFound, "unknown_url", "Unknown request URL.")
		return
	}
	if s.Key == "" || subtle.ConstantTimeCompare([]byte(key), []byte(s.Key)) != 1 {
		fail(w, http.StatusUnauthorized, "invalid_api_key", "Incorrect API key provided.")
		return
	}
	var asked request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<20)).Decode(&asked); err != nil || len(asked.Messages) == 0 {
		fail(w, http.StatusBadRequest, "invalid_request", "The request is no chat completion.")
		return
	}
	number := s.calls.Add(1)
	said := asked.answer(number)
	if asked.Stream {
		s.stream(w, r, asked.Model, number, said)
		return
	}
	finish := "stop"
	if len(said.ToolCalls) > 0 {
		finish = "tool_calls"
	}
	send(w, map[string]any{
		"id": fmt.Sprintf("chatcmpl-%d", number), "object": "chat.completion", "created": time.Now().Unix(), "model": asked.Model,
		"choices": []any{map[string]any{"index": 0, "message": said.wire(), "finish_reason": finish}},
		"usage":   map[string]int{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
	})
}

// reply is what the stand-in says: a text, or calls of tools.
type reply struct {
	Text      string
	ToolCalls []toolCall
}

func (r reply) wire() map[string]any {
	out := map[string]any{"role": "assistant", "content": r.Text}
	if len(r.ToolCalls) > 0 {
		out["content"], out["tool_calls"] = nil, r.ToolCalls
	}
	return out
}

var (
	arithmetic = regexp.MustCompile(`[-(]*\d+(\.\d+)?([)\s]*[-+*/xX][-(\s]*\d+(\.\d+)?)+\)*`)
	named      = regexp.MustCompile(`(?i)\buse (\S+)`)
	before     = regexp.MustCompile(`(?i)\b(before|remember|previous|earlier)\b`)
)

func (r request) answer(number int64) reply {
	last := r.Messages[len(r.Messages)-1]
	if last.Role == "tool" {
		return reply{Text: r.report()}
	}
	prompt := last.text()
	if match := named.FindStringSubmatch(prompt); match != nil {
		if name, argument := r.tool(strings.ToLower(match[1])); name != "" {
			return call(number, name, argument, "here")
		}
	}
	if expression := arithmetic.FindString(prompt); expression != "" {
		if name, argument := r.tool("calc"); name != "" {
			return call(number, name, argument, strings.NewReplacer("x", "*", "X", "*").Replace(expression))
		}
	}
	if strings.Contains(strings.ToLower(prompt), "weather") {
		if name, argument := r.tool("weather"); name != "" {
			return call(number, name, argument, "here")
		}
	}
	if before.MatchString(prompt) {
		var said []string
		for _, m := range r.Messages[:len(r.Messages)-1] {
			if m.Role == "user" {
				said = append(said, m.text())
			}
		}
		if len(said) == 0 {
			return reply{Text: "You said nothing before."}
		}
		return reply{Text: "Before, you said: " + strings.Join(said, " / ")}
	}
	return reply{Text: "I heard: " + prompt}
}

// report puts the tools' answers that end the conversation into words.
func (r request) report() string {
	var results []string
	for _, m := range slices.Backward(r.Messages) {
		if m.Role != "tool" {
			break
		}
		results = append(results, m.text())
	}
	slices.Reverse(results)
	return "The tool says: " + strings.Join(results, "; ")
}

// tool finds the tool on offer whose name has part in it, and its first argument.
func (r request) tool(part string) (name, argument string) {
	for _, tool := range r.Tools {
		if !strings.Contains(strings.ToLower(tool.Function.Name), part) {
			continue
		}
		for property := range tool.Function.Parameters.Properties {
			if argument == "" || property < argument {
				argument = property
			}
		}
		return tool.Function.Name, argument
	}
	return "", ""
}

func call(number int64, name, argument, value string) reply {
	arguments := map[string]string{}
	if argument != "" {
		arguments[argument] = value
	}
	text, _ := json.Marshal(arguments)
	return reply{ToolCalls: []toolCall{{ID: fmt.Sprintf("call_%d", number), Type: "function", Function: function{Name: name, Arguments: string(text)}}}}
}

// stream sends a reply in chunks: the words one by one.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, model string, number int64, said reply) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	chunk := func(delta map[string]any, finish any) bool {
		data, _ := json.Marshal(map[string]any{
			"id": fmt.Sprintf("chatcmpl-%d", number), "object": "chat.completion.chunk", "created": time.Now().Unix(), "model": model,
			"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
		})
		_, err := fmt.Fprintf(w, "data: %s\n\n", data)
		return err == nil && control.Flush() == nil
	}
	if !chunk(map[string]any{"role": "assistant", "content": ""}, nil) {
		return
	}
	finish := "stop"
	for i, call := range said.ToolCalls {
		call.Index, finish = &i, "tool_calls"
		if !chunk(map[string]any{"tool_calls": []toolCall{call}}, nil) {
			return
		}
	}
	for _, word := range strings.SplitAfter(said.Text, " ") {
		if word == "" {
			continue
		}
		if !chunk(map[string]any{"content": word}, nil) {
			return
		}
		select {
		case <-time.After(s.Pause):
		case <-r.Context().Done():
			return
		}
	}
	if chunk(map[string]any{}, finish) {
		_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
	}
}

func send(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func fail(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": text, "type": "invalid_request_error", "param": nil, "code": code}})
}
