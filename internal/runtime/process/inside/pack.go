//go:build linux

package inside

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// errTooMuch ends an archive that would not fit back into the folders.
var errTooMuch = errors.New("it is more than the folder holds: its files change faster than they are read, or have too many names")

// packer writes folders to an archive. The agent may be at work in them: each step is
// taken from an open folder and follows no link, and each file is read once, as long
// as it was when it was opened.
type packer struct {
	w       archiveWriter
	limit   int64 // bytes of a mount
	bytes   int64 // of this one, in whole pages
	entries int
	paths   map[uint64]string // of files with several names, by inode
	length  int               // of these paths together
	left    int               // entries that cannot be kept
	total   int               // entries of all mounts
	piece   []byte
}

// shortLink is from where on the text of a link takes a page of its own.
const shortLink = 128

// mostPaths bounds what is remembered of files with several names; the rest is kept once for each name.
const mostPaths = 16 << 20

// pack writes the mounts to an archive and answers how many entries it has, and how many were left out.
func pack(to io.Writer, mounts []string, limit int64) (entries, left int, err error) {
	p := &packer{w: archiveWriter{bufio.NewWriterSize(to, 64<<10)}, limit: limit, piece: make([]byte, archivePiece)}
	_, _ = p.w.WriteString(archiveMark)
	for _, place := range mounts {
		if err := p.mount(place); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", place, err)
		}
	}
	_ = p.w.WriteByte(recordEnd)
	return p.total, p.left, p.w.Flush()
}

func (p *packer) mount(place string) error {
	p.bytes, p.entries, p.paths, p.length = 0, 0, map[uint64]string{}, 0
	folder, about, err := openFolder(unix.AT_FDCWD, place)
	if err != nil {
		return err
	}
	defer folder.Close()
	p.head(recordMount, place, about)
	return p.folder(folder, "", 1)
}

// openFolder opens a folder by one step, and no link in its place.
func openFolder(at int, name string) (*os.File, *unix.Stat_t, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var about unix.Stat_t
	if err := unix.Fstat(fd, &about); err != nil {
		_ = unix.Close(fd)
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), name), &about, nil
}

func (p *packer) head(record byte, name string, about *unix.Stat_t) {
	_ = p.w.WriteByte(record)
	p.w.text(name)
	p.w.number(uint64(about.Mode & allModeBits))
	p.w.time(about.Mtim)
}

// folder writes what an open folder holds. path is where it is, from the mount's root.
func (p *packer) folder(folder *os.File, path string, depth int) error {
	written := map[string]bool{}
	return eachName(folder, func(name string) error {
		var about unix.Stat_t
		err := unix.Fstatat(int(folder.Fd()), name, &about, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return nil // it is gone meanwhile
		}
		if err != nil {
			return err
		}
		if p.entries++; p.entries > mostEntries {
			return errTooMuch
		}
		if written[name] {
			return nil // what was to be read yet has taken a name that was read: twice it could not be restored
		}
		written[name] = true
		p.total++
		switch about.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			err = p.below(folder, path+name+"/", name, depth)
		case unix.S_IFREG:
			err = p.file(folder, path+name, name)
		case unix.S_IFLNK:
			err = p.link(folder, name, &about)
		default:
			p.left++ // a pipe or socket: nothing is in it without its processes
		}
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
			return nil // gone meanwhile, or something else
		case errors.Is(err, unix.EWOULDBLOCK): // under a lease, which belongs to a process that lives
			p.left++
			return nil
		}
		return err
	})
}

// eachName does something for each name in a folder, some at a time: there may be many.
// A folder that was removed after it was opened has none.
func eachName(folder *os.File, do func(string) error) error {
	for {
		names, err := folder.Readdirnames(256)
		for _, name := range names {
			if err := do(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *packer) below(in *os.File, path, name string, depth int) error {
	if depth >= deepest {
		p.left++
		return nil
	}
	folder, about, err := openFolder(int(in.Fd()), name)
	if err != nil {
		return err
	}
	defer folder.Close()
	p.head(recordFolder, name, about)
	if err := p.folder(folder, path, depth+1); err != nil {
		return hard("a folder", err)
	}
	return p.w.WriteByte(recordUp)
}

// hard is an error within an entry that is begun, which no caller takes for one that
// has merely gone. That nobody reads any more is what it is.
func hard(what string, err error) error {
	if errors.As(err, new(unix.Errno)) && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("%s: %v", what, err)
	}
	return err
}

func (p *packer) link(in *os.File, name string, about *unix.Stat_t) error {
	text := make([]byte, longestText+1)
	n, err := unix.Readlinkat(int(in.Fd()), name, text)
	switch {
	case errors.Is(err, unix.EINVAL): // it is another thing now
		return nil
	case err != nil:
		return err
	case n > longestText:
		p.left++
		return nil
	}
	if n >= shortLink { // it takes a page
		if p.bytes += page; p.bytes > p.limit {
			return errTooMuch
		}
	}
	_ = p.w.WriteByte(recordLink)
	p.w.text(name)
	p.w.time(about.Mtim)
	p.w.text(string(text[:n]))
	return nil
}

// file writes a file: its holes are not read, and what it grows by meanwhile is not in it.
func (p *packer) file(in *os.File, path, name string) error {
	fd, err := unix.Openat(int(in.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var about unix.Stat_t
	if err := unix.Fstat(fd, &about); err != nil {
		return err
	}
	if about.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // it is another thing now
	}
	if about.Nlink > 1 {
		if first := p.paths[about.Ino]; first != "" {
			_ = p.w.WriteByte(recordAgain)
			p.w.text(name)
			p.w.text(first)
			return nil
		}
		if len(path) <= longestPath && p.length+len(path) <= mostPaths {
			p.paths[about.Ino] = path
			p.length += len(path)
		}
	}
	p.head(recordFile, name, &about)
	p.w.number(uint64(about.Size))
	if err := p.pieces(fd, about.Size); err != nil {
		return hard("a file", err)
	}
	p.w.number(0)
	p.w.number(0)
	return nil
}

func (p *packer) pieces(fd int, size int64) error {
	for at := int64(0); at < size; {
		begin, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // holes to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(fd, begin, unix.SEEK_HOLE)
		if errors.Is(err, unix.ENXIO) {
			return nil // it has been cut
		}
		if err != nil {
			return err
		}
		for end, at = min(end, size), max(begin, at); at < end; {
			n, err := unix.Pread(fd, p.piece[:min(int64(len(p.piece)), end-at)], at)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			if n == 0 {
				return nil // it has been cut
			}
			if p.bytes += (at+int64(n)+page-1)/page*page - at/page*page; p.bytes > p.limit {
				return errTooMuch
			}
			p.w.number(uint64(at))
			p.w.number(uint64(n))
			if _, err := p.w.Write(p.piece[:n]); err != nil {
				return err
			}
			at += int64(n)
		}
	}
	return nil
}

// look is how the mounts look, in a word: another word is another content. What
// happens to an entry moves a time that no program can set. fresh is that the last
// such time is too near to now to tell the next from it.
func look(mounts []string) (word string, fresh bool, err error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return "", false, err
	}
	var sum, last uint64
	var entries int
	var walk func(folder *os.File, depth int) error
	note := func(about *unix.Stat_t) {
		changed := uint64(about.Ctim.Nano())
		last = max(last, changed)
		one := about.Ino*0x9e3779b97f4a7c15 ^ changed
		one = (one ^ one>>29) * 0xbf58476d1ce4e5b9
		sum += one ^ one>>32 // in any order
	}
	walk = func(folder *os.File, depth int) error {
		return eachName(folder, func(name string) error {
			var about unix.Stat_t
			if unix.Fstatat(int(folder.Fd()), name, &about, unix.AT_SYMLINK_NOFOLLOW) != nil {
				return nil
			}
			note(&about)
			if entries++; entries > mostEntries {
				return errTooMuch
			}
			if about.Mode&unix.S_IFMT != unix.S_IFDIR || depth >= deepest {
				return nil
			}
			below, _, err := openFolder(int(folder.Fd()), name)
			if err != nil {
				return nil // gone meanwhile
			}
			defer below.Close()
			return walk(below, depth+1)
		})
	}
	for _, place := range mounts {
		folder, about, err := openFolder(unix.AT_FDCWD, place)
		if err != nil {
			return "", false, err
		}
		note(about)
		entries = 0
		err = walk(folder, 1)
		_ = folder.Close()
		if err != nil {
			return "", false, err
		}
	}
	return strconv.FormatUint(sum, 36), uint64(now.Nano())-last < 1_000_000_000 || last > uint64(now.Nano()), nil
}
