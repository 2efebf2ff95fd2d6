//go:build linux

package process

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childLock is held while a child is started.
type childLock struct{ sync.Mutex }

// order is a command for the session, and outcome how it ended.
type order struct {
	Line    string        `json:"line"`
	Timeout time.Duration `json:"timeout"`
}

type outcome struct {
	Code     int    `json:"code"`
	TimedOut bool   `json:"timedOut,omitempty"`
	Error    string `json:"error,omitempty"`
}

// command runs a line beside the agent. files are where it prints, and where its end is told.
func (s *supervisor) command(text string, files []*os.File) {
	defer closeAll(files)
	var o order
	if len(files) != 3 || json.Unmarshal([]byte(text), &o) != nil {
		return
	}
	told, err := net.FileConn(files[2])
	if err != nil {
		return
	}
	defer told.Close()
	tell := func(out outcome) { _ = json.NewEncoder(told).Encode(out) }
	pid, ended, err := s.start([]string{"/bin/sh", "-c", o.Line}, files[0], files[1])
	if err != nil {
		tell(outcome{Code: -1, Error: err.Error()})
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
		tell(outcome{Code: code})
	case <-timeout.C:
		s.kill(pid, ended)
		tell(outcome{Code: -1, TimedOut: true})
	case <-left:
		s.kill(pid, ended)
	}
}

func (s *supervisor) kill(pid int, ended <-chan syscall.WaitStatus) {
	_ = unix.Kill(-pid, unix.SIGKILL)
	<-ended
}

// watchMemory ends a session that takes more than it may. Where a control group
// bounds it as well, the kernel is faster.
func (s *supervisor) watchMemory() {
	for range time.Tick(200 * time.Millisecond) {
		if used := s.used(); used > s.plan.Limits.Memory {
			s.end("The agent took more memory than its limit of " + strconv.FormatInt(s.plan.Limits.Memory>>20, 10) + " MB, and was ended.")
		}
	}
}

// used is what the session's processes and files take of the machine's memory.
func (s *supervisor) used() (sum int64) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, entry := range entries {
		if entry.Name() == "1" || strings.Trim(entry.Name(), "0123456789") != "" {
			continue
		}
		sum += resident(entry.Name())
	}
	for _, folder := range writable(s.plan) {
		var stat unix.Statfs_t
		if unix.Statfs(folder, &stat) == nil {
			sum += int64(stat.Blocks-stat.Bfree) * stat.Bsize
		}
	}
	return sum
}

func resident(pid string) int64 {
	text, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return 0 // it has ended
	}
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	shared, _ := strconv.ParseInt(fields[2], 10, 64) // programs and files: once on the machine
	return (pages - shared) * int64(os.Getpagesize())
}

// join copies between two connections until both directions have ended.
func join(a, b net.Conn) {
	var both sync.WaitGroup
	one := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite()
		} else {
			_ = to.Close()
		}
	}
	both.Go(func() { one(a, b) })
	both.Go(func() { one(b, a) })
	both.Wait()
	_ = a.Close()
	_ = b.Close()
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
