//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package deploy

import (
	"errors"
	"os"
	"syscall"
)

// isLocked takes the lock, or reports that somebody else has it. A file system that
// knows no locks has nobody wait.
func isLocked(folder *os.File) bool {
	return errors.Is(syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
