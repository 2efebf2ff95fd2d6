package store

import (
	"bytes"
	"io"
	"testing"
)

// RestoreUpTo restores a dump that a version made whose last schema file was the given one.
func RestoreUpTo(t *testing.T, o Options, last string) (int64, error) {
	t.Helper()
	old, _ := split(schemaFiles(), func(f schemaFile) bool { return f.name <= last })
	db, err := open(t.Context(), Options{Path: t.TempDir() + "/old.db"}, old)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO accounts (account, created) VALUES ('111122223333', 1)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := db.Dump(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return Restore(t.Context(), o, func() (io.ReadCloser, error) { return io.NopCloser(&b), nil }, func(*Tx, io.Reader) error { return nil })
}
