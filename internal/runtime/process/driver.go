//go:build linux

package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

// session is a running one.
type session struct {
	driver  *Driver
	host    int
	group   *group
	command *exec.Cmd
	channel *inside.Channel
	storage *storage      // that outlives it; nil where there is none
	ended   chan struct{} // closed by agentEnded
	cleared chan struct{} // a moment later: its storage is saved, and the control group gone

	restoring time.Duration // that its storage may take at the start
	over      sync.Once     // of agentEnded

	mu      sync.Mutex
	end     string
	stopped bool
	calls   uint64
	dials   map[uint64]chan dialled // wanted; nil when the channel has ended
}

// dialled is a connection to the agent, or why there is none.
type dialled struct {
	conn net.Conn
	err  error
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
		_, _ = io.Copy(l.Output, &paced{read, rate.NewLimiter(mostOutput, mostOutput)})
	}()
	ready := make(chan struct{})
	received := make(chan struct{})
	s.storage = newStorage(l, p.Limits, received)
	go func() {
		defer close(received)
		s.receive(ready, l.Platform, l.Proxy)
	}()
	go s.wait(printed, received)
	if s.storage != nil {
		go s.keep(ready, printed)
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

// begun waits until the agent runs. One that has ended by the time that this is heard
// of did run, and what it printed and how it ended are the session's to tell.
func (s *session) begun(ctx context.Context, ready <-chan struct{}) error {
	longest := startTime + s.restoring
	patience := time.NewTimer(longest)
	defer patience.Stop()
	select {
	case <-ready:
		return nil
	case <-s.ended:
	case <-patience.C:
		return fmt.Errorf("the session's surroundings were not made within %v", longest)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-ready:
		return nil
	default:
		return fault.New(fault.RuntimeClient, "%s", s.End())
	}
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

// receive takes in what the init says until the channel ends.
func (s *session) receive(ready chan<- struct{}, platform, proxy http.Handler) {
	defer s.noMoreDials()
	begun := false
	for {
		m, files, err := s.channel.Receive()
		if err != nil {
			return
		}
		if begun && m.Kind == inside.KindReady { // an init that says so twice is ours no more
			inside.CloseAll(files)
			return
		}
		switch m.Kind {
		case inside.KindReady:
			begun = true
			handlers, patience := []http.Handler{platform, proxy}, []time.Duration{patience, 0}
			for i, f := range files[:min(len(files), len(handlers))] {
				if d, err := openDoor(f, handlers[i], patience[i]); err == nil {
					defer d.shut()
				}
			}
			if s.storage != nil {
				s.storage.looks = m.Text
			}
			close(ready)
		case inside.KindDialled:
			s.dialled(m, files)
		case inside.KindSaved:
			if s.storage != nil {
				s.storage.answered(m)
			}
		case inside.KindEnd:
			s.because(m.Text)
			if s.storage != nil {
				s.storage.settle()
			}
		}
		inside.CloseAll(files)
	}
}

// wait sees the session off.
func (s *session) wait(printed, received <-chan struct{}) {
	err := s.command.Wait()
	// The pipe ends with the last process that had it, and that is now.
	<-printed
	<-received // and the channel with the init, whose last word is in it
	why := "The agent was ended."
	if s.group != nil && s.group.outOfMemory() {
		why = outOfMemory
	}
	if err != nil && !s.wasStopped() {
		why = "The session's first process was ended: " + err.Error() + "."
	}
	s.agentEnded(why)
	_ = s.channel.Close()
	s.driver.free(s.host)
	if s.group != nil {
		s.group.remove() // the kernel may take its time until it lets go of an empty group
	}
	if s.storage != nil { // its next life is to have all that is kept of this one, and has it to itself
		select {
		case <-s.storage.over:
		case <-time.After(lastWords): // the disk does not answer
		}
	}
	close(s.cleared)
}

// agentEnded says that nothing of the agent is left, and why, if nobody has said so before.
func (s *session) agentEnded(why string) {
	s.over.Do(func() {
		if s.group != nil && s.group.outOfMemory() {
			s.killedForMemory()
		}
		s.because(why)
		close(s.ended)
	})
}

// because says why there is no agent any more; the first reason counts.
func (s *session) because(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == "" {
		s.end = why
	}
}

const outOfMemory = "The agent took more memory than its limit, and was ended."

// killedForMemory says what SIGKILL was for, if that was the agent's end. One of its
// other processes may have met it long ago, and the agent has gone on.
func (s *session) killedForMemory() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasSuffix(s.end, "SIGKILL.") {
		s.end = outOfMemory
	}
}

func (s *session) wasStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

func (s *session) Ended() <-chan struct{} { return s.ended }

func (s *session) End() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

func (s *session) Dial(ctx context.Context) (net.Conn, error) {
	answer := make(chan dialled, 1)
	s.mu.Lock()
	if s.dials == nil {
		s.mu.Unlock()
		return nil, errEnded
	}
	s.calls++
	number := s.calls
	s.dials[number] = answer
	s.mu.Unlock()
	err := s.channel.Send(inside.Message{Kind: inside.KindDial, Number: number})
	if err == nil {
		select {
		case a := <-answer:
			return a.conn, a.err
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	s.mu.Lock()
	delete(s.dials, number)
	s.mu.Unlock()
	select {
	case a := <-answer: // it came at the last moment
		if a.conn != nil {
			_ = a.conn.Close()
		}
	default:
	}
	return nil, err
}

// errEnded is what a dial of a session that has ended meets.
var errEnded = &net.OpError{Op: "dial", Net: "session", Err: net.ErrClosed}

// dialled hands a connection to who wanted it. Whoever has left wants it no more.
func (s *session) dialled(m inside.Message, files []*os.File) {
	var a dialled
	if len(files) == 1 {
		a.conn, a.err = net.FileConn(files[0]) // a copy of the descriptor
	} else {
		a.err = errors.New(m.Text)
	}
	s.mu.Lock()
	answer := s.dials[m.Number]
	if answer != nil {
		answer <- a // there is room for one, and no other comes
	}
	delete(s.dials, m.Number)
	s.mu.Unlock()
	if answer == nil && a.conn != nil {
		_ = a.conn.Close()
	}
}

func (s *session) noMoreDials() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, answer := range s.dials {
		answer <- dialled{err: errEnded}
	}
	s.dials = nil
}

func (s *session) Stop(grace time.Duration) {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	if grace > 0 && s.channel.Send(inside.Message{Kind: inside.KindStop}) == nil {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		ends := true
		select {
		case <-s.ended:
		case <-timer.C:
			ends = s.storage != nil && s.channel.Send(inside.Message{Kind: inside.KindFinish}) == nil
		}
		if ends {
			timer.Reset(lastLimit + 2*lastWords)
			select {
			case <-s.cleared:
				return
			case <-timer.C:
			}
		}
	}
	_ = s.command.Process.Kill() // process 1: the kernel ends the rest
	<-s.cleared
}

func (s *session) Run(ctx context.Context, c runtime.Command) (int, error) {
	ours, theirs, err := inside.SocketPair(syscall.SOCK_STREAM)
	if err != nil {
		return -1, err
	}
	defer ours.Close()
	told, err := net.FileConn(ours)
	if err != nil {
		_ = theirs.Close()
		return -1, err
	}
	defer told.Close()
	var copies sync.WaitGroup
	files := make([]*os.File, 0, 3)
	taps := make([]*tap, 0, 2)
	for _, to := range []io.Writer{c.Stdout, c.Stderr} {
		read, write, err := os.Pipe()
		if err != nil {
			inside.CloseAll(files)
			_ = theirs.Close()
			return -1, err
		}
		files = append(files, write)
		t := &tap{pipe: read, left: pipeful}
		taps = append(taps, t)
		copies.Go(func() {
			defer read.Close()
			_, _ = io.Copy(to, t)
		})
	}
	text, _ := json.Marshal(inside.Order{Line: c.Line, Timeout: c.Timeout})
	if err := s.channel.Send(inside.Message{Kind: inside.KindRun, Text: string(text)}, append(files, theirs)...); err != nil {
		return -1, err
	}
	defer context.AfterFunc(ctx, func() { _ = told.Close() })()
	var out inside.Outcome
	err = json.NewDecoder(told).Decode(&out)
	for _, t := range taps {
		t.end()
	}
	copies.Wait()
	switch {
	case ctx.Err() != nil:
		return -1, ctx.Err()
	case err != nil:
		return -1, fmt.Errorf("the session ended: %s", s.End())
	case out.Error != "":
		return -1, errors.New(out.Error)
	case out.TimedOut:
		return -1, context.DeadlineExceeded
	}
	return out.Code, nil
}
