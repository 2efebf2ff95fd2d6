package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/plain"
	"github.com/onbehalf/onbehalf/internal/runtime/process"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/wire"
)

// Init is the first line of every main, and of each TestMain whose tests host
// agents: where nothing isolates sessions, the keeper of a session is this
// executable again, and Init is where it turns into that. In all others it returns
// at once. (Where they are isolated, their first process begins before any main.)
func Init() {
	plain.Init()
}

// openAgents makes the room of hosted agents. What this machine can do for
// sessions is found out beside the start, which does not wait for it.
func (s *Server) openAgents(k *seal.Keeper, i *identity.Service, a *auth.Authenticator, g *gate.Gate, p *policy.Engine) (*runtime.Service, error) {
	limits, err := s.config.agentLimits()
	if err != nil {
		return nil, err
	}
	if s.wayOut, err = egress.NewProxy(egress.ProxyOptions{Allow: s.config.AgentEgressAllow}); err != nil {
		return nil, errors.New(fault.Of(err).Message)
	}
	if public, err := url.Parse(s.url); err == nil {
		s.wayOut.ForbidURL(public)
	}
	for _, listener := range s.listeners() {
		s.wayOut.Forbid(listener)
	}
	folder := filepath.Join(s.folder.path, "agents")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	s.inward, s.driver = &inward{}, sync.OnceValues(s.openDriver)
	s.agents = runtime.New(s.db, k, i, a, g, runtime.Options{
		Region: s.config.Region, PublicURL: s.url, Folder: folder,
		Driver:      s.driver,
		Watch:       s.watchAgents(),
		Limits:      limits,
		MaxSessions: s.config.AgentMaxSessions, NewSessions: s.config.AgentNewSessions, SharedSessions: s.config.AgentSessionsShared,
		Platform: s.inward, Proxy: s.wayOut,
		Refuse:    wire.WriteErrorOf,
		CheckRole: roleChecker(a, p), Deleted: deletePolicy(p),
	})
	return s.agents, nil
}

// listeners are the platform's own, which no agent reaches from outside.
func (s *Server) listeners() (all []netip.AddrPort) {
	add := func(l net.Listener) {
		if own, err := netip.ParseAddrPort(l.Addr().String()); err == nil {
			all = append(all, own)
		}
	}
	add(s.listener)
	if s.metrics != nil {
		add(s.metrics.listener)
	}
	return all
}

// namespaces is the driver that isolates: one for the process, since what it finds
// out about the machine does not change, and the users it gives to sessions are counted once.
var namespaces = sync.OnceValues(func() (runtime.Driver, error) { return process.New(context.Background()) })

// openDriver finds what runs sessions here. It is called beside the start, which
// does not wait, and tells the log which limits hold.
func (s *Server) openDriver() (runtime.Driver, error) {
	if s.config.UnsafeAgents {
		driver := plain.New()
		s.log.Warn("hosted agents run without isolation (--unsafe-agents-without-isolation)", "agents", driver.About())
		return driver, nil
	}
	driver, err := namespaces()
	if err != nil {
		s.log.Warn("this machine cannot host agents; all else works", "reason", err)
		return nil, err
	}
	s.log.Info("hosted agents", "agents", driver.About(), "way_out", s.wayOut.About())
	return driver, nil
}

// watchAgents counts sessions, where there are metrics.
func (s *Server) watchAgents() runtime.Watch {
	if s.metrics == nil {
		return runtime.Watch{}
	}
	set := s.metrics.set
	set.Gauge("agent_sessions_running", "Sessions of hosted agents on this server.", nil, func() (float64, bool) {
		sessions, _ := s.agents.Running()
		return float64(sessions), true
	})
	set.Gauge("agent_calls_in_flight", "Calls under way in sessions of hosted agents.", nil, func() (float64, bool) {
		_, calls := s.agents.Running()
		return float64(calls), true
	})
	set.ExpectSessions(runtime.Reasons)
	return runtime.Watch{Started: set.SessionStarted, Ended: set.SessionEnded}
}

// agentsDrain is how long calls of agents may go on when the platform stops.
const agentsDrain = 10 * time.Second

// inward is what sessions reach of the platform: the API of AgentCore and the
// gateways. Not the console, metrics, the pages for people, IAM's calls, nor the
// upload of code: an agent that was led astray plants no program.
type inward struct{ front atomic.Pointer[front] }

// open lets sessions in, once there are doors. A door that is not named here is none for them.
func (i *inward) open(outer *front) {
	i.front.Store(&front{within: true, wire: outer.wire, mcp: outer.mcp, metadata: outer.metadata, agents: outer.agents, region: outer.region, log: outer.log})
}

func (i *inward) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.front.Load().ServeHTTP(w, r)
}

// checkAgents says what is wrong with the settings of hosted agents.
func (c Config) checkAgents() error {
	if _, err := egress.NewProxy(egress.ProxyOptions{Allow: c.AgentEgressAllow}); err != nil {
		return errors.New(fault.Of(err).Message) // it names the setting
	}
	for name, value := range map[string]int{"agent-max-sessions": c.AgentMaxSessions, "agent-new-sessions": c.AgentNewSessions, "agent-processes": c.AgentProcesses} {
		if value < 0 {
			return fmt.Errorf("--%s %d must be positive", name, value)
		}
	}
	_, err := c.agentLimits()
	return err
}

// agentLimits are what a session may take; zero where the driver's default holds.
func (c Config) agentLimits() (l runtime.Limits, err error) {
	if l.Memory, err = size("--agent-memory", c.AgentMemory, 64<<20); err != nil {
		return l, err
	}
	if l.Disk, err = size("--agent-disk", c.AgentDisk, 1<<20); err != nil {
		return l, err
	}
	if c.AgentCPU != 0 && (c.AgentCPU < 0.01 || c.AgentCPU > 1024) {
		return l, fmt.Errorf("--agent-cpu %v is not between 0.01 and 1024", c.AgentCPU)
	}
	if c.AgentProcesses != 0 && c.AgentProcesses < 16 {
		return l, fmt.Errorf("--agent-processes %d: a runtime of a language needs 16 threads or more", c.AgentProcesses)
	}
	l.CPU, l.Processes = c.AgentCPU, c.AgentProcesses
	return l, nil
}

// size reads 512MiB, 2GiB, or bytes.
func size(setting, text string, least int64) (int64, error) {
	if text == "" {
		return 0, nil
	}
	number, unit := text, int64(1)
	for suffix, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if before, found := strings.CutSuffix(text, suffix); found {
			number, unit = before, factor
		}
	}
	value, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil || value <= 0 || value > (1<<50)/unit:
		return 0, fmt.Errorf("%s %q is not a size: write 512MiB or 2GiB", setting, text)
	case value*unit < least:
		return 0, fmt.Errorf("%s %s is too little: at least %dMiB", setting, text, least>>20)
	}
	return value * unit, nil
}
