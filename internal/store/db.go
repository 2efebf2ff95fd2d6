// Package store opens the one database, SQLite or PostgreSQL, and hands out
// transactions that carry their own now.
//
//	room ── View / Update ──▶ Tx ──┬─▶ SQLite: one writer, a pool of read-only readers
//	          (may run again)      └─▶ PostgreSQL: serializable, tried again on a clash
//	room ── Look / AppendRow ──▶ one statement: on PostgreSQL one round trip, and Looks share it
//	Open ── schema/*.sql, in name order, under a lock ──▶ tables
//
// SQL is one text for both engines: $1 parameters, ON CONFLICT, RETURNING, times
// as integer microseconds (BIGINT), booleans as SMALLINT 0 or 1, JSON as TEXT. No
// other package names a driver.
//
// Invariant: when Update returns nil, what it wrote survives a power failure;
// when it returns an error, nothing of it was written. (One exception, which no
// database can rule out: if the connection to PostgreSQL breaks during the commit
// itself, the error says Unavailable and the outcome is unknown.)
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Options says where the database is. The zero Options opens nothing: one of
// Path and URL is needed.
type Options struct {
	Path string           // the SQLite file; created with mode 0600 where it is missing, its folder must exist
	URL  string           // postgres://…; wins when set
	Now  func() time.Time // the clock behind Tx.Now; nil is time.Now
}

// DB is an open, migrated database. It is safe for concurrent use.
type DB struct {
	name       string
	engine     engine
	now        func() time.Time
	holder     string       // names this process in leases
	exclusive  bool         // no other replica writes: what this process counts is all there is
	generation atomic.Int64 // transactions that may have changed what a Cache holds
}

// engine is what differs between SQLite and PostgreSQL.
type engine interface {
	// transact runs fn once, inside one transaction, and commits when it returns nil.
	transact(ctx context.Context, k kind, fn func(statements) error) error
	clash(err error) bool        // the transaction failed only because of another one, and may be run again
	render(schema string) string // the schema files' types in the engine's words
	stats() map[string]Stats
	close() error
}

// kind is what a transaction is for.
type kind int

const (
	reading   kind = iota // a snapshot, read-only
	copying               // reading, and what is read leaves at once: never run again
	looking               // one query
	writing               // serializable, durable
	swapping              // writing, statement by statement
	appending             // one statement that adds a row
	migrating             // writing, and one replica at a time
	alone                 // holds the lock of Alone, and does nothing else
)

// statements runs SQL within a transaction: a *sql.Conn on SQLite, where store
// says BEGIN and COMMIT itself, a *sql.Tx on PostgreSQL.
type statements struct {
	runner runner
	// context is what statements run under. On SQLite it is one that never ends,
	// because database/sql and the driver start a goroutine each per statement
	// for a context that can; there the connection checks the real one.
	context context.Context
}

type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Open opens the database, asserts its settings, and brings its tables up to
// date. It refuses a database that a newer version made, or whose schema is not
// the one this version knows.
func Open(ctx context.Context, o Options) (*DB, error) { return open(ctx, o, schemaFiles()) }

func open(ctx context.Context, o Options, files []schemaFile) (*DB, error) {
	db, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, files); err != nil {
		_ = db.engine.close()
		return nil, err
	}
	return db, nil
}

// connect opens the database as it is, with whatever tables it has.
func connect(ctx context.Context, o Options) (*DB, error) {
	db := &DB{now: o.Now, holder: rand.Text()}
	if db.now == nil {
		db.now = time.Now
	}
	var err error
	switch {
	case o.URL != "":
		db.name = "postgres"
		db.engine, err = openPostgres(ctx, o.URL)
	case o.Path != "":
		db.name, db.exclusive = "sqlite", true
		db.engine, err = openSQLite(ctx, o.Path)
	default:
		err = fault.New(fault.Invalid, "No database was named: give a file path or a postgres:// URL.")
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

// View runs fn on one consistent, read-only snapshot. A View may be opened while
// an Update is under way and sees the state before it, but never open an Update
// inside a View: what was read would not be what is being changed.
//
// On PostgreSQL fn may run a second time (a table was altered under what its
// connection had prepared), so that what is to be said of Update's fn holds here.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return db.engine.transact(ctx, reading, func(s statements) error {
		return fn(db.begin(ctx, s))
	})
}

// attempts bounds how often an Update that clashes with others is run.
const attempts = 12

// Update runs fn in a transaction that is durable when Update returns nil. Updates
// behave as if they ran one after the other. fn may run several times (a clash
// with another replica), so it must have no effect but on tx and on variables
// that it sets anew each time. Never open an Update inside an Update: on SQLite
// the inner one waits for the outer.
//
// A statement that fails spoils the transaction, on both engines: to go on after
// a duplicate, say ON CONFLICT DO NOTHING instead of looking at the error.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	// Whatever the outcome: after an error it may have been committed all the same.
	defer db.generation.Add(1)
	return db.update(ctx, writing, fn)
}

// Append is Update for rows that are added to a log: what no Cache remembers.
func (db *DB) Append(ctx context.Context, fn func(*Tx) error) error {
	return db.update(ctx, writing, fn)
}

// Swap is Append for statements that each stand alone: each replaces a value in one
// row if that still is what was read. On PostgreSQL they clash with nobody.
func (db *DB) Swap(ctx context.Context, fn func(*Tx) error) error {
	return db.update(ctx, swapping, fn)
}

// Now is the clock behind Tx.Now, for what needs the time and no transaction.
func (db *DB) Now() time.Time { return db.now().UTC().Truncate(time.Microsecond) }

func (db *DB) update(ctx context.Context, k kind, fn func(*Tx) error) error {
	return db.again(ctx, func() error {
		return db.engine.transact(ctx, k, func(s statements) error { return fn(db.begin(ctx, s)) })
	})
}

// again runs a transaction until it does not clash with others.
func (db *DB) again(ctx context.Context, transaction func() error) error {
	for attempt := 1; ; attempt++ {
		err := transaction()
		if err == nil || !db.engine.clash(err) {
			return err
		}
		if attempt == attempts {
			return fault.New(fault.Unavailable, "The database is busy. Try again.").Because(err)
		}
		// Full jitter, so that clashing replicas fall out of step: up to 1, 2, 4 … 128 ms.
		pause := mathrand.N(time.Millisecond << min(attempt-1, 7))
		select {
		case <-ctx.Done():
			return interrupted(ctx)
		case <-time.After(pause):
		}
	}
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	return db.View(ctx, func(tx *Tx) error {
		var one int
		return tx.QueryRow("SELECT 1").Scan(&one)
	})
}

// Alone runs fn while no other replica runs one: what a start does once for all
// of them. The lock ends with the process, however that ends. fn opens its own
// transactions; it must end within a minute.
func (db *DB) Alone(ctx context.Context, fn func(context.Context) error) error {
	if db.exclusive {
		return fn(ctx)
	}
	return db.engine.transact(ctx, alone, func(statements) error { return fn(ctx) })
}

// Engine is "sqlite" or "postgres", for logs and for the few tests that differ.
func (db *DB) Engine() string { return db.name }

// Close closes all connections. Call it when nothing uses the database any more;
// what is under way fails.
func (db *DB) Close() error { return db.engine.close() }

// interrupted is the error of a caller who gave up or ran out of time.
func interrupted(ctx context.Context) error {
	return fault.New(fault.Unavailable, "The request was cancelled or ran out of time.").Because(context.Cause(ctx))
}
