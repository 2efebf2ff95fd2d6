package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// liteConnector puts a liteConn around each connection of the SQLite driver.
type liteConnector struct{ driver.Connector }

func (c liteConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &liteConn{inner: inner, prepared: make(map[string]*liteStatement)}, nil
}

// liteConn is the driver's connection with four things that database/sql does
// slowly or not at all: prepared statements kept per connection; the
// transaction's context checked between statements instead of watched by a
// goroutine during each; PostgreSQL's rule that a failed statement spoils the
// transaction, so that a room behaves alike on both engines; and rows that
// somebody forgot to close, closed at the transaction's end, because one of
// them would hold this connection's snapshot for ever.
type liteConn struct {
	inner    driver.Conn
	prepared map[string]*liteStatement
	open     []*liteRows
	ctx      context.Context // of the transaction under way; nil outside of one
	failed   error           // the error that spoilt the transaction under way
	broken   bool            // a rollback failed: do not use again
	closed   bool
}

// liteStatement is a prepared statement. It is busy while its rows are open: a
// second use meanwhile gets a statement of its own.
type liteStatement struct {
	driver.Stmt
	busy   bool
	cached bool
}

// preparedLimit bounds the statements kept per connection; a server has fewer
// texts than this unless one of them is built from data.
const preparedLimit = 400

var errSpoilt = errors.New("store: an earlier statement of this transaction failed")

func (c *liteConn) ready(ctx context.Context) error {
	if c.closed {
		return errClosed
	}
	if c.failed != nil {
		return fmt.Errorf("%w: %w", errSpoilt, c.failed)
	}
	if c.ctx != nil {
		ctx = c.ctx
	}
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return nil
}

// fail notes what spoils the transaction.
func (c *liteConn) fail(err error) error {
	if c.ctx != nil && c.failed == nil {
		c.failed = err
	}
	return err
}

func (c *liteConn) statement(query string) (*liteStatement, error) {
	kept := c.prepared[query]
	if kept != nil && !kept.busy {
		return kept, nil
	}
	inner, err := c.inner.(driver.ConnPrepareContext).PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	fresh := &liteStatement{Stmt: inner, cached: kept == nil && !once(query)}
	if fresh.cached {
		c.evict()
		c.prepared[query] = fresh
	}
	return fresh, nil
}

// once reports whether a statement is one of those that run a single time. Each
// that is kept occupies memory that SQLite sets aside for running statements
// quickly.
func once(query string) bool {
	query = strings.TrimSpace(query)
	return strings.HasPrefix(query, "PRAGMA") || strings.HasPrefix(query, "CREATE")
}

func (c *liteConn) evict() {
	if len(c.prepared) < preparedLimit {
		return
	}
	for query, s := range c.prepared { // any one will do
		if !s.busy {
			delete(c.prepared, query)
			_ = s.Close()
			return
		}
	}
}

// ExecContext implements driver.ExecerContext.
func (c *liteConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	s, err := c.statement(query)
	if err != nil {
		return nil, c.fail(err)
	}
	result, err := s.Stmt.(driver.StmtExecContext).ExecContext(context.Background(), args)
	if !s.cached {
		_ = s.Close()
	}
	if err != nil {
		return nil, c.fail(err)
	}
	return result, nil
}

// QueryContext implements driver.QueryerContext.
func (c *liteConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	s, err := c.statement(query)
	if err != nil {
		return nil, c.fail(err)
	}
	rows, err := s.Stmt.(driver.StmtQueryContext).QueryContext(context.Background(), args)
	if err != nil {
		if !s.cached {
			_ = s.Close()
		}
		return nil, c.fail(err)
	}
	s.busy = true
	r := &liteRows{Rows: rows, conn: c, statement: s}
	c.open = append(c.open, r)
	return r, nil
}

// CheckNamedValue implements driver.NamedValueChecker: what PostgreSQL would
// refuse is refused here too, before a test on SQLite calls it good.
func (c *liteConn) CheckNamedValue(v *driver.NamedValue) error {
	value, err := driver.DefaultParameterConverter.ConvertValue(v.Value)
	if err != nil {
		return err
	}
	switch x := value.(type) {
	case bool:
		return errors.New("store: a bool parameter; write 0 or 1")
	case time.Time:
		return errors.New("store: a time parameter; write store.Micros(t)")
	case string:
		if strings.IndexByte(x, 0) >= 0 || !utf8.ValidString(x) {
			return fault.New(fault.Invalid, "A text holds a NUL character or is not UTF-8.")
		}
	}
	v.Value = value
	return nil
}

// begin starts a transaction that ends, at the latest, with ctx.
func (c *liteConn) begin(ctx context.Context, how string) error {
	if err := c.run(how); err != nil {
		return err
	}
	c.ctx, c.failed = ctx, nil
	return nil
}

func (c *liteConn) commit() error {
	if err := c.ready(c.ctx); err != nil {
		return err
	}
	c.release()
	if err := c.run("COMMIT"); err != nil {
		return err
	}
	c.ctx = nil
	return nil
}

// rollback undoes the transaction. Where SQLite has done so itself (a full disk,
// an I/O error), its complaint is expected: broken is then cleared by the proof
// that a transaction can begin.
func (c *liteConn) rollback() {
	c.release()
	c.ctx, c.failed = nil, nil
	if c.run("ROLLBACK") != nil {
		c.broken = c.run("BEGIN") != nil || c.run("ROLLBACK") != nil
	}
}

// run executes a statement without parameters, past database/sql.
func (c *liteConn) run(query string) error {
	if c.closed {
		return errClosed
	}
	s, err := c.statement(query)
	if err != nil {
		return err
	}
	_, err = s.Stmt.(driver.StmtExecContext).ExecContext(context.Background(), nil)
	return err // BEGIN, COMMIT and ROLLBACK are never busy, and so always kept
}

// release closes rows that were left open.
func (c *liteConn) release() {
	for len(c.open) > 0 {
		_ = c.open[len(c.open)-1].Close()
	}
}

// Close implements driver.Conn. It may be called twice: by session and by database/sql.
func (c *liteConn) Close() error {
	if c.closed {
		return nil
	}
	c.release()
	c.closed = true
	for _, s := range c.prepared {
		_ = s.Close()
	}
	c.prepared = nil
	return c.inner.Close()
}

var errThroughTx = errors.New("store: use Tx")

// Prepare implements driver.Conn; statements are prepared by use.
func (c *liteConn) Prepare(string) (driver.Stmt, error) { return nil, errThroughTx }

// Begin implements driver.Conn; session begins transactions.
func (c *liteConn) Begin() (driver.Tx, error) { return nil, errThroughTx }

// liteRows are rows that know their statement, to free it when they close.
type liteRows struct {
	driver.Rows
	conn      *liteConn
	statement *liteStatement
	closed    bool
}

// Next implements driver.Rows, and is where a long query notices that its caller is gone.
func (r *liteRows) Next(row []driver.Value) error {
	if r.closed {
		return errThroughTx
	}
	if ctx := r.conn.ctx; ctx != nil && ctx.Err() != nil {
		return interrupted(ctx)
	}
	err := r.Rows.Next(row)
	if err != nil && err != io.EOF {
		return r.conn.fail(err)
	}
	return err
}

// Close implements driver.Rows. Closing again does nothing: the statement may be in use anew.
func (r *liteRows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	err := r.Rows.Close()
	r.statement.busy = false
	if !r.statement.cached {
		err = errors.Join(err, r.statement.Close())
	}
	if i := slices.Index(r.conn.open, r); i >= 0 {
		r.conn.open = slices.Delete(r.conn.open, i, i+1)
	}
	return err
}
