package store

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// A dump is all rows of one snapshot, in a form that either engine reads:
//
//	"onbehalf-backup 1\n"
//	dumpHeader as JSON, "\n"
//	for each row: 'R', the table's number, then each column's value
//	'Z', the number of rows
//
// A value is a kind ('n' null, 'i' integer, 't' text, 'b' bytes) and what it
// holds: numbers as varints, the others after their length.
const dumpMagic = "onbehalf-backup 1\n"

const (
	dumpHeaderLimit = 1 << 20
	dumpValueLimit  = 64 << 20
)

// dumpHeader says how to read the rows: with which schema, in which columns.
type dumpHeader struct {
	Created int64        `json:"created"` // microseconds
	Engine  string       `json:"engine"`
	Schema  []dumpSchema `json:"schema"`
	Tables  []TableInfo  `json:"tables"` // those that others refer to first
}

type dumpSchema struct {
	File     string `json:"file"`
	Checksum string `json:"checksum"`
}

// Dump writes all rows, as they are at one moment, to w. What is written
// meanwhile is not in it, and does not wait. Leases are left out.
func (db *DB) Dump(ctx context.Context, w io.Writer) (rows int64, err error) {
	return db.DumpAnd(ctx, w, func(*Tx) error { return nil })
}

// DumpAnd is Dump, and then hands on the transaction whose rows were written: look
// sees what is in the dump, and nothing else. Its error is DumpAnd's.
func (db *DB) DumpAnd(ctx context.Context, w io.Writer, look func(*Tx) error) (rows int64, err error) {
	out := bufio.NewWriterSize(w, 256<<10)
	err = db.engine.transact(ctx, copying, func(s statements) error {
		tx := db.begin(ctx, s)
		header := dumpHeader{Created: Micros(tx.Now), Engine: db.name}
		files, err := tx.Query("SELECT file, checksum FROM onbehalf_schema ORDER BY file")
		if err != nil {
			return err
		}
		defer files.Close()
		for files.Next() {
			var s dumpSchema
			if err := files.Scan(&s.File, &s.Checksum); err != nil {
				return err
			}
			header.Schema = append(header.Schema, s)
		}
		if err := files.Err(); err != nil {
			return err
		}
		if header.Tables, err = tx.Tables(); err != nil {
			return err
		}
		encoded, err := json.Marshal(header)
		if err != nil {
			return err
		}
		_, err = out.WriteString(dumpMagic + string(encoded) + "\n")
		for i, table := range header.Tables {
			if err != nil {
				return err
			}
			var n int64
			n, err = tx.dumpTable(out, i, table)
			rows += n
		}
		if err == nil {
			_, err = out.Write(binary.AppendUvarint([]byte{'Z'}, uint64(rows)))
		}
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			return err
		}
		return look(tx)
	})
	return rows, fault.Wrap(err, "copying the database")
}

// ReadDump goes through a dump as Restore does, and puts its rows nowhere: it says
// how many there are, and what of the bytes follows them.
func ReadDump(r io.Reader) (rows int64, rest io.Reader, err error) {
	d, err := openDump(r)
	for table := 0; err == nil && table >= 0; {
		table, _, err = d.next()
	}
	if err != nil {
		return 0, nil, err
	}
	return d.rows, d.in, nil
}

func (t TableInfo) columnNames() []string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return names
}

func (tx *Tx) dumpTable(w io.Writer, number int, table TableInfo) (n int64, err error) {
	rows, err := tx.Query("SELECT " + strings.Join(table.columnNames(), ", ") + " FROM " + table.Name)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	values, into := make([]any, len(table.Columns)), make([]any, len(table.Columns))
	for i := range into {
		into[i] = &values[i]
	}
	var buffer []byte
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return n, err
		}
		buffer = binary.AppendUvarint(append(buffer[:0], 'R'), uint64(number))
		for i, value := range values {
			if buffer, err = appendValue(buffer, table.Columns[i], value); err != nil {
				return n, fmt.Errorf("table %s: %w", table.Name, err)
			}
		}
		if _, err := w.Write(buffer); err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}

// appendValue writes a value by its column's type: drivers differ in what they make of text and bytes.
func appendValue(b []byte, column ColumnInfo, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(b, 'n'), nil
	case int64:
		if column.Type == "BIGINT" || column.Type == "SMALLINT" {
			return binary.AppendVarint(append(b, 'i'), v), nil
		}
	case string:
		if column.Type == "TEXT" {
			return append(binary.AppendUvarint(append(b, 't'), uint64(len(v))), v...), nil
		}
		if column.Type == "BYTES" {
			return append(binary.AppendUvarint(append(b, 'b'), uint64(len(v))), v...), nil
		}
	case []byte:
		kind := byte('b')
		if column.Type == "TEXT" {
			kind = 't'
		}
		if column.Type == "TEXT" || column.Type == "BYTES" {
			return append(binary.AppendUvarint(append(b, kind), uint64(len(v))), v...), nil
		}
	}
	return nil, fmt.Errorf("column %s holds a %T instead of %s", column.Name, value, column.Type)
}

// dumpReader reads what Dump wrote. The bytes may be anybody's.
type dumpReader struct {
	in     *bufio.Reader
	header dumpHeader
	rows   int64
}

func errDump(why string) error {
	return fault.New(fault.Invalid, "The backup cannot be read: %s.", why)
}

// cut tells the end of the bytes from other troubles.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errDump("it is cut off")
	}
	return err
}

func openDump(r io.Reader) (*dumpReader, error) {
	d := &dumpReader{in: bufio.NewReaderSize(r, 256<<10)}
	magic := make([]byte, len(dumpMagic))
	if _, err := io.ReadFull(d.in, magic); err != nil || string(magic) != dumpMagic {
		if strings.HasPrefix(string(magic), "onbehalf-backup ") {
			return nil, errDump("it is of a newer version")
		}
		return nil, errDump("it is not a backup of Onbehalf")
	}
	var line []byte
	for len(line) == 0 || line[len(line)-1] != '\n' {
		part, err := d.in.ReadSlice('\n')
		line = append(line, part...)
		if err != nil && err != bufio.ErrBufferFull {
			return nil, cut(err)
		}
		if len(line) > dumpHeaderLimit {
			return nil, errDump("its header is too long")
		}
	}
	if err := json.Unmarshal(line, &d.header); err != nil {
		return nil, errDump("its header is damaged")
	}
	return d, nil
}

// next reads one row; table is -1 at the end.
func (d *dumpReader) next() (table int, values []any, err error) {
	mark, err := d.in.ReadByte()
	if err != nil {
		return 0, nil, cut(err)
	}
	number, err := binary.ReadUvarint(d.in)
	if err != nil {
		return 0, nil, cut(err)
	}
	switch {
	case mark == 'Z' && number == uint64(d.rows):
		return -1, nil, nil
	case mark != 'R' || number >= uint64(len(d.header.Tables)):
		return 0, nil, errDump("it is damaged")
	}
	d.rows++
	columns := d.header.Tables[number].Columns
	values = make([]any, len(columns))
	for i, column := range columns {
		if values[i], err = d.value(column); err != nil {
			return 0, nil, err
		}
	}
	return int(number), values, nil
}

// kinds are the kinds of values a column may hold, besides null.
var kinds = map[string]byte{"TEXT": 't', "BYTES": 'b', "BIGINT": 'i', "SMALLINT": 'i'}

func (d *dumpReader) value(column ColumnInfo) (any, error) {
	kind, err := d.in.ReadByte()
	if err != nil {
		return nil, cut(err)
	}
	switch {
	case kind == 'n':
		return nil, nil
	case kind != kinds[column.Type]:
		return nil, errDump("it is damaged")
	case kind == 'i':
		n, err := binary.ReadVarint(d.in)
		if err != nil {
			return nil, cut(err)
		}
		return n, nil
	}
	length, err := binary.ReadUvarint(d.in)
	if err != nil {
		return nil, cut(err)
	}
	if length > dumpValueLimit {
		return nil, errDump("it is damaged")
	}
	content := make([]byte, 0, min(length, 64<<10)) // a length alone takes no memory
	for uint64(len(content)) < length {
		chunk := make([]byte, min(length-uint64(len(content)), 1<<20))
		if _, err := io.ReadFull(d.in, chunk); err != nil {
			return nil, cut(err)
		}
		content = append(content, chunk...)
	}
	if kind == 't' {
		return string(content), nil
	}
	return content, nil
}
