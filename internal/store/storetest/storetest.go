// Package storetest opens real databases for tests: a migrated SQLite file in a
// temporary folder, and, when ONBEHALF_TEST_POSTGRES names a server, a schema of
// its own there.
//
//	func TestThing(t *testing.T) {
//		storetest.Each(t, func(t *testing.T, db *store.DB) { … })
//	}
//
// Invariant: no two databases it opens share anything, so tests run in parallel.
package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
)

// Variable names the PostgreSQL server that tests may make schemas in, as a
// postgres:// URL.
const Variable = "ONBEHALF_TEST_POSTGRES"

// Open is a migrated, empty database, closed by t.Cleanup: PostgreSQL when the
// variable is set, else SQLite.
func Open(t testing.TB) *store.DB {
	t.Helper()
	return OpenAt(t, nil)
}

// OpenAt is Open with a clock of the test's own behind Tx.Now; nil is time.Now.
func OpenAt(t testing.TB, now func() time.Time) *store.DB {
	t.Helper()
	if os.Getenv(Variable) != "" {
		return OpenWith(t, store.Options{URL: Postgres(t), Now: now})
	}
	return OpenWith(t, store.Options{Path: SQLite(t), Now: now})
}

// Each runs fn on SQLite always, and on PostgreSQL when the variable is set.
func Each(t *testing.T, fn func(t *testing.T, db *store.DB)) {
	t.Helper()
	EachOptions(t, func(t *testing.T, o store.Options) { fn(t, OpenWith(t, o)) })
}

// EachOptions is Each for tests that open the database themselves, perhaps more
// than once: two replicas, a restart.
func EachOptions(t *testing.T, fn func(t *testing.T, o store.Options)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		fn(t, store.Options{Path: SQLite(t)})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		if os.Getenv(Variable) == "" {
			t.Skipf("%s is not set", Variable)
		}
		fn(t, store.Options{URL: Postgres(t)})
	})
}

// SQLite is a path for a database file in a folder that goes with the test.
func SQLite(t testing.TB) string { return filepath.Join(t.TempDir(), "onbehalf.db") }

// Postgres is the URL of a new, empty schema that is dropped after the test.
func Postgres(t testing.TB) string {
	t.Helper()
	address, err := url.Parse(os.Getenv(Variable))
	if err != nil {
		t.Fatalf("%s is not a URL", Variable)
	}
	schema := "test_" + strings.ToLower(rand.Text())
	admin, err := sql.Open("pgx", address.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.ExecContext(t.Context(), "CREATE SCHEMA "+schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.Background(), "DROP SCHEMA "+schema+" CASCADE"); err != nil {
			t.Error(err)
		}
		_ = admin.Close()
	})
	query := address.Query()
	query.Set("search_path", schema)
	address.RawQuery = query.Encode()
	return address.String()
}

// OpenWith opens a database as a program would, perhaps one that is there already; it
// is closed by t.Cleanup.
func OpenWith(t testing.TB, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
