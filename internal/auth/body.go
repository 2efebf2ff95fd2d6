package auth

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
)

// Body is a request's body that has arrived whole and was found to be what its
// sender meant: in memory where it is small, else in a file that has no name.
//
// It can be read again from any place (Seek), and from several places at once
// (ReadAt). Close gives back memory and disk, and belongs into a defer: what
// reads afterwards, such as an HTTP client that was not done yet, gets
// os.ErrClosed and never another request's bytes.
type Body struct {
	size int64
	sum  [sha256.Size]byte

	mu     sync.Mutex // Close against reads
	at     int64
	memory []byte  // where there is no file
	room   *[]byte // the pooled buffer that memory is a part of; nil where there is none
	file   *os.File
	closed bool

	spool   *spool
	address netip.Addr
	held    int64 // bytes of the spool
}

// Size is the number of bytes.
func (b *Body) Size() int64 { return b.size }

// SHA256 is the hash of the whole.
func (b *Body) SHA256() [sha256.Size]byte { return b.sum }

// Bytes is the whole, where it is in memory; false where it is in a file. It
// must be neither changed nor looked at after Close.
func (b *Body) Bytes() ([]byte, bool) { return b.memory, b.file == nil }

// Read reads on from where the last Read or Seek ended.
func (b *Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.readAt(p, b.at)
	b.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt reads from a place, as io.ReaderAt has it.
func (b *Body) ReadAt(p []byte, at int64) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.readAt(p, at)
}

func (b *Body) readAt(p []byte, at int64) (int, error) {
	switch {
	case b.closed:
		return 0, os.ErrClosed
	case at < 0:
		return 0, errNegative
	case at >= b.size:
		return 0, io.EOF
	case b.file != nil:
		return b.file.ReadAt(p, at)
	}
	n := copy(p, b.memory[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

var errNegative = errors.New("auth: a place before the body's beginning")

// Seek sets where the next Read begins.
func (b *Body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return 0, errNegative
	}
	b.at = offset
	return offset, nil
}

// Close ends the body, once; closing it again does nothing.
func (b *Body) Close() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	giveBack(b.room, len(b.memory))
	b.room, b.memory = nil, nil
	b.spool.release(b.address, b.held)
	if b.file == nil {
		return nil
	}
	return b.file.Close() // the last that knew of it
}

// rooms are buffers for bodies in memory, and for the pieces of others, of a few
// sizes, because a call of 200 bytes should not hold a megabyte for as long as its
// agent thinks.
var rooms = [...]struct {
	size int
	pool sync.Pool
}{{size: 4 << 10}, {size: promised}, {size: spoolPiece}, {size: inMemory}}

// take is a buffer that has at least so many bytes, at most inMemory.
func take(size int) *[]byte {
	for i := range rooms {
		if size > rooms[i].size {
			continue
		}
		if room, is := rooms[i].pool.Get().(*[]byte); is {
			return room
		}
		room := make([]byte, rooms[i].size)
		return &room
	}
	panic("auth: a buffer that is larger than what is kept in memory")
}

// giveBack clears what was used of a buffer: it may have held secrets.
func giveBack(room *[]byte, used int) {
	if room == nil {
		return
	}
	clear((*room)[:used])
	for i := range rooms {
		if len(*room) == rooms[i].size {
			rooms[i].pool.Put(room)
		}
	}
}
