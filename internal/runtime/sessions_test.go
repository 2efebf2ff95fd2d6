package runtime

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func silent(http.ResponseWriter, *http.Request) {}

// at is a runtime as a call finds it, with settings that the API would not take.
func (h *hosted) at(t testing.TB, made *api.CreateAgentRuntimeResponse, change ...func(*api.UpdateAgentRuntimeRequest)) *served {
	t.Helper()
	found, err := h.shelf.Find(t.Context(), reference{testAccount, made.AgentRuntimeId, DefaultEndpoint})
	if err != nil {
		t.Fatal(err)
	}
	v := *found.version
	for _, f := range change {
		f(&v.settings)
	}
	return &served{runtime: found.runtime, arn: found.arn, endpoint: found.endpoint, version: &v}
}

func living(idle, life int32) func(*api.UpdateAgentRuntimeRequest) {
	return func(r *api.UpdateAgentRuntimeRequest) {
		r.LifecycleConfiguration = &api.LifecycleConfiguration{IdleRuntimeSessionTimeout: &idle, MaxLifetime: &life}
	}
}

func named(name string) string { return name + strings.Repeat("0", 36) }

// lastAgent is the one that was started last.
func (h *hosted) lastAgent() *inProcess {
	h.agents.mu.Lock()
	defer h.agents.mu.Unlock()
	return h.agents.living[len(h.agents.living)-1]
}

// begin acquires a session and counts the call out again.
func (h *hosted) begin(t testing.TB, caller principal.Caller, at *served, id string) *session {
	t.Helper()
	n, release, err := h.acquire(t.Context(), caller, at, id)
	if err != nil {
		t.Fatal(err)
	}
	release()
	return n
}

// rows are the ids of the sessions in the database.
func (h *hosted) rows(t testing.TB) (ids []string) {
	t.Helper()
	if err := h.db.View(t.Context(), func(tx *store.Tx) error {
		rows, err := listSessions(tx, testAccount, nil, sessionKey{}, 1000)
		ids = nil
		for _, r := range rows {
			ids = append(ids, r.key.id)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return ids
}

// Concurrent first calls start one agent; when it has ended nothing of it is left.
func TestFirstCallsStartOne(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := servingOn(t, db, silent)
		at := h.at(t, h.create(t, "one", nil))
		var calls sync.WaitGroup
		for range 40 {
			calls.Go(func() {
				_, release, err := h.acquire(t.Context(), h.admin(), at, named("a"))
				if err != nil {
					t.Error(err)
					return
				}
				release()
			})
		}
		calls.Wait()
		if h.agents.count() != 1 || len(h.rows(t)) != 1 {
			t.Errorf("%d agents, rows %v", h.agents.count(), h.rows(t))
		}
		n := h.begin(t, h.admin(), at, named("a"))
		n.stop("It was stopped.")
		if _, _, err := h.acquire(t.Context(), h.admin(), at, named("a")); err != nil && !fault.Is(err, fault.Concurrent) {
			t.Errorf("a call while the session stops: %v", err)
		}
		<-n.over
		h.Close()
		if rows := h.rows(t); len(rows) != 0 {
			t.Errorf("left behind: %v", rows)
		}
		if _, _, err := h.acquire(t.Context(), h.admin(), at, named("b")); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a session after the end: %v", err)
		}
	})
}

// Whoever leaves while an agent starts does not end it for the others; an agent
// that answers with errors of its own is not up yet.
func TestLeavingDuringStart(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	up := make(chan struct{})
	h.agents.ping = func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-up:
			_, _ = io.WriteString(w, `{"status":"Healthy"}`)
		default:
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	}
	at := h.at(t, h.create(t, "slow", nil))
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, _, err := h.acquire(ctx, h.admin(), at, named("a"))
		first <- err
	}()
	for h.agents.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	if err := <-first; err == nil {
		t.Error("the one who left was answered")
	}
	second := make(chan error, 1)
	go func() {
		_, release, err := h.acquire(t.Context(), h.admin(), at, named("a"))
		if err == nil {
			release()
		}
		second <- err
	}()
	close(up)
	if err := <-second; err != nil || h.agents.count() != 1 {
		t.Errorf("%v, %d agents", err, h.agents.count())
	}
}

// An agent that ends before it answers, or never answers, is told with what it
// printed, leaves nothing, and its id is free.
func TestAgentsThatDoNotStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		patience time.Duration
		ping     func(h *hosted, w http.ResponseWriter)
		want     string
	}{
		"ends": {startLimit, func(h *hosted, w http.ResponseWriter) {
			h.lastAgent().end("The agent ended with exit code 1.")
		}, "exit code 1"},
		"silent": {2 * time.Second, func(_ *hosted, w http.ResponseWriter) {
			http.Error(w, "no", http.StatusInternalServerError)
		}, "initialization time exceeded. Please make sure that initialization completes in 2s. The agent has to listen on the port that the variable PORT names."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := serving(t, silent)
			h.patience = c.patience
			h.agents.says, h.agents.ping = "no module named bread\n", func(w http.ResponseWriter, _ *http.Request) { c.ping(h, w) }
			at := h.at(t, h.create(t, "bad", nil))
			_, _, err := h.acquire(t.Context(), h.admin(), at, named("a"))
			if !fault.Is(err, fault.RuntimeClient) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "no module named bread") {
				t.Fatal(err)
			}
			if strings.Contains(fault.Of(err).Message, "bread") {
				t.Error("what the agent printed is in the message for everybody")
			}
			for len(h.those(func(*session) bool { return true })) > 0 {
				time.Sleep(time.Millisecond)
			}
			if rows := h.rows(t); len(rows) != 0 {
				t.Errorf("left behind: %v", rows)
			}
			h.agents.ping = nil
			h.begin(t, h.admin(), at, named("a"))
		})
	}
}

// A session can be stopped while it starts, and does not keep a platform that stops.
func TestEndingDuringStart(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	h.agents.ping = func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	at := h.at(t, h.create(t, "slow", nil))
	for _, c := range []struct {
		end  func(*session)
		want fault.Kind
	}{
		{func(n *session) { n.stop("It was stopped.") }, fault.Concurrent},
		{func(*session) { h.Close() }, fault.Unavailable},
	} {
		waits := make(chan error, 1)
		go func() {
			_, _, err := h.acquire(t.Context(), h.admin(), at, named("a"))
			waits <- err
		}()
		var n *session
		for n == nil || !n.enrolled() {
			n, _ = h.find(t.Context(), h.admin(), at.runtime.id, named("a"))
			time.Sleep(time.Millisecond)
		}
		c.end(n)
		if err := <-waits; !fault.Is(err, c.want) {
			t.Error(err)
		}
		<-n.over
	}
	if rows := h.rows(t); len(rows) != 0 {
		t.Errorf("left behind: %v", rows)
	}
}

// A session ends by its idle time, by its age though calls are under way, by its
// agent's end; work that the agent tells of, and a call, keep it.
func TestHowSessionsEnd(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	made := h.create(t, "ends", nil)
	var mu sync.Mutex
	ended := map[string]int{}
	h.options.Watch.Ended = func(reason string) {
		mu.Lock()
		defer mu.Unlock()
		ended[reason]++
	}
	idle := h.begin(t, h.admin(), h.at(t, made, living(1, 60)), named("idle"))
	<-idle.over

	old, release, err := h.acquire(t.Context(), h.admin(), h.at(t, made, living(1, 2)), named("old"))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	<-old.over
	if lived := time.Since(old.started); lived < 1900*time.Millisecond {
		t.Errorf("a session with a call under way ended after %v", lived)
	}

	crashed := h.begin(t, h.admin(), h.at(t, made), named("crashed"))
	h.lastAgent().end("The agent ended with exit code 3.")
	<-crashed.over
	if why := crashed.stopped(); !strings.Contains(why, "exit code 3") {
		t.Error(why)
	}
	for _, how := range []func(){
		func() { h.endEndpoint(made.AgentRuntimeId, DefaultEndpoint, "The endpoint was deleted.") },
		func() { h.endSessions(made.AgentRuntimeId, 1, "The version was deleted.") },
	} {
		n := h.begin(t, h.admin(), h.at(t, made), named("deleted"))
		how()
		<-n.over
	}
	other := h.begin(t, h.admin(), h.at(t, made), named("other"))
	h.endSessions(made.AgentRuntimeId, 7, "Another version was deleted.")
	h.endEndpoint(made.AgentRuntimeId, "another", "Another endpoint was deleted.")
	if why := other.stopped(); why != "" {
		t.Error(why)
	}
	h.Close()
	mu.Lock()
	defer mu.Unlock()
	if want := fmt.Sprint(map[string]int{"idle": 1, "lifetime": 1, "crashed": 1, "deleted": 2, "platform": 1}); fmt.Sprint(ended) != want {
		t.Errorf("ended: %v, want %s", ended, want)
	}
}

// A busy agent is kept; when its work has ended it idles out.
func TestBusyAgentIsKept(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	var busy sync.Mutex
	status := "HealthyBusy"
	h.agents.ping = func(w http.ResponseWriter, _ *http.Request) {
		busy.Lock()
		defer busy.Unlock()
		_, _ = fmt.Fprintf(w, `{"status":%q,"time_of_last_update":"%s"}`, status, time.Now().Format(time.RFC3339))
	}
	n := h.begin(t, h.admin(), h.at(t, h.create(t, "busy", nil), living(1, 60)), named("a"))
	select {
	case <-n.over:
		t.Fatal("a busy session ended: " + n.stopped())
	case <-time.After(3 * time.Second):
	}
	busy.Lock()
	status = "Healthy"
	busy.Unlock()
	<-n.over
	if n.reason() != endedIdle {
		t.Error(n.reason())
	}
}

// A session is used by the account, principal and user that opened it. A role's
// session name is a part of the principal.
func TestSessionsHaveOwners(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	at := h.at(t, h.create(t, "owned", nil))
	mine := principal.Caller{Kind: principal.Role, Account: testAccount, ARN: "arn:aws:sts::000000000000:assumed-role/app/one", User: principal.User{ID: "ada"}}
	n := h.begin(t, mine, at, named("a"))
	others := map[string]func(*principal.Caller){
		"user":         func(c *principal.Caller) { c.User.ID = "bob" },
		"no user":      func(c *principal.Caller) { c.User = principal.User{} },
		"proven user":  func(c *principal.Caller) { c.User = principal.User{Issuer: "https://i", Subject: "ada"} },
		"session name": func(c *principal.Caller) { c.ARN = "arn:aws:sts::000000000000:assumed-role/app/two" },
		"principal":    func(c *principal.Caller) { c.ARN = "arn:aws:iam::000000000000:root"; c.Root = true },
		"account":      func(c *principal.Caller) { c.Account = "111111111111" },
	}
	for name, change := range others {
		theirs := mine
		change(&theirs)
		if _, _, err := h.acquire(t.Context(), theirs, at, named("a")); !fault.Is(err, fault.Denied) {
			t.Errorf("another %s is let in: %v", name, err)
		}
		if _, err := h.find(t.Context(), theirs, at.runtime.id, named("a")); !fault.Is(err, fault.Denied) {
			t.Errorf("another %s finds it: %v", name, err)
		}
	}
	if found, err := h.find(t.Context(), mine, at.runtime.id, named("a")); err != nil || found != n {
		t.Error(err)
	}
	if _, err := h.find(t.Context(), mine, at.runtime.id, named("b")); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	h.options.SharedSessions = true
	for name, change := range others {
		theirs := mine
		change(&theirs)
		if _, release, err := h.acquire(t.Context(), theirs, at, named("a")); err != nil {
			t.Errorf("shared, another %s: %v", name, err)
		} else {
			release()
		}
	}
}

// Nobody gets all places, nor begins sessions without end.
func TestPlacesForSessions(t *testing.T) {
	t.Parallel()
	s := &Service{options: Options{MaxSessions: 100, NewSessions: 1000}, now: time.Now, live: sessions{all: map[sessionKey]*session{}}}
	enter := func(account, principal string) error {
		who := owner{account: account, principal: principal}
		err := s.admit(who)
		if err == nil {
			s.live.all[sessionKey{"r", fmt.Sprint(len(s.live.all))}] = &session{owner: who}
		}
		return err
	}
	count := func(account, principal string) (entered int) {
		for entered < 200 && enter(account, principal) == nil {
			entered++
		}
		return entered
	}
	if got := count("1", "greedy"); got != 90 {
		t.Errorf("one principal has %d of 100", got)
	}
	if got := count("1", "second"); got != 5 {
		t.Errorf("the second of the account has %d", got)
	}
	if got := count("2", "third"); got != 5 {
		t.Errorf("the other account has %d", got)
	}
	if err := enter("3", "late"); !fault.Is(err, fault.Throttled) {
		t.Error(err)
	}

	var a arrivals
	now := time.Now()
	for range 10 {
		if !a.admit(owner{principal: "p"}, 10, now) {
			t.Fatal("refused within the limit")
		}
	}
	if a.admit(owner{principal: "p"}, 10, now) || !a.admit(owner{principal: "q"}, 10, now) || !a.admit(owner{principal: "p"}, 10, now.Add(7*time.Second)) {
		t.Error("the eleventh, another's first, or the one after seven seconds")
	}
	for i := range maxArrivals + 10 {
		a.admit(owner{principal: fmt.Sprint(i)}, 10, now)
	}
	if len(a.buckets) > maxArrivals {
		t.Errorf("%d buckets", len(a.buckets))
	}
}

// A list shows the sessions of the runtimes that the caller may ask about, page by
// page, with their owners and states.
func TestListAgentRuntimeSessions(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := servingOn(t, db, silent)
		shown, hidden := h.create(t, "shown", nil), h.create(t, "hidden", nil)
		h.user(t, "watcher", `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"onbehalf:ListAgentRuntimeSessions","Resource":"*"},
			{"Effect":"Deny","Action":"onbehalf:ListAgentRuntimeSessions","Resource":"`+hidden.AgentRuntimeArn+`"}]}`)
		watcher := principal.Caller{Kind: principal.Key, Account: testAccount, ARN: "arn:aws:iam::" + testAccount + ":user/watcher"}
		ada := h.admin()
		ada.User = principal.User{ID: "ada"}
		eve := principal.Caller{Kind: principal.Bearer, Account: testAccount, User: principal.User{Issuer: "https://issuer.example", Subject: "eve"}}
		_, release, err := h.acquire(t.Context(), ada, h.at(t, shown), named("active"))
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		h.begin(t, eve, h.at(t, shown), named("idle"))
		h.begin(t, ada, h.at(t, hidden), named("hidden"))

		var all []api.AgentRuntimeSession
		one := int32(1)
		request := &api.ListAgentRuntimeSessionsRequest{MaxResults: &one}
		for pages := 0; ; pages++ {
			page, err := h.ListAgentRuntimeSessions(t.Context(), watcher, request)
			if err != nil || pages > 3 {
				t.Fatal(err, pages)
			}
			all = append(all, page.Sessions...)
			if request.NextToken = page.NextToken; page.NextToken == nil {
				break
			}
		}
		if len(all) != 2 || all[0].RuntimeSessionId != named("active") || all[0].Status != api.AgentRuntimeSessionStatusActive || *all[0].User.UserId != "ada" || *all[0].Principal != ada.ARN ||
			all[1].Status != api.AgentRuntimeSessionStatusIdle || all[1].Principal != nil || *all[1].User.Issuer != "https://issuer.example" || *all[1].User.Subject != "eve" || all[1].AgentRuntimeArn != shown.AgentRuntimeArn {
			t.Errorf("%+v", all)
		}
		other := principal.Caller{Kind: principal.Key, Account: "111111111111", ARN: "arn:aws:iam::111111111111:root", Root: true}
		if page, err := h.ListAgentRuntimeSessions(t.Context(), other, &api.ListAgentRuntimeSessionsRequest{}); err != nil || len(page.Sessions) != 0 {
			t.Errorf("another account sees %+v, %v", page, err)
		}
		if _, err := h.ListAgentRuntimeSessions(t.Context(), other, &api.ListAgentRuntimeSessionsRequest{AgentRuntimeId: &shown.AgentRuntimeId}); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	})
}

// An agent of MCP is up when its path answers at all, also with a stream that has no
// end, and is not asked again.
func TestReadinessOfMCP(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	kept := make(chan time.Duration, 10)
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		begun := time.Now()
		defer func() { kept <- time.Since(begun) }()
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	h.agents.ping = func(http.ResponseWriter, *http.Request) { t.Error("MCP has no /ping") }
	at := h.at(t, h.create(t, "mcp", speaking(api.ServerProtocolMcp)), living(3, 60))
	n := h.begin(t, h.admin(), at, named("a"))
	if took := <-kept; took > pingLimit-time.Second {
		t.Errorf("the agent's stream was read for %v", took)
	}
	<-n.over
	if n.reason() != endedIdle || asked.Load() != 1 {
		t.Errorf("%s, asked %d times", n.reason(), asked.Load())
	}
}

// Many sessions begin and end at once on one server, and none is left.
func TestManySessions(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := servingOn(t, db, silent)
		at := h.at(t, h.create(t, "many", nil))
		var calls sync.WaitGroup
		for i := range 100 {
			calls.Go(func() {
				n, release, err := h.acquire(t.Context(), h.admin(), at, named(fmt.Sprint("s", i)))
				if err != nil {
					t.Error(err)
					return
				}
				release()
				if i%2 == 0 {
					n.stop("It was stopped.")
				}
			})
		}
		calls.Wait()
		h.tell(t.Context())
		h.Close()
		if err := h.strikeAgain(t.Context()); err != nil { // a slow disk has no time for so many at once
			t.Error(err)
		}
		if rows := h.rows(t); len(rows) != 0 {
			t.Errorf("left behind: %v", rows)
		}
	})
}
