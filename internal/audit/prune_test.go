package audit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// aged is a database with a chain "old" of long ago, "long" that goes on until
// now, and the opening records of both; and the heads of before.
type aged struct {
	db     *store.DB
	keeper *seal.Keeper
	reader *Reader
	long   *Log
	heads  []Head
}

// month is when the old records were written; each writer's opening record, too.
var month = time.Now().Add(-30 * 24 * time.Hour)

func age(t *testing.T, db *store.DB) *aged {
	t.Helper()
	keeper := storetest.Keeper(t, db)
	a := &aged{db: db, keeper: keeper, reader: NewReader(db, keeper)}
	for _, writer := range []string{"1 old", "2 long"} {
		w := past(t, a.reader, writer)
		before, err := a.reader.headsBefore(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		opening := openingRecord(before)
		if err := opening.prepare(); err != nil {
			t.Fatal(err)
		}
		if err := w.write([]*pending{newPending(&opening)}); err != nil {
			t.Fatal(err)
		}
		for n := range 300 {
			if err := w.write(together(t, n, 1+n%3)); err != nil {
				t.Fatal(err)
			}
		}
		a.long = w.log
		if writer == "2 long" {
			w.now = time.Now
			for n := range 10 {
				if err := w.write(together(t, n, 2)); err != nil {
					t.Fatal(err)
				}
			}
		}
		a.heads = append(a.heads, w.log.Head())
	}
	return a
}

// past is a writer whose clock is a month back.
func past(t *testing.T, reader *Reader, writer string) *batchWriter {
	t.Helper()
	keyed, err := reader.key(t.Context(), chainKey(writer))
	if err != nil {
		t.Fatal(err)
	}
	w := newBatchWriter(&Log{Reader: reader, writer: writer, chain: keyed, logger: func() *slog.Logger { return slog.New(slog.DiscardHandler) }})
	w.now = func() time.Time { return month }
	return w
}

func (a *aged) prune(t *testing.T, before time.Time) Pruned {
	t.Helper()
	done, err := a.reader.Prune(t.Context(), before)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestPrune(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		a := age(t, db)
		whole, err := a.reader.Verify(t.Context(), a.heads...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.reader.Prune(t.Context(), time.Now().Add(-time.Minute)); !fault.Is(err, fault.Invalid) {
			t.Errorf("young records were pruned: %v", err)
		}
		if done := a.prune(t, month.Add(-time.Hour)); done.Records != 0 {
			t.Errorf("there was nothing that old: %+v", done)
		}
		done := a.prune(t, time.Now().Add(-2*time.Hour))
		if done.Records != whole.Records-20 || done.PrunedInAll != done.Records || done.Chains != 2 {
			t.Errorf("pruned %+v of %d", done, whole.Records)
		}
		proof, err := a.reader.Verify(t.Context(), a.heads...)
		if err != nil {
			t.Fatal(err)
		}
		if proof.Records != 20 || proof.Pruned != done.Records || !slices.Equal(proof.Heads, whole.Heads) {
			t.Errorf("proof %+v, before %+v", proof, whole)
		}
		next := openWith(t, db, a.keeper, "3 next") // names the heads of chains that were pruned, too
		verified(t, next)
		if again := a.prune(t, time.Now().Add(-2*time.Hour)); again.Records != 0 || again.PrunedInAll != done.Records {
			t.Errorf("pruned again: %+v", again)
		}
	})
}

// TestPruneIsNoHidingPlace: what was pruned, and that it was, cannot be altered.
func TestPruneIsNoHidingPlace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		statement string
		why       string
	}{
		"further, without the key":     {"DELETE FROM audit_blocks WHERE id = (SELECT min(id) FROM audit_blocks)", "missing"},
		"the point moved":              {"UPDATE audit_chains SET sequence = sequence + 2 WHERE writer = '2 long'", "nobody"},
		"another MAC":                  {"UPDATE audit_chains SET mac = proof WHERE writer = '2 long'", "nobody"},
		"never pruned":                 {"UPDATE audit_chains SET sequence = 0, mac = NULL, proof = NULL WHERE writer = '2 long'", "missing"},
		"a pruned chain that vanished": {"DELETE FROM audit_chains WHERE writer = '1 old'", "vanished"},
		"a pruned chain, forgotten":    {"UPDATE audit_chains SET sequence = 0, mac = NULL, proof = NULL WHERE writer = '1 old'", "vanished"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB) {
				a := age(t, db)
				done := a.prune(t, time.Now().Add(-2*time.Hour))
				l := openWith(t, db, a.keeper, "3 pruner")
				r := Record{Action: PruneAction, Decision: Allow, Phase: Done, Outcome: OK, Detail: done.Detail()}
				if err := l.Append(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				_ = l.Close()
				if _, err := a.reader.Verify(t.Context()); err != nil {
					t.Fatal(err)
				}
				change(t, db, test.statement)
				var broken *Broken
				if _, err := a.reader.Verify(t.Context()); !errors.As(err, &broken) || !strings.Contains(broken.Why, test.why) && !strings.Contains(broken.Why, "missing") {
					t.Errorf("got %v, want %s", err, test.why)
				}
			})
		})
	}
}

// TestPruneStopsAtABrokenRecord: nothing that does not hold is removed.
func TestPruneStopsAtABrokenRecord(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	a := age(t, db)
	tamper(t, db, "UPDATE audit_blocks SET body = $flipped WHERE id = (SELECT id FROM audit_blocks ORDER BY id LIMIT 1 OFFSET 300)")
	var broken *Broken
	if _, err := a.reader.Prune(t.Context(), time.Now().Add(-2*time.Hour)); !errors.As(err, &broken) {
		t.Fatalf("got %v, want the broken record", err)
	}
	blocks, err := a.reader.page(t.Context(), false, 0, blockID(time.Now()))
	if err != nil || len(blocks) != pageOfBlocks { // 601 + 11, of which one page was whole and went
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
}

// TestPruneBesideWork: a writer and a proof go on while records are pruned.
func TestPruneBesideWork(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		a := age(t, db)
		l := openWith(t, db, a.keeper, "3 next")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for _, work := range []func() error{
			func() error { return l.Append(t.Context(), record(1)) },
			func() error { _, err := a.reader.Verify(t.Context(), a.heads...); return err },
		} {
			go func() {
				for ctx.Err() == nil {
					if err := work(); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		a.prune(t, month.Add(time.Hour))
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		verified(t, l, a.heads...)
	})
}

func TestExport(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		a := age(t, db)
		earlierRecords(t, db, a.keeper, "20260101T000000.000Z-A")
		var all, old bytes.Buffer
		whole, err := a.reader.Export(t.Context(), &all, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if proof, err := a.reader.Verify(t.Context()); err != nil || whole.Records != proof.Records || strings.Count(all.String(), "\n") != int(proof.Records)+5 {
			t.Errorf("exported %+v, proof %+v, %v", whole.Records, proof.Records, err)
		}
		before := time.Now().Add(-2 * time.Hour)
		part, err := a.reader.Export(t.Context(), &old, before)
		if err != nil {
			t.Fatal(err)
		}
		done := a.prune(t, before)
		if part.Records != done.Records {
			t.Errorf("%d records exported and %d pruned", part.Records, done.Records)
		}
		var rest bytes.Buffer
		if end, err := a.reader.Export(t.Context(), &rest, time.Time{}); err != nil || end.Records+part.Records != whole.Records {
			t.Errorf("the rest is %+v, %v", end, err)
		}
		for name, file := range map[string]string{"all": all.String(), "the old ones": old.String(), "the rest": rest.String()} {
			end, err := CheckExport(t.Context(), a.reader, strings.NewReader(file), "")
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := CheckExport(t.Context(), nil, strings.NewReader(file), end.PublicKey); err != nil {
				t.Errorf("%s, with the public key alone: %v", name, err)
			}
			if _, err := CheckExport(t.Context(), NewReader(db, storetest.Keeper(t, storetest.Open(t))), strings.NewReader(file), ""); err == nil {
				t.Errorf("%s: another installation takes it for its own", name)
			}
		}
		spoil(t, a.reader, all.String(), whole.PublicKey)
	})
}

// spoil changes an export in every way there is.
func spoil(t *testing.T, r *Reader, export, publicKey string) {
	t.Helper()
	lines := strings.SplitAfter(strings.TrimSuffix(export, "\n"), "\n")
	at := len(lines) / 2
	for name, change := range map[string]func(lines []string) []string{
		"a letter":           func(l []string) []string { l[at] = strings.Replace(l[at], "google", "goggle", 1); return l },
		"a MAC":              func(l []string) []string { l[at] = strings.Replace(l[at], `"mac":"`, `"mac":"0`, 1); return l },
		"a line taken out":   func(l []string) []string { return slices.Delete(l, at, at+1) },
		"two that changed":   func(l []string) []string { l[at], l[at+1] = l[at+1], l[at]; return l },
		"one twice":          func(l []string) []string { return slices.Insert(l, at, l[at]) },
		"the end cut off":    func(l []string) []string { return l[:len(l)-1] },
		"something after it": func(l []string) []string { return append(l, "\n"+l[at]) },
		"the count": func(l []string) []string {
			return append(l[:len(l)-1], strings.Replace(l[len(l)-1], `"records":`, `"records":1`, 1))
		},
		"the hash": func(l []string) []string {
			return append(l[:len(l)-1], strings.Replace(l[len(l)-1], `"sha256":"`, `"sha256":"0`, 1))
		},
		"the first line":      func(l []string) []string { return l[1:] },
		"a line that is none": func(l []string) []string { l[at] = "{}\n"; return l },
		"nothing":             func([]string) []string { return nil },
	} {
		spoilt := strings.Join(change(slices.Clone(lines)), "")
		for _, reader := range []*Reader{r, nil} {
			if _, err := CheckExport(t.Context(), reader, strings.NewReader(spoilt), publicKey); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
}

// Files of a stranger are an error and nothing worse.
func FuzzCheckExport(f *testing.F) {
	f.Add(`{"export":{"format":"onbehalf-audit-1","made":"2026-11-22T11:04:00Z"}}` + "\n" + `{"chain":{"number":1,"writer":"a","sequence":0}}` + "\n" +
		`{"writer":"a","sequence":1,"mac":"","record":{},"block":{"id":1,"records":1,"body":"AAAA"}}` + "\n" + `{"end":{"records":1}}`)
	f.Fuzz(func(t *testing.T, file string) {
		if _, err := CheckExport(t.Context(), nil, strings.NewReader(file), ""); err == nil {
			t.Fatal("an export was made without a key")
		}
	})
}

func TestPruneDetail(t *testing.T) {
	t.Parallel()
	if got := (Pruned{Records: 3, PrunedInAll: 7, Chains: 2}).Detail()["prunedInAll"]; got != strconv.Itoa(7) {
		t.Errorf("prunedInAll %s", got)
	}
}
