package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// postgresEngine has a pool per direction, so that Views opened inside Updates
// never wait for an Update's connection.
type postgresEngine struct {
	readers *sql.DB
	writers *sql.DB
}

// Connections per replica; the server's max_connections must hold this times
// the replicas.
const (
	postgresReaders = 24
	postgresWriters = 16
)

func openPostgres(ctx context.Context, address string) (engine, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		// The cause is left out: it may quote the URL, and with it the password.
		return nil, fault.New(fault.Invalid, "The database URL cannot be parsed; it must look like postgres://user:password@host:5432/database.")
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
	e := &postgresEngine{readers: openPool(config, postgresReaders), writers: openPool(config, postgresWriters)}
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
	return nil
}

// migrationLock makes replicas that start at the same moment migrate one after the other.
const migrationLock = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.onbehalf_schema'))"

func (e *postgresEngine) transact(ctx context.Context, k kind, fn func(statements) error) error {
	pool, options := e.writers, sql.TxOptions{Isolation: sql.LevelSerializable}
	switch k {
	case reading:
		pool, options = e.readers, sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	case migrating:
		// A serializable snapshot would be taken before the wait for the lock, and
		// would not show what the replica before us has done.
		options.Isolation = sql.LevelReadCommitted
	}
	tx, err := pool.BeginTx(ctx, &options)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit; runs also when fn panics
	if k == migrating {
		if _, err := tx.ExecContext(ctx, migrationLock); err != nil {
			return unreachable(ctx, err)
		}
	}
	if err := fn(statements{tx, ctx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return unreachable(ctx, err)
	}
	return nil
}

// unreachable keeps a database's own error codes, for clash, and explains the rest.
func unreachable(ctx context.Context, err error) error {
	if _, state := codes(err); state != "" {
		return err
	}
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return fault.Wrap(err, "committing a transaction of which a statement had failed")
	}
	return fault.New(fault.Unavailable, "The database cannot be reached. Try again.").Because(err)
}

// clash: serialization failure and deadlock.
func (e *postgresEngine) clash(err error) bool {
	_, state := codes(err)
	return state == "40001" || state == "40P01"
}

func (e *postgresEngine) close() error {
	return errors.Join(e.readers.Close(), e.writers.Close())
}
