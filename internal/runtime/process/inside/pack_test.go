//go:build linux

package inside

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inMemory is a folder on a file system as sessions have it.
func inMemory(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "onbehalf-")
	if err != nil {
		t.Skip("skipped: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// midway is an archive's place, and what happens when the first part of it comes.
type midway struct {
	bytes.Buffer
	happens func()
}

func (m *midway) Write(b []byte) (int, error) {
	if m.happens != nil {
		m.happens()
		m.happens = nil
	}
	return m.Buffer.Write(b)
}

// A file that takes another's name while the folder is read is there once, and the
// archive can be restored.
func TestRenamedMeanwhile(t *testing.T) {
	t.Parallel()
	const many = 3000
	folder := inMemory(t)
	name := func(n int) string {
		return filepath.Join(folder, fmt.Sprintf("%04d%s", n, strings.Repeat("x", 100)))
	}
	for _, first := range []int{0, many / 2} { // which half is read first, the kernel decides
		for n := range many {
			if err := os.WriteFile(name(n), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		archive := midway{happens: func() {
			for n := range many / 2 {
				if err := os.Rename(name(first+n), name(many-1-first-n)); err != nil {
					t.Error(err)
				}
			}
		}}
		if _, _, err := pack(&archive, []string{folder}, 1<<20); err != nil {
			t.Fatal(err)
		}
		for n := range many {
			_ = os.Remove(name(n))
		}
		if err := unpack(&archive, []string{folder}); err != nil {
			t.Error(err)
		}
		for n := range many {
			_ = os.Remove(name(n))
		}
	}
}

// A folder that was removed when it was open already is empty, and fails nothing.
func TestRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	path := inMemory(t)
	folder, _, err := openFolder(unix.AT_FDCWD, path)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p := packer{w: archiveWriter{}}
	if err := p.folder(folder, "", 1); err != nil {
		t.Error(err)
	}
}

// However deep it fails, what is said of it is the same, and that nobody reads is known for it.
func TestFailingDeep(t *testing.T) {
	t.Parallel()
	folder := inMemory(t)
	deep := filepath.Join(folder, "a", "b", "c")
	if err := errors.Join(os.MkdirAll(deep, 0o700), os.WriteFile(filepath.Join(deep, "file"), bytes.Repeat([]byte("x"), 1<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pack(io.Discard, []string{folder}, page); err == nil || err.Error() != folder+": "+errTooMuch.Error() {
		t.Errorf("too much: %v", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	_ = read.Close()
	if _, _, err := pack(write, []string{folder}, 1<<30); !errors.Is(err, unix.EPIPE) {
		t.Errorf("nobody reads: %v", err)
	}
}

// What has more names than can be kept is neither packed nor looked at without end.
func TestNamesWithoutEnd(t *testing.T) {
	t.Parallel()
	folder := inMemory(t)
	first := filepath.Join(folder, "0")
	if err := os.WriteFile(first, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range mostEntries {
		if err := os.Link(first, filepath.Join(folder, fmt.Sprint(n+1))); err != nil {
			t.Skip("skipped: ", err)
		}
	}
	if _, _, err := look([]string{folder}); !errors.Is(err, errTooMuch) {
		t.Errorf("looked at: %v", err)
	}
	if _, _, err := pack(io.Discard, []string{folder}, 1<<20); !errors.Is(err, errTooMuch) {
		t.Errorf("packed: %v", err)
	}
}
