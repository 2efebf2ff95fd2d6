package store

import (
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrNoRows is what Scan answers for a row that is not there.
var ErrNoRows = sql.ErrNoRows

// IsUnique reports whether err says that a row with this key exists already.
func IsUnique(err error) bool {
	code, state := codes(err)
	return code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY ||
		code == sqlite3.SQLITE_CONSTRAINT_ROWID || state == "23505"
}

// IsForeignKey reports whether err says that a row refers to one that is not
// there, or that a row which others refer to was to go.
func IsForeignKey(err error) bool {
	code, state := codes(err)
	// SQLite reports ON DELETE RESTRICT as a trigger; the schema has no others.
	return code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY || code == sqlite3.SQLITE_CONSTRAINT_TRIGGER ||
		state == "23503" || state == "23001"
}

// codes finds SQLite's extended result code or PostgreSQL's SQLSTATE in a chain.
func codes(err error) (code int, state string) {
	if err == nil {
		return 0, ""
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code(), ""
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return 0, pg.Code
	}
	return 0, ""
}
