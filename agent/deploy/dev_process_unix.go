//go:build unix

package deploy

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps the agent and its children together, and Ctrl-C from them: they are ended in order.
func ownGroup(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func endGroup(c *exec.Cmd, force bool) {
	signal := syscall.SIGTERM
	if force {
		signal = syscall.SIGKILL
	}
	_ = syscall.Kill(-c.Process.Pid, signal) // it may be gone
}
