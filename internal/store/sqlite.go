package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// liteEngine is SQLite in write-ahead mode: readers never wait for the writer,
// nor it for them, and there is one writer at a time.
type liteEngine struct {
	path    string
	writer  *lane
	readers *lane
}

// setting is a PRAGMA and the value it must have afterwards. SQLite ignores a
// PRAGMA it does not know, or cannot follow, without a word.
type setting struct{ name, value, expected string }

var commonSettings = []setting{
	{"busy_timeout", "2000", "2000"}, // milliseconds; only another process can make us wait
	{"foreign_keys", "ON", "1"},
	{"synchronous", "FULL", "2"}, // in WAL mode: the log is synced at every commit
	{"temp_store", "MEMORY", "2"},
	{"trusted_schema", "OFF", "0"},
	{"cache_size", "-4096", "-4096"}, // KiB, per connection, taken as needed
	{"mmap_size", "0", "0"},          // measured: mapping anew after each commit costs more than reading
}

var writerSettings = append(slices.Clone(commonSettings),
	setting{"journal_mode", "WAL", "wal"},
	setting{"secure_delete", "ON", "1"},                   // what was deleted is overwritten; see Scrub
	setting{"journal_size_limit", "67108864", "67108864"}, // bytes the log keeps after a rush
)

var readerSettings = append(slices.Clone(commonSettings), setting{"query_only", "ON", "1"})

// A writer that waits this long has met a deadlock (an Update inside an Update)
// or a disk that does not answer.
const writerPatience = 30 * time.Second

// readerPatience is how long a View waits for a free reader before one more is
// opened: Views inside Views then cannot block each other for good.
const readerPatience = 100 * time.Millisecond

func openSQLite(ctx context.Context, path string) (engine, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.Wrap(err, "finding the database file")
	}
	// SQLite would create the file with 0644. Its -wal and -shm files take the mode of this one.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "The database file %s cannot be opened.", path).Because(err)
	}
	if err := file.Close(); err != nil {
		return nil, fault.Wrap(err, "opening the database file")
	}
	e := &liteEngine{path: path}
	e.writer = newLane(e.address("rw"), writerSettings, 1, writerPatience)
	e.readers = newLane(e.address("ro"), readerSettings, max(4, 2*runtime.GOMAXPROCS(0)), readerPatience)
	// The first connection proves the file, and sets WAL mode before a reader comes.
	session, err := e.writer.take(ctx)
	if err != nil {
		return nil, err
	}
	e.writer.give(session)
	return e, nil
}

// address is SQLite's URI of the file; a path may hold any character.
func (e *liteEngine) address(mode string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(e.path)}
	// _dqs=0: a misspelt column in double quotes is an error and not a string.
	return u.String() + "?mode=" + mode + "&_dqs=0&_defensive=1&_error_rc=1"
}

// transact: BEGIN IMMEDIATE takes the file's write lock at once, so a migration
// needs no lock of its own.
func (e *liteEngine) transact(ctx context.Context, k kind, fn func(statements) error) error {
	if k == reading || k == copying || k == looking {
		return e.readers.run(ctx, "BEGIN", fn)
	}
	return e.writer.run(ctx, "BEGIN IMMEDIATE", fn)
}

// clash is true when another process holds the file's write lock.
func (e *liteEngine) clash(err error) bool { return busy(err) }

func busy(err error) bool {
	code, _ := codes(err)
	return code&0xff == sqlite3.SQLITE_BUSY
}

// close lets the writer go last: it moves the write-ahead log into the file.
func (e *liteEngine) close() error {
	return errors.Join(e.readers.close(), e.writer.close())
}

// session is one connection for good: database/sql's view of it, and our own.
type session struct {
	sql  *sql.Conn
	raw  *liteConn
	pool *sql.DB
}

// openSession opens a connection and asserts its settings.
func openSession(ctx context.Context, address string, settings []setting) (*session, error) {
	base, err := sqlite.NewConnector(address)
	if err != nil {
		return nil, fault.Wrap(err, "naming the database file")
	}
	s := &session{pool: sql.OpenDB(liteConnector{base})}
	if s.sql, err = s.pool.Conn(ctx); err != nil {
		_ = s.pool.Close()
		return nil, fault.New(fault.Unavailable, "The database file cannot be opened.").Because(err)
	}
	err = s.sql.Raw(func(driverConn any) error {
		s.raw = driverConn.(*liteConn)
		return nil
	})
	for _, want := range settings {
		if err != nil {
			break
		}
		err = s.apply(ctx, want)
	}
	if err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) apply(ctx context.Context, want setting) error {
	_, err := s.sql.ExecContext(ctx, "PRAGMA "+want.name+" = "+want.value)
	// When several processes switch a new file to WAL together, SQLite does not
	// wait for busy_timeout: that could be a deadlock. Here it cannot be one.
	for try := 0; err != nil && busy(err) && try < 100; try++ {
		time.Sleep(rand.N(20 * time.Millisecond))
		_, err = s.sql.ExecContext(ctx, "PRAGMA "+want.name+" = "+want.value)
	}
	if err != nil {
		return fault.New(fault.Unavailable, "The database file cannot be used: setting %s failed.", want.name).Because(err)
	}
	var got string
	if err := s.sql.QueryRowContext(ctx, "PRAGMA "+want.name).Scan(&got); err != nil {
		return fault.Wrap(fmt.Errorf("reading back %s: %w", want.name, err), "opening the database file")
	}
	s.raw.release()
	if got != want.expected {
		return fault.New(fault.Unavailable, "The database file cannot be used: %s is %q and must be %q. Is the folder on a network file system?", want.name, got, want.expected)
	}
	return nil
}

// close closes the file itself first: *sql.Conn waits for rows that somebody
// forgot to close, and would wait for ever.
func (s *session) close() error {
	err := s.raw.Close()
	return errors.Join(err, s.pool.Close())
}

// transact runs fn between begin and COMMIT, or ROLLBACK.
func (s *session) transact(ctx context.Context, begin string, fn func(statements) error) error {
	if err := s.raw.begin(ctx, begin); err != nil {
		return err
	}
	committed := false
	defer func() { // also when fn panics
		if !committed {
			s.raw.rollback()
		}
	}()
	if err := fn(statements{s.sql, context.Background()}); err != nil {
		return err
	}
	if err := s.raw.commit(); err != nil {
		return err
	}
	committed = true
	return nil
}
