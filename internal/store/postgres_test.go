package store_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// replicas opens one PostgreSQL database several times.
func replicas(t *testing.T, n int) []*store.DB {
	t.Helper()
	if os.Getenv(storetest.Variable) == "" {
		t.Skipf("%s is not set", storetest.Variable)
	}
	address := storetest.Postgres(t)
	dbs := make([]*store.DB, n)
	for i := range dbs {
		db, err := store.Open(t.Context(), store.Options{URL: address + "&pool_max_conns=5"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		dbs[i] = db
	}
	return dbs
}

func TestAloneIsOneReplicaAtATime(t *testing.T) {
	t.Parallel()
	var inside, runs atomic.Int64
	var waiting sync.WaitGroup
	for _, db := range replicas(t, 4) {
		waiting.Go(func() {
			err := db.Alone(t.Context(), func(ctx context.Context) error {
				if inside.Add(1) != 1 {
					t.Error("two at once")
				}
				defer inside.Add(-1)
				runs.Add(1)
				return db.Update(ctx, func(tx *store.Tx) error { _, _, err := tx.Lease("alone", "me", time.Minute); return err })
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	waiting.Wait()
	if runs.Load() != 4 {
		t.Errorf("%d of 4 have run", runs.Load())
	}
}

func TestOneReplicaSweepsForAll(t *testing.T) {
	t.Parallel()
	dbs := replicas(t, 3)
	var swept [3]int
	for range 4 {
		for i, db := range dbs {
			did := false
			if err := db.Sweep(t.Context(), "rows", time.Minute, func(*store.Tx) error { did = true; return nil }); err != nil {
				t.Fatal(err)
			}
			if did {
				swept[i]++
			}
		}
	}
	if swept != [3]int{4, 0, 0} {
		t.Errorf("the replicas swept %v times", swept)
	}
	// When the first is gone, another one does it.
	if err := dbs[1].Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(`UPDATE leases SET expires = 1`); return err }); err != nil {
		t.Fatal(err)
	}
	did := false
	if err := dbs[1].Sweep(t.Context(), "rows", time.Minute, func(*store.Tx) error { did = true; return nil }); err != nil || !did {
		t.Errorf("nobody sweeps any more: %v", err)
	}
}

// A connection that ends in the middle is the database's failure, not a bug of
// whoever was asking; the next transaction has another connection.
func TestLostConnectionsAreToldAsThat(t *testing.T) {
	t.Parallel()
	dbs := replicas(t, 2)
	db, other := dbs[0], dbs[1]
	kill := func(pid int) { // and waits until it is gone
		t.Helper()
		if err := other.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`SELECT pg_terminate_backend($1, 60000)`, pid)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	pidOf := func(tx *store.Tx) (pid int, err error) {
		err = tx.QueryRow(`SELECT pg_backend_pid()`).Scan(&pid)
		return pid, err
	}
	for what, run := range map[string]func(context.Context, func(*store.Tx) error) error{"View": db.View, "Update": db.Update} {
		pid := 0
		err := run(t.Context(), func(tx *store.Tx) (err error) {
			if pid, err = pidOf(tx); err != nil {
				return err
			}
			kill(pid)
			_, err = pidOf(tx)
			return fault.Wrap(err, "reading a thing")
		})
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s whose connection was cut: %v", what, err)
		}
		// One that is cut while nobody uses it is not noticed by anybody.
		if err := run(t.Context(), func(tx *store.Tx) (err error) { pid, err = pidOf(tx); return err }); err != nil {
			t.Errorf("%s after that: %v", what, err)
		}
		kill(pid)
		time.Sleep(50 * time.Millisecond)
		if err := run(t.Context(), func(tx *store.Tx) error { _, err := pidOf(tx); return err }); err != nil {
			t.Errorf("%s after an idle connection was cut: %v", what, err)
		}
	}
	// A Look reads again where its connection was cut, idle or not.
	for range 20 {
		pid := 0
		if err := db.Look(t.Context(), func(tx *store.Tx) (err error) { pid, err = pidOf(tx); return err }); err != nil {
			t.Fatalf("Look: %v", err)
		}
		kill(pid)
	}
}

// When nobody answers, a Look and an AppendRow say so, as all others do.
func TestLooksOfALostDatabase(t *testing.T) {
	t.Parallel()
	db := replicas(t, 1)[0]
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Look(t.Context(), func(tx *store.Tx) error { var n int; return tx.QueryRow(`SELECT 1`).Scan(&n) }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Look: %v", err)
	}
	if err := db.AppendRow(t.Context(), `DELETE FROM leases`); !fault.Is(err, fault.Unavailable) {
		t.Errorf("AppendRow: %v", err)
	}
}

func TestDatabaseURLIsASecret(t *testing.T) {
	t.Parallel()
	for address, kind := range map[string]fault.Kind{
		"postgres://user:hunter2@127.0.0.1:1/database?connect_timeout=2": fault.Unavailable,
		"postgres://user:hunter2@[::1/database":                          fault.Invalid,
		"postgres://user:hunter2@127.0.0.1:1/?pool_max_conns=hunter2":    fault.Invalid,
		"postgres://user:hunter2@127.0.0.1:1/?pool_max_conns=1":          fault.Invalid,
		"postgres://user:hunter2@127.0.0.1:1/?sslmode=hunter2":           fault.Invalid,
		"mysql://user:hunter2@127.0.0.1:1/database":                      fault.Invalid,
		"host=127.0.0.1 password=hunter2":                                fault.Invalid,
	} {
		db, err := store.Open(t.Context(), store.Options{URL: address})
		if err == nil {
			_ = db.Close()
		}
		if !fault.Is(err, kind) {
			t.Errorf("%s: %v", address, err)
		}
		for ; err != nil; err = errors.Unwrap(err) {
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: an error quotes the password: %v", address, err)
			}
		}
	}
}
