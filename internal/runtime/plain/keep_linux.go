package plain

import (
	"bytes"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// adopt makes this process the parent of what its descendants leave behind, so
// that nothing of them gets away.
func adopt() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

func childGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
}

// each sends a signal to all that descend from this process.
func each(_ int, signal unix.Signal) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	children := map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent := parentOf(entry.Name()); parent > 0 {
			children[parent] = append(children[parent], pid)
		}
	}
	var walk func(parent int)
	walk = func(parent int) {
		for _, pid := range children[parent] {
			_ = unix.Kill(pid, signal)
			walk(pid)
		}
	}
	walk(os.Getpid())
}

// parentOf reads the fourth field of a stat: the second, a name in brackets, may hold anything.
func parentOf(pid string) int {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0 // it has ended
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}
