package seal

import (
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Table declares where a room keeps sealed values, so that they can be found and
// sealed anew without the room. Each row has a column account. A test of the
// server compares the declarations of all rooms with the schema: every column of
// the type BYTES is in one of them.
type Table struct {
	Name    string
	Purpose Purpose           // the zero Purpose is Vault
	Row     string            // SQL for Context.Row: "id", or "gateway_id || '/' || id"
	Version string            // SQL for Context.Version: "version", or "1" where it never changes
	Columns []Column          // sealed with that Context, each with its Kind
	Clear   map[string]string // columns of the type BYTES that are not sealed, and what is in them
}

// Column is a sealed column.
type Column struct{ Name, Kind string }

func (t Table) purpose() Purpose { return Context{Purpose: t.Purpose}.purpose() }

// sealedRow is a row of a Table, its sealed columns in order; nil where there is none.
type sealedRow struct {
	place, account, row string
	version             int64
	values              [][]byte
}

// any is the condition that the beginning of some column, in which the format and
// the generation are, meets the given one. An empty value is not sealed.
func (t Table) any(condition string) string {
	parts := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		parts[i] = "length(" + c.Name + ") > 0 AND substr(" + c.Name + ", 1, " + strconv.Itoa(headerSize) + ") " + condition
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}

// ofAccount is a condition that keeps the engines from leaving the walk for an
// index: the rows of a stretch are fewer than those of an account.
const ofAccount = "account || '' = "

// read reads the rows of a stretch that meet a condition.
func (t Table) read(tx *store.Tx, from, to int64, condition string, args ...any) ([]sealedRow, error) {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	if condition != "" {
		condition = " AND " + condition
	}
	rows, err := tx.Query("SELECT "+tx.Place()+", account, "+t.Row+", "+t.Version+", "+strings.Join(names, ", ")+
		" FROM "+t.Name+" WHERE "+tx.Between("$1", "$2")+condition, append([]any{from, to}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []sealedRow
	for rows.Next() {
		r := sealedRow{values: make([][]byte, len(t.Columns))}
		into := []any{&r.place, &r.account, &r.row, &r.version}
		for i := range r.values {
			into = append(into, &r.values[i])
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	return found, rows.Err()
}

// context is that of one of the row's columns.
func (t Table) context(r sealedRow, column int) Context {
	return Context{Account: r.account, Purpose: t.Purpose, Kind: t.Columns[column].Kind, Row: r.row, Version: r.version}
}

// count counts an account's rows that meet a condition.
func (t Table) count(tx *store.Tx, account, condition string, args ...any) (n int64, err error) {
	err = tx.QueryRow("SELECT count(*) FROM "+t.Name+" WHERE account = $1 AND "+condition, append([]any{account}, args...)...).Scan(&n)
	return n, err
}

// verify opens every value of a table. damaged is told of each that does not
// open, by its row, and says whether to go on.
func (k *Keeper) verify(tx *store.Tx, t Table, damaged func(account string, p Purpose, problem error) error) (values int64, err error) {
	end, err := tx.Extent(t.Name)
	if err != nil || len(t.Columns) == 0 {
		return 0, err
	}
	for from := int64(0); from < end; from += tx.Stretch() {
		rows, err := t.read(tx, from, from+tx.Stretch(), "")
		if err != nil {
			return values, err
		}
		for _, r := range rows {
			for i, value := range r.values {
				if len(value) == 0 {
					continue
				}
				plaintext, err := k.Open(tx.Context(), t.context(r, i), value)
				clear(plaintext)
				if err == nil {
					values++
					continue
				}
				if !fault.Is(err, fault.Undecryptable) {
					return values, err
				}
				problem := fault.New(fault.Undecryptable, "A sealed value does not open: %s.%s of row %s.", t.Name, t.Columns[i].Name, r.row).Because(err)
				if err := damaged(r.account, t.purpose(), problem); err != nil {
					return values, err
				}
			}
		}
	}
	return values, nil
}

// Verify opens every sealed value in the tables and says how many opened. Each
// that does not is told to damaged, which says whether to go on. What is sealed
// for a moment only, the state of consents under way, is left out.
func (c *Custodian) Verify(tx *store.Tx, damaged func(account string, p Purpose, problem error) error) (values int64, err error) {
	for _, t := range c.tables {
		if t.purpose() == Sessions {
			continue
		}
		n, err := c.keeper.verify(tx, t, damaged)
		values += n
		if err != nil {
			return values, err
		}
	}
	return values, nil
}

// Undamaged is for who goes on with no value that does not open.
func Undamaged(_ string, _ Purpose, problem error) error { return problem }
