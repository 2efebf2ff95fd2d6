//go:build linux

package process

import (
	"io"
	"os"
	"sync/atomic"
	"time"
)

const (
	// lastOutput is how long a pipe is waited for once the command has ended: what it
	// printed is there, and whoever else holds the pipe is not the command.
	lastOutput = 100 * time.Millisecond
	// pipeful is the most that a pipe of an agent can hold.
	pipeful = 1 << 20
)

// tap is where a command's output comes out. Once the command has ended it ends, too,
// with what is in the pipe by then: a program that the command left behind may hold
// the other end for as long as it likes.
type tap struct {
	pipe *os.File
	over atomic.Bool
	left int // bytes that may still come
}

func (t *tap) Read(b []byte) (int, error) {
	if t.over.Load() {
		if t.left <= 0 {
			return 0, io.EOF
		}
		b = b[:min(len(b), t.left)]
		_ = t.pipe.SetReadDeadline(time.Now().Add(lastOutput))
	}
	n, err := t.pipe.Read(b)
	if t.over.Load() {
		t.left -= n
	}
	return n, err
}

// end says that the command has ended.
func (t *tap) end() {
	t.over.Store(true)
	_ = t.pipe.SetReadDeadline(time.Now().Add(lastOutput))
}
