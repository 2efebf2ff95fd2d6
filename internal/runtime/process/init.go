//go:build linux

package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// What the executable is called when it is started again, as process 1 of a
// session and to become one of its programs.
const (
	initName  = "onbehalf-session"
	startName = "onbehalf-start"
)

// Descriptors that the init inherits.
const (
	channelDescriptor = 3
	outputDescriptor  = 4
)

// Init is the first line of each main and TestMain whose program may run
// sessions: in a process that was started as part of one it does that part, and
// never returns. In any other it does nothing.
func Init() {
	initialised = true
	switch os.Args[0] {
	case initName:
		s := &supervisor{children: map[int]chan syscall.WaitStatus{}}
		if err := s.run(); err != nil {
			s.end("The session's surroundings could not be made: " + err.Error())
		}
		os.Exit(1)
	case startName:
		fmt.Fprintln(os.Stderr, "onbehalf: the agent's program cannot be started:", become(os.Args[1:]))
		os.Exit(127)
	}
}

// initialised says that Init was called. Where it was not, a session's first process
// would be the whole program once more: a test binary would run its tests again.
var initialised bool

// supervisor is process 1 of a session.
type supervisor struct {
	channel  *channel
	plan     plan
	output   *os.File
	self     string // the executable, as it can still be run
	agent    int    // its process
	starting childLock
	children map[int]chan syscall.WaitStatus
}

func (s *supervisor) run() (err error) {
	unix.CloseOnExec(channelDescriptor)
	unix.CloseOnExec(outputDescriptor)
	s.output = os.NewFile(outputDescriptor, "output")
	if s.channel, err = channelOf(os.NewFile(channelDescriptor, "channel")); err != nil {
		return err
	}
	first, held, err := s.channel.receive()
	if err != nil || first.Kind != kindLaunch {
		return fmt.Errorf("the launch did not come: %q %w", first.Kind, err)
	}
	defer closeAll(held)
	if err := json.Unmarshal(first.Plan, &s.plan); err != nil {
		return err
	}
	// Nobody within the session may look into process 1, whose memory has the environment.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hiding process 1: %w", err)
	}
	if err := unix.Sethostname([]byte("agent")); err != nil {
		return fmt.Errorf("the host name: %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("the loopback interface: %w", err)
	}
	if err := buildRoot(s.plan, held); err != nil {
		return err
	}
	// No new user namespaces within this one: their makers would have capabilities there.
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return fmt.Errorf("forbidding user namespaces: %w", err)
	}
	for port, k := range map[int]kind{runtime.PlatformPort: kindPlatform, runtime.ProxyPort: kindProxy} {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return err
		}
		go s.forward(listener, k)
	}
	go s.reap()
	pid, ended, err := s.start(s.plan.Command, s.output, s.output)
	if err != nil {
		return err
	}
	s.agent = pid
	if err := s.channel.send(message{Kind: kindReady}); err != nil {
		return err
	}
	go s.watchMemory()
	go func() { s.end(ending(<-ended)) }()
	return s.serve()
}

// end tells the platform why there is no agent any more, and ends the session.
func (s *supervisor) end(why string) {
	if s.channel != nil {
		_ = s.channel.send(message{Kind: kindEnd, Text: why})
		// What the agent printed last is in the pipe; closing happens with the exit.
	}
	os.Exit(0)
}

// ending is a wait status in words.
func ending(status syscall.WaitStatus) string {
	switch {
	case status.Signaled():
		return "The agent was ended by the signal " + unix.SignalName(status.Signal()) + "."
	case status.ExitStatus() == 0:
		return "The agent ended by itself, with exit code 0."
	}
	return fmt.Sprintf("The agent ended with exit code %d.", status.ExitStatus())
}

// serve does what the platform asks for until the channel ends.
func (s *supervisor) serve() error {
	for {
		m, files, err := s.channel.receive()
		if err != nil {
			os.Exit(0) // the platform is gone, and so is everything here
		}
		switch m.Kind {
		case kindAgent:
			go s.connect(files)
			continue
		case kindRun:
			go s.command(m.Text, files)
			continue
		case kindStop:
			_ = unix.Kill(-1, unix.SIGTERM) // everything but process 1
		}
		closeAll(files)
	}
}

// connect joins a connection of the platform to the agent's port.
func (s *supervisor) connect(files []*os.File) {
	defer closeAll(files)
	if len(files) != 1 {
		return
	}
	outside, err := net.FileConn(files[0])
	if err != nil {
		return
	}
	inside, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.plan.Port)), 5*time.Second)
	if err != nil {
		_ = outside.Close()
		return
	}
	join(inside, outside)
}

// forward hands connections of the agent to the platform.
func (s *supervisor) forward(listener net.Listener, k kind) {
	for {
		inside, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors, say
			continue
		}
		go func() {
			outside, err := s.channel.pass(k)
			if err != nil {
				_ = inside.Close()
				return
			}
			join(inside, outside)
		}()
	}
}

// start runs a program as the agent's user, in a group of its own.
func (s *supervisor) start(command []string, stdout, stderr *os.File) (pid int, ended <-chan syscall.WaitStatus, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	attributes := &syscall.ProcAttr{
		Dir: codeFolder, Env: s.plan.Environment,
		Files: []uintptr{null.Fd(), stdout.Fd(), stderr.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if s.plan.Agent != 0 {
		id := uint32(s.plan.Agent)
		attributes.Sys.Credential = &syscall.Credential{Uid: id, Gid: id}
	}
	arguments := append([]string{startName, strconv.Itoa(s.plan.Limits.Processes)}, command...)
	// The reaper must not see the end of a child before it is known here.
	s.starting.Lock()
	defer s.starting.Unlock()
	pid, err = syscall.ForkExec("/proc/self/exe", arguments, attributes)
	if err != nil {
		return 0, nil, fmt.Errorf("starting %s: %w", command[0], err)
	}
	c := make(chan syscall.WaitStatus, 1)
	s.children[pid] = c
	return pid, c, nil
}

// reap waits for every child: those that were started, and the orphans that fall to process 1.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil: // no children at the moment
			time.Sleep(20 * time.Millisecond)
			continue
		}
		s.starting.Lock()
		c := s.children[pid]
		delete(s.children, pid)
		s.starting.Unlock()
		if c != nil {
			c <- status
		}
	}
}

// become turns this process into the program: as nobody who could become
// somebody, within its limits.
func become(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("nothing to start")
	}
	processes, err := strconv.ParseUint(arguments[0], 10, 32)
	if err != nil {
		return err
	}
	for limit, most := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: 8192, unix.RLIMIT_NPROC: processes} {
		if err := unix.Setrlimit(limit, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limits: %w", err)
		}
	}
	if err := dropPrivileges(); err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	command := arguments[1:]
	path, err := look(command[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, command, os.Environ())
}

// look finds a program as a shell would, in the agent's PATH and, for a name with a slash, in its code.
func look(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for folder := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		path := folder + "/" + name
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s in PATH (%s)", name, os.Getenv("PATH"))
}

// dropPrivileges gives up what a program could gain by being started: capabilities of
// this namespace's root, and set-user-id programs.
func dropPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	for capability := 0; capability <= unix.CAP_LAST_CAP; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}
