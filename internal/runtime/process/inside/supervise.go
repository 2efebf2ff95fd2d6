//go:build linux

package inside

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childLock is held while a child is started.
type childLock struct{ sync.Mutex }

// Order is a command for the session.
type Order struct {
	Line    string        `json:"line"`
	Timeout time.Duration `json:"timeout"`
}

// Outcome is how a command ended.
type Outcome struct {
	Code     int    `json:"code"`
	TimedOut bool   `json:"timedOut,omitempty"`
	Error    string `json:"error,omitempty"`
}

// command runs a line beside the agent. files are where it prints, and where its end is told.
func (s *supervisor) command(text string, files []*os.File) {
	defer CloseAll(files)
	var o Order
	if len(files) != 3 || json.Unmarshal([]byte(text), &o) != nil {
		return
	}
	told, err := net.FileConn(files[2])
	if err != nil {
		return
	}
	defer told.Close()
	tell := func(out Outcome) { _ = json.NewEncoder(told).Encode(out) }
	pid, ended, err := s.start([]string{"/bin/sh", "-c", o.Line}, files[0], files[1])
	if err != nil {
		tell(Outcome{Code: -1, Error: err.Error()})
		return
	}
	// Whoever asked closes his end when he has left.
	left := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, told)
		close(left)
	}()
	timeout := time.NewTimer(o.Timeout)
	defer timeout.Stop()
	select {
	case status := <-ended:
		code := status.ExitStatus()
		if status.Signaled() {
			code = 128 + int(status.Signal()) // as a shell says it
		}
		_ = unix.Kill(-pid, unix.SIGKILL) // what it left behind
		tell(Outcome{Code: code})
	case <-timeout.C:
		s.kill(pid, ended)
		tell(Outcome{Code: -1, TimedOut: true})
	case <-left:
		s.kill(pid, ended)
	}
}

func (s *supervisor) kill(pid int, ended <-chan syscall.WaitStatus) {
	_ = unix.Kill(-pid, unix.SIGKILL)
	<-ended
}

// raiseLoopback makes 127.0.0.1 work in a new network namespace.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
