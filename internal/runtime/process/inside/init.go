//go:build linux

package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Name is what the executable is called when it is started again, as process 1 of
// a session.
const Name = "onbehalf-session"

// Descriptors that it inherits.
const (
	channelDescriptor = 3
	outputDescriptor  = 4
)

// Here the process is taken over: in one of another name this does nothing.
func init() {
	if os.Args[0] != Name {
		return
	}
	// The goroutine that initialises packages keeps to its thread; nothing else has to.
	go func() {
		s := &supervisor{children: map[int]chan syscall.WaitStatus{}}
		if err := s.run(); err != nil {
			s.end("The session's surroundings could not be made: " + err.Error() + ".")
		}
		syscall.Exit(1)
	}()
	select {}
}

// supervisor is process 1 of a session.
type supervisor struct {
	channel  *Channel
	plan     Plan
	output   *os.File
	starter  *starter
	starting childLock
	over     bool // with starting: nothing is started any more
	children map[int]chan syscall.WaitStatus

	keeps atomic.Bool // there is storage to save
	ended sync.Once
}

func (s *supervisor) run() (err error) {
	debug.SetGCPercent(25) // memory of which there is some for each session
	s.output = os.NewFile(outputDescriptor, "output")
	unix.CloseOnExec(channelDescriptor)
	unix.CloseOnExec(outputDescriptor)
	if s.channel, err = channelOf(os.NewFile(channelDescriptor, "channel"), longestMessage); err != nil {
		return err
	}
	if err := closeInherited(); err != nil {
		return fmt.Errorf("closing what was inherited: %w", err)
	}
	first, passed, err := s.channel.Receive()
	if err != nil || first.Kind != KindLaunch {
		return fmt.Errorf("the launch did not come: %q %w", first.Kind, err)
	}
	defer CloseAll(passed)
	if err := json.Unmarshal(first.Plan, &s.plan); err != nil {
		return err
	}
	var kept *os.File
	if last := len(passed) - 1; s.plan.Kept && last >= 0 {
		kept, passed = passed[last], passed[:last]
		defer kept.Close()
	}
	// Where the machine runs short of memory, sessions go before the platform.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	// Nobody within the session may look into process 1, whose memory has the environment.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hiding process 1: %w", err)
	}
	// It ends with its channel. Signals are caught, since what is ignored is ignored by programs that are started, too.
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	if err := unix.Sethostname([]byte("agent")); err != nil {
		return fmt.Errorf("the host name: %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("the loopback interface: %w", err)
	}
	if err := buildRoot(s.plan, passed); err != nil {
		return err
	}
	CloseAll(passed)
	// No new user namespaces within this one: their makers would have capabilities there.
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return fmt.Errorf("forbidding user namespaces: %w", err)
	}
	for name, most := range shares {
		if err := os.WriteFile("/proc/sys/user/"+name, []byte(most), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("limiting %s: %w", name, err)
		}
	}
	if err := sealProc(); err != nil {
		return err
	}
	var doors []*os.File
	defer func() { CloseAll(doors) }()
	for _, port := range s.plan.Doors {
		door, err := listen(port)
		if err != nil {
			return err
		}
		doors = append(doors, door)
	}
	if s.starter, err = newStarter(s.plan); err != nil {
		return err
	}
	looks, err := s.restore(kept)
	if err != nil {
		s.end("The session's storage could not be restored: " + err.Error() + ". What was kept stays as it is; a session of another id begins with none.")
	}
	go s.reap()
	pid, ended, err := s.start(s.plan.Command, s.output, s.output)
	if errors.Is(err, errNoProgram) {
		fmt.Fprintln(s.output, "onbehalf: the agent's program cannot be started:", err)
		_ = s.channel.Send(Message{Kind: KindReady}, doors...)
		s.end("The agent ended with exit code 127.")
	}
	if err != nil {
		return err
	}
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("600"), 0)
	s.keeps.Store(s.plan.Keeps)
	if err := s.channel.Send(Message{Kind: KindReady, Text: looks}, doors...); err != nil {
		return err
	}
	if s.plan.Watch {
		go s.watchMemory()
	}
	go func() { s.end(ending(<-ended)) }()
	debug.FreeOSMemory() // of what it took to come here
	return s.serve()
}

// end tells the platform why there is no agent any more, and ends the session. Where
// there is storage to save, it ends the agent alone, and returns: the platform asks
// for the storage, and then ends the session.
func (s *supervisor) end(why string) {
	s.ended.Do(func() {
		keeps := s.keeps.Load()
		if keeps {
			s.clear()
		}
		if s.channel != nil {
			_ = s.channel.Send(Message{Kind: KindEnd, Text: why})
			// What the agent printed last is in the pipe; closing happens with the exit.
		}
		if !keeps {
			syscall.Exit(0) // at once: what waits for the news is a call; nothing here wants to be tidied up
		}
	})
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
		m, files, err := s.channel.Receive()
		if err != nil {
			syscall.Exit(0) // the platform is gone, and so is everything here
		}
		switch m.Kind {
		case KindDial:
			go s.dial(m.Number)
		case KindRun:
			go s.command(m.Text, files)
			continue
		case KindStop:
			_ = unix.Kill(-1, unix.SIGTERM) // everything but process 1
		case KindFinish:
			go s.end("The agent was ended.")
		case KindSave:
			go s.save(m, files)
			continue
		}
		CloseAll(files)
	}
}

// dial connects to the agent's port and hands the connection over: a socket belongs to
// the network in which it was made, whoever has it. So no byte of a call goes through here.
func (s *supervisor) dial(number uint64) {
	answer := Message{Kind: KindDialled, Number: number}
	conn, err := s.connect()
	if err != nil {
		answer.Text = err.Error()
		_ = s.channel.Send(answer)
		return
	}
	defer conn.Close()
	file, err := conn.(*net.TCPConn).File()
	if err == nil {
		err = s.channel.Send(answer, file)
	}
	if err != nil { // nobody is to wait for an answer that cannot be given
		answer.Text = err.Error()
		_ = s.channel.Send(answer)
	}
}

// connect finds the agent on either loopback address: some servers listen on one alone.
func (s *supervisor) connect() (conn net.Conn, err error) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, first := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(s.plan.Port)), 5*time.Second)
		if first == nil {
			return conn, nil
		}
		if err == nil {
			err = first
		}
	}
	return nil, err
}

// listen opens a port of the session whose connections the platform takes itself.
func listen(port int) (*os.File, error) {
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	return listener.(*net.TCPListener).File()
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
