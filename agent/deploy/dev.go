package deploy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DevPort is where Dev's front door is, unless another port is named.
const DevPort = 8090

// DevOptions say how an agent runs on this machine.
type DevOptions struct {
	Port        int          // of the front door; 0: DevPort
	UserID      string       // on whose behalf, where a call names nobody; none: the one of .agentcore.json
	Environment []string     // NAME=value: where the platform is, and with which key
	Line        func(string) // gets what the agent prints
	NoReload    bool
}

// Dev runs the agent on this machine until the context ends, with identity from the
// platform, as a runtime would:
//
//	caller ─▶ 127.0.0.1:8090 ── session, request id, the user's workload token ──▶ the agent, on its contract's port
//
// When a file changes the agent is built and started anew. Nothing is put on the
// platform but a workload identity of the developer's, which .agentcore.json remembers.
func (c *Client) Dev(ctx context.Context, a *Agent, o DevOptions) error {
	if err := a.Check(); err != nil {
		return err
	}
	if o.Port == 0 {
		o.Port = DevPort
	}
	who, err := c.developer(ctx, a, o.UserID)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)))
	if err != nil {
		return fmt.Errorf("the port %d cannot be had: %w", o.Port, err)
	}
	r := &runner{agent: a, options: o, progress: c.progress}
	door := &front{client: c, agent: a, who: who, runner: r, session: uuid()}
	server := &http.Server{Handler: door.handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	c.progress.say("identity", "workload "+who.Workload+", user "+who.User)
	if len(a.Storage) > 0 {
		c.progress.say("note", "there is no session storage here: "+strings.Join(a.Storage, ", ")+" is this machine's own, if it is there")
	}
	c.progress.say("listening", "http://"+listener.Addr().String()+a.Path())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			cancel(err)
		}
	}()
	err = r.run(ctx)
	_ = server.Close()
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// agentPort is the contract's, because agents of the published SDKs listen there
// whatever they are told; another one where it is taken.
func agentPort(contract int, progress progress) int {
	if listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(contract))); err == nil {
		_ = listener.Close()
		return contract
	}
	for range 1000 {
		// Of those that systems give to nobody by themselves: one that is free is not the
		// next outgoing connection's before the agent listens there.
		port := 12000 + rand.IntN(8000)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = listener.Close()
		progress.say("note", fmt.Sprintf("port %d is taken; the agent is told to listen on %d (PORT). If it does not heed that, stop what is on %d", contract, port, contract))
		return port
	}
	return contract
}

// runner builds the agent, keeps it running and starts it anew when its files change.
type runner struct {
	agent    *Agent
	options  DevOptions
	progress progress

	mu   sync.Mutex
	port int    // where the agent is told to listen; 0 while none runs
	down string // why no agent answers, until a file changes; "" while one runs, or begins to
}

func (r *runner) setDown(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = why
}

func (r *runner) setPort(port int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.port = port
}

// where answers the agent's port, and why nobody listens there.
func (r *runner) where() (port int, down string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.port, r.down
}

// lookInterval is how often the folder is looked at.
const lookInterval = 400 * time.Millisecond

func (r *runner) run(ctx context.Context) error {
	seen, err := r.snapshot()
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		r.setDown("")
		line, also, err := r.prepare(ctx)
		var running *process
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			r.failed(err)
		default:
			if running, err = r.start(line, also); err != nil {
				return err
			}
		}
		seen, err = r.awaitChange(ctx, seen, running)
		r.setPort(0) // calls are for the next one, and for nobody else who may listen there meanwhile
		running.stop()
		if err != nil || ctx.Err() != nil {
			return err
		}
		r.progress.say("reloading", "a file has changed")
	}
}

func (r *runner) failed(err error) {
	var build *BuildError
	if errors.As(err, &build) && r.options.Line != nil {
		for line := range strings.Lines(build.Output) {
			r.options.Line(strings.TrimRight(line, "\r\n"))
		}
	}
	r.setDown("the agent could not be built: " + err.Error())
	r.progress.say("failed", err.Error()+". Waiting for a change")
}

// awaitChange returns when a file has changed and none changes any more, or with the context.
func (r *runner) awaitChange(ctx context.Context, seen string, running *process) (string, error) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	ended := running.ended()
	for changed := ""; ; {
		select {
		case <-ctx.Done():
			return seen, nil
		case <-ended:
			ended = nil
			r.setDown("the agent has ended: " + running.end())
			r.progress.say("ended", "the agent has ended: "+running.end()+". Waiting for a change")
			if r.options.NoReload {
				return seen, fmt.Errorf("the agent has ended: %s", running.end())
			}
		case <-tick.C:
			if r.options.NoReload {
				continue
			}
			now, err := r.snapshot()
			if err != nil {
				return seen, err
			}
			if now != seen && now == changed {
				return now, nil
			}
			changed = now
		}
	}
}

// snapshot is a text that changes with the agent's files.
func (r *runner) snapshot() (string, error) {
	x, err := r.agent.exclusions()
	if err != nil {
		return "", err
	}
	x.names = true
	z := newArchive()
	if err := z.addFolder(r.agent.Folder(), x); err != nil && !errors.Is(err, os.ErrNotExist) { // a file went in our midst
		return "", err
	}
	var text strings.Builder
	for name, e := range z.sorted() {
		if !r.watched(name) {
			continue
		}
		if info, err := os.Stat(e.path); err == nil {
			fmt.Fprintf(&text, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return text.String(), nil
}

// sources are the files that make another agent of it. What an agent itself writes must not start it anew.
var sources = map[Language][]string{
	Python: {".py", ".txt", ".toml"},
	Node:   {".js", ".mjs", ".cjs", ".ts", ".mts", "package.json"},
	Go:     {".go", ".mod", ".sum"},
}

func (r *runner) watched(name string) bool {
	list, known := sources[r.agent.Language]
	if !known {
		return !strings.HasSuffix(name, ".log")
	}
	return slices.ContainsFunc(list, func(end string) bool { return strings.HasSuffix(name, end) })
}

// prepare builds what has to be built, and says what is run.
func (r *runner) prepare(ctx context.Context) (line, also []string, err error) {
	a := r.agent
	if a.Build != "" {
		r.progress.say("building", a.Build)
		if err := a.run(ctx, r.progress, command{folder: a.Folder(), line: shell(a.Build)}); err != nil {
			return nil, nil, err
		}
	}
	switch a.Language {
	case Python:
		return r.preparePython(ctx)
	case Node:
		if isFile(filepath.Join(a.Folder(), "package.json")) && existing(filepath.Join(a.Folder(), "node_modules")) == "" {
			r.progress.say("note", "there is no node_modules: npm install makes it")
		}
		return []string{"node", a.Entrypoint}, nil, nil
	case Go:
		folder, err := a.work()
		if err != nil {
			return nil, nil, err
		}
		program := filepath.Join(folder, "agent-dev")
		if err := removeLink(program); err != nil {
			return nil, nil, err
		}
		return []string{program}, nil, a.run(ctx, r.progress, command{folder: a.Folder(), line: []string{"go", "build", "-o", program, a.Entrypoint}})
	case Command:
	}
	return shell("exec " + a.Entrypoint), nil, nil
}

// preparePython takes the developer's virtual environment, else installs the requirements as for a launch.
func (r *runner) preparePython(ctx context.Context) (line, also []string, err error) {
	a := r.agent
	for _, folder := range []string{os.Getenv("VIRTUAL_ENV"), filepath.Join(a.Folder(), ".venv"), filepath.Join(a.Folder(), "venv")} {
		if python := filepath.Join(folder, "bin", "python"); folder != "" && isFile(python) {
			return []string{python, a.Entrypoint}, nil, nil
		}
	}
	version := a.Python
	if version == "" {
		version = defaultPython
	}
	python, err := findPython(version)
	if err != nil || a.Requirements == "" {
		return []string{python, a.Entrypoint}, nil, err
	}
	packages, err := a.installPython(ctx, r.progress, version)
	return []string{python, a.Entrypoint}, []string{"PYTHONPATH=" + packages}, err
}

// start starts the agent with what a session would find in its environment, as far as it makes sense here.
func (r *runner) start(line, also []string) (*process, error) {
	var environment []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DOCKER_CONTAINER=") { // which would say that a runtime hosts it
			environment = append(environment, v)
		}
	}
	environment = append(environment, r.options.Environment...)
	free := agentPort(r.agent.port(), r.progress) // found out for each start: a build takes its time, and others come and go
	r.setPort(free)
	port := strconv.Itoa(free)
	if r.options.Port != 0 { // so that the card of an A2A agent leads to the front door
		environment = append(environment, "AGENTCORE_RUNTIME_URL=http://127.0.0.1:"+strconv.Itoa(r.options.Port)+r.agent.Path())
	}
	environment = append(environment, "PORT="+port, "FASTMCP_PORT="+port, "A2A_PORT="+port, "LOCAL_DEV=1", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1")
	for name, value := range r.agent.Environment {
		environment = append(environment, name+"="+value)
	}
	return startProcess(r.agent.Folder(), line, append(environment, also...), r.options.Line)
}
