package store

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Restore fills an empty database from a dump, in one transaction: the tables as
// they were when it was made, its rows, and the schema files that came since.
// verify sees the result, and what of the bytes follows the dump, before it
// counts; with its error, or a kill, nothing has happened.
//
// open gives the dump from its beginning each time it is called.
func Restore(ctx context.Context, o Options, open func() (io.ReadCloser, error), verify func(tx *Tx, rest io.Reader) error) (rows int64, err error) {
	db, err := connect(ctx, o)
	if err != nil {
		return 0, err
	}
	err = db.update(ctx, migrating, func(tx *Tx) error {
		in, err := open()
		if err != nil {
			return err
		}
		defer in.Close()
		d, err := openDump(in)
		if err != nil {
			return err
		}
		if err := db.restore(tx, d); err != nil {
			return err
		}
		rows = d.rows
		return verify(tx, d.in)
	})
	if closed := db.Close(); err == nil {
		err = closed
	}
	return rows, fault.Wrap(err, "restoring the database")
}

func (db *DB) restore(tx *Tx, d *dumpReader) error {
	if err := tx.mustBeEmpty(); err != nil {
		return err
	}
	all := schemaFiles()
	applied := make(map[string]string)
	for _, s := range d.header.Schema {
		applied[s.File] = s.Checksum
	}
	if err := checkApplied(applied, all); err != nil {
		return err
	}
	then, since := split(all, func(f schemaFile) bool { return applied[f.name] != "" })
	if _, err := tx.Exec(db.engine.render(schemaTable)); err != nil {
		return err
	}
	if err := db.apply(tx, then); err != nil {
		return err
	}
	tables, err := tx.Tables()
	if err != nil {
		return err
	}
	// The names go into statements: they must be those of this schema, and no others.
	// Their order within the file is that of whoever wrote it.
	if !sameTables(tables, d.header.Tables) {
		return errDump("its tables are not those of its schema")
	}
	if err := tx.load(d); err != nil {
		return err
	}
	return db.apply(tx, since)
}

func split(files []schemaFile, first func(schemaFile) bool) (yes, no []schemaFile) {
	for _, f := range files {
		if first(f) {
			yes = append(yes, f)
		} else {
			no = append(no, f)
		}
	}
	return yes, no
}

func sameTables(ours, theirs []TableInfo) bool {
	find := func(list []TableInfo, name string) *TableInfo {
		i := slices.IndexFunc(list, func(t TableInfo) bool { return t.Name == name })
		if i < 0 {
			return nil
		}
		return &list[i]
	}
	for _, t := range ours {
		other := find(theirs, t.Name)
		if other == nil || !reflect.DeepEqual(t.byName(), other.byName()) {
			return false
		}
	}
	return len(ours) == len(theirs)
}

// byName is a table's columns without their order: one that was added to one
// database was perhaps there from the beginning in another.
func (t TableInfo) byName() map[string]string {
	columns := make(map[string]string, len(t.Columns))
	for _, c := range t.Columns {
		columns[c.Name] = c.Type
	}
	return columns
}

// mustBeEmpty refuses a database in which anything is, ours or not.
func (tx *Tx) mustBeEmpty() error {
	query := `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`
	if tx.engine == "postgres" {
		query = "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()"
	}
	var n int64
	if err := tx.QueryRow(query).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		return fault.New(fault.Conflict, "The database is not empty: a backup is restored into an empty one alone.")
	}
	return nil
}

// rowsAtOnce bounds the parameters of one INSERT; the engines' limits are above 30,000.
const rowsAtOnce = 100

// load inserts all rows, as many at once as lie side by side.
func (tx *Tx) load(d *dumpReader) error {
	var waiting []any
	at, count := -1, 0
	flush := func() error {
		if count == 0 {
			return nil
		}
		_, err := tx.Exec(insert(d.header.Tables[at], count), waiting...)
		waiting, count = waiting[:0], 0
		if err != nil {
			return fmt.Errorf("table %s: %w", d.header.Tables[at].Name, err)
		}
		return nil
	}
	for {
		table, values, err := d.next()
		if err != nil {
			return err
		}
		if table != at || count == rowsAtOnce {
			if err := flush(); err != nil {
				return err
			}
		}
		if table < 0 {
			return nil
		}
		at = table
		count++
		waiting = append(waiting, values...)
	}
}

func insert(t TableInfo, rows int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO " + t.Name + " (" + strings.Join(t.columnNames(), ", ") + ") VALUES ")
	parameter := 0
	for row := range rows {
		if row > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(")
		for column := range t.Columns {
			if column > 0 {
				b.WriteString(", ")
			}
			parameter++
			fmt.Fprintf(&b, "$%d", parameter)
		}
		b.WriteString(")")
	}
	return b.String()
}
