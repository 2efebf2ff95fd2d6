package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/agent"
)

// developer is a client outside of any runtime, and what its platform was asked.
func developer(t *testing.T, answer func(int, call) (int, any)) (*agent.Client, *wire) {
	t.Helper()
	if answer == nil {
		answer = func(_ int, c call) (int, any) {
			return 200, object{"name": c.Body["name"], "workloadIdentityArn": "arn", "workloadAccessToken": workloadToken, "apiKey": "key"}
		}
	}
	client, wire := over(answer)
	client.LocalFile = filepath.Join(t.TempDir(), ".agentcore.json")
	return client, wire
}

func operations(calls []call) string {
	var names []string
	for _, c := range calls {
		names = append(names, c.Operation)
	}
	return strings.Join(names, " ")
}

// The first call makes an identity and a file, as the Python package does; the next one finds them.
func TestLocalDevelopment(t *testing.T) {
	t.Parallel()
	client, wire := developer(t, nil)
	for range 2 {
		if _, err := agent.APIKey(t.Context(), agent.APIKeyOptions{Provider: "weather", Client: client}); err != nil {
			t.Fatal(err)
		}
	}
	calls := wire.seen()
	if got := operations(calls); got != "CreateWorkloadIdentity GetWorkloadAccessTokenForUserId api-key GetWorkloadAccessTokenForUserId api-key" {
		t.Fatal(got)
	}
	if urls, there := calls[0].Body["allowedResourceOauth2ReturnUrls"]; !there || len(urls.([]any)) != 0 {
		t.Errorf("the identity was made with %v", calls[0].Body)
	}
	content, err := os.ReadFile(client.LocalFile)
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile("^{\n  \"workload_identity_name\": \"(workload-[0-9a-f]{8})\",\n  \"user_id\": \"([0-9a-f]{8})\"\n}$").FindStringSubmatch(string(content))
	if form == nil {
		t.Fatalf("the file: %s", content)
	}
	for _, c := range []call{calls[1], calls[3]} {
		if c.Body["workloadName"] != form[1] || c.Body["userId"] != form[2] {
			t.Errorf("the file names %q and %q, the platform was asked for %v", form[1], form[2], c.Body)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(client.LocalFile)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A file of the Python package's, whole or in part, is gone on with.
func TestLocalFileThatIsThere(t *testing.T) {
	t.Parallel()
	for content, asked := range map[string]string{
		`{"workload_identity_name": "workload-0a1b2c3d", "user_id": "4e5f6071", "more": 1}`: "GetWorkloadAccessTokenForUserId api-key",
		`{"workload_identity_name": "workload-0a1b2c3d"}`:                                   "GetWorkloadAccessTokenForUserId api-key",
		`{"user_id": "4e5f6071"}`: "CreateWorkloadIdentity GetWorkloadAccessTokenForUserId api-key",
		`{}`:                      "CreateWorkloadIdentity GetWorkloadAccessTokenForUserId api-key",
	} {
		client, wire := developer(t, nil)
		if err := os.WriteFile(client.LocalFile, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := agent.APIKey(t.Context(), agent.APIKeyOptions{Provider: "weather", Client: client}); err != nil {
			t.Errorf("%s: %v", content, err)
			continue
		}
		calls := wire.seen()
		if operations(calls) != asked {
			t.Errorf("%s: %s", content, operations(calls))
		}
		who := calls[len(calls)-2].Body
		if strings.Contains(content, "workload-") && who["workloadName"] != "workload-0a1b2c3d" || strings.Contains(content, "user_id") && who["userId"] != "4e5f6071" {
			t.Errorf("%s: asked for %v", content, who)
		}
		written, err := os.ReadFile(client.LocalFile)
		if err != nil || !strings.Contains(string(written), who["workloadName"].(string)) || !strings.Contains(string(written), who["userId"].(string)) {
			t.Errorf("%s: the file is now %s, %v", content, written, err)
		}
	}
}

// Agents that start together are one agent.
func TestLocalIdentityIsMadeOnce(t *testing.T) {
	t.Parallel()
	client, wire := developer(t, nil)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if _, err := agent.APIKey(t.Context(), agent.APIKeyOptions{Provider: "weather", Client: client}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := strings.Count(operations(wire.seen()), "CreateWorkloadIdentity"); n != 1 {
		t.Errorf("%d identities were made", n)
	}
}

func TestLocalDevelopmentThatFails(t *testing.T) {
	t.Parallel()
	get := func(client *agent.Client) error {
		_, err := agent.APIKey(t.Context(), agent.APIKeyOptions{Provider: "weather", Client: client})
		return err
	}
	client, wire := developer(t, nil)
	if err := os.WriteFile(client.LocalFile, []byte(`{"workload_`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := get(client); !errors.Is(err, agent.ErrNoWorkloadToken) || !strings.Contains(err.Error(), "mend the file or delete it") {
		t.Errorf("a broken file: %v", err)
	}
	client.LocalFile = filepath.Join(t.TempDir(), "no", "such", "folder")
	if err := get(client); !errors.Is(err, agent.ErrNoWorkloadToken) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if len(wire.seen()) > 0 {
		t.Errorf("an identity was made that nobody remembers: %s", operations(wire.seen()))
	}
	client, _ = developer(t, func(int, call) (int, any) {
		return 404, exception("ResourceNotFoundException", "WorkloadIdentity workload-0a1b2c3d not found.")
	})
	if err := os.WriteFile(client.LocalFile, []byte(`{"workload_identity_name": "workload-0a1b2c3d", "user_id": "4e5f6071"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := get(client); !errors.Is(err, agent.ErrNotFound) || !strings.Contains(err.Error(), "workload-0a1b2c3d: ") || !strings.Contains(err.Error(), ".agentcore.json") {
		t.Errorf("an identity of another platform: %v", err)
	}
}

// In a container that a runtime started there is no local development.
func TestHostedWithoutToken(t *testing.T) {
	t.Setenv("DOCKER_CONTAINER", "1")
	client, wire := developer(t, nil)
	_, err := agent.APIKey(agent.WithWorkloadToken(t.Context(), ""), agent.APIKeyOptions{Provider: "weather", Client: client})
	if !errors.Is(err, agent.ErrNoWorkloadToken) || !strings.Contains(err.Error(), "X-Amzn-Bedrock-AgentCore-Runtime-User-Id") || len(wire.seen()) > 0 {
		t.Error(err)
	}
	if _, err := agent.APIKey(hosted(t), agent.APIKeyOptions{Provider: "weather", Client: client}); err != nil {
		t.Errorf("with a token: %v", err)
	}
	if _, err := agent.WorkloadToken(t.Context()); !errors.Is(err, agent.ErrNoWorkloadToken) {
		t.Error(err)
	}
	if token, err := agent.WorkloadToken(hosted(t)); err != nil || token.Reveal() != workloadToken {
		t.Error(err)
	}
}
