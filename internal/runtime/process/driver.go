//go:build linux

package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

// initEnvironment is that of a session's init, a Go program that mostly waits: few
// threads, and no collection of garbage before it is what it is. The agent's
// environment is not in it.
var initEnvironment = []string{"GOMAXPROCS=2", "GOGC=off", "GODEBUG=madvdontneed=1"}

// mostOutput is how many bytes in a second a session may print. One that prints more
// waits: reading it would keep the platform busy.
const mostOutput = 8 << 20

// paced reads no faster than a session may print.
type paced struct {
	io.Reader
	limit *rate.Limiter
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	_ = p.limit.WaitN(context.Background(), n)
	return n, err
}

// startTime bounds how long a session's surroundings may take to be made.
const startTime = 20 * time.Second

// Driver runs sessions in namespaces of their own; safe for concurrent use.
type Driver struct {
	groups    *groups       // control groups, where this machine lets us make some; nil otherwise
	saveEvery time.Duration // saveOften, but for tests

	mu    sync.Mutex
	hosts map[int]bool // which pairs of host users are taken
}

// New looks at what this machine can do. The error says what it lacks.
func New(ctx context.Context) (*Driver, error) {
	d := &Driver{hosts: map[int]bool{}, groups: findGroups(), saveEvery: saveOften}
	if d.groups != nil {
		d.groups.sweep()
	}
	err := d.probe(ctx)
	if err != nil && d.groups != nil { // they may be there, and not for us
		d.groups = nil
		err = d.probe(ctx)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// probe runs a session to see whether one can be.
func (d *Driver) probe(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "onbehalf-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := os.Chmod(folder, 0o755); err != nil {
		return err
	}
	var said bytes.Buffer
	p, err := d.Start(ctx, runtime.Launch{Name: "probe", Code: folder, Command: []string{"/bin/sh", "-c", "exit 7"}, Port: 8080, Output: &said})
	if err != nil {
		return impossible(err)
	}
	defer p.Stop(0)
	select {
	case <-p.Ended():
	case <-time.After(startTime):
	}
	if p.End() != "The agent ended with exit code 7." {
		return impossible(fmt.Errorf("%s %s", p.End(), said.String()))
	}
	return nil
}

// impossible is an error in the words of whoever runs the machine, with the cause
// that other callers are not shown: it holds nothing but what the kernel said.
func impossible(err error) error {
	var hidden *fault.Error
	if errors.As(err, &hidden) && hidden.Cause != nil {
		err = hidden.Cause
	}
	return fmt.Errorf("sessions cannot be isolated on this machine: %v. It takes Linux with user namespaces (user.max_user_namespaces, and in a container the right to make them)", err)
}

// About says what holds here.
func (d *Driver) About() string {
	by := "a watch on its processes, and CPU by their priority alone (no control group can be made here)"
	if d.groups != nil {
		by = "control groups (" + d.groups.version() + ")"
	}
	about := "each session has its own users, files, processes and network; memory, processes and CPU are bounded by " + by
	if _, own := hostUsers(); !own {
		about += "; its agent is, to the kernel, the platform's own user, since the platform is not root"
	}
	if !inside.Filters {
		about += "; system calls are not filtered on this architecture"
	}
	return about
}

// Start makes the session's surroundings and starts the agent in them.
func (d *Driver) Start(ctx context.Context, l runtime.Launch) (runtime.Process, error) {
	p := inside.Plan{Command: l.Command, Environment: l.Environment, Port: l.Port, Doors: []int{runtime.PlatformPort, runtime.ProxyPort}, Mounts: l.Mounts, Limits: withDefaults(l.Limits), Watch: d.groups == nil}
	p.Keeps = l.Storage != nil
	s := &session{driver: d, ended: make(chan struct{}), cleared: make(chan struct{}), dials: map[uint64]chan dialled{}}
	ours, theirs, err := inside.Pair()
	if err != nil {
		return nil, fault.Wrap(err, "making a session's channel")
	}
	s.channel = ours
	read, write, err := os.Pipe()
	if err != nil {
		_, _ = ours.Close(), theirs.Close()
		return nil, fault.Wrap(err, "making a session's pipe")
	}
	var trees []*os.File
	if p.Shown, trees, err = show(l); err != nil {
		_, _, _, _ = ours.Close(), theirs.Close(), read.Close(), write.Close()
		return nil, err
	}
	if p.Keeps {
		kept, patience, err := handOver(l.Storage)
		if err != nil {
			inside.CloseAll(trees)
			_, _, _, _ = ours.Close(), theirs.Close(), read.Close(), write.Close()
			return nil, fault.Wrap(err, "reading a session's storage")
		}
		if p.Kept = kept != nil; p.Kept {
			trees = append(trees, kept)
			s.restoring = patience
		}
	}
	s.command = exec.Command("/proc/self/exe")
	s.command.Args = []string{inside.Name}
	s.command.Env = initEnvironment
	s.command.ExtraFiles = []*os.File{theirs, write}
	s.command.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP,
	}
	p.Agent, s.host = d.users(s.command.SysProcAttr)
	fail := func(err error) (runtime.Process, error) {
		_ = ours.Close()
		_ = read.Close()
		d.free(s.host)
		return nil, err
	}
	if err = s.command.Start(); err != nil {
		inside.CloseAll(trees)
	}
	// They are the session's now: the pipe must end with it.
	_, _ = theirs.Close(), write.Close()
	if err != nil {
		return fail(fault.Wrap(err, "starting a session's first process"))
	}
	if d.groups != nil {
		if s.group, err = d.groups.add(l.Name, s.command.Process.Pid, p.Limits); err != nil {
			_ = s.command.Process.Kill()
			_ = s.command.Wait()
			inside.CloseAll(trees)
			return fail(fault.Wrap(err, "limiting a session"))
		}
	}
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		defer read.Close()
		s.contain("keeping what an agent prints", func() { _, _ = io.Copy(l.Output, &paced{read, rate.NewLimiter(mostOutput, mostOutput)}) })
	}()
	ready := make(chan struct{})
	received := make(chan struct{})
	s.storage = newStorage(l, p.Limits, received)
	go func() {
		defer close(received)
		s.contain("hearing a session's first process", func() { s.receive(ready, l.Platform, l.Proxy) })
	}()
	go s.wait(printed, received)
	if s.storage != nil {
		go s.contain("keeping a session's storage", func() { s.keep(ready, printed) })
	}
	text, err := json.Marshal(p)
	if err == nil {
		err = ours.Send(inside.Message{Kind: inside.KindLaunch, Plan: text}, trees...)
	} else {
		inside.CloseAll(trees)
	}
	if err != nil {
		s.Stop(0)
		return nil, fault.Wrap(err, "launching a session")
	}
	if err := s.begun(ctx, ready); err != nil {
		s.Stop(0)
		return nil, err
	}
	return s, nil
}

// users maps the session's root and its agent to users of the machine that are
// nobody else. Whoever is not root has none to give but himself.
func (d *Driver) users(a *syscall.SysProcAttr) (agent, host int) {
	first, own := hostUsers()
	if !own {
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		return 0, 0
	}
	const agentID = 1000
	d.mu.Lock()
	defer d.mu.Unlock()
	host = first
	for d.hosts[host] {
		host += 2
	}
	d.hosts[host] = true
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: host, Size: 1}, {ContainerID: agentID, HostID: host + 1, Size: 1}}
	a.GidMappings, a.GidMappingsEnableSetgroups = a.UidMappings, true
	a.Credential = &syscall.Credential{} // root of the namespace, in no other group
	return agentID, host
}

// hostUsers is where the users begin that sessions are given: far from anybody's. A
// platform that is root of a container has only the container's, and gives the last of them.
var hostUsers = sync.OnceValues(func() (first int, own bool) {
	const far, needed = 1 << 30, 20_000
	if os.Geteuid() != 0 {
		return 0, false
	}
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return far, true
	}
	for line := range strings.Lines(string(text)) {
		var begin, outside, count int
		if _, err := fmt.Sscan(line, &begin, &outside, &count); err != nil {
			continue
		}
		switch {
		case begin <= far && begin+count >= far+needed:
			return far, true
		case count >= 2*needed:
			first, own = begin+count-needed, true
		}
	}
	return first, own
})

func (d *Driver) free(host int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.hosts, host)
}
