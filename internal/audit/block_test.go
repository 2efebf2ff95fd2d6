package audit

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// TestEntries: whatever differs between two neighbours comes back.
func TestEntries(t *testing.T) {
	t.Parallel()
	least := Record{Time: when, Account: Platform, Action: "a", Decision: Deny, Phase: Intent}
	other := full()
	other.User, other.RequestID, other.Detail, other.Resources = "id:grace", "not a UUID", map[string]string{"provider": "slack"}, []string{"arn:2", "arn:3", "arn:4"}
	other.Time = when.Add(-1)
	var records []Record
	for _, r := range []Record{full(), full(), least, full(), other, least, other, full()} {
		if err := r.prepare(); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	var in, out state
	var sizes []int
	for _, r := range records {
		entry := in.appendEntry(nil, &r, sortedDetail(r.Detail))
		sizes = append(sizes, len(entry))
		back, err := out.readEntry(entry)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Error(diff)
		}
	}
	if sizes[0] > 450 || sizes[1] > 20 {
		t.Errorf("a record takes %d bytes alone and %d after one that is like it", sizes[0], sizes[1])
	}
}

// Bytes of a stranger are an error, and what is no error reads the same again.
func FuzzEntry(f *testing.F) {
	r := full()
	_ = r.prepare()
	var s state
	first := s.appendEntry(nil, &r, sortedDetail(r.Detail))
	r.User = "id:grace"
	f.Add(first, s.appendEntry(nil, &r, sortedDetail(r.Detail)))
	f.Add([]byte{}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		var in, out state
		for _, entry := range [][]byte{one, two} {
			record, err := in.readEntry(entry)
			if err != nil {
				return
			}
			back := out
			again, err := back.readEntry(out.appendEntry(nil, &record, sortedDetail(record.Detail)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(record, again); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func TestUUID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5c": true, "4B6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5c": false,
		"4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5-": false, "4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5": false,
		"4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b-c": false, "": false, "4b6a4c1e-7a3f-4a0e-9c5bx0d1e2f3a4b5c": false, "4b6a4c1e17a3f-4a0e-9c5b-0d1e2f3a4b5c": false,
	} {
		id, is := parseUUID(text)
		if is != want || is && uuidText(id[:]) != text {
			t.Errorf("%q: %v, %q", text, is, uuidText(id[:]))
		}
	}
}

// TestEarlierVersion: what was kept one row per record, as JSON, is moved into
// blocks by the schema file and holds there, tampering is still named, and heads
// that were noted then are still compared.
func TestEarlierVersion(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		keeper := storetest.Keeper(t, db)
		heads := earlierRecords(t, db, keeper, "20260101T000000.000Z-A", "20260102T000000.000Z-B")
		l := openWith(t, db, keeper, "")
		appendAll(t, l, 2)
		if proof := verified(t, l, heads...); proof.Records != 2*5+3 || len(proof.Heads) != 3 {
			t.Errorf("proof %+v", proof)
		}
		records, _, err := l.List(t.Context(), Query{Account: account, Action: full().Action})
		if err != nil || len(records) != 2*5+2 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		if want := "request-4"; records[2].RequestID != want {
			t.Errorf("the newest of the earlier ones is %s, want %s", records[2].RequestID, want)
		}
		change(t, db, "UPDATE audit_blocks SET record = replace(record, 'allow', 'deny') WHERE sequence = 3 AND record IS NOT NULL AND chain = (SELECT MAX(chain) FROM audit_blocks WHERE record IS NOT NULL)")
		var broken *Broken
		if _, err := l.Verify(t.Context()); !errors.As(err, &broken) || broken.Sequence != 3 || broken.Writer != heads[1].Writer {
			t.Errorf("got %v, want record 3 of %s", err, heads[1].Writer)
		}
	})
}

// earlierRecords makes the table of an earlier version with five records each of
// some writers at the same times, and brings it up to date as a start does.
func earlierRecords(t *testing.T, db *store.DB, keeper *seal.Keeper, writers ...string) (heads []Head) {
	t.Helper()
	word := map[string]string{"sqlite": "BLOB", "postgres": "BYTEA"}[db.Engine()]
	for _, statement := range statementsOf(t, "030_audit.sql") {
		change(t, db, strings.ReplaceAll(statement, "BYTES", word))
	}
	for _, writer := range writers {
		keyed, err := NewReader(db, keeper).key(t.Context(), textKey(writer))
		if err != nil {
			t.Fatal(err)
		}
		var end link
		for n := range 5 {
			r := record(n - n%2) // of two records one may have ended earlier than the one before it
			r.RequestID = fmt.Sprintf("request-%d", n)
			r.Time = when.Add(r.Time.Sub(began))
			if err := r.prepare(); err != nil {
				t.Fatal(err)
			}
			end = keyed.nextText(end, r.text())
			change(t, db, "INSERT INTO audit_records (writer, sequence, mac, account, time, person, workload, action, record) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
				writer, end.sequence, end.mac[:], r.Account, store.Micros(r.Time), r.User, r.Workload, r.Action, r.text())
		}
		heads = append(heads, end.head(writer))
	}
	for _, statement := range statementsOf(t, "160_audit_blocks.sql") {
		if !strings.HasPrefix(statement, "CREATE") {
			change(t, db, statement)
		}
	}
	return heads
}

// statementsOf are a schema file's statements, without comments.
func statementsOf(t *testing.T, name string) (statements []string) {
	t.Helper()
	text, err := os.ReadFile("../store/schema/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var plain strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "--")
		plain.WriteString(line + "\n")
	}
	for statement := range strings.SplitSeq(plain.String(), ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}
