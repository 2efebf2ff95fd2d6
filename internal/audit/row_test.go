package audit

import (
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// gone is a database that is away.
func gone(t *testing.T, o store.Options) *store.DB {
	t.Helper()
	db := storetest.OpenWith(t, o)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestLostAnswerOfARow: where the connection broke while a block was added by its
// row alone, the block is in the chain once whether it had arrived or not, and
// where it could not be looked for at once, nothing follows that it could clash with.
func TestLostAnswerOfARow(t *testing.T) {
	t.Parallel()
	for _, arrived := range []string{"before the next block", "after it", "never, as its id is another chain's"} {
		t.Run(arrived, func(t *testing.T) {
			t.Parallel()
			storetest.EachOptions(t, func(t *testing.T, o store.Options) {
				db, away := storetest.OpenWith(t, o), gone(t, o)
				l := open(t, db, "a")
				w := committer(l)
				w.noted = l.number
				moment := w.now()
				w.now = func() time.Time { return moment }
				first := together(t, 1, 2)

				// The row that the first write sends, as often as it arrives.
				shadow := *w
				shadow.body, shadow.entry = nil, nil
				id := shadow.nextID()
				end := shadow.encode(l.end, id, first)
				row := shadow.row(id, l.number, l.end, end, len(first))
				want, foreign := int64(4), strings.HasPrefix(arrived, "never") // the opening record is the first
				if foreign {
					row[1], want = l.number+1, 2
				}
				arrive := func() error { return db.AppendRow(t.Context(), insertBlock, row...) }

				l.db = away
				for n := range 3 {
					if err := w.write(together(t, 1+n, 2-n%2)); err == nil {
						t.Fatal("a record was kept in a closed database")
					}
				}
				if arrived != "after it" {
					if err := arrive(); err != nil {
						t.Fatal(err)
					}
				}
				l.db = db
				if err := w.write(together(t, 3, 1)); err != nil {
					t.Fatal(err)
				}
				if err := arrive(); !store.IsUnique(err) {
					t.Errorf("a block was added twice: %v", err)
				}
				if foreign {
					change(t, db, "DELETE FROM audit_blocks WHERE id = $1", id)
				}
				if proof := verified(t, l, l.Head()); proof.Records != want {
					t.Errorf("%d records, want %d", proof.Records, want)
				}
			})
		})
	}
}

// TestLostAnswerThenAway: whether a transaction without an answer arrived is not
// forgotten while the database is away.
func TestLostAnswerThenAway(t *testing.T) {
	t.Parallel()
	for name, arrived := range map[string]bool{"it arrived": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.EachOptions(t, func(t *testing.T, o store.Options) {
				db, away := storetest.OpenWith(t, o), gone(t, o)
				l := open(t, db, "a")
				w := committer(l)
				lost := errors.New("the answer got lost")
				if err := db.Append(t.Context(), func(tx *store.Tx) error {
					end, _, err := w.insert(tx, w.nextID(), l.end, together(t, 1, 2))
					w.unsure = &end
					if err == nil && !arrived {
						err = lost
					}
					return err
				}); arrived && err != nil || !arrived && !errors.Is(err, lost) {
					t.Fatal(err)
				}
				l.db = away
				if err := w.write(together(t, 3, 1)); err == nil {
					t.Fatal("a record was kept in a closed database")
				}
				l.db = db
				if err := w.write(together(t, 3, 1)); err != nil {
					t.Fatal(err)
				}
				want := int64(2)
				if arrived {
					want += 2
				}
				if proof := verified(t, l, l.Head()); proof.Records != want {
					t.Errorf("%d records, want %d", proof.Records, want)
				}
			})
		})
	}
}

// TestRowUnderWay: a transaction of the chain that the server is still busy with
// is waited for, and seen.
func TestRowUnderWay(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := open(t, db, "a")
		w := committer(l)
		w.noted = l.number
		added, written := make(chan link), make(chan error)
		go func() {
			written <- db.Append(t.Context(), func(tx *store.Tx) error {
				end, _, err := w.insert(tx, w.nextID(), l.end, together(t, 1, 2))
				if err == nil {
					added <- end
					<-added
				}
				return err
			})
		}()
		end := <-added
		after := *w // the process goes on while the old statement is on its way
		after.body, after.entry, after.unsure = nil, nil, &end
		time.AfterFunc(100*time.Millisecond, func() { added <- end })
		if err := after.write(together(t, 3, 1)); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if proof := verified(t, l, l.Head()); proof.Records != 4 {
			t.Errorf("%d records, want 4", proof.Records)
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
		change(t, stores[1], `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = $1`, mark)
	}
	appendAll(t, l, 1)
	if proof := verified(t, l, l.Head()); proof.Records != times+2 {
		t.Errorf("%d records, want %d", proof.Records, times+2)
	}
}
