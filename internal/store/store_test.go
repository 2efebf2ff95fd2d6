package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// prepare makes a table of the test's own.
func prepare(t testing.TB, db *store.DB) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec("CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT NOT NULL)"); err != nil {
			return err
		}
		_, err := tx.Exec("CREATE TABLE parts (id TEXT PRIMARY KEY, thing TEXT NOT NULL REFERENCES things (id))")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func count(t testing.TB, db *store.DB) (n int) {
	t.Helper()
	err := db.View(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRow("SELECT count(*) FROM things").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUpdateCommitsOrLeavesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		var now, read time.Time
		err := db.Update(t.Context(), func(tx *store.Tx) error {
			now = tx.Now
			n, err := tx.Exec("INSERT INTO things (id, n) VALUES ($1, $2)", "a", store.Micros(tx.Now))
			if n != 1 {
				t.Errorf("%d rows, want 1", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(t.Context(), func(tx *store.Tx) error {
			var micros int64
			err := tx.QueryRow("SELECT n FROM things WHERE id = $1", "a").Scan(&micros)
			read = store.Time(micros)
			return err
		})
		if err != nil || !read.Equal(now) {
			t.Fatalf("read %v, %v; want %v", read, err, now)
		}
		refused := errors.New("refused")
		err = db.Update(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.Exec("INSERT INTO things (id, n) VALUES ('b', 1)"); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) || count(t, db) != 1 {
			t.Fatalf("after a refused update: %v, %d things", err, count(t, db))
		}
	})
}
