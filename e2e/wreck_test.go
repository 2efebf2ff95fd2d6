package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/store"
)

// wreck is a platform that is killed and started again, at the same address.
type wreck struct {
	*platform
	idp   *provider
	slow  *slow
	seen  receipts
	heads []audit.Head
}

func startWreck(t *testing.T) *wreck {
	t.Helper()
	idp := startProvider(t)
	w := &wreck{idp: idp, slow: &slow{next: idp.tokens.next}}
	idp.tokens.next = w.slow
	w.platform = startPlatform(t, append(idp.flags(), "--addr", "127.0.0.1:"+freePort(t), "--demo-addr", "127.0.0.1:"+freePort(t))...)
	return w
}

// crash is kill -9, a start on the same data, and a look at it.
func (w *wreck) crash() {
	w.t.Helper()
	w.kill()
	w.start()
	w.intact()
}

// killIn kills the platform while it waits for the provider.
func (w *wreck) killIn(path string, answered bool, step func(context.Context) error) {
	w.t.Helper()
	waiting := w.slow.down(path, answered)
	failed := make(chan error, 1)
	go func() { failed <- step(w.t.Context()) }()
	select {
	case <-waiting:
	case err := <-failed:
		w.t.Fatalf("the step ended without asking the provider: %v", err)
	case <-time.After(time.Minute):
		w.t.Fatal("the provider was not asked")
	}
	w.kill()
	if err := <-failed; err == nil {
		w.t.Fatal("a step that was killed has succeeded")
	}
	w.slow.down("", false)
	w.start()
	w.intact()
}

// intact wants every page of the database whole, every row readable, every
// reference good, the audit proven with no tail cut, and a record of every
// request whose answer came.
func (w *wreck) intact() {
	w.t.Helper()
	if err := w.examine(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wreck) examine() (found error) {
	w.t.Helper()
	w.inside(func(db *store.DB, log *audit.Log) { found = w.examineData(w.t.Context(), db, log) })
	return found
}

func (w *wreck) examineData(ctx context.Context, db *store.DB, log *audit.Log) error {
	proof, err := log.Verify(ctx, w.heads...)
	if err != nil {
		return fmt.Errorf("the audit does not hold: %w", err)
	}
	w.heads = proof.Heads
	audited := map[string]bool{}
	err = db.View(ctx, func(tx *store.Tx) error {
		if report, err := column(tx, `PRAGMA integrity_check`); err != nil || len(report) != 1 || report[0] != "ok" {
			return fmt.Errorf("the database is corrupt: %v %w", report, err)
		}
		if report, err := column(tx, `PRAGMA foreign_key_check`); err != nil || len(report) > 0 {
			return fmt.Errorf("rows refer to what is not there: %v %w", report, err)
		}
		tables, err := column(tx, `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`)
		if err != nil {
			return err
		}
		for _, table := range tables {
			if _, err := column(tx, `SELECT * FROM `+table); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for cursor := ""; ; {
		records, next, err := log.List(ctx, audit.Query{Account: server.DefaultAccount, Limit: 1000, Cursor: cursor})
		if err != nil {
			return err
		}
		for _, record := range records {
			audited[record.RequestID] = true
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	w.seen.mu.Lock()
	defer w.seen.mu.Unlock()
	for _, id := range w.seen.ids {
		if !audited[id] {
			return fmt.Errorf("request %s was answered, and the audit has no record of it", id)
		}
	}
	return nil
}

// column is the first column of what a query finds, every other one read as well.
func column(tx *store.Tx, query string) (values []string, err error) {
	rows, err := tx.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	cells := make([]any, len(names))
	for i := range cells {
		cells[i] = &sql.RawBytes{}
	}
	for rows.Next() {
		if err := rows.Scan(cells...); err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		values = append(values, strings.Clone(string(*cells[0].(*sql.RawBytes))))
	}
	return values, rows.Err()
}

// slow stands before a provider that, on one path, takes longer than its client lives.
type slow struct {
	next http.Handler

	mu      sync.Mutex
	path    string
	after   bool // the provider does its part, and nobody hears of it
	reached chan struct{}
}

// down makes a path slow, and tells when somebody waits there. An empty path is none.
func (s *slow) down(path string, after bool) (reached <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path, s.after, s.reached = path, after, make(chan struct{})
	return s.reached
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	path, after, reached := s.path, s.after, s.reached
	if path == r.URL.Path {
		s.path = "" // one request
	}
	s.mu.Unlock()
	if path != r.URL.Path {
		s.next.ServeHTTP(w, r)
		return
	}
	if after {
		s.next.ServeHTTP(httptest.NewRecorder(), r)
	}
	close(reached)
	<-r.Context().Done()
}
