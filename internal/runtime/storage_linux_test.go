package runtime

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk that is nearly full takes no more, what was kept stays, and it is told once.
func TestStorageOnAFullDisk(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := unix.Mount("small", folder, "tmpfs", 0, "size=64m"); err != nil {
		t.Skip("skipped: no small disk can be made: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	var told []error
	a := NewArchive(folder, 1, func(_ string, cause error) { told = append(told, cause) })
	if err := os.WriteFile(a.path(), []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		draft := a.Draft(1 << 30)
		_, err := io.WriteString(draft, "after")
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a full disk: %v", err)
		}
		a.Failed(err)
		draft.Discard()
	}
	content, err := os.ReadFile(a.path())
	entries, _ := os.ReadDir(folder)
	if err != nil || string(content) != "before" || len(entries) != 1 || len(told) != 1 {
		t.Errorf("%q %v, %v, told %v", content, err, entries, told)
	}
}
