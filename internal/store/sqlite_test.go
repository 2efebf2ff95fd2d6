package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func TestFilesAreTheOwnersAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "with ?odd #name %41.db")
	db := storetest.OpenWith(t, store.Options{Path: path})
	prepare(t, db)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%q has mode %o", suffix, info.Mode().Perm())
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, %v: want three files", entries, err)
	}
}

func TestAFileThatIsNoDatabase(t *testing.T) {
	t.Parallel()
	path := storetest.SQLite(t)
	if err := os.WriteFile(path, []byte(strings.Repeat("this is a letter. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Options{Path: path}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a letter was opened: %v", err)
	}
	if _, err := store.Open(t.Context(), store.Options{Path: filepath.Join(path, "x", "y.db")}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("no folder: %v", err)
	}
}

// What PostgreSQL refuses, SQLite refuses too.
func TestRefusedParameters(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		type word string
		for _, refused := range []any{"nul\x00", "latin \xe9", word("nul\x00"), struct{}{}} {
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec("INSERT INTO things (id, n) VALUES ($1, 1)", refused)
				return err
			})
			if err == nil {
				t.Errorf("%T %q was stored as text", refused, refused)
			}
		}
		for _, refused := range []any{true, time.Now(), "one"} {
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec("INSERT INTO things (id, n) VALUES ('a', $1)", refused)
				return err
			})
			if err == nil && refused != "one" { // SQLite's columns take text, and nobody writes that
				t.Errorf("%T was stored as a number", refused)
			}
		}
	})
}

// One statement, nested in itself, is two: the inner one does not disturb the outer.
func TestOneTextTwice(t *testing.T) {
	t.Parallel()
	db := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
	prepare(t, db)
	update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1), ('b', 2), ('c', 3)")
	const query = "SELECT id FROM things WHERE n >= $1 ORDER BY n"
	var got []string
	err := db.View(t.Context(), func(tx *store.Tx) error {
		outer, err := tx.Query(query, 1)
		if err != nil {
			return err
		}
		defer outer.Close()
		for outer.Next() {
			var id, first string
			if err := outer.Scan(&id); err != nil {
				return err
			}
			if err := tx.QueryRow(query, 2).Scan(&first); err != nil {
				return err
			}
			got = append(got, id+first)
		}
		return outer.Err()
	})
	if diff := cmp.Diff([]string{"ab", "bb", "cb"}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// Rows that somebody forgets to close must not hold their snapshot beyond the transaction.
func TestForgottenRows(t *testing.T) {
	t.Parallel()
	db := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
	prepare(t, db)
	update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1), ('b', 2)")
	forget := func(tx *store.Tx) error {
		rows, err := tx.Query("SELECT id FROM things")
		if err != nil {
			return err
		}
		rows.Next()
		_ = tx.QueryRow("SELECT n FROM things WHERE id = $1", "a") // never scanned
		return nil
	}
	for n := 3; n < 40; n++ { // more often than there are readers
		if err := db.View(t.Context(), forget); err != nil {
			t.Fatal(err)
		}
		if err := db.Update(t.Context(), forget); err != nil {
			t.Fatal(err)
		}
		update(t, db, "INSERT INTO things (id, n) VALUES ($1, $2)", fmt.Sprint(n), n)
		if got := count(t, db); got != n {
			t.Fatalf("%d things, want %d", got, n)
		}
	}
}

// More Views inside Views than there are readers: they must not wait for each other for good.
func TestNestedViews(t *testing.T) {
	t.Parallel()
	db := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
	prepare(t, db)
	const depth = 60
	var nest func(left int) error
	nest = func(left int) error {
		return db.View(t.Context(), func(tx *store.Tx) error {
			if left == 0 {
				var n int
				return tx.QueryRow("SELECT count(*) FROM things").Scan(&n)
			}
			return nest(left - 1)
		})
	}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if err := nest(depth / 3); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// A process that is killed loses nothing that Update had answered for.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	path := storetest.SQLite(t)
	prepare(t, storetest.OpenWith(t, store.Options{Path: path}))
	for round := range 3 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriteUntilKilled$")
		child.Env = append(os.Environ(), "STORE_TEST_KILLED="+path, "STORE_TEST_ROUND="+strconv.Itoa(round))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var last string
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 100 {
				_ = child.Process.Kill()
			}
			last = lines.Text()
		}
		var exit *exec.ExitError
		if err := child.Wait(); !errors.As(err, &exit) || last == "" {
			t.Fatalf("the writer ended by itself: %v, %q", err, last)
		}
		db := storetest.OpenWith(t, store.Options{Path: path})
		var check string
		var rows, want int
		if want, err = strconv.Atoi(last); err != nil {
			t.Fatal(err)
		}
		err = db.View(t.Context(), func(tx *store.Tx) error {
			if err := tx.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil {
				return err
			}
			return tx.QueryRow("SELECT count(*) FROM things WHERE n = $1", round).Scan(&rows)
		})
		if err != nil || check != "ok" || rows < want || rows > want+1 {
			t.Errorf("%v, %s, %d rows; the writer was told that %d are safe", err, check, rows, want)
		}
	}
}

// TestWriteUntilKilled is the process that TestKilledInTheMiddle kills.
func TestWriteUntilKilled(t *testing.T) {
	path := os.Getenv("STORE_TEST_KILLED")
	if path == "" {
		t.Skip("runs as a child of TestKilledInTheMiddle")
	}
	db := storetest.OpenWith(t, store.Options{Path: path})
	for n := 1; ; n++ {
		update(t, db, "INSERT INTO things (id, n) VALUES ($1, $2)", os.Getenv("STORE_TEST_ROUND")+"-"+strconv.Itoa(n), os.Getenv("STORE_TEST_ROUND"))
		fmt.Println(n)
	}
}
