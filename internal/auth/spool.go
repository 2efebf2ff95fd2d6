package auth

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const (
	// inMemory is how long a body may be that needs no file.
	inMemory = 1 << 20

	// defaultSpool is how many bytes of bodies may lie in files at once, all
	// requests together: eight archives of PutAgentCode, or twenty of the longest calls.
	defaultSpool = 2 << 30

	// spoolStep is what a body of unknown length reserves at a time.
	spoolStep = 16 << 20

	// spoolPiece is what is read, hashed and written in one go.
	spoolPiece = 256 << 10

	// A body that needs a file may take patience, and a second more for every
	// slowest bytes that have come: 0.5 Mbit/s. Whoever sends less holds a
	// connection and a part of the spool for nothing. Smaller bodies have the
	// server's ReadTimeout, two minutes from the request's first byte.
	patience = 30 * time.Second
	slowest  = 64 << 10
)

// spool keeps the bodies that are too long for memory, in files without a name:
// they are gone with the process, however it ends.
//
// What may lie there is bounded for all together, and for one address by half of
// it, because nobody has proven himself before his last byte. Loopback may have
// all: it is one machine, or a proxy that is not named as one.
type spool struct {
	limit    int64
	patience time.Duration
	create   func() (*os.File, error)

	mu   sync.Mutex
	held int64
	by   map[netip.Prefix]int64
}

func newSpool(folder string, limit int64) *spool {
	if limit <= 0 {
		limit = defaultSpool
	}
	return &spool{limit: limit, patience: patience, by: map[netip.Prefix]int64{}, create: func() (*os.File, error) { return nameless(folder) }}
}

// nameless makes a file that only its descriptor leads to, mode 0600.
func nameless(folder string) (*os.File, error) {
	if folder != "" {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
	}
	file, err := os.CreateTemp(folder, "body-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// reserve promises room for so many more bytes; fault.Throttled where there is none.
func (s *spool) reserve(address netip.Addr, bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := group(address)
	if s.held+bytes > s.limit || !address.Unmap().IsLoopback() && s.by[from]+bytes > s.limit/2 {
		err := fault.New(fault.Throttled, "Too many long request bodies are being handled now. Try again in a moment.")
		err.RetryAfter = 2 * time.Second
		return err
	}
	s.held += bytes
	s.by[from] += bytes
	return nil
}

func (s *spool) release(address netip.Addr, bytes int64) {
	if bytes == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from := group(address)
	s.held -= bytes
	if s.by[from] -= bytes; s.by[from] <= 0 {
		delete(s.by, from)
	}
}

// read takes a request's whole body, at most limit bytes, and its hash. It is
// nobody's yet: whoever asked closes it unless he can prove whose it is.
//
// Afterwards the connection has no read deadline until its next request: else
// net/http would take the end of ReadTimeout for the client's leaving, and end a
// call that is still at work.
func (s *spool) read(w http.ResponseWriter, r *http.Request, limit int64) (*Body, error) {
	if r.ContentLength > limit {
		return nil, tooLong(limit)
	}
	body := &Body{spool: s, address: addressOf(r)}
	if err := body.receive(w, r, limit); err != nil {
		_ = body.Close()
		return nil, bodyFault(err, limit)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // no connection below has none to lift
	return body, nil
}

// bodyFault words what went wrong while a body came in.
func bodyFault(err error, limit int64) error {
	var over *http.MaxBytesError
	var worded *fault.Error
	switch {
	case errors.As(err, &worded):
		return worded
	case errors.As(err, &over):
		return tooLong(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.New(fault.Invalid, "The request body came too slowly.").Because(err)
	}
	return fault.New(fault.Invalid, "The request body could not be read to its end.").Because(err)
}

func (b *Body) receive(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.Body == nil || r.ContentLength == 0 {
		b.sum = sha256.Sum256(nil)
		return nil
	}
	if r.ContentLength > inMemory {
		return b.toFile(w, r, r.Body)
	}
	source := r.Body
	if r.ContentLength < 0 {
		source = http.MaxBytesReader(w, source, limit)
	}
	whole, err := b.toMemory(source, r.ContentLength)
	if err != nil || whole {
		b.size, b.sum = int64(len(b.memory)), sha256.Sum256(b.memory)
		return err
	}
	return b.toFile(w, r, source)
}

// toMemory reads what memory has room for, and reports whether that was all.
// A Content-Length alone gets no more than promised bytes of it: the next larger
// buffer is for who has filled that one.
func (b *Body) toMemory(source io.Reader, length int64) (whole bool, err error) {
	first := promised
	if length >= 0 {
		first = min(int(length), promised)
	}
	b.room = take(first)
	for {
		room := *b.room
		if length >= 0 {
			room = room[:min(len(room), int(length))]
		}
		for len(b.memory) < len(room) {
			n, err := source.Read(room[len(b.memory):])
			b.memory = room[:len(b.memory)+n]
			switch {
			case err == io.EOF && int64(len(b.memory)) < length:
				return false, io.ErrUnexpectedEOF
			case err == io.EOF:
				return true, nil
			case err != nil:
				return false, err
			}
		}
		switch {
		case int64(len(b.memory)) == length:
			return true, nil // net/http ends a body at its Content-Length
		case len(b.memory) == inMemory:
			return false, nil
		}
		larger := take(len(b.memory) + 1)
		b.memory = (*larger)[:copy(*larger, b.memory)]
		giveBack(b.room, len(b.memory))
		b.room = larger
	}
}

// toFile moves what is in memory into a file, and reads the rest into it.
func (b *Body) toFile(w http.ResponseWriter, r *http.Request, source io.Reader) (err error) {
	step := int64(spoolStep)
	if r.ContentLength > 0 {
		step = r.ContentLength // refused as a whole before it is sent, or taken
	}
	if err := b.hold(step); err != nil {
		return err
	}
	if b.file, err = b.spool.create(); err != nil {
		return notKept(err)
	}
	hash := sha256.New()
	write := func(p []byte) error {
		hash.Write(p)
		if _, err := b.file.Write(p); err != nil {
			return notKept(err)
		}
		b.size += int64(len(p))
		return nil
	}
	if err := write(b.memory); err != nil {
		return err
	}
	giveBack(b.room, len(b.memory))
	b.memory, b.room = nil, nil
	piece := take(spoolPiece)
	used := 0
	defer func() { giveBack(piece, used) }()
	control, began := http.NewResponseController(w), time.Now()
	for {
		_ = control.SetReadDeadline(began.Add(b.spool.patience + time.Duration(b.size)*time.Second/slowest))
		n, err := fill(source, (*piece)[:spoolPiece])
		used = max(used, n)
		if b.size+int64(n) > b.held {
			if err := b.hold(spoolStep); err != nil {
				return err
			}
		}
		if err := write((*piece)[:n]); err != nil {
			return err
		}
		switch {
		case err == io.EOF && r.ContentLength >= 0 && b.size != r.ContentLength:
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			hash.Sum(b.sum[:0])
			return nil
		case err != nil:
			return err
		}
	}
}

// fill reads until p is full. Unlike io.ReadFull it tells an end from a body
// that was cut off, which net/http calls io.ErrUnexpectedEOF.
func fill(source io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = source.Read(p[n:])
		n += more
	}
	return n, err
}

func (b *Body) hold(bytes int64) error {
	if err := b.spool.reserve(b.address, bytes); err != nil {
		return err
	}
	b.held += bytes
	return nil
}

// notKept is trouble of our own: a full disk, a folder that is gone.
func notKept(err error) error {
	return fault.New(fault.Unavailable, "The request body could not be kept while it came in. Try again later.").Because(err)
}
