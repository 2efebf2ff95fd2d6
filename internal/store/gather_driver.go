package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
)

// gatherConn makes database/sql's rows of what a gatherer answers, so that rooms
// read them as they read all others. It is no connection, and there are as many
// as are asking.
type gatherConn struct{ gatherer *gatherer }

func (c gatherConn) Connect(context.Context) (driver.Conn, error) { return c, nil }
func (c gatherConn) Driver() driver.Driver                        { return c }
func (c gatherConn) Open(string) (driver.Conn, error)             { return c, nil }
func (c gatherConn) Prepare(string) (driver.Stmt, error)          { return nil, errThroughTx }
func (c gatherConn) Begin() (driver.Tx, error)                    { return nil, errThroughTx }
func (c gatherConn) Close() error                                 { return nil }

// CheckNamedValue implements driver.NamedValueChecker: pgx knows what it takes.
func (c gatherConn) CheckNamedValue(*driver.NamedValue) error { return nil }

// QueryContext implements driver.QueryerContext.
func (c gatherConn) QueryContext(ctx context.Context, query string, named []driver.NamedValue) (driver.Rows, error) {
	args := make([]any, len(named))
	for i := range named {
		args[i] = named[i].Value
	}
	if asking, ok := ctx.Value(askingKey{}).(context.Context); ok {
		ctx = asking
	}
	a := c.gatherer.ask(ctx, query, args)
	if a.err != nil {
		return nil, a.err
	}
	return &gatheredRows{a, 0}, nil
}

type askingKey struct{}

// quiet is ctx for the gatherer alone: for a context that can end, database/sql
// would start a goroutine per query, to watch rows that are all there already.
func quiet(ctx context.Context) context.Context {
	return context.WithValue(context.Background(), askingKey{}, ctx)
}

type gatheredRows struct {
	*answer
	next int
}

func (r *gatheredRows) Columns() []string { return r.columns }
func (r *gatheredRows) Close() error      { return nil }

func (r *gatheredRows) Next(row []driver.Value) error {
	if r.next == len(r.rows) {
		return io.EOF
	}
	for i, value := range r.rows[r.next] {
		row[i] = value
	}
	r.next++
	return nil
}

// openGatherer is the pool's gatherer, behind database/sql.
func openGatherer(pool *sql.DB, again func(error) bool) (*gatherer, *sql.DB) {
	g := newGatherer(pool, again)
	looks := sql.OpenDB(gatherConn{g})
	looks.SetMaxIdleConns(2 * largestRound)
	return g, looks
}
