package runtime

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
)

const (
	// startLimit is how long an agent may take until it answers, as AWS has it for code.
	startLimit = 30 * time.Second
)

// newName names a session on this machine: its own id is the caller's choice, and no name for a file.
func newName() string { return strings.ToLower(rand.Text()) }

// start unpacks the code and starts the agent. What goes wrong before there is a
// process is this server's trouble, not the agent's: it is logged, and the caller
// is not told where on the machine it was.
func (s *Service) start(ctx context.Context, n *session) (Process, error) {
	c := n.version.settings.AgentRuntimeArtifact.CodeConfiguration
	if c == nil || n.version.code == "" {
		return nil, fault.New(fault.Conflict, "Version %d of the agent runtime cannot be run: %s", n.version.version, n.version.failure)
	}
	driver, err := s.options.Driver()
	if err != nil {
		return nil, fault.New(fault.Conflict, "%v", err)
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
	n.secrets.keep(token)
	n.storage = s.storage(n)
	process, err := driver.Start(n.until, Launch{
		Name: n.name, Code: folder, Also: p.also, Command: p.command, Environment: append(p.environment, s.environment(n, port, token)...), Port: port, Limits: s.options.Limits,
		Platform: s.inward(n, token), Proxy: s.wayOut(n), Output: n.log, Mounts: mounts(n.version.settings.FilesystemConfigurations), Storage: n.storage,
	})
	switch {
	case err == nil:
		return process, nil
	case n.stopped() != "":
		return nil, s.endedEarly(n)
	case fault.KindOf(err) != fault.Internal:
		return nil, err
	}
	slog.ErrorContext(ctx, "a session could not be started", "runtime", n.key.runtime, "session", n.name, "error", err)
	return nil, fault.New(fault.Unavailable, "The session could not be started on this server, whose log says why.").Because(err)
}

// wayOut is the proxy, which hears whose agent asks: one runtime's do not take all of it.
func (s *Service) wayOut(n *session) http.Handler {
	if s.options.Proxy == nil {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.options.Proxy.ServeHTTP(w, r.WithContext(egress.AskedBy(r.Context(), n.key.runtime)))
	})
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
		"AGENTCORE_RUNTIME_URL=" + s.options.PublicURL + invocationsPath(arn) + "/", "OTEL_RESOURCE_ATTRIBUTES=cloud.resource_id=" + arn,
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		fixed = append(fixed, name+"="+proxy, strings.ToLower(name)+"="+proxy)
	}
	// Node's fetch looks at the proxy's variables only where it is told to.
	fixed = append(fixed, "NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost", "NODE_USE_ENV_PROXY=1")
	return append(fixed, environment(&n.version.settings)...)
}

// awaitReady waits until the agent answers: asked often at first, and then in steps
// of a tenth of the time that has passed, so that a quick agent is not kept waiting
// and a slow one not disturbed.
func (s *Service) awaitReady(n *session) error {
	began := s.now()
	ctx, cancel := context.WithTimeout(n.until, s.patience)
	defer cancel()
	go func() {
		select {
		case <-n.process.Ended():
		case <-ctx.Done():
		}
		cancel()
	}()
	for {
		once, done := context.WithTimeout(ctx, pingLimit)
		said := n.ask(once)
		done()
		if said.answered {
			n.heard(said, s.now())
			return nil
		}
		timer := time.NewTimer(nextTry(s.now().Sub(began)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return s.notReady(n)
		}
	}
}

// endedEarly is why a session that is to end does not start; nil for others.
func (s *Service) endedEarly(n *session) error {
	switch why := n.stopped(); {
	case s.ends():
		return fault.New(fault.Unavailable, "The platform stops. Try again in a moment.")
	case why != "":
		return fault.New(fault.Concurrent, "The session was ended while it started: %s", why)
	}
	return nil
}

// nextTry is how long to wait before an agent that starts is asked again.
func nextTry(waited time.Duration) time.Duration {
	return max(5*time.Millisecond, min(waited/10, 100*time.Millisecond))
}

// notReady says why an agent does not answer.
func (s *Service) notReady(n *session) error {
	select {
	case <-n.process.Ended():
		return fault.New(fault.RuntimeClient, "The agent ended before it answered. %s", n.process.End()).Because(printed(n.log.tail()))
	default:
	}
	if err := s.endedEarly(n); err != nil {
		return err
	}
	return fault.New(fault.RuntimeClient, "Runtime initialization time exceeded. Please make sure that initialization completes in %ds. The agent has to listen on the port that the variable PORT names.", int(s.patience.Seconds())).Because(printed(n.log.tail()))
}

// invocationsPath is where a runtime is called, its ARN as one segment of the path.
func invocationsPath(arn string) string {
	return fmt.Sprintf("/runtimes/%s/invocations", strings.NewReplacer(":", "%3A", "/", "%2F").Replace(arn))
}
