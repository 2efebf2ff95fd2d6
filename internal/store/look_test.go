package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// number looks up one number.
func number(ctx context.Context, db *store.DB, query string, args ...any) (n int64, err error) {
	err = db.Look(ctx, func(tx *store.Tx) error { return tx.QueryRow(query, args...).Scan(&n) })
	return n, err
}

func lease(t testing.TB, db *store.DB, name string, until time.Duration) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *store.Tx) error { _, _, err := tx.Lease(name, "me", until); return err }); err != nil {
		t.Fatal(err)
	}
}

func TestLookIsOneQuery(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		lease(t, db, "one", time.Hour)
		var second error
		err := db.Look(t.Context(), func(tx *store.Tx) error {
			var holder string
			var fence, small int64
			if err := tx.QueryRow(`SELECT holder, fence, CAST(7 AS SMALLINT) FROM leases WHERE name = $1`, "one").Scan(&holder, &fence, &small); err != nil {
				return err
			}
			if holder != "me" || fence == 0 || small != 7 {
				t.Errorf("found %q, %d, %d", holder, fence, small)
			}
			second = tx.QueryRow(`SELECT 1`).Scan(&fence)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if second == nil {
			t.Error("a second query was answered")
		}
		if _, err := number(t.Context(), db, `SELECT fence FROM leases WHERE name = $1`, "two"); !errors.Is(err, store.ErrNoRows) {
			t.Errorf("a row that is not there: %v", err)
		}
		if err := db.Look(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(`DELETE FROM leases`); return err }); err == nil {
			t.Error("a Look has written")
		}
		if _, err := number(t.Context(), db, `SELECT fence FROM leases WHERE name = $1`, "a\x00b"); !fault.Is(err, fault.Invalid) {
			t.Errorf("a NUL character: %v", err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := number(over, db, `SELECT COUNT(*) FROM leases`); !fault.Is(err, fault.Unavailable) {
			t.Errorf("an asker who has gone: %v", err)
		}
	})
}

// A sum is more than the engine's integers hold, and is read as one.
func TestLookSums(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		lease(t, db, "one", time.Hour)
		one, err := number(t.Context(), db, `SELECT fence FROM leases WHERE name = 'one'`)
		if err != nil {
			t.Fatal(err)
		}
		if sum, err := number(t.Context(), db, `SELECT SUM(fence) FROM leases WHERE name = 'one'`); err != nil || sum != one {
			t.Errorf("the sum of %d is %d, %v", one, sum, err)
		}
	})
}

// A table that changes under what was prepared is looked at again.
func TestLookAtAChangedTable(t *testing.T) {
	t.Parallel()
	dbs := replicas(t, 2)
	change := func(statement string) {
		t.Helper()
		if err := dbs[1].Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(statement); return err }); err != nil {
			t.Fatal(err)
		}
	}
	change(`CREATE TABLE changing (n INT)`)
	change(`INSERT INTO changing VALUES (7)`)
	for _, kind := range []string{"BIGINT", "TEXT", "INT USING n::INT"} {
		if n, err := number(t.Context(), dbs[0], `SELECT n FROM changing`); n != 7 || err != nil {
			t.Fatalf("before it becomes %s: %d, %v", kind, n, err)
		}
		change(`ALTER TABLE changing ALTER COLUMN n TYPE ` + kind)
	}
	if n, err := number(t.Context(), dbs[0], `SELECT n FROM changing`); n != 7 || err != nil {
		t.Errorf("in the end: %d, %v", n, err)
	}
}

// A round ends in its time, also where each question has to be asked by itself
// and the database has stopped answering: a lane is not lost to it.
func TestRoundEndsInItsTime(t *testing.T) {
	t.Parallel()
	db := replicas(t, 1)[0]
	const slow = `SELECT COUNT(*) FROM pg_sleep(1000)`
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for i, err := range store.Round(ctx, db, slow, `SELECT COUNT(*) FROM not_there`, slow, slow) {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("question %d: %v", i, err)
		}
	}
}

// Many look at once, and each gets what he asked for, also beside one whose
// question fails, and beside writers whose work is seen when it is done.
func TestLooksTogether(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var all sync.WaitGroup
		for i := range 24 {
			all.Go(func() {
				name := fmt.Sprint("lease ", i)
				for n := range 10 {
					lease(t, db, name, time.Duration(n+1)*time.Hour)
					var got string
					var at, expires int64
					if err := db.Look(t.Context(), func(tx *store.Tx) error {
						at = store.Micros(tx.Now)
						return tx.QueryRow(`SELECT name, expires FROM leases WHERE name = $1`, name).Scan(&got, &expires)
					}); err != nil || got != name || time.Duration(expires-at)*time.Microsecond < time.Duration(n)*time.Hour {
						t.Errorf("%s, written for the time %d: %q, %v left, %v", name, n, got, time.Duration(expires-at)*time.Microsecond, err)
					}
					if _, err := number(t.Context(), db, `SELECT COUNT(*) FROM not_there`); err == nil || fault.Is(err, fault.Unavailable) {
						t.Errorf("a table that is not there: %v", err)
					}
				}
			})
		}
		all.Wait()
	})
}

// What one replica has written, another one looks up at once, also when it has
// looked a moment ago.
func TestLookSeesOtherReplicasAtOnce(t *testing.T) {
	t.Parallel()
	dbs := replicas(t, 2)
	here := store.NewCache[string, int64](dbs[0], 10)
	for n := range int64(100) {
		lease(t, dbs[1], fmt.Sprint(n), time.Hour)
		got, err := here.Look(t.Context(), "all", func(tx *store.Tx) (n int64, err error) {
			err = tx.QueryRow(`SELECT COUNT(*) FROM leases WHERE name NOT LIKE 'sweep%'`).Scan(&n)
			return n, err
		})
		if err != nil || got != n+1 {
			t.Fatalf("%d leases, want %d; %v", got, n+1, err)
		}
	}
}

// A look is one round trip, and many at once share some; a row that is added
// costs one, too.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	if os.Getenv(storetest.Variable) == "" {
		t.Skipf("%s is not set", storetest.Variable)
	}
	address, rounds := storetest.Rounds(t)
	db, err := store.Open(t.Context(), store.Options{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	look := func() error { _, err := number(t.Context(), db, `SELECT COUNT(*) FROM leases`); return err }
	name := 0
	for what, c := range map[string]struct {
		do   func() error
		want int64
	}{
		"Look": {look, 1},
		"View": {func() error {
			return db.View(t.Context(), func(tx *store.Tx) error {
				var n int
				return tx.QueryRow(`SELECT COUNT(*) FROM leases`).Scan(&n)
			})
		}, 3},
		"AppendRow": {func() error {
			name++
			return db.AppendRow(t.Context(), `INSERT INTO leases (name, holder, fence, expires) VALUES ($1, 'me', 1, 1)`, fmt.Sprint(name))
		}, 1},
	} {
		fewest := int64(100) // connections are opened, asked whether they live, and learn each statement
		for range 20 {
			before := rounds.Load()
			if err := c.do(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			fewest = min(fewest, rounds.Load()-before)
		}
		if fewest != c.want {
			t.Errorf("%s made %d round trips, want %d", what, fewest, c.want)
		}
	}
	// While the lanes are under way, what is asked gathers.
	const many = 60
	fewest := int64(many)
	for range 5 {
		var all sync.WaitGroup
		before := rounds.Load()
		for range 3 {
			all.Go(func() { _, _ = number(t.Context(), db, `SELECT COUNT(*) FROM pg_sleep(0.2)`) })
		}
		time.Sleep(50 * time.Millisecond)
		for range many {
			all.Go(func() {
				if err := look(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		fewest = min(fewest, rounds.Load()-before)
	}
	if fewest > many/2 {
		t.Errorf("%d looks at once made %d round trips", many, fewest)
	}
}
