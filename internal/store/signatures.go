// Package store opens the database. (Unfinished: signatures first.)
package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

var errUnfinished = errors.New("store: unfinished")

// Options says where the database is.
type Options struct {
	Path string           // SQLite file
	URL  string           // postgres://…; wins when set
	Now  func() time.Time // the clock of Tx.Now; nil is time.Now
}

type DB struct{}

func Open(ctx context.Context, o Options) (*DB, error) { return nil, errUnfinished }

func (db *DB) View(ctx context.Context, fn func(*Tx) error) error   { return errUnfinished }
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error { return errUnfinished }
func (db *DB) Close() error                                         { return nil }
func (db *DB) Engine() string                                       { return "sqlite" }
func (db *DB) Ping(ctx context.Context) error                       { return errUnfinished }

type Tx struct {
	Now time.Time // frozen at begin, UTC, microseconds
}

func (tx *Tx) Context() context.Context                           { return context.Background() }
func (tx *Tx) Exec(query string, args ...any) (int64, error)      { return 0, errUnfinished }
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) { return nil, errUnfinished }
func (tx *Tx) QueryRow(query string, args ...any) *sql.Row        { return nil }
func (tx *Tx) Lease(name, holder string, d time.Duration) (fence int64, ok bool, err error) {
	return 0, false, errUnfinished
}
func (tx *Tx) Release(name, holder string) error { return errUnfinished }

var ErrNoRows = sql.ErrNoRows

func IsUnique(err error) bool     { return false }
func IsForeignKey(err error) bool { return false }
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
