package plain

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// keeperName is what the executable is called when it is started as a keeper.
const keeperName = "onbehalf-keeper"

// keeper is the platform's end of one: a process that starts a program and ends
// with it, and ends the program, and all that it started, with us.
type keeper struct {
	command *exec.Cmd
	control *os.File // its end is the keeper's
	ended   chan struct{}

	mu      sync.Mutex
	told    string // how the program ended: the code, then words
	stopped bool
}

// keep starts a program below a keeper, which removes folder in the end.
func keep(folder string, command []string, dir string, environment []string, stdout, stderr io.Writer) (*keeper, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	theirControl, control, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	status, theirStatus, err := os.Pipe()
	if err != nil {
		_, _ = theirControl.Close(), control.Close()
		return nil, err
	}
	k := &keeper{control: control, ended: make(chan struct{})}
	k.command = exec.Command(executable)
	k.command.Args = append([]string{keeperName, folder}, command...)
	k.command.Env, k.command.Dir = environment, dir
	k.command.Stdout, k.command.Stderr = stdout, stderr
	k.command.ExtraFiles = []*os.File{theirControl, theirStatus}
	k.command.SysProcAttr = ownGroup()
	k.command.WaitDelay = 5 * time.Second // where something has escaped and still holds the output
	err = k.command.Start()
	_, _ = theirControl.Close(), theirStatus.Close()
	if err != nil {
		_, _ = control.Close(), status.Close()
		return nil, err
	}
	go func() {
		text, _ := io.ReadAll(io.LimitReader(status, 4096))
		_ = status.Close()
		_ = k.command.Wait()
		k.mu.Lock()
		k.told = string(text)
		k.mu.Unlock()
		_ = control.Close()
		close(k.ended)
	}()
	return k, nil
}

// stop ends the program and what it has started: politely, then by force.
func (k *keeper) stop(grace time.Duration) {
	k.mu.Lock()
	k.stopped = true
	k.mu.Unlock()
	if grace > 0 {
		_, _ = k.control.Write([]byte{'t'})
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-k.ended:
			return
		case <-timer.C:
		}
	}
	_ = k.control.Close()
	select {
	case <-k.ended:
	case <-time.After(30 * time.Second): // it multiplies faster than it can be ended
		_ = k.command.Process.Kill()
		<-k.ended
	}
}

func (k *keeper) why() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, words, found := strings.Cut(k.told, " ")
	switch {
	case found:
		return words
	case k.stopped:
		return "The agent was ended."
	}
	return "The process that kept the session was ended."
}

// code is the program's exit code.
func (k *keeper) code() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	text, _, _ := strings.Cut(k.told, " ")
	code, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return code
}

func told(code int, words string) string { return fmt.Sprintf("%d %s", code, words) }
