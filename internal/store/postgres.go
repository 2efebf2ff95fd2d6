package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// postgresEngine has a pool per direction, so that Views opened inside Updates
// never wait for an Update's connection. Looks share round trips of the readers.
type postgresEngine struct {
	readers  *sql.DB
	writers  *sql.DB
	gatherer *gatherer
	looks    *sql.DB
}

// Connections per replica. A few per core keep a database busy, and more of them
// only wait for each other, so the number is one that a server with the usual
// max_connections of 100 gives to four replicas. pool_max_conns in the URL
// changes it, as it does for other programs that use pgx.
const (
	postgresConnections = 20
	poolSetting         = "pool_max_conns"

	// connectWithin bounds the opening of a connection, acquireWithin the wait for
	// one: a request fails in that time, clearly, when the database is away.
	connectWithin = 5 * time.Second
	acquireWithin = 10 * time.Second
)

func openPostgres(ctx context.Context, address string) (engine, error) {
	malformed := fault.New(fault.Invalid, "The database URL cannot be parsed; it must look like postgres://user:password@host:5432/database.")
	if !strings.HasPrefix(address, "postgres://") && !strings.HasPrefix(address, "postgresql://") {
		return nil, malformed
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, malformed // the cause is left out: it may quote the URL, and with it the password
	}
	connections := postgresConnections
	if given, set := config.RuntimeParams[poolSetting]; set {
		delete(config.RuntimeParams, poolSetting)
		if connections, err = strconv.Atoi(given); err != nil || connections < 5 {
			return nil, fault.New(fault.Invalid, "The database URL's %s is not a number of at least 5.", poolSetting)
		}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectWithin
	}
	settings := map[string]string{
		"application_name":                    "onbehalf",
		"client_encoding":                     "UTF8",
		"synchronous_commit":                  "on",
		"idle_in_transaction_session_timeout": "60000", // ms; a replica that froze must not hold its locks
	}
	for name, value := range settings {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	writers := connections * 2 / 5
	e := &postgresEngine{readers: openPool(config, connections-writers), writers: openPool(config, writers)}
	e.gatherer, e.looks = openGatherer(e.readers, e.passing)
	if err := e.check(ctx); err != nil {
		_ = e.close()
		return nil, err
	}
	return e, nil
}

func openPool(config *pgx.ConnConfig, size int) *sql.DB {
	pool := stdlib.OpenDB(*config) // pgx keeps prepared statements per connection itself
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(time.Hour) // so that connections spread again after a failover
	return pool
}

// check asserts what durability and the portable SQL rest on.
func (e *postgresEngine) check(ctx context.Context) error {
	for name, refused := range map[string]string{"synchronous_commit": "off", "server_encoding": ""} {
		var got string
		if err := e.writers.QueryRowContext(ctx, "SELECT current_setting($1)", name).Scan(&got); err != nil {
			return fault.New(fault.Unavailable, "The PostgreSQL database cannot be reached.").Because(err)
		}
		if got == refused || name == "server_encoding" && got != "UTF8" {
			return fault.New(fault.Unavailable, "The PostgreSQL database cannot be used: %s is %s.", name, got)
		}
	}
	var number int
	if err := e.writers.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&number); err != nil {
		return fault.New(fault.Unavailable, "The PostgreSQL database cannot be reached.").Because(err)
	}
	if number < oldestPostgres {
		return fault.New(fault.Unavailable, "The PostgreSQL server is of version %d; it must be 15 or newer.", number/10000)
	}
	return nil
}

const oldestPostgres = 150000

// Locks that end with their transaction, and so with the process that took them.
const (
	migrationLock = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.onbehalf_schema'))"
	aloneLock     = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.onbehalf_start'))"
)

func (e *postgresEngine) transact(ctx context.Context, k kind, fn func(statements) error) error {
	pool, options, lock := e.writers, sql.TxOptions{Isolation: sql.LevelSerializable}, ""
	switch k {
	case looking:
		return explained(ctx, e.gatherer.over(), fn(statements{e.looks, quiet(ctx)}))
	case appending:
		return e.append(ctx, fn)
	case reading, copying:
		pool, options = e.readers, sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	case swapping:
		options.Isolation = sql.LevelReadCommitted
	case migrating, alone:
		// A serializable snapshot would be taken before the wait for the lock, and
		// would not show what the replica before us has done.
		options.Isolation = sql.LevelReadCommitted
		if lock = migrationLock; k == alone {
			lock = aloneLock
		}
	}
	conn, tx, err := begin(ctx, pool, &options)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err = within(ctx, tx, lock, fn); stale(err) && (k == reading || k == writing || k == swapping) && forget(ctx, conn) == nil {
		if tx, begun := conn.BeginTx(ctx, &options); begun == nil {
			err = within(ctx, tx, lock, fn)
		}
	}
	return explained(ctx, err != nil && gone(conn), err)
}

// within runs fn in a transaction, once it has the lock.
func within(ctx context.Context, tx *sql.Tx, lock string, fn func(statements) error) error {
	defer func() { _ = tx.Rollback() }() // does nothing after Commit; runs also when fn panics
	if lock != "" {
		if _, err := tx.ExecContext(ctx, lock); err != nil {
			return err
		}
	}
	if err := fn(statements{tx, ctx}); err != nil {
		return err
	}
	return tx.Commit()
}

// stale reports whether a statement was prepared before its table changed.
func stale(err error) bool {
	_, state := codes(err)
	return state == stalePlan
}

// forget drops all that a connection has prepared. pgx itself forgets the one
// statement that failed, and a transaction may have several.
func forget(ctx context.Context, conn *sql.Conn) error {
	return conn.Raw(func(driver any) error { return driver.(*stdlib.Conn).Conn().DeallocateAll(ctx) })
}

// append runs one statement as its own transaction.
func (e *postgresEngine) append(ctx context.Context, fn func(statements) error) error {
	conn, err := take(ctx, e.writers)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	err = fn(statements{conn, ctx})
	return explained(ctx, err != nil && gone(conn), err)
}

// begins is how many connections are tried: those that were idle when the
// database restarted are found out by their first use, when nothing is lost yet.
const begins = 3

// begin takes a connection and opens a transaction on it.
func begin(ctx context.Context, pool *sql.DB, options *sql.TxOptions) (*sql.Conn, *sql.Tx, error) {
	for attempt := 1; ; attempt++ {
		conn, err := take(ctx, pool)
		if err != nil {
			return nil, nil, err
		}
		tx, err := conn.BeginTx(ctx, options)
		if err == nil {
			return conn, tx, nil
		}
		_ = conn.Close()
		if attempt == begins || ctx.Err() != nil {
			return nil, nil, unreachable(ctx, err)
		}
	}
}

// take is a connection of a pool.
func take(ctx context.Context, pool *sql.DB) (*sql.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, acquireWithin)
	defer cancel()
	conn, err := pool.Conn(waiting)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	return conn, nil
}

// unreachable is the error of who got no transaction.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return fault.New(fault.Unavailable, "The database cannot be reached. Try again.").Because(err)
}

// explained keeps a database's own error codes, for clash, and what fn itself
// decided; what failed because the connection broke is told as that.
func explained(ctx context.Context, broken bool, err error) error {
	if err == nil {
		return nil
	}
	if known := fault.Of(err).Kind; known != fault.Internal {
		return err
	}
	_, state := codes(err)
	switch {
	case state == readOnly || broken: // a server that was the primary, or one that is gone
		return unreachable(ctx, err)
	case state == notText: // as SQLite's connection says it, before it sends anything
		return fault.New(fault.Invalid, "A text holds a NUL character or is not UTF-8.").Because(err)
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return fault.Wrap(err, "committing a transaction of which a statement had failed")
	case state == "" && ctx.Err() != nil:
		return interrupted(ctx)
	}
	return err
}

const (
	readOnly  = "25006" // read_only_sql_transaction: the server became a standby
	stalePlan = "0A000" // feature_not_supported: "cached plan must not change result type"
	notText   = "22021" // character_not_in_repertoire: NUL, which no text of PostgreSQL has, or no UTF-8
)

// gone reports whether the connection can no longer be used.
func gone(conn *sql.Conn) bool {
	closed := false
	err := conn.Raw(func(driver any) error {
		c, ok := driver.(*stdlib.Conn)
		closed = ok && c.Conn().IsClosed()
		return nil
	})
	return err != nil || closed
}

// clash: serialization failure and deadlock.
func (e *postgresEngine) clash(err error) bool {
	_, state := codes(err)
	return state == "40001" || state == "40P01"
}

// passing is what a read that is tried again does not meet: a clash, as a server
// may be set to serialize everything, and a statement that a connection prepared
// before its table changed, which pgx then forgets.
func (e *postgresEngine) passing(err error) bool {
	return stale(err) || e.clash(err)
}

func (e *postgresEngine) close() error {
	e.gatherer.close()
	return errors.Join(e.looks.Close(), e.readers.Close(), e.writers.Close())
}
