package audit

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// crashFolder tells a re-executed test binary that it is the process to be killed.
const crashFolder = "ONBEHALF_TEST_CRASH_FOLDER"

// TestMain is also the process of TestKill.
func TestMain(m *testing.M) {
	if folder := os.Getenv(crashFolder); folder != "" {
		fmt.Fprintln(os.Stderr, appendForEver(folder))
		os.Exit(1)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // heads and refused records are no news here
	m.Run()
}

func openFolder(ctx context.Context, folder string) (*store.DB, *Log, error) {
	db, err := store.Open(ctx, store.Options{Path: filepath.Join(folder, "onbehalf.db")})
	if err != nil {
		return nil, nil, err
	}
	wrapper, err := seal.FileKey(ctx, db, filepath.Join(folder, "key"))
	if err != nil {
		return nil, nil, err
	}
	keeper, err := seal.NewKeeper(ctx, db, wrapper)
	if err != nil {
		return nil, nil, err
	}
	l, err := New(ctx, db, keeper, "")
	return db, l, err
}

// appendForEver says on stdout which records were acknowledged, and its head.
func appendForEver(folder string) error {
	_, l, err := openFolder(context.Background(), folder)
	if err != nil {
		return err
	}
	var out sync.Mutex
	failed := make(chan error)
	for caller := range 8 {
		go func() {
			for n := 0; ; n++ {
				r := record(n)
				r.RequestID = fmt.Sprintf("%d-%d", caller, n)
				if err := l.Append(context.Background(), r); err != nil {
					failed <- err
					return
				}
				out.Lock()
				head := l.Head()
				fmt.Println(r.RequestID, head.Writer, head.Sequence, head.MAC)
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// TestKill kills a process in the middle of its work, three times on the same
// data: every record that was acknowledged is there, and every chain holds.
func TestKill(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	acknowledged := make(map[string]int)
	var heads []Head
	for range 3 {
		process := exec.Command(os.Args[0])
		process.Env = append(os.Environ(), crashFolder+"="+folder)
		stderr := new(strings.Builder)
		process.Stderr = stderr
		out, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		var last Head
		lines := 0
		for scanner := bufio.NewScanner(out); scanner.Scan(); lines++ {
			var id string
			var head Head
			if n, _ := fmt.Sscan(scanner.Text(), &id, &head.Writer, &head.Sequence, &head.MAC); n != 4 {
				break // the line that the kill cut
			}
			acknowledged[id]++
			last = head
			if lines == 100 {
				if err := process.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = process.Wait()
		if lines < 100 {
			t.Fatalf("the process ended after %d records: %s", lines, stderr)
		}
		heads = append(heads, last)
	}

	db, l, err := openFolder(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = l.Close(), db.Close() }()
	proof, err := l.Verify(t.Context(), heads...)
	if err != nil {
		t.Fatal(err)
	}
	if len(proof.Heads) != 4 {
		t.Errorf("%d chains, want 4", len(proof.Heads))
	}
	kept := make(map[string]int)
	for cursor := ""; ; {
		records, next, err := l.List(t.Context(), Query{Account: account, Limit: 1000, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			kept[r.RequestID]++
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	for id, times := range acknowledged {
		if kept[id] < times {
			t.Errorf("%s was acknowledged %d times and is there %d times", id, times, kept[id])
		}
	}
}
