package e2e

import (
	"bufio"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
)

// held is what a platform holds of its machine.
type held struct {
	goroutines, files int // as its metrics say
	processes         int
	entries           []string // of its data folder, but the logs that it keeps
}

// holds reads what the platform holds now.
func (p *platform) holds(metrics string) held {
	p.t.Helper()
	numbers := map[string]float64{}
	response, err := http.Get(metrics)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			numbers[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	h := held{goroutines: int(numbers["go_goroutines"]), files: int(numbers["process_open_fds"]), processes: len(p.descendants())}
	_ = filepath.WalkDir(filepath.Join(p.data, "agents"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "logs" || strings.HasPrefix(path, filepath.Join(p.data, "agents", "code")+"/")) {
			return fs.SkipDir
		}
		if err == nil {
			h.entries = append(h.entries, strings.TrimPrefix(path, p.data))
		}
		return nil
	})
	return h
}

// Many sessions at once: begun, used by many callers, and idled out, while calls
// go on; and nothing is left of them, neither process nor file nor goroutine.
func TestManySessions(t *testing.T) {
	t.Parallel()
	count, rounds := 25, 4
	if long() {
		count, rounds = 200, 20
	}
	metrics := "127.0.0.1:" + freePort(t)
	h := startHosting(t, "--metrics-addr", metrics, "--limit", "off", "--agent-new-sessions", "100000")
	metrics = "http://" + metrics + "/metrics"
	a := h.host("many", goAgent(t, "agents/hostile"), func(r *createRuntime) {
		r.LifecycleConfiguration = &control.LifecycleConfiguration{IdleRuntimeSessionTimeout: aws.Int32(60), MaxLifetime: aws.Int32(3600)}
	})
	// What the platform makes once, or keeps for the next who asks, such as its database's
	// readers, is there when it is looked at first: some sessions have come and gone.
	if wrong := a.crowd("warm", count, 2); wrong != 0 {
		t.Errorf("%d calls reached another session than theirs", wrong)
	}
	for number := range count {
		if err := a.stop(session(fmt.Sprintf("warm-%d", number))); err != nil {
			t.Fatal(err)
		}
	}
	a.sessionsEnd()
	before := h.holds(metrics)

	began := time.Now()
	wrong := a.crowd("many", count, rounds)
	t.Logf("%d sessions, %d calls each, in %v", count, rounds, time.Since(began).Round(time.Millisecond))
	if wrong != 0 {
		t.Errorf("%d calls reached another session than theirs", wrong)
	}
	during := h.holds(metrics)
	if listed := a.sessions(); len(listed) != min(count, 50) { // a page
		t.Errorf("%d sessions are listed of %d", len(listed), count)
	}
	if during.processes < 2*count {
		t.Errorf("%d processes are there for %d sessions", during.processes, count)
	}
	// One goes on being used: idle time is not age. The others end.
	used := session("many-0")
	ended := false
	for deadline := time.Now().Add(150 * time.Second); !ended && time.Now().Before(deadline); time.Sleep(time.Second) {
		a.doFor(used, "user-0", map[string]any{"do": "count"}, nil)
		ended = len(a.sessions()) == 1
	}
	if !ended {
		t.Errorf("%d sessions are there, 150 s after the last call of all but one; they may be idle for 60 s", len(a.sessions()))
	}
	if err := a.stop(used); err != nil {
		t.Error(err)
	}
	a.sessionsEnd()

	var after held
	var left []string // it may be being removed still when its process has gone
	eventually(t, time.Minute, "nothing is left of the sessions", func() bool {
		after = h.holds(metrics)
		left = slices.DeleteFunc(slices.Clone(after.entries), func(entry string) bool { return slices.Contains(before.entries, entry) })
		// The database's pool may have grown by a few connections; a leak would be one for each session.
		return after.processes == 0 && after.goroutines <= before.goroutines+15 && after.files <= before.files+15 && len(left) == 0
	})
	t.Logf("before %d goroutines, %d files; with the sessions %d, %d, %d processes; after %d, %d, %d",
		before.goroutines, before.files, during.goroutines, during.files, during.processes, after.goroutines, after.files, after.processes)
	if len(left) > 0 {
		t.Errorf("these files are left: %q", left)
	}
}

// crowd has so many sessions called at once, each so often, and counts the calls that
// reached another session. The callers' connections are not the sessions': they are
// closed before anything is counted.
func (a *hosted) crowd(name string, count, rounds int) int64 {
	a.t.Helper()
	connections := &http.Transport{MaxIdleConnsPerHost: count}
	defer connections.CloseIdleConnections()
	data := bedrockagentcore.NewFromConfig(a.aws, func(o *bedrockagentcore.Options) { o.HTTPClient = &http.Client{Transport: connections} })
	var callers sync.WaitGroup
	var wrong atomic.Int64
	for number := range count {
		callers.Go(func() {
			one, user := session(fmt.Sprintf("%s-%d", name, number)), fmt.Sprintf("user-%d", number)
			for round := range rounds {
				answer, err := a.try(call{session: one, user: user, client: data})
				if err != nil {
					a.t.Errorf("%s, call %d: %v", user, round+1, err)
					return
				}
				if strings.TrimSpace(answer) != fmt.Sprint(round+1) {
					wrong.Add(1)
				}
			}
		})
	}
	callers.Wait()
	return wrong.Load()
}

// Two sessions at once of agents on the published packages: each has its own
// conversation, here with Azure's model.
func TestConcurrentSessionsOfPublishedPackages(t *testing.T) {
	t.Parallel()
	for _, language := range []string{"Python", "TypeScript"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			c := tutorialAgents[language](t)
			h := startHosting(t)
			a := h.host("concurrent", c, func(r *createRuntime) {
				r.EnvironmentVariables = map[string]string{
					"OPENAI_PROVIDER": "azure", "AZURE_OPENAI_ENDPOINT": h.modelURL, "AZURE_OPENAI_API_VERSION": "2025-01-01", "AZURE_OPENAI_DEPLOYMENT": "mini",
				}
			})
			var both sync.WaitGroup
			for _, who := range []string{"ada", "bob"} {
				both.Go(func() {
					for _, turn := range [][2]string{
						{"my name is " + who, who}, {"How much is 2X2?", "The tool says: 4"}, {"What did I say before?", "Before, you said: my name is " + who + " / How much is 2X2?"},
					} {
						answer, err := a.try(call{session: session(who), user: who, payload: map[string]string{"prompt": turn[0]}})
						if err != nil || !strings.Contains(answer, turn[1]) {
							t.Errorf("%s, %q: %q, %v; want %q", who, turn[0], answer, err, turn[1])
							return
						}
					}
				})
			}
			both.Wait()
		})
	}
}

// kill -9 of the platform takes all sessions along; after the start nothing is
// remembered of them, and their ids begin afresh.
func TestSessionsDieWithTheirPlatform(t *testing.T) {
	t.Parallel()
	h := startHosting(t, "--addr", "127.0.0.1:"+freePort(t))
	a := h.host("killed", goAgent(t, "agents/hostile"))
	stubborn := h.host("stubborn", goAgent(t, "agents/hostile"), behaving("stubborn"))
	for number := range 5 {
		for range 3 {
			a.do(session(fmt.Sprintf("killed-%d", number)), nil, nil)
		}
	}
	stubborn.do(session("stubborn"), nil, nil)
	if _, err := stubborn.try(call{session: session("forked"), payload: map[string]any{"do": "wait a moment"}}); err == nil {
		t.Error("an agent knows what it does not know")
	}
	there := h.descendants()
	if len(there) < 12 {
		t.Fatalf("%d processes for 7 sessions", len(there))
	}
	began := map[int]string{}
	for _, p := range processTable(t) {
		if _, ours := there[p.id]; ours {
			began[p.id] = p.began
		}
	}

	h.kill()
	eventually(t, time.Minute, "the sessions' processes have ended with the platform", func() bool { return len(alive(t, began)) == 0 })
	for id := range alive(t, began) {
		t.Errorf("process %d is left: %s", id, there[id])
	}

	h.start()
	if listed := a.sessions(); len(listed) != 0 {
		t.Errorf("after the start %d sessions are listed", len(listed))
	}
	var counted int
	if a.do(session("killed-0"), nil, &counted); counted != 1 {
		t.Errorf("a session goes on after the platform was killed: it has counted %d calls", counted)
	}

	// An operator's stop does the same, and waits for it.
	there, began = h.descendants(), map[int]string{}
	for _, p := range processTable(t) {
		if _, ours := there[p.id]; ours {
			began[p.id] = p.began
		}
	}
	h.stop()
	for id := range alive(t, began) {
		t.Errorf("after a stop process %d is left: %s", id, there[id])
	}
	h.start()
	for _, folder := range []string{"half-", "upload-", "archive-"} {
		if found, _ := filepath.Glob(filepath.Join(h.data, "agents", "*", folder+"*")); len(found) > 0 {
			t.Errorf("left behind: %q", found)
		}
	}
}

// alive are those of the processes that are still the same.
func alive(t *testing.T, began map[int]string) map[int]bool {
	t.Helper()
	found := map[int]bool{}
	for _, p := range processTable(t) {
		if began[p.id] == p.began {
			found[p.id] = true
		}
	}
	return found
}
