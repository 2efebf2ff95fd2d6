package store

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// each runs fn on an opener of one fresh database per engine. (Storetest cannot
// be used here: it imports this package.)
func each(t *testing.T, fn func(t *testing.T, open func(*testing.T, []schemaFile) (*DB, error))) {
	t.Helper()
	run := func(t *testing.T, o Options) {
		fn(t, func(t *testing.T, files []schemaFile) (*DB, error) {
			db, err := open(t.Context(), o, files)
			if err == nil {
				t.Cleanup(func() { _ = db.Close() })
			}
			return db, err
		})
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		run(t, Options{Path: t.TempDir() + "/test.db"})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		address := os.Getenv("ONBEHALF_TEST_POSTGRES")
		if address == "" {
			t.Skip("ONBEHALF_TEST_POSTGRES is not set")
		}
		schema := strings.ToLower("migrate_" + strings.ReplaceAll(t.Name(), "/", "_"))
		db, err := open(t.Context(), Options{URL: address}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = db.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec(fmt.Sprintf("DROP SCHEMA IF EXISTS %s CASCADE; CREATE SCHEMA %[1]s", schema))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		joint := "?"
		if strings.Contains(address, "?") {
			joint = "&"
		}
		run(t, Options{URL: address + joint + "search_path=" + schema})
	})
}

var (
	houses = schemaFile{"010_houses.sql", "-- houses: where people live\nCREATE TABLE houses (id TEXT PRIMARY KEY, deed BYTES NOT NULL);\nCREATE INDEX houses_by_deed ON houses (deed);"}
	people = schemaFile{"020_people.sql", "CREATE TABLE people (id TEXT PRIMARY KEY, house TEXT NOT NULL REFERENCES houses (id), note TEXT NOT NULL DEFAULT '-- BYTES' );"}
	broken = schemaFile{"030_broken.sql", "CREATE TABLE pets (id TEXT PRIMARY KEY); CREATE TABLE pets (id TEXT);"}
)

func tables(t *testing.T, db *DB) string {
	t.Helper()
	var found []string
	err := db.View(t.Context(), func(tx *Tx) error {
		rows, err := tx.Query("SELECT file FROM onbehalf_schema ORDER BY file")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			found = append(found, name)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, " ")
}

func TestFilesAreAppliedOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func(*testing.T, []schemaFile) (*DB, error)) {
		db, err := open(t, []schemaFile{houses})
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO houses (id, deed) VALUES ('h', $1)", []byte{0, 1, 0xff})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		explained := houses
		explained.text = strings.Replace(houses.text, "where people live", "said better\n", 1)
		again, err := open(t, []schemaFile{explained, people})
		if err != nil {
			t.Fatal(err)
		}
		if got := tables(t, again); got != "010_houses.sql 020_people.sql" {
			t.Errorf("applied: %s", got)
		}
		var deed []byte
		var note string
		err = again.Update(t.Context(), func(tx *Tx) error {
			if err := tx.QueryRow("SELECT deed FROM houses WHERE deed = $1", []byte{0, 1, 0xff}).Scan(&deed); err != nil {
				return err
			}
			return tx.QueryRow("INSERT INTO people (id, house) VALUES ('p', 'h') RETURNING note").Scan(&note)
		})
		if err != nil || string(deed) != "\x00\x01\xff" || note != "-- BYTES" {
			t.Errorf("%v, %x, %q", err, deed, note)
		}
	})
}

func TestADatabaseThatIsNotOurs(t *testing.T) {
	t.Parallel()
	altered := houses
	altered.text += "CREATE TABLE sheds (id TEXT PRIMARY KEY);"
	each(t, func(t *testing.T, open func(*testing.T, []schemaFile) (*DB, error)) {
		db, err := open(t, []schemaFile{houses, people})
		if err != nil {
			t.Fatal(err)
		}
		for message, files := range map[string][]schemaFile{
			"newer version": {houses},
			"not the one":   {altered, people},
		} {
			if _, err := open(t, files); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), message) {
				t.Errorf("%q: %v", message, err)
			}
		}
		if got := tables(t, db); got != "010_houses.sql 020_people.sql" {
			t.Errorf("applied: %s", got)
		}
	})
}

func TestAFailedMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func(*testing.T, []schemaFile) (*DB, error)) {
		if _, err := open(t, []schemaFile{houses}); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, []schemaFile{houses, people, broken}); err == nil || !strings.Contains(err.Error(), broken.name) {
			t.Errorf("a broken file: %v", err)
		}
		db, err := open(t, []schemaFile{houses})
		if err != nil {
			t.Fatal(err)
		}
		if got := tables(t, db); got != houses.name {
			t.Errorf("applied: %s", got)
		}
	})
}

func TestReplicasStartTogether(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func(*testing.T, []schemaFile) (*DB, error)) {
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				if _, err := open(t, []schemaFile{houses, people}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}

func TestTheRealFilesSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	files := schemaFiles()
	if len(files) == 0 {
		t.Fatal("no schema files are embedded")
	}
	for _, file := range files {
		if !strings.HasPrefix(file.text, "-- ") {
			t.Errorf("%s does not begin with a comment that explains its tables", file.name)
		}
		statements := withoutComments(file.text)
		for _, foreign := range []string{"BLOB", "BYTEA", "BOOLEAN", "TIMESTAMP", "JSONB", "AUTOINCREMENT", "SERIAL"} {
			if replaceWord(statements, foreign, "") != statements {
				t.Errorf("%s says %s: the portable types are TEXT, BIGINT, SMALLINT and BYTES", file.name, foreign)
			}
		}
	}
}

func TestReplaceWord(t *testing.T) {
	t.Parallel()
	const in = "a BYTES, -- BYTES\nb BYTES_OF, SBYTES BYTES NOT NULL DEFAULT 'BYTES -- it''s BYTES'"
	const want = "a BLOB, \nb BYTES_OF, SBYTES BLOB NOT NULL DEFAULT 'BYTES -- it''s BYTES'"
	if got := replaceWord(in, "BYTES", "BLOB"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Text sorts by bytes on PostgreSQL whatever the database's own collation is.
func TestRenderForPostgres(t *testing.T) {
	t.Parallel()
	const in = "CREATE TABLE t (id TEXT PRIMARY KEY, b BYTES NOT NULL, c TEXT NOT NULL DEFAULT 'TEXT', TEXTS BIGINT)"
	const want = `CREATE TABLE t (id TEXT COLLATE "C" PRIMARY KEY, b BYTEA NOT NULL, c TEXT COLLATE "C" NOT NULL DEFAULT 'TEXT', TEXTS BIGINT)`
	if got := (&postgresEngine{}).render(in); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
