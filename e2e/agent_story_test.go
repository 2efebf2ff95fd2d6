package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// agentReport is what clients/python_agent.py and clients/typescript_agent.mjs print.
type agentReport struct {
	FirstConsent struct {
		First, Again []string
		States       []string
	} `json:"first_consent"`
	OfASyncFunction string `json:"of_a_sync_function"`
	Forced          struct{ Before, After string }
	SeveralAccounts struct{ Unnamed, Work, Again string } `json:"several_accounts"`
	Denied          struct {
		Error, Message string
		Seconds        float64
	}
	LocalDevelopment struct {
		Refusal            struct{ Code, Message string }
		File, First, Again string
		Kept               bool
		URLs               []string
	} `json:"local_development"`
	MachineToMachine []string `json:"machine_to_machine"`
	OnBehalfOf       struct {
		Tokens  []string
		Refusal string
	} `json:"on_behalf_of"`
	InAContainer string `json:"in_a_container"`
	NotHosted    string `json:"not_hosted"`
	APIKey       struct {
		Keys, Listed        []string
		Name, Gone, Changed string
	} `json:"api_key"`
	Hosted  map[string][]any
	Methods struct {
		Name, Gone, Session string
		URLs, Listed        []string
		CallbackURLs        []string `json:"callback_urls"`
		Tokens              []bool
		WorkloadListed      bool   `json:"workload_listed"`
		WorkloadDeleted     string `json:"workload_deleted"`
	}
}

// storyKey is the API key that the programs store and ask for.
const storyKey = "key-of-the-story"

// agentScene is a platform, and a file with all that the agents' programs need to know.
func agentScene(t *testing.T) (s *scene, file string) {
	t.Helper()
	s = startScene(t)
	folder := t.TempDir()
	values, err := json.Marshal(map[string]any{
		"person": s.personOverHTTP(), "provider": s.provider, "workload": s.agent, "return_url": returnURL, "user_token": s.signIn(demoidp.Ada),
		"discovery_url": s.idp.DiscoveryURL(), "folder": folder, "port": freePort(t), "exchange": s.exchange(),
	})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "values.json")
	if err := os.WriteFile(file, values, 0o600); err != nil {
		t.Fatal(err)
	}
	return s, file
}

// exchange makes a credential provider that exchanges the users' own tokens.
func (s *scene) exchange() (name string) {
	s.t.Helper()
	name = "exchange"
	custom := explicit(demoidp.Client{ID: "trader", Secret: "secret-of-the-trader"}, s.idp.url, s.idp.url+"/authorize", s.idp.url+"/exchange").(*control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig)
	custom.Value.OnBehalfOfTokenExchangeConfig = &control.OnBehalfOfTokenExchangeConfigType{
		GrantType:                    control.OnBehalfOfTokenExchangeGrantTypeTypeTokenExchange,
		TokenExchangeGrantTypeConfig: &control.TokenExchangeGrantTypeConfigType{ActorTokenContent: control.ActorTokenContentTypeNone},
	}
	if _, err := s.control.CreateOauth2CredentialProvider(s.t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: &name, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: custom,
	}); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// personOverHTTP is Ada for programs: asked with a link and a decision, she goes
// through with it and answers where her browser ended.
func (s *scene) personOverHTTP() (address string) {
	person := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Link, Decision string }
		err := json.NewDecoder(r.Body).Decode(&asked)
		var arrival string
		if err == nil {
			arrival, err = servertest.NewPerson(s.idp.url, demoidp.Ada).Visit(r.Context(), asked.Link, asked.Decision)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"arrival": arrival})
	}))
	s.t.Cleanup(person.Close)
	return person.URL
}

// runAgent runs a program of an agent to its end.
func (s *scene) runAgent(interpreter string, args ...string) agentReport {
	s.t.Helper()
	env := slices.DeleteFunc(s.environment(), func(v string) bool { return strings.HasPrefix(v, "DOCKER_CONTAINER=") })
	out, errOut, code := command(s.t, append(env, "PYTHONDONTWRITEBYTECODE=1"), interpreter, args...)
	var r agentReport
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil {
		s.t.Fatalf("the agent ended with %d: %v\n%s\n%s", code, err, out, errOut)
	}
	return r
}

// opens wants the token to be Ada's at the provider, and in no log of the platform.
func (s *scene) opens(what, token string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.idp.url+"/userinfo", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	var person struct{ Sub string }
	if err := json.NewDecoder(answer.Body).Decode(&person); err != nil || person.Sub != demoidp.Ada {
		s.t.Errorf("%s: the token is not Ada's: status %d, %v", what, answer.StatusCode, err)
	}
	if strings.Contains(s.logs.everything(), token) {
		s.t.Errorf("%s: the token is in the platform's log", what)
	}
}

// judge checks what both packages do in the same way.
func (r agentReport) judge(s *scene) {
	t := s.t
	t.Helper()
	first := r.FirstConsent
	if len(first.First) != 2 || first.First[0] != "who?" || !slices.Equal(first.First, first.Again) || !slices.Equal(first.States, []string{"mine"}) {
		t.Errorf("the first consent: the arguments arrived: %t, the same token twice: %t, the application was told of %q",
			len(first.First) == 2 && first.First[0] == "who?", slices.Equal(first.First, first.Again), first.States)
	} else {
		s.opens("the first consent", first.First[1])
	}
	s.opens("the forced consent", r.Forced.After)
	if r.Forced.Before == r.Forced.After {
		t.Error("a forced consent gave the token that there was")
	}
	s.opens("a second account", r.SeveralAccounts.Work)
	if a := r.SeveralAccounts; a.Unnamed == a.Work || a.Work != a.Again || a.Unnamed == "" {
		t.Errorf("two accounts have one token: %t; the second keeps its own: %t", a.Unnamed == a.Work, a.Work == a.Again)
	}
	// A denial ends the polling with the first poll; the packages give up by themselves after 10 minutes.
	if d := r.Denied; d.Error != "AccessDeniedException" || !strings.Contains(d.Message, "Invalid or expired session") || d.Seconds > 120 {
		t.Errorf("a denial: %+v", d)
	}
	if m := r.MachineToMachine; len(m) != 2 || m[0] == "" || m[0] != m[1] || slices.Contains(append(first.First, r.Forced.After), m[0]) {
		t.Error("the agent's own token is none, or not kept, or a user's")
	}
	if n := s.idp.TokenRequests("client_credentials"); n != 1 {
		t.Errorf("the provider was asked %d times for the agent's own token", n)
	}
	if o := r.OnBehalfOf; !slices.Equal(o.Tokens, slices.Repeat([]string{"on-behalf-of-ada-lovelace-1"}, 2)) || o.Refusal != "ValidationException" {
		t.Errorf("on behalf of the user: %+v", o)
	}
	if k := r.APIKey.Keys; len(k) < 2 || k[0] != "who?" || slices.ContainsFunc(k[1:], func(key string) bool { return key != storyKey }) {
		t.Errorf("the API key is not what was stored: %d values", len(k))
	}
	if strings.Contains(s.logs.everything(), storyKey) {
		t.Error("the API key is in the platform's log")
	}
	if len(r.Hosted) != 2 {
		t.Errorf("hosted: %d answers", len(r.Hosted))
	}
	for header, answer := range r.Hosted {
		if len(answer) != 2 || answer[1] != true {
			t.Errorf("hosted, with %s: the agent has not got the runtime's token", header)
			continue
		}
		s.opens("hosted, with "+header, answer[0].(string))
	}
}

// The published Python package, unmodified, for agents that act for users: its
// decorators where a runtime hosts the agent and on a developer's machine, its
// server, and the methods of its client.
func TestPublishedPythonAgentPackage(t *testing.T) {
	t.Parallel()
	python := filepath.Join("clients", ".venv", "bin", "python")
	installed, err := filepath.Glob(filepath.Join("clients", ".venv", "lib", "python3*", "site-packages", "bedrock_agentcore"))
	need(t, "bedrock-agentcore for Python", err == nil && len(installed) > 0)
	s, file := agentScene(t)
	r := s.runAgent(python, filepath.Join("clients", "python_agent.py"), file)
	r.judge(s)
	s.opens("a synchronous function", r.OfASyncFunction)
	local := r.LocalDevelopment
	if local.Refusal.Code != "ValidationException" || !strings.Contains(local.Refusal.Message, "ResourceOauth2ReturnUrl") {
		t.Errorf("local development, before the callback URL is registered: %+v", local.Refusal)
	}
	if !regexp.MustCompile("^{\n  \"workload_identity_name\": \"workload-[0-9a-f]{8}\",\n  \"user_id\": \"[0-9a-f]{8}\"\n}$").MatchString(local.File) || !local.Kept {
		t.Errorf("local development: .agentcore.json, kept: %t\n%s", local.Kept, local.File)
	}
	if local.First != local.Again || !slices.Equal(local.URLs, []string{returnURL}) {
		t.Errorf("local development: the same token twice: %t, URLs %q", local.First == local.Again, local.URLs)
	}
	s.opens("local development", local.First)
	if !strings.Contains(r.InAContainer, "X-Amzn-Bedrock-AgentCore-Runtime-User-Id") {
		t.Errorf("in a container, without a token: %q", r.InAContainer)
	}
	if k := r.APIKey; len(k.Keys) != 3 || k.Changed != "another-"+storyKey || k.Name != "python-key" || !slices.Equal(k.Listed, []string{"python-key"}) || k.Gone != "ResourceNotFoundException" {
		t.Errorf("the API key's provider: %q among %q, afterwards %q", k.Name, k.Listed, k.Gone)
	}
	m := r.Methods
	if !strings.HasPrefix(m.Name, "workload-") || !slices.Equal(m.URLs, []string{returnURL}) || !slices.Equal(m.Listed, []string{"exchange", s.provider, "python-made"}) ||
		len(m.CallbackURLs) != 1 || m.Gone != "ResourceNotFoundException" || m.Session != "AccessDeniedException" || !slices.Equal(m.Tokens, slices.Repeat([]bool{true}, 5)) ||
		!m.WorkloadListed || m.WorkloadDeleted != "ResourceNotFoundException" {
		t.Errorf("the client's methods: %+v", m)
	}
}

// The published TypeScript package, unmodified: its wrappers and its server.
func TestPublishedTypeScriptAgentPackage(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	need(t, "bedrock-agentcore for TypeScript", err == nil && exists(filepath.Join("clients", "node_modules", "bedrock-agentcore")))
	s, file := agentScene(t)
	r := s.runAgent(node, filepath.Join("clients", "typescript_agent.mjs"), file)
	r.judge(s)
	if !strings.Contains(r.NotHosted, "workloadIdentityToken not provided") {
		t.Errorf("without a token: %q", r.NotHosted)
	}
}
