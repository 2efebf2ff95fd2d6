//go:build linux

package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Kind says what a message on the channel is about.
type Kind string

// The kinds of message.
const (
	KindLaunch  Kind = "launch"  // platform ▶ init: the plan, the first message; descriptors: the folders that are shown, and the archive of storage
	KindReady   Kind = "ready"   // init ▶ platform: the agent runs; descriptors: where it finds the platform, and the way out; text: how its storage looks
	KindDial    Kind = "dial"    // platform ▶ init: a connection to the agent's port is wanted
	KindDialled Kind = "dialled" // init ▶ platform: here it is, or why not
	KindRun     Kind = "run"     // platform ▶ init: a command; descriptors: stdout, stderr, and a pipe for how it ended
	KindStop    Kind = "stop"    // platform ▶ init: ask the agent to end
	KindSave    Kind = "save"    // platform ▶ init: pack the storage, where it looks otherwise than the text; descriptor: a pipe for the archive
	KindSaved   Kind = "saved"   // init ▶ platform: how that went, a Saved; what it says of is in the pipe
	KindFinish  Kind = "finish"  // platform ▶ init: end the agent by force, and stay for its storage
	KindEnd     Kind = "end"     // init ▶ platform: why there is no agent any more; the last message but for those about storage
)

// Message is one on the channel; connections and pipes go along as descriptors.
type Message struct {
	Kind   Kind            `json:"kind"`
	Number uint64          `json:"number,omitempty"` // of the dial or the saving that is wanted or answered
	Text   string          `json:"text,omitempty"`
	Plan   json.RawMessage `json:"plan,omitempty"`
}

// longestMessage bounds a message: a launch with 50 variables of 5,000 characters
// fits. What an init says is short.
const (
	longestMessage = 1 << 20
	longestAnswer  = 16 << 10
	mostFiles      = 64 // that come along with a message
)

// unread is how long the platform waits for an init that takes in no more messages.
const unread = 10 * time.Second

// Channel is one end of the socket pair. Messages are records (SOCK_SEQPACKET),
// so that a descriptor never parts from its message.
type Channel struct {
	conn   *net.UnixConn
	mu     sync.Mutex // one writer at a time
	buf    []byte
	unread time.Duration // after which the channel ends when the other end takes in nothing; 0: never
}

// Pair makes a channel, and the file that the init inherits as its other end.
func Pair() (*Channel, *os.File, error) {
	ours, theirs, err := SocketPair(syscall.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, err
	}
	c, err := channelOf(ours, longestAnswer)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	c.unread = unread
	return c, theirs, nil
}

// SocketPair is one whose ends the next program does not have.
func SocketPair(socketType int) (a, b *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, socketType|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	// The system's bounds are about 200 KB; a launch may be larger.
	for _, fd := range fds {
		if socketType == syscall.SOCK_SEQPACKET {
			_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, longestMessage)
		}
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// channelOf makes an end of a channel that takes messages of up to longest bytes.
func channelOf(f *os.File, longest int) (*Channel, error) {
	defer f.Close()
	conn, err := net.FileConn(f) // a copy of the descriptor
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("a channel is a unix socket, not a %T", conn)
	}
	return &Channel{conn: u, buf: make([]byte, longest)}, nil
}

// Send sends a message and closes the files, whose descriptors the other end now has.
func (c *Channel) Send(m Message, files ...*os.File) error {
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > longestMessage/2 {
		return fmt.Errorf("the message of %d bytes is too long for the channel", len(text))
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unread != 0 {
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.unread))
	}
	_, _, err = c.conn.WriteMsgUnix(text, rights, nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.conn.Close() // whoever waits to send does not wait as long again
	}
	return err
}

// Receive waits for the next message. The files are the caller's to close.
func (c *Channel) Receive() (m Message, files []*os.File, err error) {
	rights := make([]byte, syscall.CmsgSpace(4*mostFiles))
	n, rn, flags, _, err := c.conn.ReadMsgUnix(c.buf, rights)
	if errors.Is(err, syscall.ECONNRESET) {
		// The other end has gone and left something unread. That is said once, and before
		// what it has sent: its last word is there still.
		n, rn, flags, _, err = c.conn.ReadMsgUnix(c.buf, rights)
	}
	if err != nil {
		return m, nil, err
	}
	if files, err = filesOf(rights[:rn]); err != nil {
		return m, nil, err
	}
	if n == 0 {
		CloseAll(files)
		return m, nil, net.ErrClosed // the other end has gone
	}
	if flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
		CloseAll(files)
		return m, nil, errors.New("a message on the channel was cut")
	}
	if err := json.Unmarshal(c.buf[:n], &m); err != nil {
		CloseAll(files)
		return m, nil, fmt.Errorf("a message on the channel: %w", err)
	}
	return m, files, nil
}

func filesOf(rights []byte) (files []*os.File, err error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			CloseAll(files)
			return nil, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

// CloseAll closes them.
func CloseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// Close ends the channel.
func (c *Channel) Close() error { return c.conn.Close() }
