package audit

import (
	"errors"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// TestTampering changes a chain of ten in every way there is; the proof names
// the first record that does not hold.
func TestTampering(t *testing.T) {
	t.Parallel()
	swap := "UPDATE audit_records SET sequence = CASE sequence WHEN 4 THEN 1005 WHEN 5 THEN 1004 END WHERE sequence IN (4, 5)"
	unswap := "UPDATE audit_records SET sequence = sequence - 1000 WHERE sequence > 1000"
	for name, test := range map[string]struct {
		statements []string
		at         int64
		why        string
	}{
		"the text":             {[]string{"UPDATE audit_records SET record = replace(record, 'allow', 'deny') WHERE sequence = 5"}, 5, "altered"},
		"one letter":           {[]string{"UPDATE audit_records SET record = replace(record, 'ada', 'adA') WHERE sequence = 5"}, 5, "altered"},
		"text that is no JSON": {[]string{"UPDATE audit_records SET record = '' WHERE sequence = 5"}, 5, "altered"},
		"the MAC":              {[]string{"UPDATE audit_records SET mac = (SELECT mac FROM audit_records WHERE sequence = 6) WHERE sequence = 5"}, 5, "altered"},
		"the account":          {[]string{"UPDATE audit_records SET account = '111111111111' WHERE sequence = 5"}, 5, "columns"},
		"the time":             {[]string{"UPDATE audit_records SET time = time + 1 WHERE sequence = 5"}, 5, "columns"},
		"the person":           {[]string{"UPDATE audit_records SET person = 'id:eve' WHERE sequence = 5"}, 5, "columns"},
		"the workload":         {[]string{"UPDATE audit_records SET workload = '' WHERE sequence = 5"}, 5, "columns"},
		"the action":           {[]string{"UPDATE audit_records SET action = 'x' WHERE sequence = 5"}, 5, "columns"},
		"the writer":           {[]string{"UPDATE audit_records SET writer = 'b' WHERE sequence = 10"}, 1, "missing"},
		"one taken out":        {[]string{"DELETE FROM audit_records WHERE sequence = 5"}, 5, "missing"},
		"the first taken out":  {[]string{"DELETE FROM audit_records WHERE sequence = 1"}, 1, "missing"},
		"one taken out, the rest moved up": {[]string{"DELETE FROM audit_records WHERE sequence = 5",
			"UPDATE audit_records SET sequence = sequence + 999 WHERE sequence > 5", unswap}, 5, "altered"},
		"two that changed places":    {[]string{swap, unswap}, 4, "altered"},
		"one added at the end":       {[]string{"INSERT INTO audit_records SELECT writer, 11, mac, account, time, person, workload, action, record FROM audit_records WHERE sequence = 10"}, 11, "altered"},
		"one added before the first": {[]string{"INSERT INTO audit_records SELECT writer, 0, mac, account, time, person, workload, action, record FROM audit_records WHERE sequence = 10"}, 1, "missing"},
		"a chain copied to another writer": {[]string{"INSERT INTO audit_records SELECT 'b', sequence, mac, account, time, person, workload, action, record FROM audit_records"},
			1, "altered"},
		"the tail":        {[]string{"DELETE FROM audit_records WHERE sequence > 8"}, 9, "missing"},
		"the whole chain": {[]string{"DELETE FROM audit_records"}, 1, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB) {
				l := open(t, db, "a")
				appendAll(t, l, 9)
				head := l.Head()
				verified(t, l, head)
				for _, statement := range test.statements {
					change(t, db, statement)
				}
				_, err := l.Verify(t.Context(), head)
				var broken *Broken
				if !errors.As(err, &broken) || !fault.Is(err, fault.Internal) {
					t.Fatalf("got %v, want the broken record", err)
				}
				if broken.Sequence != test.at || !strings.Contains(broken.Why, test.why) {
					t.Errorf("got %v, want record %d, %s", broken, test.at, test.why)
				}
			})
		})
	}
}

// TestCutTailNeedsAHead says what a chain alone cannot show, and what does.
func TestCutTailNeedsAHead(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		keeper := storetest.Keeper(t, db)
		first := openWith(t, db, keeper, "a")
		appendAll(t, first, 9)
		change(t, db, "DELETE FROM audit_records WHERE sequence > 8")
		verified(t, first) // nobody knows better
		if _, err := first.Verify(t.Context(), first.Head()); err == nil {
			t.Error("the head does not show the cut")
		}

		second := openWith(t, db, keeper, "b") // the next process notes how the first one's chain ended
		verified(t, second)
		change(t, db, "DELETE FROM audit_records WHERE writer = 'a' AND sequence > 7")
		var broken *Broken
		if _, err := second.Verify(t.Context()); !errors.As(err, &broken) || broken.Writer != "a" || broken.Sequence != 8 {
			t.Errorf("got %v, want record 8 of a", err)
		}
		change(t, db, "DELETE FROM audit_records WHERE writer = 'a'")
		if _, err := second.Verify(t.Context()); !errors.As(err, &broken) || broken.Writer != "a" || broken.Sequence != 1 {
			t.Errorf("got %v, want record 1 of a", err)
		}
	})
}

// TestRewrittenTail: a chain that was cut and then went on is another one than
// the one whose head was noted.
func TestRewrittenTail(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	appendAll(t, l, 9)
	head := l.Head()
	_ = l.Close()
	change(t, db, "DELETE FROM audit_records WHERE sequence > 8")
	var end link
	if err := db.View(t.Context(), func(tx *store.Tx) (err error) {
		end, err = lastLink(tx, "a")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	l.end = end
	w := &batchWriter{log: l}
	for n := range 5 {
		r := record(1000 + n)
		if err := r.prepare(); err != nil {
			t.Fatal(err)
		}
		if err := w.write([]*pending{newPending(&r)}); err != nil {
			t.Fatal(err)
		}
	}
	verified(t, l)
	var broken *Broken
	if _, err := l.Verify(t.Context(), head); !errors.As(err, &broken) || broken.Sequence != head.Sequence {
		t.Errorf("got %v, want record %d", err, head.Sequence)
	}
}

func TestAnotherKeyProvesNothing(t *testing.T) {
	t.Parallel()
	one, two := storetest.Open(t), storetest.Open(t)
	l := open(t, one, "a")
	appendAll(t, l, 1)
	other := open(t, two, "b")
	other.db = one
	if _, err := other.Verify(t.Context()); err == nil {
		t.Error("a chain was proven with a key that it was not made with")
	}
}

func TestProofOfManyPages(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	_ = l.Close()
	w := &batchWriter{log: l}
	for n := 0; n < 2*pageOfProof; n += 250 {
		var batch []*pending
		for i := range 250 {
			r := record(n + i)
			if err := r.prepare(); err != nil {
				t.Fatal(err)
			}
			batch = append(batch, newPending(&r))
		}
		if err := w.write(batch); err != nil {
			t.Fatal(err)
		}
	}
	if proof := verified(t, l, l.Head()); proof.Records != 2*pageOfProof+1 {
		t.Errorf("%d records", proof.Records)
	}
}
