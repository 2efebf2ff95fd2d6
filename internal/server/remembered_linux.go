package server

import (
	"os"

	"golang.org/x/sys/unix"
)

// notRemembered has the system forget what a file that lies on the disk holds, so
// that who reads it next reads the disk.
func notRemembered(file *os.File) {
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
}
