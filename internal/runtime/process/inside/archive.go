//go:build linux

package inside

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// An archive is what a session's folders of storage held. It is written and read
// here alone; the platform passes its bytes on and knows nothing of them.
//
//	archiveMark, then records: a byte that says what it is, and its parts
//	mount  place, mode, time           from here on in this folder
//	folder name, mode, time            from here on in this one
//	up                                 back
//	file   name, mode, time, size, its pieces: offset, length, bytes; a length of 0 is the last
//	link   name, time, text            symbolic; the text is never followed here
//	again  name, path                  the same file as that one, by its path from the mount's root
//	end                                without it the archive is not whole
//
// A name is one step, and never leads up or away: that is checked, and where a
// record belongs is an open folder, not a path. Texts and numbers have their length
// before them. tar has no holes that Go can write, and an agent's file may be a hole of terabytes.
const (
	archiveMark = "onbehalf storage 1\n"

	recordMount  = 'M'
	recordFolder = 'D'
	recordUp     = 'U'
	recordFile   = 'F'
	recordLink   = 'L'
	recordAgain  = 'H'
	recordEnd    = 'E'
)

const (
	longestName  = 255
	longestText  = 4095    // of a symbolic link, the kernel's bound
	longestPath  = 1000    // of a file that has another name as well
	deepest      = 100     // folders within each other
	mostEntries  = 100_000 // of a mount; the file system's own bound is a little above
	archivePiece = 256 << 10
	page         = 4 << 10
	allModeBits  = 0o7777
)

// archiveWriter writes records. The first error stays.
type archiveWriter struct{ *bufio.Writer }

func (w archiveWriter) number(n uint64) {
	var b [binary.MaxVarintLen64]byte
	_, _ = w.Write(b[:binary.PutUvarint(b[:], n)])
}

func (w archiveWriter) text(s string) {
	w.number(uint64(len(s)))
	_, _ = w.WriteString(s)
}

func (w archiveWriter) time(t unix.Timespec) {
	var b [binary.MaxVarintLen64]byte
	_, _ = w.Write(b[:binary.PutVarint(b[:], t.Sec)])
	w.number(uint64(t.Nsec))
}

// errArchive is what is wrong with an archive that was not written here, or not whole.
var errArchive = errors.New("it is damaged")

type archiveReader struct{ *bufio.Reader }

// whole tells an archive that ends too early from a broken pipe.
func whole(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", errArchive)
	}
	return err
}

func (r archiveReader) number(most uint64) (uint64, error) {
	n, err := binary.ReadUvarint(r)
	if err == nil && n > most {
		return 0, fmt.Errorf("%w: %d, where %d is the most", errArchive, n, most)
	}
	return n, whole(err)
}

func (r archiveReader) text(longest int) (string, error) {
	n, err := r.number(uint64(longest))
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), whole(err)
}

// name is one step of a path, and no other.
func (r archiveReader) name() (string, error) {
	name, err := r.text(longestName)
	if err == nil && !isName(name) {
		err = fmt.Errorf("%w: %.100q is no name", errArchive, name)
	}
	return name, err
}

func isName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= longestName && !strings.ContainsAny(s, "/\x00")
}

func (r archiveReader) mode() (uint32, error) {
	n, err := r.number(allModeBits)
	return uint32(n), err
}

func (r archiveReader) time() (t unix.Timespec, err error) {
	seconds, err := binary.ReadVarint(r)
	if err != nil {
		return t, whole(err)
	}
	nanoseconds, err := r.number(999_999_999)
	t.Sec, t.Nsec = seconds, int64(nanoseconds)
	return t, err
}
