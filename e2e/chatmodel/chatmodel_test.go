package chatmodel

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func ask(t *testing.T, url, header, key, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(header, key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}

func TestWhoIsAnswered(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&Server{Key: "k", Deployment: "d"})
	defer server.Close()
	nobody := httptest.NewServer(&Server{})
	defer nobody.Close()
	const hello = `{"messages":[{"role":"user","content":"hello"}]}`
	for name, test := range map[string]struct {
		url, header, key, body string
		want                   int
	}{
		"OpenAI":                   {server.URL + "/v1/chat/completions", "Authorization", "Bearer k", hello, 200},
		"Azure":                    {server.URL + "/openai/deployments/d/chat/completions?api-version=1", "Api-Key", "k", hello, 200},
		"parts of a message":       {server.URL + "/v1/chat/completions", "Authorization", "Bearer k", `{"messages":[{"role":"user","content":[{"type":"text","text":"hello"}]}]}`, 200},
		"another key":              {server.URL + "/v1/chat/completions", "Authorization", "Bearer x", hello, 401},
		"no key":                   {server.URL + "/v1/chat/completions", "X", "x", hello, 401},
		"a server without a key":   {nobody.URL + "/v1/chat/completions", "Authorization", "Bearer ", hello, 401},
		"Azure's key at OpenAI":    {server.URL + "/v1/chat/completions", "Api-Key", "k", hello, 401},
		"another deployment":       {server.URL + "/openai/deployments/x/chat/completions?api-version=1", "Api-Key", "k", hello, 404},
		"Azure without a version":  {server.URL + "/openai/deployments/d/chat/completions", "Api-Key", "k", hello, 404},
		"another path":             {server.URL + "/v1/embeddings", "Authorization", "Bearer k", hello, 404},
		"no chat completion":       {server.URL + "/v1/chat/completions", "Authorization", "Bearer k", `{}`, 400},
		"something else than JSON": {server.URL + "/v1/chat/completions", "Authorization", "Bearer k", `hello`, 400},
	} {
		status, body := ask(t, test.url, test.header, test.key, test.body)
		if status != test.want || status == 200 && !strings.Contains(body, "I heard: hello") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// A stream has the same words as the whole, one chunk each, and the calls of tools.
func TestStream(t *testing.T) {
	t.Parallel()
	s := &Server{Key: "k"}
	server := httptest.NewServer(s)
	defer server.Close()
	for name, test := range map[string]struct{ body, words, tool, finish string }{
		"words": {`{"stream":true,"messages":[{"role":"user","content":"hello there"}]}`, "I heard: hello there", "", "stop"},
		"tool":  {`{"stream":true,"messages":[{"role":"user","content":"2X2?"}],"tools":[{"function":{"name":"calculator","parameters":{"properties":{"expression":{}}}}}]}`, "", `calculator {"expression":"2*2"}`, "tool_calls"},
	} {
		_, body := ask(t, server.URL+"/v1/chat/completions", "Authorization", "Bearer k", test.body)
		var words, tool, finish, last string
		for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
			data, is := strings.CutPrefix(lines.Text(), "data: ")
			if !is {
				continue
			}
			last = data
			var chunk struct {
				Choices []struct {
					Delta struct {
						Content   string
						ToolCalls []toolCall `json:"tool_calls"`
					}
					FinishReason string `json:"finish_reason"`
				}
			}
			if json.Unmarshal([]byte(data), &chunk) != nil || len(chunk.Choices) != 1 {
				continue
			}
			words += chunk.Choices[0].Delta.Content
			finish += chunk.Choices[0].FinishReason
			for _, call := range chunk.Choices[0].Delta.ToolCalls {
				tool += call.Function.Name + " " + call.Function.Arguments
			}
		}
		if words != test.words || tool != test.tool || finish != test.finish || last != "[DONE]" {
			t.Errorf("%s: %q %q %q %q", name, words, tool, finish, last)
		}
	}
	if s.Calls() != 2 {
		t.Errorf("%d calls", s.Calls())
	}
}
