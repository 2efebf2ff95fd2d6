package deploy

import (
	"archive/zip"
	"cmp"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The platform's limits of code, which are AWS's.
const (
	largestArchive  = 250 << 20
	largestUnpacked = 750 << 20
	mostEntries     = 100_000
)

// entry is a file on its way into an archive.
type entry struct {
	path    string // on this machine; none: content
	content []byte
	program bool // may be run
	size    int64
}

// archive is what will be in a package, by the names within it.
//
// Its bytes follow from its files: entries are sorted, times are fixed, and of the
// permissions only "may be run" is kept. So an agent that did not change has the
// same SHA-256, on any machine.
type archive struct {
	entries map[string]entry
	secrets []string // left out because they look like it
	strange []string // left out because they lead out of the folder, or are no files
}

func newArchive() *archive { return &archive{entries: map[string]entry{}} }

// addFolder takes in the agent's own files.
func (z *archive) addFolder(root string, x exclusions) error {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == root {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		isFolder := d.IsDir()
		if d.Type()&fs.ModeSymlink != 0 { // a link to node_modules is as good as one
			target, err := os.Stat(file)
			isFolder = err == nil && target.IsDir()
		}
		verdict := x.judge(root, name, isFolder)
		if verdict == taken && d.Type()&fs.ModeSymlink != 0 {
			return z.addLink(root, name, x)
		}
		switch {
		case verdict == secret:
			z.secrets = append(z.secrets, name)
		case verdict == ignored || d.IsDir():
		case !d.Type().IsRegular():
			z.strange = append(z.strange, name)
		default:
			return z.addFile(name, file)
		}
		if d.IsDir() && verdict != taken {
			return fs.SkipDir
		}
		return nil
	})
}

// addLink takes in what a link leads to, where that is a file of the same folder.
func (z *archive) addLink(root, name string, x exclusions) error {
	target, err := filepath.EvalSymlinks(filepath.Join(root, name))
	if err != nil {
		z.strange = append(z.strange, name)
		return nil //nolint:nilerr // it leads nowhere, and is told as such
	}
	to, err := filepath.Rel(root, target)
	if err != nil || !filepath.IsLocal(to) || !isFile(target) {
		z.strange = append(z.strange, name)
		return nil
	}
	for at := filepath.ToSlash(to); at != "."; at = path.Dir(at) { // nor through a folder that is left out
		if x.judge(root, at, at != filepath.ToSlash(to)) == secret {
			z.secrets = append(z.secrets, name)
			return nil
		}
	}
	return z.addFile(name, target)
}

// addTree takes in what was built: all of it, below a folder of the archive. What is there stays.
func (z *archive) addTree(root, below string) error {
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = path.Join(below, filepath.ToSlash(name))
		if _, there := z.entries[name]; there || path.Base(path.Dir(name)) == ".bin" {
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 { // of a package manager, within what it installed
			target, err := filepath.EvalSymlinks(file)
			if to, outside := filepath.Rel(root, target); err != nil || outside != nil || !filepath.IsLocal(to) || !isFile(target) {
				z.strange = append(z.strange, name)
				return nil //nolint:nilerr // told as such
			}
			file = target
		}
		return z.addFile(name, file)
	})
}

func (z *archive) addFile(name, file string) error {
	if !fs.ValidPath(name) || strings.Contains(name, `\`) {
		return fmt.Errorf("the file %q has a name that no archive can hold", name)
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	z.entries[name] = entry{path: file, program: info.Mode()&0o111 != 0, size: info.Size()}
	return nil
}

// sorted are the entries in the order of the archive.
func (z *archive) sorted() iter.Seq2[string, entry] {
	return func(yield func(string, entry) bool) {
		for _, name := range slices.Sorted(maps.Keys(z.entries)) {
			if !yield(name, z.entries[name]) {
				return
			}
		}
	}
}

func (z *archive) addProgram(name string, content []byte) {
	z.entries[name] = entry{content: content, program: true, size: int64(len(content))}
}

// made is a finished package.
type made struct {
	file   string
	sha256 string
	size   int64
	files  int
}

// fixedTime is that of every entry: the first that the format can hold.
var fixedTime = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// write makes the package.
func (z *archive) write(file string) (m made, err error) {
	if err := z.check(); err != nil {
		return m, err
	}
	out, err := createAnew(file)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	hash := sha256.New()
	count := &counter{}
	writer := zip.NewWriter(io.MultiWriter(out, hash, count))
	writer.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	for name, e := range z.sorted() {
		if err := e.write(writer, name); err != nil {
			return m, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := writer.Close(); err != nil {
		return m, err
	}
	if count.n > largestArchive {
		return m, fmt.Errorf("the package has %s, and may have %s\n%s", bytesText(count.n), bytesText(largestArchive), z.largest(bySize, bytesText))
	}
	return made{file: file, sha256: hex.EncodeToString(hash.Sum(nil)), size: count.n, files: len(z.entries)}, nil
}

func (e entry) write(to *zip.Writer, name string) error {
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: fixedTime}
	header.SetMode(0o644)
	if e.program {
		header.SetMode(0o755)
	}
	w, err := to.CreateHeader(header)
	if err != nil {
		return err
	}
	if e.path == "" {
		_, err = w.Write(e.content)
		return err
	}
	in, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(w, in)
	return err
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// check says at once what the platform would refuse.
func (z *archive) check() error {
	var sum int64
	for _, e := range z.entries {
		sum += e.size
	}
	switch {
	case len(z.entries) == 0:
		return errors.New("there is nothing to package")
	case len(z.entries) > mostEntries:
		return fmt.Errorf("there are %d files to package, and may be %d\n%s", len(z.entries), mostEntries, z.largest(byCount, countText))
	case sum > largestUnpacked:
		return fmt.Errorf("the files have %s together, and may have %s\n%s", bytesText(sum), bytesText(largestUnpacked), z.largest(bySize, bytesText))
	}
	return nil
}

// bySize and byCount measure what a file takes of a package.
func bySize(e entry) int64 { return e.size }
func byCount(entry) int64  { return 1 }

// largest names the folders that take the most, so that somebody can leave one out.
func (z *archive) largest(of func(entry) int64, text func(int64) string) string {
	sums := map[string]int64{}
	for name, e := range z.entries {
		top, _, _ := strings.Cut(name, "/")
		sums[top] += of(e)
	}
	names := slices.SortedFunc(maps.Keys(sums), func(a, b string) int {
		return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b))
	})
	var out strings.Builder
	for _, name := range names[:min(5, len(names))] {
		fmt.Fprintf(&out, "  %-10s %s\n", text(sums[name]), name)
	}
	return out.String() + "  " + ignoreFile + " leaves files out"
}

func countText(n int64) string { return fmt.Sprintf("%d files", n) }

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f kB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}
