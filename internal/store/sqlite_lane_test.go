package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

func TestAnUpdateInsideAnUpdateEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(t.Context(), Options{Path: t.TempDir() + "/test.db"})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		start := time.Now()
		err = db.Update(t.Context(), func(*Tx) error {
			return db.Update(t.Context(), func(*Tx) error { return nil })
		})
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "inside") || time.Since(start) != writerPatience {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = db.Update(t.Context(), func(*Tx) error {
			return db.Update(ctx, func(*Tx) error { return nil })
		})
		if !fault.Is(err, fault.Unavailable) || ctx.Err() == nil {
			t.Errorf("a waiting caller who gave up: %v", err)
		}
		if err := db.Update(t.Context(), func(*Tx) error { return nil }); err != nil {
			t.Errorf("the writer is not free again: %v", err)
		}
	})
}

func TestASettingThatDoesNotHold(t *testing.T) {
	t.Parallel()
	e := &liteEngine{path: t.TempDir() + "/test.db"}
	for _, wrong := range []setting{
		{"synchronous", "FULL", "3"},
		{"no_such_setting", "1", "1"}, // SQLite says nothing about it
	} {
		s, err := openSession(t.Context(), e.address("rwc"), []setting{wrong})
		if !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Internal) || s != nil {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	if _, err := openSession(t.Context(), e.address("rwc")+"&_txlock=sometimes", nil); err == nil {
		t.Error("an impossible option was accepted")
	}
}

func TestReadersComeAsNeededAndStayFew(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), Options{Path: t.TempDir() + "/test.db"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	lane := db.engine.(*liteEngine).readers
	if lane.open != 0 {
		t.Errorf("%d readers before the first View", lane.open)
	}
	var nest func(left int) error
	nest = func(left int) error {
		return db.View(t.Context(), func(*Tx) error {
			if left == 0 {
				return nil
			}
			return nest(left - 1)
		})
	}
	if err := nest(lane.limit + 1); err != nil {
		t.Fatal(err)
	}
	if lane.open > lane.limit || len(lane.idle) != lane.open {
		t.Errorf("%d readers open and %d idle, the limit is %d", lane.open, len(lane.idle), lane.limit)
	}
}

func TestStatementsBuiltFromDataAreForgotten(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), Options{Path: t.TempDir() + "/test.db"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(t.Context(), func(tx *Tx) error {
		for i := range 3 * preparedLimit {
			var n int
			if err := tx.QueryRow(fmt.Sprintf("SELECT %d", i)).Scan(&n); err != nil || n != i {
				return fmt.Errorf("%d: %w", n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if kept := len(db.engine.(*liteEngine).readers.idle[0].raw.prepared); kept != preparedLimit {
		t.Errorf("%d statements kept, the limit is %d", kept, preparedLimit)
	}
}
