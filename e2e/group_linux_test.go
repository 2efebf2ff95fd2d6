package e2e

import "syscall"

// groupOfItsOwn is for a program whose children are to end with it, and all of them with the test.
func groupOfItsOwn() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
