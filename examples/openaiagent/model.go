package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/option"

	"github.com/onbehalf/onbehalf/agent"
)

// keyProvider is the API-key credential provider that holds the model's key.
const keyProvider = "openai-apikey-provider"

// Model is a chat model. Its key is fetched when it is first needed, once, however
// many calls come first; a failure is not remembered.
type Model struct {
	env   func(string) string
	vault *agent.Client // nil means [agent.Default]

	mu     sync.Mutex
	client *openai.Client
}

// NewModel takes its settings from env:
//
//	OPENAI_PROVIDER            openai (default) or azure
//	OPENAI_BASE_URL            of an OpenAI-compatible server
//	AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_API_VERSION, AZURE_OPENAI_DEPLOYMENT
//	OPENAI_API_KEY, AZURE_OPENAI_API_KEY    the key, for a run without a vault
func NewModel(env func(string) string) *Model { return &Model{env: env} }

func (m *Model) azure() bool { return strings.EqualFold(m.env("OPENAI_PROVIDER"), "azure") }

// name is what the request asks for: a model, or Azure's deployment of one.
func (m *Model) name() string {
	if deployment := m.env("AZURE_OPENAI_DEPLOYMENT"); m.azure() && deployment != "" {
		return deployment
	}
	return "gpt-4.1-mini"
}

// Complete asks for the next message of a conversation.
func (m *Model) Complete(ctx context.Context, messages []openai.ChatCompletionMessageParamUnion, tools []openai.ChatCompletionToolUnionParam) (openai.ChatCompletionMessage, error) {
	client, err := m.ready(ctx)
	if err != nil {
		return openai.ChatCompletionMessage{}, err
	}
	completion, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
		Model: m.name(), Messages: messages, Tools: tools,
		MaxTokens: openai.Int(32000), Temperature: openai.Float(0.7),
	})
	if err != nil {
		return openai.ChatCompletionMessage{}, fmt.Errorf("the model: %w", err)
	}
	if len(completion.Choices) == 0 {
		return openai.ChatCompletionMessage{}, fmt.Errorf("the model said nothing")
	}
	return completion.Choices[0].Message, nil
}

// ready is the client, with the key. Callers that come while it is fetched wait for it.
func (m *Model) ready(ctx context.Context) (*openai.Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.client != nil {
		return m.client, nil
	}
	if provider := m.env("OPENAI_PROVIDER"); provider != "" && !m.azure() && !strings.EqualFold(provider, "openai") {
		return nil, fmt.Errorf("OPENAI_PROVIDER=%s is neither openai nor azure", provider) // and the key is not for somebody else
	}
	key, err := m.key(ctx)
	if err != nil {
		return nil, err
	}
	options := []option.RequestOption{option.WithAPIKey(key)}
	if url := m.env("OPENAI_BASE_URL"); url != "" {
		options = append(options, option.WithBaseURL(url))
	}
	if m.azure() {
		endpoint, version := m.env("AZURE_OPENAI_ENDPOINT"), m.env("AZURE_OPENAI_API_VERSION")
		if endpoint == "" || version == "" {
			return nil, fmt.Errorf("OPENAI_PROVIDER=azure needs AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_VERSION")
		}
		options = []option.RequestOption{azure.WithEndpoint(endpoint, version), azure.WithAPIKey(key)}
		if plainLoopback(endpoint) {
			options = append(options, azure.WithUnsafeAllowHTTP()) // a stand-in on this machine
		}
	}
	client := openai.NewClient(options...)
	m.client = &client
	return m.client, nil
}

// key is the environment's, where a developer has set it, else the vault's.
func (m *Model) key(ctx context.Context) (string, error) {
	variable := "OPENAI_API_KEY"
	if m.azure() {
		variable = "AZURE_OPENAI_API_KEY"
	}
	if key := m.env(variable); key != "" {
		return key, nil
	}
	key, err := agent.APIKey(ctx, agent.APIKeyOptions{Provider: keyProvider, Client: m.vault})
	return key.Reveal(), err
}

func plainLoopback(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
