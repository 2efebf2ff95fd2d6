package store

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Scrub makes what was deleted or replaced vanish from the files of a SQLite
// database, too. In the database itself deleted bytes are overwritten at once
// (secure_delete); what remains is the write-ahead log, which Scrub empties,
// unless a long read needs it: then the next Scrub does. PostgreSQL does this by
// itself, in its own time (VACUUM, and the recycling of its log); there Scrub
// does nothing.
func (db *DB) Scrub(ctx context.Context) error {
	e, ok := db.engine.(*liteEngine)
	if !ok {
		return nil
	}
	s, err := e.writer.take(ctx)
	if err != nil {
		return err
	}
	defer e.writer.give(s)
	// Whoever wants to write waits meanwhile: not for long.
	for _, statement := range []string{"PRAGMA busy_timeout = 50", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA busy_timeout = " + commonSettings[0].value} {
		rows, problem := s.sql.QueryContext(context.Background(), statement)
		if problem == nil {
			for rows.Next() {
			}
			problem = rows.Close()
		}
		if err == nil && !busy(problem) {
			err = problem
		}
	}
	s.raw.release()
	return fault.Wrap(err, "emptying the write-ahead log")
}
