package e2e

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/agent/deploy"
)

// tutorialPolicy is the tutorial's, word for word: two statements.
const tutorialPolicy = `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": ["bedrock-agentcore:GetResourceApiKey"], "Resource": "*"},
    {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": ["arn:aws:secretsmanager:*:*:secret:bedrock-agentcore*"]}
  ]
}
`

const tutorialUser = "userid_1234567890"

// workshops are the folders from which a person launches the tutorial's agent, and
// what `onbehalf agent configure` is told there.
var workshops = map[string]func(t *testing.T) (folder string, flags []string){
	"Go": func(t *testing.T) (string, []string) {
		folder := copied(t, "../examples/openaiagent")
		root, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, filepath.Join(folder, "go.mod"), "=> ../..", "=> "+root)
		return folder, nil
	},
	"Python": func(t *testing.T) (string, []string) {
		needAgentPackages(t)
		return copied(t, "agents/strands"), []string{"--entrypoint", "strands_agents_openai.py", "--requirements", "requirements.txt"}
	},
	"TypeScript": func(t *testing.T) (string, []string) {
		needAgentPackages(t)
		needNode(t)
		folder := t.TempDir()
		for _, name := range []string{"agent.ts", "package.json"} {
			content, err := os.ReadFile(filepath.Join("agents", "typescript", name))
			if err == nil {
				err = os.WriteFile(filepath.Join(folder, name), content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		modules, err := filepath.Abs("agents/typescript/node_modules")
		if err == nil {
			err = os.Symlink(modules, filepath.Join(folder, "node_modules"))
		}
		if err == nil { // the entry point has to be there when it is named
			err = os.WriteFile(filepath.Join(folder, "agent.mjs"), nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return folder, []string{"--entrypoint", "agent.mjs", "--build", "npm run --silent build"}
	},
}

// The tutorial from end to end with the commands, and then with the Go package
// that they stand on, from the same folder.
func TestTutorialOnTheRuntimeByCommandAndPackage(t *testing.T) {
	t.Parallel()
	for language, workshop := range workshops {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			folder, flags := workshop(t)
			h := startHosting(t)
			h.launchByCommand(folder, flags)
			if !t.Failed() {
				h.launchByPackage(folder)
			}
			h.noProcesses()
			if strings.Contains(h.logs.everything(), modelKey) {
				t.Error("the key is in the platform's log")
			}
		})
	}
}

// commandIn runs `onbehalf` in a folder, as a person does whose packages are on this machine already.
func (h *hosting) commandIn(folder string, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	wheels, err := filepath.Abs(filepath.Join("agents", ".wheels"))
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 4*time.Minute)
	defer cancel()
	var out, said strings.Builder
	c := exec.CommandContext(ctx, onbehalfBinary, args...)
	c.Dir, c.Stdout, c.Stderr = folder, &out, &said
	c.Env = append(h.environment(), "PIP_NO_INDEX=1", "PIP_FIND_LINKS="+wheels, "npm_config_prefer_offline=true")
	if err := c.Run(); err != nil && c.ProcessState == nil {
		h.t.Fatal(err)
	}
	return out.String(), said.String(), c.ProcessState.ExitCode()
}

// must is commandIn that has to succeed.
func (h *hosting) must(folder string, args ...string) (stdout string) {
	h.t.Helper()
	began := time.Now()
	out, said, code := h.commandIn(folder, args...)
	if code != 0 {
		h.t.Fatalf("onbehalf %s: exit %d\n%s\n%s", strings.Join(args, " "), code, out, said)
	}
	h.t.Logf("%6.1f s  onbehalf %s", time.Since(began).Seconds(), strings.Join(args[:2], " "))
	return out
}

func (h *hosting) launchByCommand(folder string, flags []string) {
	t := h.t
	t.Helper()
	h.must(folder, append([]string{"agent", "configure", "--non-interactive", "--name", "strands_agents_openai", "--env", "OPENAI_BASE_URL=" + h.modelURL + "/v1"}, flags...)...)
	h.must(folder, "agent", "launch")
	var status map[string]any
	if err := json.Unmarshal([]byte(h.must(folder, "agent", "status", "--output", "json")), &status); err != nil {
		t.Errorf("agent status: %v", err)
	}
	ask := func(prompt string) (string, string, int) {
		return h.commandIn(folder, "agent", "invoke", `{"prompt": "`+prompt+`"}`, "--user-id", tutorialUser)
	}
	if out, said, code := ask("How much is 2X2?"); code == 0 || !strings.Contains(said, "bedrock-agentcore:GetResourceApiKey") || !strings.Contains(said, "not authorized") {
		t.Errorf("without the policy invoke ends with %d: %s\n%s", code, out, said)
	}
	policy := filepath.Join(folder, "policy.json")
	if err := os.WriteFile(policy, []byte(tutorialPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(folder, "agent", "policy", "put", "policy.json")
	for _, turn := range [][2]string{
		{"How much is 2X2?", "The tool says: 4"}, {"What is the weather now?", "The tool says: sunny"},
		{"What did I say before?", "Before, you said: How much is 2X2? / What is the weather now?"},
	} {
		if out, said, code := ask(turn[0]); code != 0 || !strings.Contains(out, turn[1]) {
			t.Fatalf("%q: exit %d, %s\n%s; want %q", turn[0], code, out, said, turn[1])
		}
	}
	if out := h.must(folder, "agent", "sessions"); !strings.Contains(out, tutorialUser) {
		t.Errorf("agent sessions prints\n%s", out)
	}
	if out := h.must(folder, "agent", "logs"); strings.Contains(out, modelKey) {
		t.Error("the key is in the agent's log")
	}
	h.must(folder, "agent", "stop-session", "--user-id", tutorialUser)
	if out, said, code := ask("What did I say before?"); code != 0 || strings.Contains(out, "2X2") {
		t.Errorf("a conversation after its session was stopped: exit %d, %s\n%s", code, out, said)
	}
	h.must(folder, "agent", "destroy", "--yes")
	h.nothingLeft()
}

// nothingLeft: neither runtime nor role of the agent is there any more.
func (h *hosting) nothingLeft() {
	h.t.Helper()
	listed, err := h.control.ListAgentRuntimes(h.t.Context(), &bedrockagentcorecontrol.ListAgentRuntimesInput{})
	if err != nil || len(listed.AgentRuntimes) != 0 {
		h.t.Errorf("after destroy %d runtimes are there, %v", len(listed.AgentRuntimes), err)
	}
	if roles := string(h.operate("", "roles", "list")); strings.Contains(roles, "strands_agents_openai") {
		h.t.Errorf("after destroy the role is there:\n%s", roles)
	}
}

func (h *hosting) launchByPackage(folder string) {
	t := h.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	agent, err := deploy.Load(filepath.Join(folder, deploy.File))
	if err != nil {
		t.Fatal(err)
	}
	c, err := deploy.NewClient(h.aws, func(o *deploy.Options) { o.BaseEndpoint = h.url })
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Launch(ctx, agent, deploy.LaunchOptions{})
	if err != nil || made.Status != "READY" || made.Version != "1" {
		t.Fatalf("Launch: %+v, %v", made, err)
	}
	session := ""
	ask := func(prompt string) (string, error) {
		answer, err := c.Invoke(ctx, agent, deploy.Invocation{Payload: deploy.Payload(prompt), UserID: tutorialUser, SessionID: session})
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		session = answer.SessionID
		text, err := io.ReadAll(answer.Body)
		return string(text), err
	}
	if text, err := ask("How much is 2X2?"); err == nil || !strings.Contains(err.Error(), "bedrock-agentcore:GetResourceApiKey") {
		t.Errorf("without the policy: %q, %v", text, err)
	}
	if _, err := c.PutPolicy(ctx, agent, tutorialPolicy); err != nil {
		t.Fatal(err)
	}
	for _, turn := range [][2]string{{"How much is 2X2?", "The tool says: 4"}, {"What did I say before?", "Before, you said: How much is 2X2?"}} {
		if text, err := ask(turn[0]); err != nil || !strings.Contains(text, turn[1]) {
			t.Fatalf("%q: %q, %v; want %q", turn[0], text, err, turn[1])
		}
	}
	gone, err := c.Destroy(ctx, agent, false)
	if err != nil || gone.Runtime != made.ARN || gone.Role == "" {
		t.Errorf("Destroy: %+v, %v", gone, err)
	}
	h.nothingLeft()
}

// copied is a copy of a folder of sources.
func copied(t *testing.T, folder string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(folder))
	if err := os.CopyFS(to, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	return to
}

// rewrite replaces a text in a file.
func rewrite(t *testing.T, path, old, new string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil && !strings.Contains(string(content), old) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err == nil {
		err = os.WriteFile(path, []byte(strings.ReplaceAll(string(content), old, new)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
