//go:build linux

package inside

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unpacker makes folders again what an archive says they were. No program runs in the
// session yet. It believes the archive nothing: names are single steps from an open
// folder, no link is followed, and what exists is in the way.
type unpacker struct {
	r       archiveReader
	mounts  []string
	seen    map[string]bool // mounts that were there
	stack   []level
	entries int
	piece   []byte
}

// level is a folder that is being filled. Its mode and time are set when it is
// left: until then it has to be open to us, and each entry moves its time.
type level struct {
	folder *os.File
	name   string
	mode   uint32
	time   unix.Timespec
}

func unpack(from io.Reader, mounts []string) (err error) {
	u := &unpacker{r: archiveReader{bufio.NewReaderSize(from, 64<<10)}, mounts: mounts, seen: map[string]bool{}, piece: make([]byte, archivePiece)}
	defer func() {
		for _, l := range u.stack {
			_ = l.folder.Close()
		}
	}()
	mark := make([]byte, len(archiveMark))
	if _, err := io.ReadFull(u.r, mark); err != nil {
		return whole(err)
	}
	if string(mark) != archiveMark {
		return fmt.Errorf("%w: it is no archive of this kind", errArchive)
	}
	for {
		record, err := u.r.ReadByte()
		if err != nil {
			return whole(err)
		}
		switch {
		case record == recordMount && len(u.stack) <= 1:
			err = errors.Join(u.leave(), u.mount())
		case record == recordEnd && len(u.stack) <= 1:
			if _, err := u.r.ReadByte(); err == nil {
				return fmt.Errorf("%w: it goes on after its end", errArchive)
			} else if !errors.Is(err, io.EOF) {
				return err
			}
			return u.leave()
		case record == recordUp && len(u.stack) > 1:
			err = u.leave()
		case len(u.stack) == 0:
			err = fmt.Errorf("%w: record %q where there is no folder", errArchive, record)
		default:
			err = u.entry(record)
		}
		if err != nil {
			return err
		}
	}
}

func (u *unpacker) here() int { return int(u.stack[len(u.stack)-1].folder.Fd()) }

func (u *unpacker) mount() error {
	place, err := u.r.text(longestPath)
	if err != nil {
		return err
	}
	if !slices.Contains(u.mounts, place) || u.seen[place] {
		return fmt.Errorf("%w: it is of another folder, %.100q", errArchive, place)
	}
	u.seen[place], u.entries = true, 0
	return u.enter(unix.AT_FDCWD, place)
}

// enter makes a folder, the one that is filled, of what is there.
func (u *unpacker) enter(at int, name string) error {
	mode, err := u.r.mode()
	if err != nil {
		return err
	}
	time, err := u.r.time()
	if err != nil {
		return err
	}
	folder, _, err := openFolder(at, name)
	if err != nil {
		return err
	}
	u.stack = append(u.stack, level{folder, name, mode, time})
	return nil
}

// leave completes the innermost folder, where there is one.
func (u *unpacker) leave() error {
	if len(u.stack) == 0 {
		return nil
	}
	l := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	defer l.folder.Close()
	at := unix.AT_FDCWD
	if len(u.stack) > 0 {
		at = u.here()
	}
	// The time first: a folder that is closed to its owner is still his to find.
	return errors.Join(setTime(at, l.name, l.time), unix.Fchmod(int(l.folder.Fd()), l.mode))
}

func setTime(at int, name string, t unix.Timespec) error {
	return unix.UtimesNanoAt(at, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) entry(record byte) error {
	if u.entries++; u.entries > mostEntries {
		return fmt.Errorf("%w: it has too many entries", errArchive)
	}
	name, err := u.r.name()
	if err != nil {
		return err
	}
	switch record {
	case recordFolder:
		if len(u.stack) >= deepest {
			return fmt.Errorf("%w: it is too deep", errArchive)
		}
		if err := unix.Mkdirat(u.here(), name, 0o700); err != nil {
			return err
		}
		return u.enter(u.here(), name)
	case recordFile:
		return u.file(name)
	case recordLink:
		return u.link(name)
	case recordAgain:
		return u.again(name)
	}
	return fmt.Errorf("%w: there are no records %q", errArchive, record)
}

func (u *unpacker) file(name string) error {
	mode, err := u.r.mode()
	if err != nil {
		return err
	}
	time, err := u.r.time()
	if err != nil {
		return err
	}
	size, err := u.r.number(1<<63 - 1)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(u.here(), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return err
	}
	for {
		at, err := u.r.number(size)
		if err != nil {
			return err
		}
		n, err := u.r.number(min(archivePiece, size-at))
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if _, err := io.ReadFull(u.r, u.piece[:n]); err != nil {
			return whole(err)
		}
		if err := writeAt(fd, u.piece[:n], int64(at)); err != nil {
			return err
		}
	}
	return errors.Join(unix.Fchmod(fd, mode), setTime(u.here(), name, time))
}

func writeAt(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// link makes a symbolic link. Where it leads is the agent's affair: it is followed by
// what the agent runs, with the agent's rights, and by nothing here.
func (u *unpacker) link(name string) error {
	time, err := u.r.time()
	if err != nil {
		return err
	}
	text, err := u.r.text(longestText)
	if err != nil {
		return err
	}
	return errors.Join(unix.Symlinkat(text, u.here(), name), setTime(u.here(), name, time))
}

// again gives a file of this mount another name. The way to it is by folders of the
// mount alone.
func (u *unpacker) again(name string) error {
	first, err := u.r.text(longestPath)
	if err != nil {
		return err
	}
	for step := range strings.SplitSeq(first, "/") {
		if !isName(step) {
			return fmt.Errorf("%w: %.100q is no path", errArchive, first)
		}
	}
	root := int(u.stack[0].folder.Fd())
	at, err := unix.Openat2(root, path.Dir(first), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.Linkat(at, path.Base(first), u.here(), name, 0)
}
