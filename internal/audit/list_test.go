package audit

import (
	"slices"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func TestList(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		l := open(t, db, "a")
		for n, change := range []func(*Record){
			func(r *Record) {},
			func(r *Record) { r.User = "id:grace" },
			func(r *Record) { r.Workload = "arn:other" },
			func(r *Record) { r.Action = "bedrock-agentcore:CreateGateway" },
			func(r *Record) { r.Account = "111111111111" },
			func(r *Record) { r.Account, r.User = "", "id:grace" },
		} {
			r := record(n)
			change(&r)
			if err := l.Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		at := func(n int) time.Time { return began.Add(time.Duration(n) * time.Second) }
		for name, test := range map[string]struct {
			query Query
			want  []string // newest first
		}{
			"an account":         {Query{Account: account}, []string{"request-3", "request-2", "request-1", "request-0"}},
			"another account":    {Query{Account: "111111111111"}, []string{"request-4"}},
			"the platform":       {Query{Account: Platform, User: "id:grace"}, []string{"request-5"}},
			"nobody's account":   {Query{Account: "222222222222"}, nil},
			"a user":             {Query{Account: account, User: "id:grace"}, []string{"request-1"}},
			"a workload":         {Query{Account: account, Workload: "arn:other"}, []string{"request-2"}},
			"an action":          {Query{Account: account, Action: "bedrock-agentcore:CreateGateway"}, []string{"request-3"}},
			"from":               {Query{Account: account, From: at(2)}, []string{"request-3", "request-2"}},
			"until":              {Query{Account: account, Until: at(2)}, []string{"request-1", "request-0"}},
			"between":            {Query{Account: account, From: at(1), Until: at(2)}, []string{"request-1"}},
			"all at once":        {Query{Account: account, From: at(1), Until: at(2), User: "id:grace", Workload: full().Workload, Action: full().Action}, []string{"request-1"}},
			"all but the action": {Query{Account: account, User: "id:grace", Action: "x"}, nil},
			"a workload's name":  {Query{Account: account, Workload: "sayhello"}, []string{"request-3", "request-1", "request-0"}},
			"an action's name":   {Query{Account: account, Action: "CreateGateway"}, []string{"request-3"}},
			"a principal":        {Query{Account: account, Principal: "root"}, []string{"request-3", "request-2", "request-1", "request-0"}},
			"another principal":  {Query{Account: account, Principal: "user/ada"}, nil},
			"an outcome":         {Query{Account: account, Outcome: OK, Limit: 1}, []string{"request-3"}},
			"what was refused":   {Query{Account: account, Outcome: Deny}, nil},
			"the latest":         {Query{Account: account, Limit: 1}, []string{"request-3"}},
		} {
			records, _, err := l.List(t.Context(), test.query)
			if err != nil {
				t.Fatal(err)
			}
			if got := ids(records); !slices.Equal(got, test.want) {
				t.Errorf("%s: got %v, want %v", name, got, test.want)
			}
		}
	})
}

func ids(records []Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, r.RequestID)
	}
	return out
}

// TestListPages: records of one moment, by two writers, in pages of every size,
// are each seen once.
func TestListPages(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		keeper := storetest.Keeper(t, db)
		writers := []*Log{openWith(t, db, keeper, "a"), openWith(t, db, keeper, "b")}
		const total = 10
		for n := range total {
			r := record(n)
			r.Time = when
			if err := writers[n%2].Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		for _, limit := range []int{1, 3, 5, total, 0} {
			seen := make(map[string]bool)
			pages := 0
			for cursor := ""; ; pages++ {
				records, next, err := writers[0].List(t.Context(), Query{Account: account, Limit: limit, Cursor: cursor})
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range ids(records) {
					if seen[id] {
						t.Errorf("limit %d: %s twice", limit, id)
					}
					seen[id] = true
				}
				if cursor = next; cursor == "" {
					break
				}
			}
			if len(seen) != total {
				t.Errorf("limit %d: %d records in %d pages, want %d", limit, len(seen), pages+1, total)
			}
		}
	})
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	l := open(t, storetest.Open(t), "a")
	for name, query := range map[string]Query{
		"no account":           {},
		"a cursor of nobody":   {Account: account, Cursor: "x"},
		"a cursor cut off":     {Account: account, Cursor: "12"},
		"a cursor with no end": {Account: account, Cursor: "12."},
		"a NUL in the cursor":  {Account: account, Cursor: "12.\x00"},
	} {
		if _, _, err := l.List(t.Context(), query); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want fault.Invalid", name, err)
		}
	}
}
