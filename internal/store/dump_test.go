package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// furnish puts rows of every type into tables that refer to each other.
func furnish(t *testing.T, db *store.DB) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		for i := range 250 {
			account := fmt.Sprintf("%012d", i)
			if _, err := tx.Exec("INSERT INTO accounts (account, created) VALUES ($1, $2)", account, int64(i)<<40); err != nil {
				return err
			}
			if _, err := tx.Exec("INSERT INTO access_keys (id, account, arn, root, state, secret, created) VALUES ($1, $2, $3, $4, 'active', $5, -1)",
				"AKIA"+account, account, "arn:ä:\"' \n"+account, i%2, bytes.Repeat([]byte{0, byte(i), 255}, i)); err != nil {
				return err
			}
		}
		_, _, err := tx.Lease("somebody's", "x", 1)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func dump(t *testing.T, db *store.DB) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := db.Dump(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(t *testing.T, o store.Options, content []byte, verify func(tx *store.Tx) error) (int64, error) {
	t.Helper()
	return store.Restore(t.Context(), o, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, func(tx *store.Tx, rest io.Reader) error {
		left, err := io.ReadAll(rest)
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("%d bytes more", len(left)))
		}
		if err == nil && verify != nil {
			err = verify(tx)
		}
		return err
	})
}

// contents is all of a database but when it was copied.
func contents(content []byte) string {
	text := string(content)
	at := strings.Index(text, `"schema"`)
	return text[at:]
}

func TestADumpMovesBetweenEngines(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, from store.Options) {
		source := storetest.OpenWith(t, from)
		furnish(t, source)
		original := dump(t, source)
		storetest.EachOptions(t, func(t *testing.T, to store.Options) {
			if _, err := restore(t, to, original, nil); err != nil {
				t.Fatal(err)
			}
			target := storetest.OpenWith(t, to) // brings its schema up to date: there is nothing to do
			if diff := cmp.Diff(contents(original), contents(dump(t, target))); diff != "" {
				t.Errorf("what came back differs: %.2000s", diff)
			}
			if _, err := restore(t, to, original, nil); !fault.Is(err, fault.Conflict) {
				t.Errorf("restored over an installation: %v", err)
			}
		})
	})
}

// Whatever is wrong with a dump, nothing of it stays.
func TestADumpThatIsDamaged(t *testing.T) {
	t.Parallel()
	source := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
	furnish(t, source)
	good := dump(t, source)
	header := bytes.IndexByte(good, '\n') + 1
	forge := func(old, with string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("the dump has no %s", old)
		}
		return bytes.Replace(good, []byte(old), []byte(with), 1)
	}
	bad := map[string][]byte{
		"nothing":           nil,
		"something else":    []byte("SQLite format 3\x00 and so on and on"),
		"a newer version":   append([]byte("onbehalf-backup 2\n"), good[header:]...),
		"no header":         good[:header+10],
		"not JSON":          append(bytes.Clone(good[:header]), "rows\n"...),
		"a foreign table":   forge(`"Name":"accounts"`, `"Name":"accounts; DROP TABLE leases; --"`),
		"a foreign column":  forge(`"Name":"created"`, `"Name":"erected"`),
		"another type":      forge(`"Type":"BIGINT"`, `"Type":"TEXT"`),
		"an unknown schema": forge(`"file":"001_leases.sql"`, `"file":"001_losses.sql"`),
		"another schema":    forge(`"checksum":"`, `"checksum":"0`),
		"more behind it":    append(bytes.Clone(good), 'x'),
	}
	for _, at := range []int{len(good) - 1, len(good) - 2, len(good) / 2, len(good) / 3, header + 1} {
		bad[fmt.Sprintf("cut at %d", at)] = good[:at]
	}
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		for name, content := range bad {
			if _, err := restore(t, o, content, nil); err == nil {
				t.Errorf("%s: restored", name)
			}
		}
		refused := errors.New("not this one")
		if _, err := restore(t, o, good, func(*store.Tx) error { return refused }); !errors.Is(err, refused) {
			t.Errorf("refused at the end: %v", err)
		}
		if _, err := restore(t, o, good, nil); err != nil {
			t.Errorf("something stayed of what failed: %v", err)
		}
	})
}

// A dump of an older version gets the tables that came since.
func TestADumpOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		if _, err := store.RestoreUpTo(t, o, "020_auth.sql"); err != nil {
			t.Fatal(err)
		}
		db := storetest.OpenWith(t, o)
		var roles int
		if err := db.View(t.Context(), func(tx *store.Tx) error {
			return tx.QueryRow("SELECT count(*) FROM roles WHERE account = '111122223333'").Scan(&roles)
		}); err != nil || roles != 1 { // that every account has is added by a later file
			t.Errorf("%d roles, %v", roles, err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	folder := f.TempDir()
	db, err := store.Open(f.Context(), store.Options{Path: filepath.Join(folder, "source.db")})
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	var b bytes.Buffer
	if _, err := db.Dump(f.Context(), &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-3])
	f.Add([]byte("onbehalf-backup 1\n{}\nZ\x00"))
	f.Add([]byte(`onbehalf-backup 1` + "\n" + `{"tables":[{"Name":"a","Columns":[{"Name":"b","Type":"BYTES"}]}]}` + "\nR\x00b\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "target.db")
		rows, err := store.Restore(t.Context(), store.Options{Path: path}, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
			func(*store.Tx, io.Reader) error { return nil })
		if err == nil && rows > int64(len(content)) {
			t.Errorf("%d rows of %d bytes", rows, len(content))
		}
		_ = os.Remove(path)
	})
}
