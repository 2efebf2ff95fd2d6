package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/openai/openai-go/v3"

	"github.com/onbehalf/onbehalf/agent"
)

const (
	systemPrompt = "You are a helpful assistant. You can do simple maths calculations, and you can tell the weather."
	// mostRounds bounds how often the model may ask for tools before it answers.
	mostRounds = 10
	// mostRemembered bounds a conversation, in messages; the oldest are forgotten.
	mostRemembered = 100
)

// Assistant holds conversations: the model is asked, has its tools called, and is
// asked again until it answers. It remembers each session's; a runtime gives each
// session a process of its own, so there is one.
type Assistant struct {
	model   *Model
	gateway string // URL of an MCP gateway, or ""

	mu       sync.Mutex
	sessions map[string]*conversation
}

// conversation is of one session. Its calls take turns.
type conversation struct {
	sync.Mutex
	messages []openai.ChatCompletionMessageParamUnion
}

// NewAssistant is an assistant without memories.
func NewAssistant(model *Model, gateway string) *Assistant {
	return &Assistant{model: model, gateway: gateway, sessions: map[string]*conversation{}}
}

// Answer answers a prompt. A call that fails leaves the conversation as it was.
func (a *Assistant) Answer(ctx context.Context, in Prompt) (string, error) {
	if strings.TrimSpace(in.Prompt) == "" {
		return "", &agent.HTTPError{Status: 400, Message: `the payload has no prompt: {"prompt": "How much is 2X2?"}`}
	}
	tools := ownTools()
	if a.gateway != "" {
		g, err := openGateway(ctx, a.gateway)
		if err != nil {
			return "", err
		}
		defer g.Close()
		tools = append(tools, g.tools...)
	}
	c := a.conversation(agent.SessionID(ctx))
	c.Lock()
	defer c.Unlock()
	messages := append(c.messages[:len(c.messages):len(c.messages)], openai.UserMessage(in.Prompt))
	for range mostRounds {
		said, err := a.model.Complete(ctx, append([]openai.ChatCompletionMessageParamUnion{openai.SystemMessage(systemPrompt)}, messages...), params(tools))
		if err != nil {
			return "", err
		}
		messages = append(messages, said.ToParam())
		if len(said.ToolCalls) == 0 {
			c.messages = recent(messages)
			return said.Content, nil
		}
		for _, call := range said.ToolCalls {
			messages = append(messages, openai.ToolMessage(use(ctx, tools, call.Function.Name, call.Function.Arguments), call.ID))
		}
	}
	return "", fmt.Errorf("the model still asked for tools after %d rounds", mostRounds)
}

func (a *Assistant) conversation(session string) *conversation {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.sessions[session]
	if c == nil {
		c = &conversation{}
		a.sessions[session] = c
	}
	return c
}

// use calls a tool; what goes wrong is the model's to read.
func use(ctx context.Context, tools []Tool, name, arguments string) string {
	for _, tool := range tools {
		if tool.Name != name {
			continue
		}
		if arguments == "" {
			arguments = "{}"
		}
		result, err := tool.Call(ctx, json.RawMessage(arguments))
		if err != nil {
			return "error: " + err.Error()
		}
		return result
	}
	return "error: there is no tool called " + name
}

// recent is the end of a conversation that begins with what the user said: a
// tool's answer without its question would be refused.
func recent(messages []openai.ChatCompletionMessageParamUnion) []openai.ChatCompletionMessageParamUnion {
	for from := max(0, len(messages)-mostRemembered); from < len(messages); from++ {
		if messages[from].OfUser != nil {
			return messages[from:]
		}
	}
	return nil
}

func params(tools []Tool) []openai.ChatCompletionToolUnionParam {
	out := make([]openai.ChatCompletionToolUnionParam, len(tools))
	for i, tool := range tools {
		out[i] = tool.param()
	}
	return out
}
