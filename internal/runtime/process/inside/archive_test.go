//go:build linux

package inside

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// forged is an archive as nobody here would write it.
func forged(write func(w archiveWriter)) []byte {
	var out bytes.Buffer
	w := archiveWriter{bufio.NewWriter(&out)}
	_, _ = w.WriteString(archiveMark)
	write(w)
	_ = w.Flush()
	return out.Bytes()
}

func (w archiveWriter) record(kind byte, name string) {
	_ = w.WriteByte(kind)
	w.text(name)
}

func (w archiveWriter) about(mode uint64) {
	w.number(mode)
	w.time(unix.Timespec{Sec: 1, Nsec: 2})
}

func (w archiveWriter) small(name string) {
	w.record(recordFile, name)
	w.about(0o644)
	w.number(1)
	w.number(0)
	w.number(1)
	_ = w.WriteByte('x')
	w.number(0)
	w.number(0)
}

func (w archiveWriter) link(name, text string) {
	w.record(recordLink, name)
	w.time(unix.Timespec{})
	w.text(text)
}

func (w archiveWriter) inside(place string) {
	w.record(recordMount, place)
	w.about(0o700)
}

func (w archiveWriter) end() { _ = w.WriteByte(recordEnd) }

// place is a mount with a secret beside it, and what tells whether that was touched.
func place(t *testing.T) (mount string, intact func()) {
	t.Helper()
	parent := t.TempDir()
	mount, beside := filepath.Join(parent, "mount"), filepath.Join(parent, "beside")
	for _, folder := range []string{mount, beside} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(beside, "file"), []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	return mount, func() {
		t.Helper()
		entries, err := os.ReadDir(beside)
		content, readErr := os.ReadFile(filepath.Join(beside, "file"))
		info, statErr := os.Stat(filepath.Join(beside, "file"))
		if err != nil || readErr != nil || statErr != nil {
			t.Fatal(err, readErr, statErr)
		}
		above, _ := os.ReadDir(parent)
		if len(entries) != 1 || len(above) != 2 || string(content) != "as it was" || info.Sys().(*syscall.Stat_t).Nlink != 1 {
			t.Errorf("beside the mount: %v %v %q", above, entries, content)
		}
	}
}

// An archive is believed nothing that would lead out of its folders, or take without end.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	for what, write := range map[string]func(w archiveWriter, mount string){
		"a name that leads up": func(w archiveWriter, mount string) { w.inside(mount); w.small(".."); w.end() },
		"a path for a name":    func(w archiveWriter, mount string) { w.inside(mount); w.small("../beside/new"); w.end() },
		"an absolute name":     func(w archiveWriter, mount string) { w.inside(mount); w.small(mount + "/../beside/new"); w.end() },
		"no name":              func(w archiveWriter, mount string) { w.inside(mount); w.small(""); w.end() },
		"a folder called .": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordFolder, ".")
			w.about(0o700)
			w.end()
		},
		"a folder that leads up": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordFolder, "..")
			w.about(0o700)
			w.end()
		},
		"a name with a zero":       func(w archiveWriter, mount string) { w.inside(mount); w.small("a\x00b"); w.end() },
		"a name that is too long":  func(w archiveWriter, mount string) { w.inside(mount); w.small(strings.Repeat("n", 256)); w.end() },
		"a name without end":       func(w archiveWriter, mount string) { w.inside(mount); _ = w.WriteByte(recordFile); w.number(1 << 62) },
		"up from the mount":        func(w archiveWriter, mount string) { w.inside(mount); _ = w.WriteByte(recordUp); w.small("x"); w.end() },
		"a file before any mount":  func(w archiveWriter, _ string) { w.small("x"); w.end() },
		"another folder for mount": func(w archiveWriter, mount string) { w.inside(mount + "/../beside"); w.small("new"); w.end() },
		"the machine for mount":    func(w archiveWriter, _ string) { w.inside("/"); w.end() },
		"a mount twice":            func(w archiveWriter, mount string) { w.inside(mount); w.inside(mount); w.end() },
		"a mount within a folder": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordFolder, "a")
			w.about(0o700)
			w.inside(mount)
			w.end()
		},
		"an end within a folder": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordFolder, "a")
			w.about(0o700)
			w.end()
		},
		"through a link": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.link("a", "../beside")
			w.record(recordFolder, "a")
			w.about(0o777)
			w.small("new")
			_ = w.WriteByte(recordUp)
			w.end()
		},
		"into a linked file": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.link("a", "../beside/file")
			w.small("a")
			w.end()
		},
		"a file's other name outside": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordAgain, "a")
			w.text("../beside/file")
			w.end()
		},
		"a file's other name by a link": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.link("l", "../beside")
			w.record(recordAgain, "a")
			w.text("l/file")
			w.end()
		},
		"an absolute other name": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordAgain, "a")
			w.text(filepath.Join(filepath.Dir(mount), "beside/file"))
			w.end()
		},
		"the same name twice": func(w archiveWriter, mount string) { w.inside(mount); w.small("a"); w.small("a"); w.end() },
		"a device":            func(w archiveWriter, mount string) { w.inside(mount); w.record('B', "a"); w.about(0o666); w.end() },
		"a mode of a device": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordFile, "a")
			w.about(unix.S_IFBLK | 0o666)
			w.end()
		},
		"a piece beyond the file": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordFile, "a")
			w.about(0o600)
			w.number(10)
			w.number(9)
			w.number(2)
			_, _ = w.WriteString("xx")
			w.end()
		},
		"a piece that is too long": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordFile, "a")
			w.about(0o600)
			w.number(1 << 40)
			w.number(0)
			w.number(1 << 30)
			w.end()
		},
		"a size that is none": func(w archiveWriter, mount string) {
			w.inside(mount)
			w.record(recordFile, "a")
			w.about(0o600)
			w.number(1<<64 - 1)
			w.end()
		},
		"folders without end": func(w archiveWriter, mount string) {
			w.inside(mount)
			for range deepest + 1 {
				w.record(recordFolder, "d")
				w.about(0o700)
			}
		},
		"it goes on": func(w archiveWriter, mount string) { w.inside(mount); w.end(); w.end() },
		"no end":     func(w archiveWriter, mount string) { w.inside(mount) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			mount, intact := place(t)
			archive := forged(func(w archiveWriter) { write(w, mount) })
			if err := unpack(bytes.NewReader(archive), []string{mount}); err == nil {
				t.Error("it was believed")
			}
			intact()
		})
	}
	if err := unpack(strings.NewReader("PK\x03\x04 something else entirely"), nil); !errors.Is(err, errArchive) {
		t.Error(err)
	}
}

// An archive that is cut anywhere is known for it, and one that is changed anywhere
// touches nothing outside of its folder.
func TestDamagedArchives(t *testing.T) {
	t.Parallel()
	mount, intact := place(t)
	archive := forged(func(w archiveWriter) {
		w.inside(mount)
		w.small("file")
		w.record(recordAgain, "again")
		w.text("file")
		w.link("link", "../beside/file")
		w.record(recordFolder, "folder")
		w.about(0o750)
		w.small("file")
		w.record(recordAgain, "again")
		w.text("folder/file")
		_ = w.WriteByte(recordUp)
		w.end()
	})
	try := func(what string, archive []byte) error {
		t.Helper()
		_ = filepath.WalkDir(mount, func(path string, d fs.DirEntry, _ error) error { // it may have closed its folders
			if d.IsDir() {
				return os.Chmod(path, 0o700)
			}
			return nil
		})
		entries, err := os.ReadDir(mount)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if err := os.RemoveAll(filepath.Join(mount, entry.Name())); err != nil {
				t.Fatal(what, err)
			}
		}
		return unpack(bytes.NewReader(archive), []string{mount})
	}
	if err := try("whole", archive); err != nil {
		t.Fatal(err)
	}
	for length := range archive {
		if err := try("cut", archive[:length]); !errors.Is(err, errArchive) {
			t.Fatalf("cut after %d of %d bytes: %v", length, len(archive), err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 3000 {
		other := bytes.Clone(archive)
		for range 1 + n%3 {
			other[len(archiveMark)+random.IntN(len(other)-len(archiveMark))] = byte(random.IntN(256))
		}
		_ = try(fmt.Sprintf("changed %d", n), other)
	}
	intact()
}
