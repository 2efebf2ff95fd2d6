package e2e

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"
)

// small are limits that a hostile agent finds soon.
var small = []string{"--agent-memory", "256MiB", "--agent-disk", "32MiB", "--agent-processes", "64"}

// Agents that crash, hang and take what they can get: each ends as it should, its
// callers are told why, and a neighbour's session goes on as if nothing were.
func TestHostileAgents(t *testing.T) {
	t.Parallel()
	h := startHosting(t, small...)
	hostile := goAgent(t, "agents/hostile")
	neighbour := h.host("neighbour", hostile)
	theirs := session("neighbour")
	counted := 0
	count := func() {
		t.Helper()
		var now int
		if neighbour.do(theirs, nil, &now); now != counted+1 {
			t.Errorf("the neighbour's session counts %d calls after %d", now, counted)
		}
		counted = now
	}
	count()
	// Those that take half a minute take it while the others are looked at.
	deaf, silent := callLate(h.host("deaf", hostile, behaving("deaf"))), callLate(h.host("silent", hostile, behaving("silent")))
	for name, story := range map[string]func(t *testing.T, h *hosting, c code){
		"crashes at its import": crashesAtImport, "crashes at its start": crashesAtStart, "panics at its start": panicsAtStart,
		"crashes in a call": crashesInCall, "crashes mid-stream": crashesMidStream,
		"forks": forks, "fills its memory": fillsMemory, "fills its disk": fillsDisk, "ignores SIGTERM": ignoresSIGTERM,
	} {
		t.Run(name, func(t *testing.T) {
			mine := *h
			mine.t = t
			story(t, &mine, hostile)
			count()
		})
	}
	t.Run("listens nowhere", func(t *testing.T) { deaf.check(t) })
	t.Run("never answers ping", func(t *testing.T) { silent.check(t) })
	count()
}

// behaving makes a runtime whose agent does something before it serves.
func behaving(what string) func(*createRuntime) {
	return func(r *createRuntime) { r.EnvironmentVariables = map[string]string{"HOSTILE": what} }
}

// soon wants something to be told at once, where there is nothing to wait for.
func soon(t *testing.T, began time.Time) {
	t.Helper()
	if took := time.Since(began); took > 25*time.Second { // before the time for a start is over
		t.Errorf("it took %v to tell", took)
	}
}

func crashesAtImport(t *testing.T, h *hosting, _ code) {
	need(t, "Python", exists("clients/.venv/bin/python"))
	a := h.host("import", code{archive: zipped(t, map[string]string{"main.py": "agents/broken/main.py"}), runtime: pythonRuntime(t), entry: []string{"main.py"}})
	began := time.Now()
	said := a.refused(call{session: session("one")}, "RuntimeClientError")
	soon(t, began)
	if !strings.Contains(said, "ModuleNotFoundError") || !strings.Contains(said, "a_package_that_nobody_installed") {
		t.Errorf("the caller is told %q, and not what is missing", said)
	}
}

func crashesAtStart(t *testing.T, h *hosting, c code) {
	a := h.host("start", c, behaving("crashes"))
	for range 2 { // the second is a new start, and no memory of the first
		began := time.Now()
		said := a.refused(call{session: session("one")}, "RuntimeClientError")
		soon(t, began)
		if !strings.Contains(said, "the configuration is missing") || !strings.Contains(said, "3") {
			t.Errorf("the caller is told %q: neither the agent's last words nor its exit status 3", said)
		}
	}
}

func panicsAtStart(t *testing.T, h *hosting, c code) {
	a := h.host("panics", c, behaving("panics"))
	if said := a.refused(call{session: session("one")}, "RuntimeClientError"); !strings.Contains(said, "no luck at the start") {
		t.Errorf("the caller is told %q", said)
	}
}

// lateCall is a first call of an agent that never answers.
type lateCall struct {
	agent *hosted
	err   error
	took  time.Duration
	done  chan struct{}
}

func callLate(a *hosted) *lateCall {
	l := &lateCall{agent: a, done: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(l.done)
		_, l.err = a.try(call{session: session("one")})
		l.took = time.Since(began)
	}()
	return l
}

// check: after 30 seconds the caller is told, and the agent is ended.
func (l *lateCall) check(t *testing.T) {
	<-l.done
	if l.took < 25*time.Second || l.took > 59*time.Second {
		t.Errorf("the caller waited %v; the limit is 30s", l.took)
	}
	var problem smithy.APIError
	if !errors.As(l.err, &problem) || problem.ErrorCode() != "RuntimeClientError" || !strings.Contains(problem.ErrorMessage(), "Runtime initialization time exceeded") || !strings.Contains(problem.ErrorMessage(), "30s") {
		t.Errorf("the caller is told %v", l.err)
	}
	l.agent.sessionsEnd()
}

func crashesInCall(t *testing.T, h *hosting, c code) {
	a := h.host("call", c)
	one := session("one")
	for range 3 {
		a.do(one, nil, nil)
	}
	began := time.Now()
	said := a.refused(call{session: one, payload: map[string]any{"do": "crash"}}, "RuntimeClientError")
	soon(t, began)
	if !strings.Contains(said, "4") || !strings.Contains(said, "the last words") {
		t.Errorf("the caller is told %q: neither the last words nor the exit status 4", said)
	}
	a.afresh(one)
}

func crashesMidStream(t *testing.T, h *hosting, c code) {
	a := h.host("midstream", c)
	one := session("one")
	answer, err := a.begin(t.Context(), call{session: one, payload: map[string]any{"do": "crash mid-stream"}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Response.Close()
	content, err := io.ReadAll(answer.Response)
	if !strings.Contains(string(content), "so far") {
		t.Errorf("what came before the crash is lost: %q", content)
	}
	if err == nil {
		t.Error("a stream that broke off looks like one that ended")
	}
	a.afresh(one)
}

func forks(t *testing.T, h *hosting, c code) {
	a := h.host("forks", c)
	one := session("one")
	text, err := a.try(call{session: one, payload: map[string]any{"do": "fork"}})
	if err == nil && strings.TrimSpace(text) == "0" {
		t.Error("it could not fork at all")
	}
	t.Logf("it saw %s processes at most, %v", text, err)
	if now := len(h.descendants()); now > 64+200 { // its own, and those of the other agents of the story
		t.Errorf("%d processes are there", now)
	}
	if err := a.stop(one); err != nil {
		var gone smithy.APIError
		if !errors.As(err, &gone) || gone.ErrorCode() != "ResourceNotFoundException" {
			t.Error(err)
		}
	}
	a.sessionsEnd()
	a.afresh(one)
}

func fillsMemory(t *testing.T, h *hosting, c code) {
	a := h.host("memory", c)
	one := session("one")
	said := a.refused(call{session: one, payload: map[string]any{"do": "fill memory"}}, "RuntimeClientError")
	t.Logf("the caller is told: %s", said)
	a.afresh(one)
}

func fillsDisk(t *testing.T, h *hosting, c code) {
	a := h.host("disk", c)
	one := session("one")
	for _, folder := range []string{"/tmp", "/home/agent", "/dev/shm"} {
		var full struct {
			Megabytes int
			Error     string
		}
		if a.do(one, map[string]any{"do": "fill disk", "path": folder}, &full); full.Megabytes > 32 || full.Megabytes < 8 || full.Error == "" {
			t.Errorf("%s takes %d MB, %q; 32 MB are allowed", folder, full.Megabytes, full.Error)
		}
		if err := os.Remove(folder + "/full"); err == nil {
			t.Errorf("%s is the machine's own", folder)
		}
	}
	for _, folder := range []string{"/app", "/", "/usr", "/etc"} {
		if _, err := a.try(call{session: one, payload: map[string]any{"do": "fill disk", "path": folder}}); err == nil {
			t.Errorf("it may write to %s", folder)
		}
	}
}

func ignoresSIGTERM(t *testing.T, h *hosting, c code) {
	a := h.host("stubborn", c, behaving("stubborn"))
	one := session("one")
	a.do(one, nil, nil)
	began := time.Now()
	if err := a.stop(one); err != nil {
		t.Fatal(err)
	}
	// While it is being ended its id is not free yet.
	for done := false; !done; time.Sleep(200 * time.Millisecond) {
		_, err := a.try(call{session: one})
		var problem smithy.APIError
		switch {
		case err == nil:
			done = true
		case !errors.As(err, &problem) || problem.ErrorCode() != "RetryableConflictException":
			t.Fatalf("while it is being stopped: %v", err)
		case time.Since(began) > time.Minute:
			t.Fatalf("a minute after it was told to stop it is still there")
		}
	}
	if took := time.Since(began); took < 10*time.Second || took > 40*time.Second {
		t.Errorf("it was ended after %v; it has 15s", took)
	}
}

// afresh: after a crash the same id gets a new process, which has counted nothing.
func (a *hosted) afresh(session string) {
	a.t.Helper()
	var count int
	eventually(a.t, time.Minute, "the session begins afresh", func() bool {
		_, err := a.try(call{session: session, payload: map[string]any{"do": "credentials"}})
		return err == nil
	})
	if a.do(session, nil, &count); count != 1 {
		a.t.Errorf("a session that began afresh has counted %d calls", count)
	}
}

// sessionsEnd waits until the runtime has no session any more.
func (a *hosted) sessionsEnd() {
	a.t.Helper()
	eventually(a.t, time.Minute, "the runtime's sessions have ended", func() bool { return len(a.sessions()) == 0 })
}

// A missing interpreter, and code that nobody put, are told when the runtime is made.
func TestRuntimesThatCannotBeMade(t *testing.T) {
	t.Parallel()
	h := startHosting(t)
	script := zipped(t, map[string]string{"main.py": "agents/broken/main.py"})
	for name, test := range map[string]struct {
		c    code
		want string
	}{
		"interpreter": {code{archive: script, runtime: missingPython(), entry: []string{"main.py"}}, "Python"},
	} {
		if test.c.runtime == "" {
			continue // this machine has them all
		}
		status, why := h.create(name, test.c).settled()
		if status != control.AgentRuntimeStatusCreateFailed || !strings.Contains(why, test.want) || !strings.Contains(why, "Install") {
			t.Errorf("%s: %s %q; want CREATE_FAILED that says how to get it", name, status, why)
		}
	}
}
