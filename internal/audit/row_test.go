package audit

import (
	"crypto/rand"
	"os"
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// TestLostAnswerOfARow: where the connection broke while a block was added by its
// row alone, the block is looked for, and is in the chain once whether it had
// arrived or not.
func TestLostAnswerOfARow(t *testing.T) {
	t.Parallel()
	for name, arrived := range map[string]bool{"the row arrived": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB) {
				l := open(t, db, "a")
				w := committer(l)
				w.noted = l.number
				a := &attempt{batch: together(t, 1, 2), start: l.end, end: l.end}
				if arrived {
					if err := w.addRow(t.Context(), a); err != nil {
						t.Fatal(err)
					}
				} else {
					a.id = w.nextID()
					a.end = w.encode(a.start, a.id, a.batch)
				}
				sent := a.end
				a.sent = &sent
				if err := db.Append(t.Context(), func(tx *store.Tx) error { return w.add(tx, a) }); err != nil {
					t.Fatal(err)
				}
				if a.end != sent {
					t.Error("the block was added as another one")
				}
				l.advance(a.end)
				if err := w.write(together(t, 3, 1)); err != nil {
					t.Fatal(err)
				}
				if proof := verified(t, l, l.Head()); proof.Records != 4 { // the opening record is the first
					t.Errorf("%d records, want 4", proof.Records)
				}
			})
		})
	}
}

// TestLateRow: a row that arrives after all, between the look and the second try, is found by its id.
func TestLateRow(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := open(t, db, "a")
		w := committer(l)
		w.noted = l.number
		a := &attempt{batch: together(t, 1, 2), start: l.end, end: l.end}
		if err := w.addRow(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		err := db.Append(t.Context(), func(tx *store.Tx) error {
			_, _, err := w.insert(tx, a.id, a.start, a.batch) // as if the look had not found it
			return err
		})
		if !store.IsUnique(err) {
			t.Errorf("a block was added twice: %v", err)
		}
	})
}

// TestBrokenConnection: a connection that was cut while nobody used it costs nobody a record.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	if os.Getenv(storetest.Variable) == "" {
		t.Skipf("%s is not set", storetest.Variable)
	}
	address, mark := storetest.Postgres(t), rand.Text()
	stores := make([]*store.DB, 2)
	for i, name := range []string{mark, "other"} {
		db, err := store.Open(t.Context(), store.Options{URL: address + "&application_name=" + name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		stores[i] = db
	}
	l := open(t, stores[0], "a")
	const times = 20
	for range times {
		appendAll(t, l, 1)
		change(t, stores[1], `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`, mark)
	}
	appendAll(t, l, 1)
	if proof := verified(t, l, l.Head()); proof.Records != times+2 {
		t.Errorf("%d records, want %d", proof.Records, times+2)
	}
}
