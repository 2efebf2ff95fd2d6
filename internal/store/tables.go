package store

import (
	"fmt"
	"slices"
)

// TableInfo is a table as the database has it.
type TableInfo struct {
	Name    string
	Columns []ColumnInfo
}

// ColumnInfo is a column; its type is a word of the schema files.
type ColumnInfo struct{ Name, Type string }

// The catalogs' questions: each table's columns in order, and which table refers to which.
var catalog = map[string]struct{ columns, references string }{
	"sqlite": {
		`SELECT t.name, c.name, lower(c.type) FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
			WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY t.name, c.cid`,
		`SELECT DISTINCT t.name, r."table" FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS r WHERE t.type = 'table'`,
	},
	"postgres": {
		`SELECT CAST(c.table_name AS TEXT), CAST(c.column_name AS TEXT), CAST(c.data_type AS TEXT) FROM information_schema.columns c
			JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
			WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' ORDER BY c.table_name COLLATE "C", c.ordinal_position`,
		`SELECT DISTINCT CAST(t.relname AS TEXT), CAST(r.relname AS TEXT) FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid
			JOIN pg_namespace n ON n.oid = t.relnamespace WHERE k.contype = 'f' AND n.nspname = current_schema()`,
	},
}

var columnTypes = map[string]string{
	"text": "TEXT", "bigint": "BIGINT", "integer": "BIGINT", "smallint": "SMALLINT", "blob": "BYTES", "bytea": "BYTES",
}

// Tables lists the rooms' tables, those that others refer to before those that
// refer to them. What the store itself keeps, the schema's state and leases, is
// left out.
func (tx *Tx) Tables() ([]TableInfo, error) {
	pairs, err := tx.triples(catalog[tx.engine].columns, true)
	if err != nil {
		return nil, err
	}
	var tables []TableInfo
	for _, p := range pairs {
		if p[0] == "onbehalf_schema" || p[0] == "leases" {
			continue
		}
		kind := columnTypes[p[2]]
		if kind == "" {
			return nil, fmt.Errorf("store: column %s.%s is of the type %s", p[0], p[1], p[2])
		}
		if len(tables) == 0 || tables[len(tables)-1].Name != p[0] {
			tables = append(tables, TableInfo{Name: p[0]})
		}
		last := &tables[len(tables)-1]
		last.Columns = append(last.Columns, ColumnInfo{p[1], kind})
	}
	references, err := tx.triples(catalog[tx.engine].references, false)
	if err != nil {
		return nil, err
	}
	return inOrder(tables, references)
}

func (tx *Tx) triples(query string, third bool) ([][3]string, error) {
	rows, err := tx.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found [][3]string
	for rows.Next() {
		var t [3]string
		into := []any{&t[0], &t[1], &t[2]}
		if !third {
			into = into[:2]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	return found, rows.Err()
}

// inOrder puts each table behind those that it refers to.
func inOrder(tables []TableInfo, references [][3]string) ([]TableInfo, error) {
	var ordered []TableInfo
	placed := map[string]bool{}
	for len(tables) > 0 {
		next := slices.IndexFunc(tables, func(t TableInfo) bool {
			return !slices.ContainsFunc(references, func(r [3]string) bool { return r[0] == t.Name && r[1] != t.Name && !placed[r[1]] })
		})
		if next < 0 {
			return nil, fmt.Errorf("store: the tables refer to each other in a circle, %s among them", tables[0].Name)
		}
		placed[tables[next].Name] = true
		ordered = append(ordered, tables[next])
		tables = slices.Delete(tables, next, next+1)
	}
	return ordered, nil
}
