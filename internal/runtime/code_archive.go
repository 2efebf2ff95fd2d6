package runtime

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"unicode"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// The limits of an archive: AWS's of what it may become, and ours of what may be
// in its directory, which is held in memory.
const (
	maxUnpacked  = 750 << 20
	maxEntries   = 100_000
	maxDirectory = 24 << 20
)

// openArchive reads an archive's directory, and refuses what cannot become plain
// files below one folder: names that lead elsewhere or twice to the same place,
// links, devices, what is encrypted, what is too much.
func openArchive(from io.ReaderAt, size int64) (*zip.Reader, error) {
	counted := &budget{from: from, left: maxDirectory}
	archive, err := zip.NewReader(counted, size)
	if err != nil {
		if counted.left < 0 {
			return nil, refusedArchive("has a directory of more than %d MB", maxDirectory>>20)
		}
		return nil, fault.New(fault.Invalid, "The code is no ZIP archive.").Because(err)
	}
	counted.open = true
	if len(archive.File) == 0 || len(archive.File) > maxEntries {
		return nil, refusedArchive("has %d entries; 1 to %d can be", len(archive.File), maxEntries)
	}
	places := make(map[string]bool, len(archive.File)) // whether it is a folder
	var sum uint64
	for _, f := range archive.File {
		name, folder := place(f)
		if folder && (name == "" || name == ".") {
			continue // the root itself
		}
		if complaint := aboutName(name); complaint != "" {
			return nil, refusedArchive("has the entry %.200q, whose name %s", f.Name, complaint)
		}
		if mode := f.Mode(); folder != mode.IsDir() || !mode.IsDir() && !mode.IsRegular() {
			return nil, refusedArchive("has the entry %.200q, which is no file: links and devices cannot be unpacked. Pack what a link leads to", f.Name)
		}
		if f.Flags&1 != 0 {
			return nil, refusedArchive("is encrypted")
		}
		if was, twice := places[name]; twice && !(was && folder) {
			return nil, refusedArchive("has the entry %.200q twice", f.Name)
		}
		places[name] = folder
		if sum += f.UncompressedSize64; f.UncompressedSize64 > maxUnpacked || sum > maxUnpacked {
			return nil, refusedArchive("is larger than %d MB when it is unpacked", maxUnpacked>>20)
		}
	}
	implied := map[string]bool{} // folders without an entry of their own
	for name := range places {
		for above := path.Dir(name); above != "." && !implied[above]; above = path.Dir(above) {
			folder, found := places[above]
			if found && !folder {
				return nil, refusedArchive("has the entry %.200q below a file", name)
			}
			if found {
				break // what is above that one is looked at in its turn
			}
			implied[above] = true
		}
		// A name of a kilobyte can name five hundred folders: they count as well.
		if len(places)+len(implied) > maxEntries {
			return nil, refusedArchive("would become more than %d files and folders", maxEntries)
		}
	}
	return archive, nil
}

// place is where an entry goes, and whether it is a folder.
func place(f *zip.File) (name string, folder bool) {
	name, folder = strings.CutSuffix(f.Name, "/")
	return strings.TrimPrefix(name, "./"), folder
}

func refusedArchive(format string, args ...any) error {
	e := fault.New(fault.Invalid, "The archive "+format+".", args...)
	e.Fields = []fault.Field{{Name: "code", Message: e.Message}}
	return e
}

// aboutName says what is wrong with an entry's name; empty where nothing is.
func aboutName(name string) string {
	switch {
	case !fs.ValidPath(name) || name == ".":
		return "is no path below the archive's root"
	case strings.ContainsFunc(name, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
		return "has a backslash or a control character"
	case len(name) > 1024:
		return "is longer than 1024 bytes"
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 255 {
			return "has a part longer than 255 bytes"
		}
	}
	return ""
}

// budget bounds how much of an archive is read as its directory: an archive's own
// word on how long that is counts for nothing.
type budget struct {
	from io.ReaderAt
	left int64
	open bool // no bound any more
}

func (b *budget) ReadAt(p []byte, offset int64) (int, error) {
	if !b.open {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, errors.New("the directory is too long")
		}
	}
	return b.from.ReadAt(p, offset)
}

// extract writes one entry below root: every agent may read it, none may write.
// What is a program gets its bit, also from archivers that store none.
func extract(root *os.Root, f *zip.File) error {
	name, folder := place(f)
	if folder {
		return makeFolder(root, name)
	}
	if err := makeFolder(root, path.Dir(name)); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return refusedArchive("has the entry %.200q, which cannot be read", f.Name)
	}
	defer in.Close()
	out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	head := make([]byte, 4)
	n, err := io.ReadFull(in, head)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	mode := fs.FileMode(0o644)
	if f.Mode()&0o111 != 0 || startable(head[:n]) {
		mode = 0o755
	}
	if err == nil {
		// zip.File holds its reader to the size that the directory names, and to its checksum.
		_, err = io.Copy(out, io.MultiReader(bytes.NewReader(head[:n]), in))
	}
	var atFile *fs.PathError
	if err != nil && !errors.As(err, &atFile) {
		err = refusedArchive("has the entry %.200q, which is damaged", f.Name)
	}
	return errors.Join(err, out.Chmod(mode), out.Close())
}

// makeFolder makes a folder and those above it, which every agent may read
// whatever the platform's umask is.
func makeFolder(root *os.Root, name string) error {
	if name == "." || name == "" {
		return nil
	}
	if info, err := root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if err := makeFolder(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	return root.Chmod(name, 0o755)
}

// startable reports whether a file that begins like this is one that a kernel
// starts: ELF, a script that names its interpreter, Mach-O.
func startable(head []byte) bool {
	return bytes.HasPrefix(head, []byte("\x7fELF")) || bytes.HasPrefix(head, []byte("#!")) || bytes.Equal(head, []byte{0xcf, 0xfa, 0xed, 0xfe})
}

// noRoom words a full disk, which whoever puts code should know.
func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.Unavailable, "There is no room on the server's disk to unpack the code.").Because(err)
	}
	return err
}
