package runtime

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// another is a second server of the same database, with the sessions of none.
func (h *hosted) another(t testing.TB, home string) *Service {
	t.Helper()
	o := h.options
	o.Folder = t.TempDir()
	s := New(h.db, h.keeper, h.identity, h.guard, h.gate, o)
	s.node = machine{home: home, name: home + ".process"}
	t.Cleanup(s.Close)
	return s
}

// A session that runs on another live server is told of; a dead server's is taken over,
// and when the dead one wakes, its session ends.
func TestSessionsOfOtherServers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := servingOn(t, db, silent)
		at := h.at(t, h.create(t, "replicated", nil))
		n := h.begin(t, h.admin(), at, named("a"))
		other := h.another(t, "elsewhere")
		if _, _, err := other.acquire(t.Context(), h.admin(), at, named("a")); !fault.Is(err, fault.Concurrent) || !strings.Contains(err.Error(), "load balancer") {
			t.Errorf("another server's session: %v", err)
		}
		stranger := principal.Caller{Kind: principal.Key, Account: testAccount, ARN: "arn:aws:iam::000000000000:user/stranger"}
		if _, _, err := other.acquire(t.Context(), stranger, at, named("a")); !fault.Is(err, fault.Denied) {
			t.Errorf("a stranger at the other server: %v", err)
		}
		if _, err := other.find(t.Context(), h.admin(), at.runtime.id, named("a")); !fault.Is(err, fault.Concurrent) {
			t.Errorf("found: %v", err)
		}
		list, err := other.ListAgentRuntimeSessions(t.Context(), h.admin(), &api.ListAgentRuntimeSessionsRequest{})
		if err != nil || len(list.Sessions) != 1 || list.Sessions[0].RuntimeSessionId != named("a") {
			t.Errorf("%+v, %v", list, err)
		}
		// The lease runs out: nobody hears of the first server any more.
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE leases SET expires = $1 WHERE name = $2", store.Micros(tx.Now.Add(-time.Second)), h.node.lease())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		_, release, err := other.acquire(t.Context(), h.admin(), at, named("a"))
		if err != nil {
			t.Fatal(err)
		}
		release()
		h.tell(t.Context())
		<-n.over
		if n.reason() != endedLost || len(h.rows(t)) != 1 {
			t.Errorf("%s, rows %v", n.reason(), h.rows(t))
		}
	})
}

// The rows of an earlier process of the installation go at once, those of servers
// that are gone for good with their lease; a live one's stay.
func TestRowsOfTheDead(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := servingOn(t, db, silent)
		at := h.at(t, h.create(t, "left", nil))
		h.begin(t, h.admin(), at, named("mine"))
		live := h.another(t, "live")
		_, release, err := live.acquire(t.Context(), h.admin(), at, named("live"))
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			for id, node := range map[string]string{"killed": h.node.home + ".earlier", "gone": "gone.for-good"} {
				if _, err := tx.Exec(`INSERT INTO agent_sessions (runtime_id, session, account, endpoint, version, principal, user_line, node, created, last_used)
					VALUES ($1, $2, $3, 'DEFAULT', 1, 'p', '', $4, 1, 1)`, at.runtime.id, named(id), testAccount, node); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		list, err := h.ListAgentRuntimeSessions(t.Context(), h.admin(), &api.ListAgentRuntimeSessionsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, listed := range list.Sessions {
			if listed.RuntimeSessionId == named("killed") {
				t.Error("a session of the process that was killed is listed")
			}
		}
		if err := h.clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rows := h.rows(t); len(rows) != 2 || rows[0] != named("live") || rows[1] != named("mine") {
			t.Errorf("%v", rows)
		}
		// A session of the killed process's id starts afresh, whoever had it.
		h.begin(t, h.admin(), at, named("killed"))
	})
}

// A session whose row could not be taken away when it ended, for a disk that was slow,
// is not listed, and its row goes later. Another of the same id, and others, keep theirs.
func TestRowsLeftBehind(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := servingOn(t, db, silent)
		at := h.at(t, h.create(t, "left", nil))
		h.begin(t, h.admin(), at, named("running"))
		n := h.begin(t, h.admin(), at, named("ended"))
		n.stop("It was stopped.")
		<-n.over
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO agent_sessions (runtime_id, session, account, endpoint, version, principal, user_line, node, created, last_used)
				VALUES ($1, $2, $3, 'DEFAULT', 1, 'p', '', $4, 1, 1)`, at.runtime.id, named("ended"), testAccount, h.node.name)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		late, cancel := context.WithCancel(t.Context())
		cancel()
		h.strike(late, n) // as if its time had been over
		if rows := h.rows(t); len(rows) != 2 {
			t.Fatalf("%v", rows)
		}
		list, err := h.ListAgentRuntimeSessions(t.Context(), h.admin(), &api.ListAgentRuntimeSessionsRequest{})
		if err != nil || len(list.Sessions) != 1 || list.Sessions[0].RuntimeSessionId != named("running") {
			t.Errorf("%+v, %v", list, err)
		}
		if err := h.strikeAgain(late); err == nil {
			t.Error("it is done without a database")
		}
		if err := h.strikeAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rows := h.rows(t); len(rows) != 1 || rows[0] != named("running") {
			t.Errorf("%v", rows)
		}
		if h.unstruck.Load() {
			t.Error("it is tried for ever")
		}
	})
}

// last_used follows use, and a deleted runtime's sessions end on every server.
func TestTelling(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	at := h.at(t, h.create(t, "told", nil))
	n := h.begin(t, h.admin(), at, named("a"))
	later := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	n.mu.Lock()
	n.lastUsed = later
	n.mu.Unlock()
	h.tell(t.Context())
	var used int64
	if err := h.db.View(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRow("SELECT last_used FROM agent_sessions").Scan(&used)
	}); err != nil || !store.Time(used).Equal(later) {
		t.Errorf("%v, %v", store.Time(used), err)
	}
	if err := h.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM agent_sessions")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	h.tell(t.Context())
	<-n.over
	if n.reason() != endedLost {
		t.Error(n.reason())
	}
}

// The name of an installation is kept, the process's is new each time.
func TestNamesOfServers(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	a, b := openNode(folder), openNode(folder)
	if a.home != b.home || a.name == b.name || openNode(t.TempDir()).home == a.home {
		t.Errorf("%+v, %+v", a, b)
	}
}
