package plain

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	goruntime "runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Descriptors that a keeper inherits.
const (
	controlDescriptor = 3
	statusDescriptor  = 4
)

// initialised says that this program, started again as a keeper, becomes one.
var initialised bool

// Init is among the first lines of each main and TestMain whose program may run
// sessions: in a process that was started as a keeper it does that, and never
// returns. In any other it does nothing.
func Init() {
	initialised = true
	if os.Args[0] == keeperName && len(os.Args) > 2 {
		keeping(os.Args[1], os.Args[2:])
		os.Exit(0)
	}
}

// keeping starts a program, reaps what falls to it, and leaves when nothing is left.
func keeping(folder string, command []string) {
	// The program dies with the thread that started it, where the system can do that.
	goruntime.LockOSThread()
	syscall.CloseOnExec(controlDescriptor)
	syscall.CloseOnExec(statusDescriptor)
	control, status := os.NewFile(controlDescriptor, "control"), os.NewFile(statusDescriptor, "status")
	adopt()
	// Asked to end, it ends its program first; that it hears by the pipe.
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})

	path, err := exec.LookPath(command[0])
	agent := 0
	// A program that has just been written may be open in a process that the platform
	// is starting at this moment, between its beginning and its exec.
	for pause := time.Millisecond; err == nil && agent == 0 && pause < time.Second; pause *= 2 {
		agent, err = syscall.ForkExec(path, command, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: childGroup()})
		if errors.Is(err, syscall.ETXTBSY) && pause < 512*time.Millisecond {
			err = nil
			time.Sleep(pause)
		}
	}
	end := told(127, "The agent ended with exit code 127.")
	if err != nil {
		fmt.Fprintln(os.Stderr, "onbehalf: the agent's program cannot be started:", err)
	} else {
		end = attend(agent, control)
	}
	if folder != "" {
		_ = os.RemoveAll(folder)
	}
	_, _ = status.WriteString(end)
}

// attend waits until the program and what it left behind have ended.
func attend(agent int, control *os.File) (end string) {
	var over atomic.Bool
	sweep := func() {
		for over.Store(true); ; time.Sleep(5 * time.Millisecond) {
			each(agent, unix.SIGKILL)
		}
	}
	go func() {
		one := make([]byte, 1)
		for {
			if n, err := control.Read(one); n == 0 || err != nil {
				sweep() // the platform is gone, or wants this to be over
			}
			each(agent, unix.SIGTERM)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return end
		case pid == agent:
			end = ending(status, over.Load())
			agentGone(agent)
			go sweep()
		}
	}
}

// agentGone ends what is left of the program's group at once: what has no parent but us follows.
func agentGone(agent int) { _ = unix.Kill(-agent, unix.SIGKILL) }

// ending is a wait status in words.
func ending(status syscall.WaitStatus, ended bool) string {
	switch {
	case ended:
		return told(-1, "The agent was ended.")
	case status.Signaled():
		return told(128+int(status.Signal()), "The agent was ended by the signal "+unix.SignalName(status.Signal())+".")
	case status.ExitStatus() == 0:
		return told(0, "The agent ended by itself, with exit code 0.")
	}
	return told(status.ExitStatus(), fmt.Sprintf("The agent ended with exit code %d.", status.ExitStatus()))
}

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
