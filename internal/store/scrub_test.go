package store_test

import (
	"bytes"
	"crypto/rand"
	"os"
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// Of what was deleted or replaced nothing is left in the files: not in free
// pages, not in the write-ahead log.
func TestWhatWasDeletedIsGone(t *testing.T) {
	t.Parallel()
	path := storetest.SQLite(t)
	db := storetest.OpenWith(t, store.Options{Path: path})
	secrets := make([][]byte, 300)
	do := func(fn func(tx *store.Tx) error) {
		t.Helper()
		if err := db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	do(func(tx *store.Tx) error {
		for i := range secrets {
			secrets[i] = make([]byte, 100+i*50) // on pages shared, whole, and overflowing
			_, _ = rand.Read(secrets[i])
			id := string(rune('a'+i%26)) + rand.Text()
			if _, err := tx.Exec("INSERT INTO accounts (account, created) VALUES ($1, $2)", id, i); err != nil {
				return err
			}
			if _, err := tx.Exec("INSERT INTO access_keys (id, account, arn, root, state, secret, created) VALUES ($1, $1, '', $2, '', $3, 0)", id, i%3, secrets[i]); err != nil {
				return err
			}
		}
		return nil
	})
	found := func(of int) (n int) {
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(path + suffix)
			if err != nil {
				continue
			}
			for i, secret := range secrets {
				if i%3 == of && bytes.Contains(content, secret[8:40]) {
					n++
				}
			}
		}
		return n
	}
	do(func(tx *store.Tx) error { _, err := tx.Exec("DELETE FROM access_keys WHERE root = 0"); return err })
	do(func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE access_keys SET secret = $1 WHERE root = 1", []byte("replaced"))
		return err
	})
	if found(0) == 0 {
		t.Error("the test does not look where the secrets were")
	}
	if err := db.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := found(0) + found(1); n != 0 {
		t.Errorf("%d deleted or replaced secrets are still in the files", n)
	}
	if found(2) == 0 {
		t.Error("the secrets that were kept are not in the files")
	}
	if err := db.Scrub(t.Context()); err != nil { // with a read under way nothing waits and nothing breaks
		t.Fatal(err)
	}
	if err := db.View(t.Context(), func(tx *store.Tx) error {
		var n int
		if err := tx.QueryRow("SELECT count(*) FROM access_keys").Scan(&n); err != nil {
			return err
		}
		do(func(tx *store.Tx) error { _, err := tx.Exec("DELETE FROM access_keys"); return err })
		return db.Scrub(t.Context())
	}); err != nil {
		t.Errorf("beside a read: %v", err)
	}
}
