package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// refusal is an error of AWS's as the Python programs print it.
type refusal struct {
	Code, Message string
	Status        int
}

// tutorialReport is what clients/runtime_tutorial.py prints.
type tutorialReport struct {
	Steps         []string
	Status        []string
	Workload      bool
	WithoutPolicy *refusal `json:"without_policy"`
	Answers       []string
	ByEndpoint    string `json:"by_endpoint"`
	Versions      []any
	Listed        bool
	Sessions      []any
	Log           []string
	StoppedTwice  *refusal `json:"stopped_twice"`
	Gone          *refusal
	InvokedAfter  *refusal `json:"invoked_after"`
}

// The tutorial from end to end with boto3: the key into the vault, the agent
// onto the runtime under a role of its own, refused without the policy, at work
// with it, remembering, and removed.
func TestTutorialOnTheRuntimeByBoto3(t *testing.T) {
	t.Parallel()
	for language, agent := range tutorialAgents {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			python := filepath.Join("clients", ".venv", "bin", "python")
			need(t, "boto3", exists(python))
			c := agent(t)
			h := startHostingWithoutKey(t)
			r := h.tutorial(python, c)
			if want := []string{"provider", "role", "code", "runtime", "policy", "invoked", "stopped", "removed"}; !slices.Equal(r.Steps, want) {
				t.Errorf("done: %q, want %q", r.Steps, want)
			}
			if !slices.Equal(r.Status, []string{"READY", ""}) || !r.Workload || !r.Listed {
				t.Errorf("the runtime is %q; its workload identity is its own: %t; listed: %t", r.Status, r.Workload, r.Listed)
			}
			// The agent's own error is answered with 424; in it are the words of the 403 that the agent got.
			if p := r.WithoutPolicy; p == nil || p.Code != "RuntimeClientError" || p.Status != 424 || !strings.Contains(p.Message, "is not authorized to perform: bedrock-agentcore:GetResourceApiKey") {
				t.Errorf("without the policy: %+v", p)
			}
			r.checkAnswers(t)
			wantSession := []any{true, "IDLE", map[string]any{"userId": "userid_1234567890"}}
			if len(r.Sessions) != 1 || cmp.Diff(wantSession, r.Sessions[0]) != "" {
				t.Errorf("sessions: %v, want %v", r.Sessions, wantSession)
			}
			if diff := cmp.Diff([]any{"2", []any{"2", "1"}}, r.Versions); diff != "" {
				t.Errorf("versions after an update: %s", diff)
			}
			for what, p := range map[string]*refusal{"a session stopped twice": r.StoppedTwice, "the runtime, deleted": r.Gone, "a call after that": r.InvokedAfter} {
				if p == nil || p.Code != "ResourceNotFoundException" || p.Status != 404 {
					t.Errorf("%s: %+v", what, p)
				}
			}
			if strings.Contains(strings.Join(r.Log, "\n"), modelKey) || strings.Contains(h.logs.everything(), modelKey) {
				t.Error("the key is in a log")
			}
			h.noProcesses()
		})
	}
}

// checkAnswers: the tool loop's answers, and what the conversation was.
func (r tutorialReport) checkAnswers(t *testing.T) {
	t.Helper()
	for i, want := range []string{"The tool says: 4", "The tool says: sunny", "Before, you said: How much is 2X2? / What is the weather now?"} {
		if len(r.Answers) != 3 || !strings.Contains(r.Answers[i], want) {
			t.Errorf("answers %q, want in answer %d: %q", r.Answers, i, want)
			return
		}
	}
	if want := "Before, you said: How much is 2X2? / What is the weather now? / What did I say before?"; !strings.Contains(r.ByEndpoint, want) {
		t.Errorf("named by its endpoint the session answers %q, want %q in it", r.ByEndpoint, want)
	}
}

// tutorial runs the program, with the environment that `onbehalf env --iam` prints and nothing else.
func (h *hosting) tutorial(python string, c code) (r tutorialReport) {
	h.t.Helper()
	folder := h.t.TempDir()
	archive, file, models := filepath.Join(folder, "code.zip"), filepath.Join(folder, "given.json"), filepath.Join(folder, "models")
	if _, said, code := command(h.t, os.Environ(), onbehalfBinary, "model", "--into", models); code != 0 {
		h.t.Fatal(said)
	}
	given, err := json.Marshal(map[string]any{
		"name": "strands_agents_openai", "key": modelKey, "archive": archive, "models": models, "runtime": c.runtime, "entry_point": c.entry,
		"environment": map[string]string{"OPENAI_BASE_URL": h.modelURL + "/v1"},
	})
	if err == nil {
		err = os.WriteFile(file, given, 0o600)
	}
	if err == nil {
		err = os.WriteFile(archive, c.archive, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	printed, err := exec.Command(onbehalfBinary, "env", "--iam", "--data", h.data, "--output", "dotenv").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + folder, "AWS_EC2_METADATA_DISABLED=true", "PYTHONDONTWRITEBYTECODE=1"}
	for line := range strings.Lines(string(printed)) {
		env = append(env, strings.ReplaceAll(strings.TrimSpace(line), "'", ""))
	}
	out, errOut, exit := commandFor(h.t, 5*time.Minute, env, python, filepath.Join("clients", "runtime_tutorial.py"), file)
	if err := json.Unmarshal([]byte(out), &r); exit != 0 || err != nil {
		h.t.Fatalf("the tutorial ended with %d: %v\n%s\n%s", exit, err, out, errOut)
	}
	return r
}
