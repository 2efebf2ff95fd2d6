package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/onbehalf/onbehalf/agent"
	"github.com/onbehalf/onbehalf/e2e/chatmodel"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// key is in the vault alone: no test puts it into the agent's environment.
const key = "sk-of-the-vault"

// scene is a platform with the key in its vault, and a stand-in for the model.
type scene struct {
	model *chatmodel.Server
	url   string
	vault *agent.Client
	calls atomic.Int64 // of the vault's GetResourceApiKey
	down  atomic.Bool  // the vault refuses
	env   map[string]string
}

func open(t *testing.T) *scene {
	t.Helper()
	s := &scene{model: &chatmodel.Server{Key: key, Deployment: "maths"}}
	platform := servertest.Start(t)
	if _, err := platform.Control.CreateApiKeyCredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{
		Name: aws.String(keyProvider), ApiKey: aws.String(key),
	}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.model)
	t.Cleanup(server.Close)
	s.url = server.URL
	credentials, err := platform.AWS.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.env = map[string]string{
		"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": platform.URL(), "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": platform.URL(), "AWS_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY": credentials.SecretAccessKey,
	}
	counted := platform.AWS.Copy()
	counted.HTTPClient = counting{s, platform.AWS.HTTPClient}
	s.vault = agent.NewClient(counted)
	s.vault.LocalFile = filepath.Join(t.TempDir(), ".agentcore.json")
	return s
}

// counting counts the calls for a key on their way to the platform.
type counting struct {
	scene *scene
	next  aws.HTTPClient
}

func (c counting) Do(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/api-key") {
		c.scene.calls.Add(1)
		if c.scene.down.Load() {
			return nil, errors.New("no way to the vault")
		}
	}
	if c.next == nil {
		return http.DefaultClient.Do(r)
	}
	return c.next.Do(r)
}

// assistant is one that has its key from the scene's vault.
func (s *scene) assistant(env func(string) string) *Assistant {
	model := NewModel(env)
	model.vault = s.vault
	return NewAssistant(model, "")
}

func (s *scene) openAI(name string) string {
	return map[string]string{"OPENAI_BASE_URL": s.url + "/v1/"}[name]
}

func (s *scene) azure(name string) string {
	return map[string]string{"OPENAI_PROVIDER": "azure", "AZURE_OPENAI_ENDPOINT": s.url, "AZURE_OPENAI_API_VERSION": "2024-10-21", "AZURE_OPENAI_DEPLOYMENT": "maths"}[name]
}

func TestAssistant(t *testing.T) {
	t.Parallel()
	s := open(t)
	for provider, env := range map[string]func(string) string{"OpenAI": s.openAI, "Azure": s.azure} {
		a := s.assistant(env)
		for _, test := range []struct{ prompt, want string }{
			{"How much is 2X2?", "The tool says: 4"},
			{"And (1+2)*3.5?", "The tool says: 10.5"},
			{"1/0, please", "error: a division by zero"},
			{"What is the weather now?", "The tool says: sunny"},
			{"What did I say before?", "Before, you said: How much is 2X2? / And (1+2)*3.5? / 1/0, please / What is the weather now?"},
		} {
			got, err := a.Answer(t.Context(), Prompt{test.prompt})
			if err != nil || !strings.Contains(got, test.want) {
				t.Errorf("%s: %q: %q, %v; want %q", provider, test.prompt, got, err, test.want)
			}
		}
	}
}

// Many first calls at once fetch the key once, and a failure is not remembered.
func TestTheKeyIsFetchedOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := s.assistant(s.openAI)
	s.down.Store(true)
	if _, err := a.Answer(t.Context(), Prompt{"How much is 2X2?"}); err == nil || !strings.Contains(err.Error(), keyProvider) {
		t.Fatalf("without a way to the key: %v", err)
	}
	s.down.Store(false)
	s.calls.Store(0)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := a.Answer(t.Context(), Prompt{"What is the weather now?"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if s.calls.Load() != 1 || s.model.Calls() != 100 {
		t.Errorf("the key was fetched %d times, and the model asked %d times", s.calls.Load(), s.model.Calls())
	}
}

// A key that the model refuses is told of, and is not in the message.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.model.Key = "another"
	_, err := s.assistant(s.openAI).Answer(t.Context(), Prompt{"How much is 2X2?"})
	if err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), key) {
		t.Error(err)
	}
}

// A provider that is none of the two gets no key of theirs.
func TestUnknownProvider(t *testing.T) {
	t.Parallel()
	a := NewAssistant(NewModel(func(name string) string {
		return map[string]string{"OPENAI_PROVIDER": "azur", "OPENAI_API_KEY": key}[name]
	}), "")
	if _, err := a.Answer(t.Context(), Prompt{"How much is 2X2?"}); err == nil || !strings.Contains(err.Error(), "neither openai nor azure") {
		t.Errorf("got %v", err)
	}
}

func TestSessionsDoNotShareMemories(t *testing.T) {
	t.Parallel()
	s := open(t)
	app := agent.New().Entrypoint(s.assistant(s.openAI).Answer)
	say := func(session, prompt string) string {
		t.Helper()
		body, _ := json.Marshal(Prompt{prompt})
		r := httptest.NewRequest("POST", "/invocations", strings.NewReader(string(body)))
		r.Header.Set("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", session)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		if w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		return w.Body.String()
	}
	say("one", "my cat is called Ada")
	if got := say("one", "what did I say before?"); !strings.Contains(got, "Ada") {
		t.Error(got)
	}
	if got := say("two", "what did I say before?"); strings.Contains(got, "Ada") {
		t.Error("another session's memory: " + got)
	}
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("POST", "/invocations", strings.NewReader(`{"text":"hello"}`)))
	if w.Code != 400 || !strings.Contains(w.Body.String(), "no prompt") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestCalculate(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{"2*2": "4", "0.1+0.2": "0.3", "-(3-5)/4": "0.5", "1e3*2": "2000"} {
		if got, err := calculate(expression); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %s", expression, got, err, want)
		}
	}
	for _, expression := range []string{"", "1/0", "1/(2-2)", "os.Exit(1)", "1<<100000000", `"a"+"b"`, "2**3", strings.Repeat("(", 2000), "1e999999999"} {
		if got, err := calculate(expression); err == nil {
			t.Errorf("%.20q = %q", expression, got)
		}
	}
}

// Tools of a gateway are the model's, too, and are called as the user of the call.
func TestGateway(t *testing.T) {
	t.Parallel()
	s := open(t)
	var seen atomic.Value
	upstream := mcp.NewServer(&mcp.Implementation{Name: "mail", Version: "1"}, nil)
	mcp.AddTool(upstream, &mcp.Tool{Name: "mail___unread", Description: "Counts unread mail."}, func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		seen.Store(r.Extra.Header.Get("Authorization"))
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "three"}}}, nil, nil
	})
	mcp.AddTool(upstream, &mcp.Tool{Name: "mail___send", Description: "Sends mail."}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: "open https://onbehalf.example/authorize first"}}}, nil, nil
	})
	gateway := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return upstream }, nil))
	defer gateway.Close()
	a := s.assistant(s.openAI)
	a.gateway = gateway.URL
	app := agent.New().Entrypoint(a.Answer)
	for prompt, want := range map[string]string{"use mail___unread": "The tool says: three", "use mail___send": "open https://onbehalf.example/authorize first"} {
		r := httptest.NewRequest("POST", "/invocations", strings.NewReader(`{"prompt":"`+prompt+`"}`))
		r.Header.Set("Authorization", "Bearer of-ada")
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", prompt, w.Code, w.Body)
		}
	}
	if seen.Load() != "Bearer of-ada" {
		t.Errorf("the gateway was called as %v", seen.Load())
	}
	a.gateway = "http://127.0.0.1:1/mcp"
	if _, err := a.Answer(t.Context(), Prompt{"hello"}); err == nil || !strings.Contains(err.Error(), "the gateway http://127.0.0.1:1/mcp") {
		t.Errorf("without a gateway: %v", err)
	}
}

// The command as a person runs it.
func TestCommand(t *testing.T) {
	t.Parallel()
	s := open(t)
	folder := t.TempDir()
	binary := filepath.Join(folder, "openaiagent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.env["OPENAI_BASE_URL"], s.env["PATH"], s.env["HOME"] = s.url+"/v1/", os.Getenv("PATH"), folder
	run := func(arguments ...string) (string, error) {
		command := exec.CommandContext(t.Context(), binary, arguments...)
		command.Dir = folder
		for name, value := range s.env {
			command.Env = append(command.Env, name+"="+value)
		}
		out, err := command.CombinedOutput()
		return string(out), err
	}
	if out, err := run(`{"prompt": "What is the weather now?"}`); err != nil || !strings.Contains(out, "sunny") {
		t.Errorf("%s %v", out, err)
	}
	if out, err := run(`weather`); err == nil || !strings.Contains(out, "is no payload like") {
		t.Errorf("%s %v", out, err)
	}
	if content, err := os.ReadFile(filepath.Join(folder, ".agentcore.json")); err != nil || strings.Contains(string(content), key) {
		t.Errorf("%s %v", content, err)
	}
}
