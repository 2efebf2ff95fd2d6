package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
)

// Look is a View of one statement. Nothing has to be opened and closed around
// that, so on PostgreSQL it costs one round trip instead of three, and shares it
// with whatever else is looked up at the moment (see gather). What is found was
// there after Look was called, as with View: nothing is remembered.
//
// fn asks one question and no more: two would be answered from two moments.
func (db *DB) Look(ctx context.Context, fn func(*Tx) error) error {
	return db.engine.transact(ctx, looking, func(s statements) error {
		return fn(db.begin(ctx, statements{&oneQuestion{runner: s.runner}, s.context}))
	})
}

// AppendRow is Append of one statement, which is its own transaction: on
// PostgreSQL one round trip instead of three.
func (db *DB) AppendRow(ctx context.Context, query string, args ...any) error {
	return db.again(ctx, func() error {
		return db.engine.transact(ctx, appending, func(s statements) error {
			_, err := s.runner.ExecContext(s.context, query, args...)
			return err
		})
	})
}

// oneQuestion passes one query, and refuses what comes after it.
type oneQuestion struct {
	runner
	asked bool
}

var errOneQuestion = errors.New("store: a Look is one query; use View for more")

func (o *oneQuestion) ExecContext(context.Context, string, ...any) (sql.Result, error) {
	return nil, errOneQuestion
}

func (o *oneQuestion) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return o.once().QueryContext(ctx, query, args...)
}

func (o *oneQuestion) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return o.once().QueryRowContext(ctx, query, args...)
}

func (o *oneQuestion) once() runner {
	if o.asked {
		return refusing()
	}
	o.asked = true
	return o.runner
}

// refusing is a database that answers errOneQuestion: an *sql.Row cannot be made
// of an error in another way.
var refusing = sync.OnceValue(func() *sql.DB { return sql.OpenDB(refuser{}) })

type refuser struct{}

func (refuser) Connect(context.Context) (driver.Conn, error) { return nil, errOneQuestion }
func (refuser) Driver() driver.Driver                        { return nil }
