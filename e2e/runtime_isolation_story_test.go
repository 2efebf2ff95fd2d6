package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
)

// roleCredentials are those that a session's agent finds.
type roleCredentials struct{ Key, Secret, Token, Source string }

// The key that an agent uses is in its memory and nowhere else: in no file of the
// platform, in no environment, in no log, though the agent says it aloud.
func TestHostedAgentsSecretsAreWrittenNowhere(t *testing.T) {
	t.Parallel()
	h := startHosting(t)
	seen := &canaries{}
	seen.add("model key", modelKey)
	rootKey(t, h.platform, seen)
	a := h.host("keeper", goAgent(t, "agents/hostile"))
	ada := session("ada")
	if said := a.say(call{session: ada, user: "ada", payload: map[string]any{"do": "take the key"}}); !strings.Contains(said, fmt.Sprint(len(modelKey))) {
		t.Errorf("the agent has got %s", said)
	}
	var mine roleCredentials
	a.doFor(ada, "ada", map[string]any{"do": "credentials"}, &mine)
	var token string
	a.doFor(ada, "ada", map[string]any{"do": "token"}, &token)
	if mine.Secret == "" || mine.Token == "" || token == "" {
		t.Fatalf("the session has no credentials or no token of its user: %q", mine.Source)
	}
	seen.add("role secret key", mine.Secret)
	seen.add("role session token", mine.Token)
	seen.add("workload access token", token)

	var said string // its lines and its answers come by different ways
	eventually(t, time.Minute, "the log has what the agent printed", func() bool {
		said = a.log(ada)
		return strings.Contains(said, `{"level":"ERROR","key":"`) && strings.Contains(said, "in two pieces: ")
	})
	if strings.Count(said, "the key is") != 1 || !strings.Contains(said, "in two pieces: ") || !strings.Contains(said, `{"level":"ERROR","key":"`) {
		t.Errorf("the log does not have what the agent printed:\n%s", said)
	}
	for _, kind := range seen.in(said) {
		t.Errorf("the session's log has the %s in it", kind)
	}
	for _, kind := range seen.in(h.logs.everything()) {
		t.Errorf("the platform's log has the %s in it", kind)
	}
	for _, where := range seen.inFolder(t, h.data) {
		t.Error("the data folder has the " + where)
	}
	agents := h.descendants()
	if len(agents) == 0 {
		t.Error("the agent is no process of the platform's")
	}
	for id, line := range agents {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", id))
		if err != nil {
			continue // another's, by the machine's rules
		}
		for _, kind := range seen.in(string(environment) + line) {
			t.Errorf("the start environment of %q has the %s in it", line, kind)
		}
	}
	var environments map[string]string
	a.doFor(ada, "ada", map[string]any{"do": "environments"}, &environments)
	for id, environment := range environments {
		for _, kind := range seen.in(environment) {
			t.Errorf("the session reads the %s in the environment of its process %s", kind, id)
		}
	}
}

// What another user's session can do about one's own: nothing.
func TestSessionsAreApart(t *testing.T) {
	t.Parallel()
	h := startHosting(t)
	a := h.host("apart", goAgent(t, "agents/hostile"))
	ada, bob := session("ada"), session("bob")
	var adas, bobs roleCredentials
	a.doFor(ada, "ada", map[string]any{"do": "credentials"}, &adas)
	a.doFor(bob, "bob", map[string]any{"do": "credentials"}, &bobs)
	if adas.Key == bobs.Key || adas.Secret == bobs.Secret {
		t.Error("two sessions have the same credentials")
	}

	t.Run("its id", func(t *testing.T) {
		for who, c := range map[string]call{"another user": {session: ada, user: "bob"}, "nobody in particular": {session: ada}} {
			if said := a.refused(c, denied); !strings.Contains(said, "session") {
				t.Errorf("%s is told %q", who, said)
			}
		}
		other := h.issue("keys", "create", "--principal", "user/eve")
		h.operate(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"bedrock-agentcore:*","Resource":"*"}}`, "policies", "put", "all", "--principal", "user/eve", "--document", "-")
		_, data := h.as(other)
		a.refused(call{session: ada, user: "ada", client: data}, denied)
	})

	t.Run("its processes", func(t *testing.T) {
		var processes map[string]string
		a.doFor(bob, "bob", map[string]any{"do": "processes"}, &processes)
		if len(processes) == 0 || len(processes) > 4 {
			t.Errorf("it sees %d processes: %v", len(processes), processes)
		}
		for id, line := range processes {
			if strings.Contains(line, "serve") {
				t.Errorf("it sees the platform's process %s: %s", id, line)
			}
		}
	})

	t.Run("its port", func(t *testing.T) {
		// Each finds only itself at the port that both listen on.
		var one, two int
		a.doFor(ada, "ada", map[string]any{"do": "count"}, &one)
		a.doFor(bob, "bob", map[string]any{"do": "count"}, &two)
		if one != 1 || two != 1 {
			t.Errorf("they count together: %d and %d", one, two)
		}
		platform := strings.TrimPrefix(h.url, "http://")
		model := "127.0.0.1" + h.modelURL[strings.LastIndex(h.modelURL, ":"):]
		where := []string{platform, model, "169.254.169.254:80", "169.254.170.2:80", "[fd00:ec2::254]:80", "10.0.0.1:80", "1.1.1.1:443", "127.0.0.1:22"}
		for _, address := range machineAddresses(t) {
			where = append(where, address+":"+platform[strings.LastIndex(platform, ":")+1:], address+":8080")
		}
		var reached map[string]string
		a.doFor(bob, "bob", map[string]any{"do": "reach", "where": where}, &reached)
		for address, what := range reached {
			if !strings.HasPrefix(what, "error: ") {
				t.Errorf("%s: %s", address, what)
			}
		}
	})

	t.Run("the way out", func(t *testing.T) {
		port := h.url[strings.LastIndex(h.url, ":"):]
		where := []string{
			"http://host.onbehalf.internal" + port + "/ping", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://localhost.localdomain" + port + "/ping",
		}
		var got map[string]string
		a.doFor(bob, "bob", map[string]any{"do": "get", "where": where}, &got)
		for address, what := range got {
			if strings.HasPrefix(what, "2") {
				t.Errorf("%s answers %s", address, what)
			}
		}
	})

	t.Run("the platform's doors", func(t *testing.T) {
		where := []string{"/console/", "/metrics", "/connect/done", "/identities/oauth2/authorize?request_uri=x", "/identities/oauth2/callback/x"}
		for i, path := range where {
			where[i] = "http://127.0.0.1:7079" + path
		}
		var got map[string]string
		a.doFor(bob, "bob", map[string]any{"do": "get", "where": append(where, "http://127.0.0.1:7079/credentials", "http://127.0.0.1:7079/ping")}, &got)
		for address, what := range got {
			switch {
			case strings.HasSuffix(address, "/credentials"):
				if !strings.HasPrefix(what, "200 ") || strings.Contains(what, adas.Secret) {
					t.Errorf("its own credentials: %.20s", what)
				}
			case strings.HasSuffix(address, "/ping"):
			case !strings.HasPrefix(what, "404 ") && !strings.HasPrefix(what, "403 "):
				t.Errorf("%s answers %.100s", address, what)
			}
		}
	})

	t.Run("files", func(t *testing.T) {
		for _, path := range []string{h.data, h.data + "/credentials", h.data + "/key-encryption-key", "/root", "/home", "/var", "/etc/shadow", "/proc/1/root" + h.data, "/proc/1/cwd", "/proc/1/environ", "/proc/1/mem", "/sys/fs/cgroup", "/proc/kcore", "/dev/mem"} {
			var content string
			a.doFor(bob, "bob", map[string]any{"do": "read", "path": path}, &content)
			if strings.HasPrefix(content, "a file: ") || strings.HasPrefix(content, "a folder: ") && !slices.Contains([]string{"a folder: ", "a folder: agent"}, content) {
				t.Errorf("it reads %s: %.200s", path, content)
			}
		}
	})

	t.Run("its credentials", func(t *testing.T) {
		_, data := h.as(issued{adas.Key, adas.Secret, adas.Token})
		name := a.id
		wantCode(t, "a session's credentials, taken out of it", "UnrecognizedClientException", func(ctx context.Context) error {
			_, err := data.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: &name, UserId: new("ada")})
			return err
		})
	})
}

// machineAddresses are where this machine is reached from others.
func machineAddresses(t testing.TB) (all []string) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if ip, ok := address.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			all = append(all, ip.IP.String())
		}
	}
	return all
}
