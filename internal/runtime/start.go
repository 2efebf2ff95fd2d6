package runtime

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
)

const (
	// startLimit is how long an agent may take until it answers, as AWS has it for code.
	startLimit = 30 * time.Second
)

// newName names a session on this machine: its own id is the caller's choice, and no name for a file.
func newName() string { return strings.ToLower(rand.Text()) }

// start unpacks the code and starts the agent.
func (s *Service) start(ctx context.Context, n *session) (Process, error) {
	c := n.version.settings.AgentRuntimeArtifact.CodeConfiguration
	if c == nil || n.version.code == "" {
		return nil, fault.New(fault.Conflict, "Version %d of the agent runtime cannot be run: %s", n.version.version, n.version.failure)
	}
	folder, err := s.code(ctx, n.version.account, n.version.code)
	if err != nil {
		return nil, err
	}
	p, err := s.program(ctx, c, folder)
	if err != nil {
		return nil, fault.New(fault.Conflict, "%v", err)
	}
	_, port, _ := protocol(&n.version.settings)
	token := rand.Text()
	driver, err := s.options.Driver()
	if err != nil {
		return nil, fault.New(fault.Conflict, "%v", err)
	}
	process, err := driver.Start(ctx, Launch{
		Name: n.name, Code: folder, Also: p.also, Command: p.command, Environment: append(p.environment, s.environment(n, port, token)...), Port: port, Limits: s.options.Limits,
		Platform: s.inward(n, token), Proxy: s.options.Proxy, Output: n.log, Mounts: mounts(n.version.settings.FilesystemConfigurations),
	})
	if err != nil {
		return nil, fault.New(fault.RuntimeClient, "The agent could not be started. %s", fault.Of(err).Message).Because(err)
	}
	return process, nil
}

func mounts(all []api.FilesystemConfiguration) (paths []string) {
	for _, f := range all {
		if f.SessionStorage != nil {
			paths = append(paths, strings.TrimSuffix(f.SessionStorage.MountPath, "/"))
		}
	}
	return paths
}

// environment is what an agent finds: where the platform is, whose credentials to
// fetch and how, and what its runtime sets.
func (s *Service) environment(n *session, port int, token string) []string {
	platform := "http://127.0.0.1:" + strconv.Itoa(PlatformPort)
	proxy := "http://127.0.0.1:" + strconv.Itoa(ProxyPort)
	arn := s.arn(n.runtime.account, n.runtime.id)
	fixed := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/agent", "TMPDIR=/tmp", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1", "DOCKER_CONTAINER=1",
		"PORT=" + strconv.Itoa(port), "AWS_REGION=" + s.options.Region, "AWS_DEFAULT_REGION=" + s.options.Region,
		"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE=" + platform, "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL=" + platform,
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + platform + credentialsPath, "AWS_CONTAINER_AUTHORIZATION_TOKEN=" + token, "AWS_EC2_METADATA_DISABLED=true",
		"AGENTCORE_RUNTIME_URL=" + s.options.PublicURL + invocationsPath(arn), "OTEL_RESOURCE_ATTRIBUTES=cloud.resource_id=" + arn,
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		fixed = append(fixed, name+"="+proxy, strings.ToLower(name)+"="+proxy)
	}
	fixed = append(fixed, "NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost")
	return append(fixed, environment(&n.version.settings)...)
}

// awaitReady waits until the agent answers.
func (s *Service) awaitReady(ctx context.Context, n *session) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	n.agent = n.transport()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if n.answers(ctx) {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			continue
		case <-n.process.Ended():
			timer.Stop()
			return fault.New(fault.RuntimeClient, "%s%s", n.process.End(), n.log.tail())
		case <-s.closing:
			timer.Stop()
			return fault.New(fault.Unavailable, "The platform stops. Try again in a moment.")
		case <-ctx.Done():
			timer.Stop()
			return fault.New(fault.RuntimeClient, "Runtime initialization time exceeded. Please make sure that initialization completes in %ds.%s", int(startLimit.Seconds()), n.log.tail())
		}
	}
}

// answers asks an agent once whether it is up: by /ping where its contract has
// one, else by a connection.
func (n *session) answers(ctx context.Context) bool {
	p, _, _ := protocol(&n.version.settings)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	path := "/ping"
	if p == api.ServerProtocolMcp {
		path = "/mcp" // any answer at all
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return false
	}
	response, err := n.agent.RoundTrip(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if p == api.ServerProtocolMcp {
		return true
	}
	n.pinged(response.StatusCode, body)
	return response.StatusCode < 500
}

// health is what an agent's /ping says, looked at every few seconds.
type health struct {
	session *session
	misses  int
}

// lookInterval is how often a running agent is asked how it is.
const lookInterval = 2 * time.Second

func newHealth(n *session) *health { return &health{session: n} }

// look asks. An agent that does not answer is not ended for it: a call under way
// may keep it busy, and one that hangs is ended by its idle time.
func (h *health) look(func() time.Time) {
	if h.session.answers(context.Background()) {
		h.misses = 0
		return
	}
	if h.misses++; h.misses == 3 {
		h.session.log.note("The agent has not answered /ping three times.")
	}
}

// pinged takes in what /ping said: anything that is not HealthyBusy is idle. Whether
// a time comes along, and in which form, does not matter: it is the status that counts.
func (n *session) pinged(status int, body []byte) {
	var said struct{ Status string }
	_ = json.Unmarshal(body, &said)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy = status < 300 && said.Status == "HealthyBusy"
}

// invocationsPath is where a runtime is called, its ARN as one segment of the path.
func invocationsPath(arn string) string {
	return fmt.Sprintf("/runtimes/%s/invocations", strings.NewReplacer(":", "%3A", "/", "%2F").Replace(arn))
}
