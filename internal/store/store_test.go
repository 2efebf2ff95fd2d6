package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// prepare makes tables of the test's own.
func prepare(t testing.TB, db *store.DB) {
	t.Helper()
	update(t, db, "CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT NOT NULL)")
	update(t, db, "CREATE TABLE parts (id TEXT PRIMARY KEY, thing TEXT NOT NULL REFERENCES things (id))")
}

func update(t testing.TB, db *store.DB, query string, args ...any) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
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

func TestUpdateCommitsAllOrNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		err := db.Update(t.Context(), func(tx *store.Tx) error {
			n, err := tx.Exec("INSERT INTO things (id, n) VALUES ($1, $2), ($3, $2)", "a", 1, "b")
			if n != 2 {
				t.Errorf("%d rows, want 2", n)
			}
			return err
		})
		if err != nil || count(t, db) != 2 {
			t.Fatalf("%v, %d things", err, count(t, db))
		}

		refused := errors.New("refused")
		err = db.Update(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.Exec("DELETE FROM things"); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) || count(t, db) != 2 {
			t.Errorf("after an error: %v, %d things", err, count(t, db))
		}

		func() {
			defer func() { _ = recover() }()
			_ = db.Update(t.Context(), func(tx *store.Tx) error {
				if _, err := tx.Exec("DELETE FROM things"); err != nil {
					return err
				}
				panic("in the middle")
			})
		}()
		if count(t, db) != 2 {
			t.Errorf("after a panic: %d things", count(t, db))
		}
		update(t, db, "DELETE FROM things") // and the writer is free
	})
}

func TestViewIsAReadOnlySnapshot(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		err := db.View(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec("INSERT INTO things (id, n) VALUES ('a', 1)")
			return err
		})
		if err == nil || count(t, db) != 0 {
			t.Errorf("a View wrote: %v", err)
		}
		err = db.View(t.Context(), func(tx *store.Tx) error {
			var before, after int
			if err := tx.QueryRow("SELECT count(*) FROM things").Scan(&before); err != nil {
				return err
			}
			update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1)")
			if err := tx.QueryRow("SELECT count(*) FROM things").Scan(&after); err != nil {
				return err
			}
			if before != 0 || after != 0 {
				t.Errorf("saw %d, then %d; want 0 twice", before, after)
			}
			return nil
		})
		if err != nil || count(t, db) != 1 {
			t.Errorf("%v, %d things after the View", err, count(t, db))
		}
	})
}

func TestAFailedStatementSpoilsTheTransaction(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1)")
		for name, spoil := range map[string]func(*store.Tx) error{
			"exec": func(tx *store.Tx) error {
				_, err := tx.Exec("INSERT INTO things (id, n) VALUES ('a', 2)")
				return err
			},
			"row": func(tx *store.Tx) error {
				var id string
				return tx.QueryRow("INSERT INTO things (id, n) VALUES ('a', 2) RETURNING id").Scan(&id)
			},
			"syntax": func(tx *store.Tx) error {
				_, err := tx.Exec("INSERT INTO nowhere (id) VALUES (1)")
				return err
			},
		} {
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				if _, err := tx.Exec("INSERT INTO things (id, n) VALUES ('b', 1)"); err != nil {
					return err
				}
				if err := spoil(tx); err == nil {
					t.Errorf("%s: did not fail", name)
				}
				if _, err := tx.Exec("INSERT INTO things (id, n) VALUES ('c', 1)"); err == nil {
					t.Errorf("%s: a statement after it worked", name)
				}
				return nil // the room has swallowed the error
			})
			if err == nil || count(t, db) != 1 {
				t.Errorf("%s: %v, %d things", name, err, count(t, db))
			}
		}
	})
}

func TestConstraintErrors(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		update(t, db, "CREATE TABLE kept (id TEXT PRIMARY KEY REFERENCES things (id) ON DELETE RESTRICT)")
		update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1), ('k', 1)")
		update(t, db, "INSERT INTO parts (id, thing) VALUES ('p', 'a')")
		update(t, db, "INSERT INTO kept (id) VALUES ('k')")
		type verdict struct{ Unique, ForeignKey bool }
		for query, want := range map[string]verdict{
			"INSERT INTO things (id, n) VALUES ('a', 1)":      {Unique: true},
			"UPDATE things SET id = 'a' WHERE id = 'k'":       {Unique: true},
			"INSERT INTO parts (id, thing) VALUES ('q', 'z')": {ForeignKey: true},
			"DELETE FROM things WHERE id = 'a'":               {ForeignKey: true},
			"DELETE FROM things WHERE id = 'k'":               {ForeignKey: true},
			"INSERT INTO things (id, n) VALUES ('x', NULL)":   {},
		} {
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(query)
				return fault.Wrap(err, "in a room")
			})
			if err == nil {
				t.Errorf("%s worked", query)
			}
			if diff := cmp.Diff(want, verdict{store.IsUnique(err), store.IsForeignKey(err)}); diff != "" {
				t.Errorf("%s: %v\n%s", query, err, diff)
			}
		}
		if store.IsUnique(nil) || store.IsForeignKey(nil) || store.IsUnique(store.ErrNoRows) {
			t.Error("not every error is a constraint")
		}
	})
}

func TestUpdatesOfTwoReplicasAreOneAfterTheOther(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		first, second := storetest.OpenWith(t, o), storetest.OpenWith(t, o)
		prepare(t, first)
		update(t, first, "INSERT INTO things (id, n) VALUES ('a', 0)")
		const tasks, each = 4, 15
		var group sync.WaitGroup
		for task := range tasks {
			group.Go(func() {
				db := first
				if task%2 == 1 {
					db = second
				}
				for range each {
					err := db.Update(t.Context(), func(tx *store.Tx) error {
						var n int
						if err := tx.QueryRow("SELECT n FROM things WHERE id = 'a'").Scan(&n); err != nil {
							return err
						}
						_, err := tx.Exec("UPDATE things SET n = $1 WHERE id = 'a'", n+1)
						return err
					})
					for fault.Is(err, fault.Unavailable) { // what a caller does who is told to try again
						err = db.Update(t.Context(), func(tx *store.Tx) error {
							_, err := tx.Exec("UPDATE things SET n = n + 1 WHERE id = 'a'")
							return err
						})
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		var n int
		err := first.View(t.Context(), func(tx *store.Tx) error { return tx.QueryRow("SELECT n FROM things").Scan(&n) })
		if err != nil || n != tasks*each {
			t.Errorf("%d, %v; want %d", n, err, tasks*each)
		}
	})
}

func TestACallerWhoIsGoneGetsNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		update(t, db, "INSERT INTO things (id, n) VALUES ('a', 1), ('b', 1)")
		ctx, cancel := context.WithCancel(t.Context())
		err := db.Update(ctx, func(tx *store.Tx) error {
			if tx.Context() != ctx {
				t.Error("the transaction has another context")
			}
			if _, err := tx.Exec("DELETE FROM things"); err != nil {
				return err
			}
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) || count(t, db) != 2 {
			t.Errorf("cancelled before the commit: %v, %d things", err, count(t, db))
		}
		err = db.View(ctx, func(*store.Tx) error { t.Error("fn ran"); return nil })
		if !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Unavailable) {
			t.Errorf("cancelled before the View: %v", err)
		}
	})
}

func TestTimes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		prepare(t, db)
		var now time.Time
		err := db.Update(t.Context(), func(tx *store.Tx) error {
			now = tx.Now
			_, err := tx.Exec("INSERT INTO things (id, n) VALUES ('a', $1), ('zero', $2)", store.Micros(tx.Now), store.Micros(time.Time{}))
			return err
		})
		if err != nil || now.Location() != time.UTC || time.Since(now) > time.Minute {
			t.Fatalf("%v, %v", now, err)
		}
		err = db.View(t.Context(), func(tx *store.Tx) error {
			var read, zero int64
			err := tx.QueryRow("SELECT a.n, z.n FROM things a, things z WHERE a.id = 'a' AND z.id = 'zero'").Scan(&read, &zero)
			if store.Time(read) != now || !store.Time(zero).IsZero() {
				t.Errorf("read %v and %v, wrote %v and zero", store.Time(read), store.Time(zero), now)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestNowFollowsTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
		now := func() (now time.Time) {
			if err := db.View(t.Context(), func(tx *store.Tx) error { now = tx.Now; return nil }); err != nil {
				t.Fatal(err)
			}
			return now
		}
		before := now()
		time.Sleep(time.Hour)
		if waited := now().Sub(before); waited != time.Hour {
			t.Errorf("an hour later, now is %v later", waited)
		}
	})
	fixed := time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.FixedZone("CET", 3600))
	db := storetest.OpenAt(t, func() time.Time { return fixed })
	_ = db.View(t.Context(), func(tx *store.Tx) error {
		if want := fixed.UTC().Truncate(time.Microsecond); tx.Now != want {
			t.Errorf("now is %v, want %v", tx.Now, want)
		}
		return nil
	})
}

func TestAClosedDatabase(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		db := storetest.OpenWith(t, o)
		if err := db.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.Ping(t.Context()); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Ping after Close: %v", err)
		}
		if err := db.Update(t.Context(), func(*store.Tx) error { return nil }); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Update after Close: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	})
}

func TestNoDatabaseNamed(t *testing.T) {
	t.Parallel()
	if _, err := store.Open(t.Context(), store.Options{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no name: %v", err)
	}
	if _, err := store.Open(t.Context(), store.Options{URL: "postgres://user:hunter2@:port:/"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a bad URL: %v", err)
	}
}
