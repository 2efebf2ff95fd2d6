package audit

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// TestTampering changes a chain of ten in every way there is; the proof names
// the first record that does not hold. Once each record was committed alone, and
// once the last eight together, so that what hits their block hits the first of them.
func TestTampering(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		statements   []string
		at, together int64 // the record that is named, one block each, and with 3 to 10 in one block; 0 does not apply
		why          string
	}{
		"a byte":                           {[]string{"UPDATE audit_blocks SET body = $flipped WHERE sequence = 5"}, 5, 0, "altered"},
		"a byte of many":                   {[]string{"UPDATE audit_blocks SET body = $flipped WHERE sequence = 3"}, 3, 10, "altered"},
		"no bytes":                         {[]string{"UPDATE audit_blocks SET body = NULL WHERE sequence = 3"}, 3, 3, "read"},
		"the MAC":                          {[]string{"UPDATE audit_blocks SET mac = (SELECT mac FROM audit_blocks WHERE sequence = 2) WHERE sequence = 3"}, 3, 10, "altered"},
		"the time":                         {[]string{"UPDATE audit_blocks SET id = id + 1 WHERE sequence = 3"}, 3, 3, "altered"},
		"the count":                        {[]string{"UPDATE audit_blocks SET records = records + 1 WHERE sequence = 3"}, 3, 3, "altered"},
		"the count, to none":               {[]string{"UPDATE audit_blocks SET records = 0 WHERE sequence = 3"}, 3, 3, "missing"},
		"the chain":                        {[]string{"UPDATE audit_blocks SET chain = 1 WHERE sequence = 3"}, 1, 1, "whose"},
		"the writer":                       {[]string{"UPDATE audit_chains SET writer = 'b'"}, 1, 1, "altered"},
		"the chain's row":                  {[]string{"DELETE FROM audit_chains"}, 1, 1, "whose"},
		"the chain's number":               {[]string{"UPDATE audit_blocks SET chain = chain + 1", "UPDATE audit_chains SET number = number + 1"}, 1, 1, "began"},
		"one taken out":                    {[]string{"DELETE FROM audit_blocks WHERE sequence = 3"}, 3, 3, "missing"},
		"the first taken out":              {[]string{"DELETE FROM audit_blocks WHERE sequence = 1"}, 1, 1, "missing"},
		"one taken out, the rest moved up": {[]string{"DELETE FROM audit_blocks WHERE sequence = 5", "UPDATE audit_blocks SET sequence = sequence - 1 WHERE sequence > 5"}, 5, 0, "altered"},
		"two that changed places": {[]string{"UPDATE audit_blocks SET sequence = 6 - sequence WHERE sequence IN (2, 4)",
			"UPDATE audit_blocks SET id = id + 1000000 WHERE sequence = 3"}, 2, 0, "missing"},
		"one added at the end":       {[]string{"INSERT INTO audit_blocks SELECT id + 1, chain, 11, 1, mac, body, record FROM audit_blocks WHERE sequence = 2 OR sequence = 10 ORDER BY sequence DESC LIMIT 1"}, 0, 0, ""},
		"one added before the first": {[]string{"INSERT INTO audit_blocks SELECT id - 1, chain, 0, 1, mac, body, record FROM audit_blocks WHERE sequence = 1"}, 1, 1, "missing"},
		"one that counts for less":   {[]string{"INSERT INTO audit_blocks SELECT id + 1, chain, 1, 1, mac, body, record FROM audit_blocks WHERE sequence = 2"}, 3, 3, "missing"},
		"a chain copied to another writer": {[]string{"INSERT INTO audit_chains (number, writer, noted, sequence) SELECT number + 1, 'b', noted + 1, 0 FROM audit_chains",
			"INSERT INTO audit_blocks SELECT id + 1, chain + 1, sequence, records, mac, body, record FROM audit_blocks"}, 1, 1, "altered"},
		"a record turned into an earlier version's": {[]string{"UPDATE audit_blocks SET record = '{}', body = NULL WHERE sequence = 3"}, 3, 3, "altered"},
		"the tail":        {[]string{"DELETE FROM audit_blocks WHERE sequence > 8"}, 9, 0, "missing"},
		"the last block":  {[]string{"DELETE FROM audit_blocks WHERE sequence = (SELECT max(sequence) FROM audit_blocks)"}, 10, 3, "missing"},
		"the whole chain": {[]string{"DELETE FROM audit_blocks", "DELETE FROM audit_chains"}, 1, 1, "missing"},
		"all blocks":      {[]string{"DELETE FROM audit_blocks"}, 1, 1, "missing"},
		"a prune that nobody made": {[]string{"UPDATE audit_chains SET sequence = 2, mac = (SELECT mac FROM audit_blocks WHERE sequence = 2), proof = (SELECT mac FROM audit_blocks WHERE sequence = 2)",
			"DELETE FROM audit_blocks WHERE sequence < 3"}, 1, 1, "nobody"},
		"a prune without proof": {[]string{"UPDATE audit_chains SET sequence = 2, mac = (SELECT mac FROM audit_blocks WHERE sequence = 2)", "DELETE FROM audit_blocks WHERE sequence < 3"}, 1, 1, "nobody"},
	} {
		for _, inOneBlock := range []bool{false, true} {
			at := test.at
			if inOneBlock {
				at = test.together
			}
			if at == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s, together %v", name, inOneBlock), func(t *testing.T) {
				t.Parallel()
				storetest.Each(t, func(t *testing.T, db *store.DB) {
					l := open(t, db, "a")
					appendAll(t, l, 1)
					if inOneBlock {
						if err := committer(l).write(together(t, 1, 8)); err != nil {
							t.Fatal(err)
						}
					} else {
						appendAll(t, l, 8)
					}
					head := l.Head()
					verified(t, l, head)
					for _, statement := range test.statements {
						tamper(t, db, statement)
					}
					_, err := l.Verify(t.Context(), head)
					var broken *Broken
					if !errors.As(err, &broken) || !fault.Is(err, fault.Internal) {
						t.Fatalf("got %v, want the broken record", err)
					}
					if broken.Sequence != at || !strings.Contains(broken.Why, test.why) {
						t.Errorf("got %v, want record %d, %s", broken, at, test.why)
					}
				})
			})
		}
	}
}

// tamper is change, where $flipped is the row's body with another byte in its last record.
func tamper(t testing.TB, db *store.DB, statement string) {
	t.Helper()
	if !strings.Contains(statement, "$flipped") {
		change(t, db, statement)
		return
	}
	before, where, _ := strings.Cut(statement, "$flipped")
	var body []byte
	if err := db.View(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRow("SELECT body FROM audit_blocks" + where).Scan(&body)
	}); err != nil {
		t.Fatal(err)
	}
	body[len(body)-20] ^= 1
	change(t, db, before+"$1"+where, body)
}

// TestEmptyIsBroken: somebody who removes everything leaves no chain that could break.
func TestEmptyIsBroken(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var broken *Broken
		if _, err := NewReader(db, storetest.Keeper(t, db)).Verify(t.Context()); !errors.As(err, &broken) {
			t.Errorf("nothing at all was proven: %v", err)
		}
	})
}

// TestCutTailNeedsAHead says what a chain alone cannot show, and what does.
func TestCutTailNeedsAHead(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		keeper := storetest.Keeper(t, db)
		first := openWith(t, db, keeper, "a")
		appendAll(t, first, 9)
		change(t, db, "DELETE FROM audit_blocks WHERE sequence > 8")
		verified(t, first) // nobody knows better
		if _, err := first.Verify(t.Context(), first.Head()); err == nil {
			t.Error("the head does not show the cut")
		}

		second := openWith(t, db, keeper, "b") // the next process notes how the first one's chain ended
		verified(t, second)
		change(t, db, "DELETE FROM audit_blocks WHERE chain = (SELECT MIN(number) FROM audit_chains) AND sequence > 7")
		var broken *Broken
		if _, err := second.Verify(t.Context()); !errors.As(err, &broken) || broken.Writer != "a" || broken.Sequence != 8 {
			t.Errorf("got %v, want record 8 of a", err)
		}
		change(t, db, "DELETE FROM audit_blocks WHERE chain = (SELECT MIN(number) FROM audit_chains)")
		if _, err := second.Verify(t.Context()); !errors.As(err, &broken) || broken.Writer != "a" || broken.Sequence != 1 {
			t.Errorf("got %v, want record 1 of a", err)
		}
	})
}

// TestHeadWithinABlock: an export tells each record's MAC, and each can be held
// against the database, also where others were committed together with it.
func TestHeadWithinABlock(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	appendAll(t, l, 1)
	before := l.end
	if err := committer(l).write(together(t, 1, 8)); err != nil {
		t.Fatal(err)
	}
	blocks, err := l.chainPage(t.Context(), l.number, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	var heads []Head
	if err := links(l.chain, before, &blocks[len(blocks)-1], func(end link) error { heads = append(heads, end.head("a")); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(heads) // as the lines of several logs come
	verified(t, l, heads...)
	for i := range heads {
		wrong := slices.Clone(heads)
		wrong[i].MAC = strings.Repeat("0", 64)
		var broken *Broken
		if _, err := l.Verify(t.Context(), wrong...); !errors.As(err, &broken) || broken.Sequence != heads[i].Sequence {
			t.Errorf("got %v, want record %d", err, heads[i].Sequence)
		}
	}
}

// TestRewrittenTail: a chain that was cut and then went on is another one than
// the one whose head was noted.
func TestRewrittenTail(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	l := open(t, db, "a")
	appendAll(t, l, 9)
	head := l.Head()
	w := committer(l)
	change(t, db, "DELETE FROM audit_blocks WHERE sequence > 8")
	if err := db.View(t.Context(), func(tx *store.Tx) (err error) {
		l.end, err = endOf(tx, l.number, math.MaxInt64)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		if err := w.write(together(t, 1000+n, 1)); err != nil {
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
	w := committer(l)
	for n := range 2*pageOfBlocks + 1 {
		if err := w.write(together(t, n, 3)); err != nil {
			t.Fatal(err)
		}
	}
	if proof := verified(t, l, l.Head()); proof.Records != 3*(2*pageOfBlocks+1)+1 {
		t.Errorf("%d records", proof.Records)
	}
}
