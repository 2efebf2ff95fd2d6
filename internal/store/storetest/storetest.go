// Package storetest opens real databases for tests.
package storetest

import (
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
)

// Open is a migrated temporary database, closed by t.Cleanup.
func Open(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: t.TempDir() + "/onbehalf.db"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Each runs fn on SQLite always, and on PostgreSQL when ONBEHALF_TEST_POSTGRES is set.
func Each(t *testing.T, fn func(t *testing.T, db *store.DB)) {
	t.Run("sqlite", func(t *testing.T) { fn(t, Open(t)) })
}
