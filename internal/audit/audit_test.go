package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const account = "000000000000"

// open starts the only writer of a new database; it is closed before the database is.
func open(t testing.TB, db *store.DB, writer string) *Log {
	t.Helper()
	return openWith(t, db, storetest.Keeper(t, db), writer)
}

func openWith(t testing.TB, db *store.DB, keeper *seal.Keeper, writer string) *Log {
	t.Helper()
	l, err := New(t.Context(), db, keeper, writer)
	if err != nil {
		t.Fatal(err)
	}
	l.logger = func() *slog.Logger { return slog.New(slog.DiscardHandler) }
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func record(n int) Record {
	r := full()
	r.RequestID = fmt.Sprintf("request-%d", n)
	r.Time = began.Add(time.Duration(n) * time.Second)
	return r
}

// began is the time of record(0): a block is found by the time of its commit, which is never before its records' own.
var began = time.Now().UTC().Truncate(time.Microsecond).Add(-time.Minute)

// together are records that one commit takes.
func together(t testing.TB, from, count int) (batch []*pending) {
	t.Helper()
	for n := range count {
		r := record(from + n)
		if err := r.prepare(); err != nil {
			t.Fatal(err)
		}
		batch = append(batch, newPending(&r))
	}
	return batch
}

// committer makes the test the committing goroutine.
func committer(l *Log) *batchWriter {
	_ = l.Close()
	w := newBatchWriter(l)
	w.last = l.number + 1000*slots
	return w
}

func appendAll(t testing.TB, l *Log, count int) {
	t.Helper()
	for n := range count {
		if err := l.Append(t.Context(), record(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func verified(t testing.TB, l *Log, heads ...Head) Proof {
	t.Helper()
	proof, err := l.Verify(t.Context(), heads...)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func TestAppendedIsKept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := open(t, db, "a")
		if err := l.Append(t.Context(), full()); err != nil {
			t.Fatal(err)
		}
		got, _, err := l.List(t.Context(), Query{Account: account})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Record{full()}, got); diff != "" {
			t.Error(diff)
		}
		proof := verified(t, l, l.Head())
		if proof.Records != 2 || proof.Heads[0] != l.Head() || l.Head().Sequence != 2 { // with the opening record
			t.Errorf("proof %+v, head %+v", proof, l.Head())
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		keeper := storetest.Keeper(t, db)
		l, other := openWith(t, db, keeper, "a"), openWith(t, db, keeper, "b") // two replicas
		const callers, each = 64, 8
		var wait sync.WaitGroup
		for caller := range callers {
			wait.Go(func() {
				writer := []*Log{l, other}[caller%2]
				for n := range each {
					if err := writer.Append(t.Context(), record(caller*each+n)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		if proof := verified(t, l, l.Head(), other.Head()); proof.Records != callers*each+2 {
			t.Errorf("%d records, want %d", proof.Records, callers*each+2)
		}
		seen := make(map[string]bool)
		records, _, err := l.List(t.Context(), Query{Account: account, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			seen[r.RequestID] = true
		}
		if len(seen) != callers*each {
			t.Errorf("%d different records, want %d", len(seen), callers*each)
		}
	})
}

func TestBatchesOfEverySize(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := open(t, db, "a")
		w := committer(l)
		total := int64(1)
		for _, size := range []int{1, 2, 3, 16, 17, 255, 256} {
			if err := w.write(together(t, 0, size)); err != nil {
				t.Fatal(err)
			}
			total += int64(size)
			if proof := verified(t, l, l.Head()); proof.Records != total {
				t.Fatalf("%d records after a batch of %d, want %d", proof.Records, size, total)
			}
		}
	})
}

func TestClosedRefuses(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	appendAll(t, l, 1)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Append(t.Context(), record(1)); !fault.Is(err, fault.Internal) || !errors.Is(err, errClosed) {
		t.Errorf("got %v, want a refusal", err)
	}
	if proof := verified(t, l); proof.Records != 2 {
		t.Errorf("%d records, want 2", proof.Records)
	}
}

// TestCloseKeepsWhatWaits: records that wait when Close is called are either
// kept and acknowledged, or refused; never one without the other.
func TestCloseKeepsWhatWaits(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	var wait sync.WaitGroup
	var mu sync.Mutex
	kept := 0
	for n := range 64 {
		wait.Go(func() {
			err := l.Append(t.Context(), record(n))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				kept++
			case !errors.Is(err, errClosed):
				t.Error(err)
			}
		})
		if n == 32 {
			wait.Go(func() { _ = l.Close() })
		}
	}
	wait.Wait()
	if proof := verified(t, l, l.Head()); proof.Records != int64(kept)+1 {
		t.Errorf("%d records are there, %d were acknowledged", proof.Records-1, kept)
	}
}

// TestImpatientCaller gives up while somebody else holds the database's writer.
func TestImpatientCaller(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Update(t.Context(), func(*store.Tx) error {
		go cancel()
		return l.Append(ctx, record(1))
	})
	if !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Internal) {
		t.Errorf("got %v, want a refusal because of the cancellation", err)
	}
	if err := l.Append(t.Context(), record(2)); err != nil { // the chain goes on
		t.Fatal(err)
	}
	verified(t, l, l.Head())
}

// TestFullDisk: SQLite's own limit stands in for the disk's. All who wait get
// the error, nobody is told that it worked, and the chain goes on afterwards.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), store.Options{Path: storetest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	l := open(t, db, "a")
	var out bytes.Buffer
	l.logger = func() *slog.Logger { return slog.New(slog.NewTextHandler(&out, nil)) }
	appendAll(t, l, 3)
	limit := func(statement string) {
		t.Helper()
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			rows, err := tx.Query(statement)
			if err != nil {
				return err
			}
			return rows.Close()
		}); err != nil {
			t.Fatal(err)
		}
	}
	limit("PRAGMA max_page_count = 1") // becomes the present size
	before, kept := l.Head(), int64(4)
	refused := 0
	for n := range 200 {
		switch err := l.Append(t.Context(), record(n)); {
		case err == nil && refused == 0:
			kept++ // the last page had room
			before = l.Head()
		case err == nil:
			t.Fatal("a record was kept on a full disk")
		default:
			refused++
			if !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), "full") {
				t.Fatalf("got %v, want the disk's error", err)
			}
		}
		if refused == 3 {
			break
		}
	}
	if refused != 3 || l.Head() != before {
		t.Fatalf("%d refused; head %+v, want %+v", refused, l.Head(), before)
	}
	limit("PRAGMA max_page_count = 1000000")
	appendAll(t, l, 2)
	if proof := verified(t, l, before, l.Head()); proof.Records != kept+2 {
		t.Errorf("%d records, want %d", proof.Records, kept+2)
	}
	_ = l.Close() // the logger is quiet now
	if !strings.Contains(out.String(), "audit records could not be written") {
		t.Errorf("the log says nothing: %s", out.String())
	}
}

// TestLostAnswer: a commit whose answer got lost may be in the database or not;
// the next one finds out.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for name, arrived := range map[string]bool{"the commit arrived": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := storetest.Open(t)
			l := open(t, db, "a")
			w := committer(l)
			batch := together(t, 1, 1)
			var end link
			lost := errors.New("the answer got lost")
			err := db.Update(t.Context(), func(tx *store.Tx) (err error) {
				end, _, err = w.insert(tx, w.nextID(), l.end, batch)
				if err == nil && !arrived {
					err = lost
				}
				return err
			})
			if arrived && err != nil || !arrived && !errors.Is(err, lost) {
				t.Fatal(err)
			}
			w.unsure = &end
			want := int64(2)
			if arrived {
				want++
			}
			if err := w.write(batch); err != nil {
				t.Fatal(err)
			}
			if proof := verified(t, l, l.Head()); proof.Records != want {
				t.Errorf("%d records, want %d", proof.Records, want)
			}
		})
	}
}

// TestLostFirstAnswer: also of a chain that has no record yet.
func TestLostFirstAnswer(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	_ = l.Close()
	reader := NewReader(db, l.keeper)
	keyed, err := reader.key(t.Context(), chainKey("b"))
	if err != nil {
		t.Fatal(err)
	}
	fresh := &Log{Reader: reader, writer: "b", chain: keyed, logger: l.logger}
	w := newBatchWriter(fresh)
	lost := errors.New("the answer got lost")
	var end link
	if err := db.Update(t.Context(), func(tx *store.Tx) (err error) {
		if end, _, err = w.insert(tx, w.nextID(), link{}, together(t, 1, 2)); err != nil {
			return err
		}
		return lost
	}); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	w.unsure = &end
	if err := w.write(together(t, 1, 2)); err != nil {
		t.Fatal(err)
	}
	if proof := verified(t, fresh, fresh.Head()); proof.Records != 3 || fresh.Head().Sequence != 2 {
		t.Errorf("proof %+v, head %+v", proof, fresh.Head())
	}
}

// TestTwoWritersOfOneMoment: ids that meet cost a second try and nothing else.
func TestTwoWritersOfOneMoment(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		keeper := storetest.Keeper(t, db)
		one, two := openWith(t, db, keeper, "a"), openWith(t, db, keeper, "b")
		moment := time.Now().Add(time.Hour)
		a, b := committer(one), committer(two)
		for _, w := range []*batchWriter{a, b} {
			w.now = func() time.Time { return moment }
			w.slot, w.last = 7, 0
			if err := w.write(together(t, 0, 3)); err != nil {
				t.Fatal(err)
			}
		}
		if a.slot == b.slot {
			t.Error("the ids did not meet")
		}
		verified(t, one, one.Head(), two.Head())
	})
}

// TestChainChangedUnderneath: somebody else's block in a chain is named by the proof.
func TestChainChangedUnderneath(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := open(t, db, "a")
		appendAll(t, l, 1)
		change(t, db, "INSERT INTO audit_blocks SELECT id + 1, chain, sequence + 1, records, mac, body, record FROM audit_blocks WHERE sequence = 2")
		_ = l.Append(t.Context(), record(2)) // it may notice or not
		var broken *Broken
		if _, err := l.Verify(t.Context()); !errors.As(err, &broken) || broken.Sequence != 3 {
			t.Errorf("got %v, want record 3", err)
		}
	})
}

func change(t testing.TB, db *store.DB, statement string, args ...any) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(statement, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestFailingStoreRefuses(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), store.Options{Path: storetest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, db, "")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), record(1)); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestHeadsGoToTheLog(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	appendAll(t, l, 1)
	head := l.Head()
	var out bytes.Buffer
	logger := slog.New(NewHandler(slog.NewTextHandler(&out, nil)))
	l.logger = func() *slog.Logger { return logger }
	want := fmt.Sprintf("msg=\"audit head\" writer=a sequence=2 mac=%s\n", head.MAC)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = l.Run(ctx) }()
		time.Sleep(10*headsEvery + time.Second) // virtual: ten ticks, one of which has something to say
		cancel()
		synctest.Wait()
	})
	if got := out.String(); strings.Count(got, "audit head") != 1 || !strings.HasSuffix(got, want) {
		t.Errorf("logged %q, want one line that ends in %q", got, want)
	}
	out.Reset()
	appendAll(t, l, 1)
	_ = l.Close()
	if got := out.String(); !strings.Contains(got, "sequence=3 mac="+l.Head().MAC) {
		t.Errorf("Close logged %q, want the last head", got)
	}
}

// Two writers that make ids for the same microseconds, in the same slot, get out of each other's way.
func TestWritersInTheSameSlot(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		keeper := storetest.Keeper(t, db)
		reader := NewReader(db, keeper)
		first, second := past(t, reader, "1 first"), past(t, reader, "2 second")
		second.slot = first.slot
		for n := range 50 {
			if err := first.write(together(t, n, 1)); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 50 {
			if err := second.write(together(t, n, 1)); err != nil {
				t.Fatalf("block %d: %v", n, err)
			}
		}
		if second.slot == first.slot {
			t.Error("both still write to one slot")
		}
	})
}
