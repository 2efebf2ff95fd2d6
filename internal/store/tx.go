package store

import (
	"context"
	"database/sql"
	"time"
)

// Tx is one transaction. It belongs to the function it was handed to: not to
// another goroutine, and not to anything after the function has returned.
type Tx struct {
	// Now is the time of the transaction's begin, UTC, in whole microseconds, so
	// that a value written and read back is equal.
	Now time.Time

	ctx        context.Context
	statements statements
	engine     string // "sqlite" or "postgres"
}

func (db *DB) begin(ctx context.Context, s statements) *Tx {
	return &Tx{Now: db.Now(), ctx: ctx, statements: s, engine: db.name}
}

// Context is the one that View or Update was given.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Exec runs a statement and returns how many rows it touched.
//
// Parameters are strings, integers, floats, []byte and nil (and named types of
// these). Booleans and times are refused: write 0 or 1, and Micros.
func (tx *Tx) Exec(query string, args ...any) (rowsAffected int64, err error) {
	result, err := tx.statements.runner.ExecContext(tx.statements.context, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Query runs a statement that returns rows. Close them, and look at their Err.
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	return tx.statements.runner.QueryContext(tx.statements.context, query, args...)
}

// QueryRow runs a statement that returns at most one row; Scan answers ErrNoRows
// when there is none. Scan each row before the next statement.
func (tx *Tx) QueryRow(query string, args ...any) *sql.Row {
	return tx.statements.runner.QueryRowContext(tx.statements.context, query, args...)
}

// Micros is how a time is stored; 0 stands for the zero time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the inverse of Micros, in UTC.
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
