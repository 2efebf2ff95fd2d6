package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// seat is a person's terminal: a real one, of the kernel, with nobody before it but the test.
type seat struct {
	t      *testing.T
	master *os.File
	mu     sync.Mutex
	shown  bytes.Buffer
	ended  chan error
}

// sit runs a command at a terminal of its own.
func sit(t *testing.T, env []string, args ...string) *seat {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this machine has no terminals: ", err)
	}
	var number, unlocked uint32
	for _, ask := range []struct {
		request uintptr
		value   *uint32
	}{{syscall.TIOCSPTLCK, &unlocked}, {syscall.TIOCGPTN, &number}} {
		if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), ask.request, uintptr(unsafe.Pointer(ask.value))); failed != 0 {
			t.Fatal(failed)
		}
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this machine has no terminals: ", err)
	}
	size := [4]uint16{24, 80}
	if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); failed != 0 {
		t.Fatal(failed)
	}
	command := exec.Command("onbehalf", args...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "AWS_") && !strings.HasPrefix(variable, "ONBEHALF_") {
			command.Env = append(command.Env, variable)
		}
	}
	command.Env = append(command.Env, env...)
	command.Stdin, command.Stdout, command.Stderr = slave, slave, slave
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	s := &seat{t: t, master: master, ended: make(chan error, 1)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		piece := make([]byte, 4096)
		for {
			n, err := master.Read(piece)
			s.mu.Lock()
			s.shown.Write(piece[:n])
			s.mu.Unlock()
			if err != nil { // EIO where nobody holds the other end any more
				return
			}
		}
	}()
	go func() {
		err := command.Wait()
		<-read
		s.ended <- err
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = master.Close()
	})
	return s
}

func (s *seat) screen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

// sees waits until something is on the screen.
func (s *seat) sees(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !strings.Contains(s.screen(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%q does not appear:\n%s", text, s.screen())
		}
	}
}

func (s *seat) types(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.master, keys); err != nil {
		s.t.Fatal(err)
	}
}

// leaves waits for the end and returns the exit code.
func (s *seat) leaves() int {
	s.t.Helper()
	select {
	case err := <-s.ended:
		if err == nil {
			return 0
		}
		ended, ok := err.(*exec.ExitError)
		if !ok {
			s.t.Fatal(err)
		}
		return ended.ExitCode()
	case <-time.After(3 * time.Minute):
		s.t.Fatalf("it does not end:\n%s", s.screen())
		return 0
	}
}

func TestPerson(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t, func(*server.Config) {})
	env := []string{"ONBEHALF_DATA=" + p.Config.Data, "TERM=xterm", "NO_COLOR="}
	do := func(args ...string) {
		t.Helper()
		s := sit(t, env, args...)
		if code := s.leaves(); code != 0 {
			t.Fatalf("%q: exit code %d\n%s", args, code, s.screen())
		}
	}

	// A secret that is typed is not shown, and no part of the terminal's state is left behind.
	s := sit(t, env, "providers", "create", "github", "--client-id", "c")
	s.sees("Client secret of github (not shown): ")
	s.types("tops3cret\n")
	if code := s.leaves(); code != 0 || strings.Contains(s.screen(), "tops3cret") {
		t.Errorf("exit code %d\n%s", code, s.screen())
	}
	s = sit(t, env, "providers", "create", "api-key", "--name", "openai", "--api-key-file", "-")
	s.sees("API key openai (not shown): ")
	s.types("tops3cret\n")
	if code := s.leaves(); code != 0 || strings.Contains(s.screen(), "tops3cret") {
		t.Errorf("exit code %d\n%s", code, s.screen())
	}

	// Ctrl-C at the question is a no, and leaves a terminal that shows what is typed.
	s = sit(t, env, "providers", "create", "github", "--name", "second", "--client-id", "c")
	s.sees("(not shown): ")
	s.types("\x03")
	if code := s.leaves(); code != 1 || !strings.Contains(s.screen(), "stopped") {
		t.Errorf("exit code %d\n%s", code, s.screen())
	}

	// What cannot be taken back is asked for; anything but yes is no.
	for answer, gone := range map[string]bool{"\n": false, "no\n": false, "yesss\n": false, "\x04": false, "Y\n": true} {
		s := sit(t, env, "providers", "delete", "openai")
		s.sees("Delete the API key openai? [y/N] ")
		s.types(answer)
		code := s.leaves()
		if (code == 0) != gone {
			t.Errorf("%q: exit code %d\n%s", answer, code, s.screen())
		}
		if gone {
			s := sit(t, env, "providers", "create", "api-key", "--name", "openai", "--api-key-file", filepath.Join(p.Config.Data, "credentials"))
			s.leaves()
		}
	}

	// A screen of 80 columns: what does not fit is cut, the names never; colours only where they are wanted.
	do("workloads", "create", "my-agent")
	s = sit(t, env, "workloads", "list")
	s.leaves()
	if screen := s.screen(); !strings.Contains(screen, "my-agent") || !strings.Contains(screen, "…") || !strings.Contains(screen, "\x1b[1m") {
		t.Errorf("%q", screen)
	}
	for line := range strings.Lines(s.screen()) {
		if text := strings.NewReplacer("\x1b[1m", "", "\x1b[0m", "").Replace(strings.TrimRight(line, "\r\n")); len([]rune(text)) > 80 {
			t.Errorf("%d columns: %s", len([]rune(text)), text)
		}
	}
	s = sit(t, append(env, "NO_COLOR=1"), "workloads", "list")
	if s.leaves(); strings.Contains(s.screen(), "\x1b") {
		t.Errorf("%q", s.screen())
	}
	s = sit(t, env, "gateways", "list")
	if s.leaves(); !strings.Contains(s.screen(), "There are no gateways. Make one:") {
		t.Errorf("%q", s.screen())
	}
}
