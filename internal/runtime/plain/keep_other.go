//go:build !linux

package plain

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// adopt cannot be had here: what has left its process group gets away.
func adopt() {}

func childGroup() *syscall.SysProcAttr { return ownGroup() }

// each sends a signal to the program's group.
func each(agent int, signal unix.Signal) { _ = unix.Kill(-agent, signal) }
