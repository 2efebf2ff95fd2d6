//go:build !linux

package e2e

import "syscall"

// groupOfItsOwn is for a program whose children are to end with it.
func groupOfItsOwn() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
