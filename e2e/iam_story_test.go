package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTutorialsRole: boto3 and the AWS CLI, unmodified, make an agent's role,
// give it the tutorial's policy, list, read and take it away again, and ask who
// they are: with nothing but the environment that `onbehalf env --iam` prints.
func TestTutorialsRole(t *testing.T) {
	t.Parallel()
	python := filepath.Join("clients", ".venv", "bin", "python")
	need(t, "boto3 and the AWS CLI", exists(python) && exists(filepath.Join("clients", ".venv", "bin", "aws")))
	p := startPlatform(t)
	printed, err := exec.Command(onbehalfBinary, "env", "--iam", "--data", p.data, "--output", "dotenv").Output()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(python, filepath.Join("clients", "iam_role.py"))
	command.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "AWS_MAX_ATTEMPTS=1"}
	for line := range strings.Lines(string(printed)) {
		command.Env = append(command.Env, strings.ReplaceAll(strings.TrimSpace(line), "'", ""))
	}
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, problems.String())
	}
	var got any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"boto3": map[string]any{
			"account": "000000000000", "arn": "arn:aws:iam::000000000000:root", "created": "arn:aws:iam::000000000000:role/tutorial", "again": "EntityAlreadyExists", "trust": true,
			"tags": []any{map[string]any{"Key": "team", "Value": "red"}}, "pages": []any{"agent-policy", "second"}, "policy": true, "conflict": "DeleteConflict", "gone": "NoSuchEntity",
			"malformed": "MalformedPolicyDocument",
		},
		"cli": map[string]any{
			"account": "000000000000", "created": "arn:aws:iam::000000000000:role/cli", "put": map[string]any{}, "policy": true, "listed": []any{"agent-policy"},
			"deleted": []any{map[string]any{}, map[string]any{}}, "gone": true,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
