package store_test

import (
	"slices"
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
)

// Tables that change under what every connection has prepared are looked at
// again, by reads and by writes, however many statements of one transaction that is.
func TestTransactionsOnChangedTables(t *testing.T) {
	t.Parallel()
	dbs := replicas(t, 2)
	change := func(statements ...string) {
		t.Helper()
		for _, statement := range statements {
			if err := dbs[1].Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(statement); return err }); err != nil {
				t.Fatal(err)
			}
		}
	}
	change(`CREATE TABLE changing (n INT)`, `INSERT INTO changing VALUES (7)`, `CREATE TABLE turning (n INT)`, `INSERT INTO turning VALUES (8)`)
	read := func(tx *store.Tx) (found []int64, err error) {
		for _, query := range []string{`SELECT 6`, `SELECT n FROM changing`, `SELECT n FROM turning`} {
			var n int64
			if err := tx.QueryRow(query).Scan(&n); err != nil {
				return nil, err
			}
			found = append(found, n)
		}
		return found, nil
	}
	want := []int64{6, 7, 8}
	// views are nested, so that each has a connection of its own.
	var views func(depth int)
	views = func(depth int) {
		if depth == 0 {
			return
		}
		var found []int64
		if err := dbs[0].View(t.Context(), func(tx *store.Tx) (err error) {
			if found, err = read(tx); err == nil {
				views(depth - 1)
			}
			return err
		}); err != nil || !slices.Equal(found, want) {
			t.Errorf("View: %v, %v", found, err)
		}
	}
	for _, kind := range []string{"BIGINT", "TEXT", "INT USING n::INT"} {
		views(3)
		for what, run := range map[string]func(func(*store.Tx) error) error{
			"Update": func(fn func(*store.Tx) error) error { return dbs[0].Update(t.Context(), fn) },
			"Swap":   func(fn func(*store.Tx) error) error { return dbs[0].Swap(t.Context(), fn) },
		} {
			var found []int64
			if err := run(func(tx *store.Tx) (err error) { found, err = read(tx); return err }); err != nil || !slices.Equal(found, want) {
				t.Errorf("%s before they become %s: %v, %v", what, kind, found, err)
			}
		}
		change(`ALTER TABLE changing ALTER COLUMN n TYPE `+kind, `ALTER TABLE turning ALTER COLUMN n TYPE `+kind)
	}
	views(3)
}
