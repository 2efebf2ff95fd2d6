package server

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// A second server on a folder is refused; one that comes while the lock of a killed
// one is not yet free waits for it.
func TestOneServerOnAFolder(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	if err := syscall.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	first, err := openFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(path); err == nil || !strings.Contains(err.Error(), "another onbehalf is running") {
		t.Errorf("a second server: %v", err)
	}
	time.AfterFunc(100*time.Millisecond, first.close)
	second, err := openFolder(path)
	if err != nil {
		t.Fatalf("a moment after: %v", err)
	}
	second.close()
}
