package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// PingStatus is what an agent says of itself. A runtime ends a session that has
// been Healthy without a call for its idle time, and keeps one that is HealthyBusy.
type PingStatus string

// The two answers that a runtime knows.
const (
	Healthy     PingStatus = "Healthy"
	HealthyBusy PingStatus = "HealthyBusy"
)

// Task is work that goes on after its call was answered.
type Task struct {
	Name    string
	Started time.Time
}

// health is what /ping answers from. Its lock is held for moments only, so that
// /ping answers whatever the agent is busy with.
type health struct {
	mu      sync.Mutex
	forced  PingStatus
	custom  func() PingStatus
	tasks   map[int64]Task
	last    int64 // the last task's number
	told    PingStatus
	changed time.Time     // when told became what it is
	idle    chan struct{} // closed when the last task ends; nil while there is none
}

// Ping lets fn say how the agent is, instead of busy while tasks run. fn must
// not wait for anything; what it answers besides the two statuses, or a panic, counts
// as no answer.
func (a *App) Ping(fn func() PingStatus) *App {
	a.health.mu.Lock()
	defer a.health.mu.Unlock()
	a.health.custom = fn
	return a
}

// ForcePing makes /ping answer status until [App.ClearForcedPing], whatever runs.
func (a *App) ForcePing(status PingStatus) {
	a.health.mu.Lock()
	defer a.health.mu.Unlock()
	a.health.forced = status
}

// ClearForcedPing takes ForcePing back.
func (a *App) ClearForcedPing() { a.ForcePing("") }

// Track says that work begins which goes on after the call: /ping answers
// HealthyBusy until done is called, so that the session lives. done may be called
// more than once.
func (a *App) Track(name string) (done func()) {
	h := &a.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tasks == nil {
		h.tasks = map[int64]Task{}
	}
	if len(h.tasks) == 0 {
		h.idle = make(chan struct{})
	}
	h.last++
	id := h.last
	h.tasks[id] = Task{Name: name, Started: time.Now()}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, running := h.tasks[id]; !running {
			return
		}
		delete(h.tasks, id)
		if len(h.tasks) == 0 {
			close(h.idle)
		}
	}
}

// Go runs fn as a task of its own, which /ping knows of. Its context has what
// ctx has (the session, the workload token), and does not end with the call but
// ten seconds after the agent was told to stop. A panic or an error is logged.
func (a *App) Go(ctx context.Context, name string, fn func(context.Context) error) {
	a.prepare()
	done := a.Track(name)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(a.life, cancel)
	go func() {
		defer done()
		defer cancel()
		defer unhook()
		if err := contained(func() error { return fn(ctx) }); err != nil {
			a.failed(ctx, "The task "+name+" failed.", err)
		}
	}()
}

// Tasks are those that run, oldest first.
func (a *App) Tasks() []Task {
	a.health.mu.Lock()
	defer a.health.mu.Unlock()
	ids := slices.Sorted(maps.Keys(a.health.tasks))
	tasks := make([]Task, len(ids))
	for i, id := range ids {
		tasks[i] = a.health.tasks[id]
	}
	return tasks
}

// wait waits for the tasks to end; false when the context ended first.
func (h *health) wait(ctx context.Context) bool {
	h.mu.Lock()
	idle, running := h.idle, len(h.tasks) > 0
	h.mu.Unlock()
	if !running {
		return true
	}
	select {
	case <-idle:
		return true
	case <-ctx.Done():
		return false
	}
}

// status is what is answered now, and since when that is so. A time that moved
// with each ping would tell the runtime of changes where there are none, and keep
// an idle session alive.
func (a *App) status() (PingStatus, time.Time) {
	h := &a.health
	h.mu.Lock()
	custom, status := h.custom, h.forced
	h.mu.Unlock()
	if status == "" && custom != nil {
		status = a.ask(custom)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if status == "" {
		status = Healthy
		if len(h.tasks) > 0 {
			status = HealthyBusy
		}
	}
	if status != h.told {
		h.told, h.changed = status, time.Now()
	}
	return h.told, h.changed
}

// ask is the custom status, or "" where it is none.
func (a *App) ask(custom func() PingStatus) (status PingStatus) {
	err := contained(func() error {
		status = custom()
		if status != Healthy && status != HealthyBusy {
			return fmt.Errorf("%q is neither %s nor %s", status, Healthy, HealthyBusy)
		}
		return nil
	})
	if err != nil {
		a.failed(context.Background(), "The function given to Ping did not answer; the status is the automatic one.", err)
		return ""
	}
	return status
}

func (a *App) ping(w http.ResponseWriter, _ *http.Request) {
	status, since := a.status()
	w.Header().Set("Content-Type", contentJSON)
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(struct {
		Status PingStatus `json:"status"`
		Since  int64      `json:"time_of_last_update"` // Unix seconds
	}{status, since.Unix()})
}
