package e2e

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// Streams reach the caller while the agent still speaks, and a caller who leaves
// takes the agent's work along.
func TestHostedStreams(t *testing.T) {
	t.Parallel()
	h := startHosting(t)
	a := h.host("streams", goAgent(t, "agents/hostile"))

	t.Run("the first event comes first", func(t *testing.T) {
		t.Parallel()
		one := session("first")
		a.do(one, nil, nil) // so that its start is not what is measured
		var at []time.Time
		for try := 0; try < 5 && !apart(at); try++ { // a busy machine may be late once
			at = a.arrivals(t, one, map[string]any{"do": "stream", "count": 10, "millis": 400})
		}
		// Ten, of which the last is sent 3.6 seconds after the first.
		if len(at) != 10 || !apart(at) {
			t.Errorf("%d events, at %v: not as the agent sent them", len(at), at)
		}
	})

	for what, payload := range map[string]map[string]any{
		"leaves a stream":      {"do": "stream", "count": 1000, "millis": 100},
		"leaves before a word": {"do": "wait"},
	} {
		t.Run("a caller who "+what, func(t *testing.T) {
			t.Parallel()
			one := session(strings.ReplaceAll(what, " ", "-"))
			a.do(one, nil, nil)
			late := int64(1 << 40)
			for try := 0; late > 1000 && try < 10 && !t.Failed(); try++ { // a busy machine may be late once
				late = a.leave(t, one, payload)
			}
			if late > 1000 {
				t.Errorf("the agent noticed after %d ms; a second is allowed", late)
			}
		})
	}
}

// apart is whether the last event came well after the first.
func apart(at []time.Time) bool {
	return len(at) > 0 && at[len(at)-1].Sub(at[0]) >= 1500*time.Millisecond
}

// arrivals are when the events of a call arrived.
func (a *hosted) arrivals(t *testing.T, one string, payload map[string]any) (at []time.Time) {
	t.Helper()
	answer, err := a.begin(t.Context(), call{session: one, payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Response.Close()
	if kind := *answer.ContentType; !strings.HasPrefix(kind, "text/event-stream") || *answer.RuntimeSessionId != one {
		t.Errorf("content type %s, session %s", kind, *answer.RuntimeSessionId)
	}
	for lines := bufio.NewScanner(answer.Response); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			at = append(at, time.Now())
		}
	}
	return at
}

// leave makes a call and leaves it when the agent is at work, and says how many
// milliseconds later the agent has noticed.
func (a *hosted) leave(t *testing.T, one string, payload map[string]any) (late int64) {
	t.Helper()
	tell := func() (state struct{ Waiting, Cancelled int64 }) {
		a.do(one, map[string]any{"do": "callers"}, &state)
		return state
	}
	before := tell().Cancelled
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan int64, 1)
	if payload["do"] == "stream" {
		answer, err := a.begin(ctx, call{session: one, payload: payload})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(answer.Response, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		left <- time.Now().UnixMilli()
		leave()
		_ = answer.Response.Close()
	} else {
		go func() {
			eventually(t, time.Minute, "the agent is at work", func() bool { return tell().Waiting > 0 })
			left <- time.Now().UnixMilli()
			leave()
		}()
		if answer, err := a.begin(ctx, call{session: one, payload: payload}); err == nil {
			_ = answer.Response.Close()
			t.Fatal("it was answered")
		}
	}
	var noticed int64
	eventually(t, time.Minute, "the agent notices that its caller has left", func() bool {
		noticed = tell().Cancelled
		return noticed != before
	})
	return noticed - <-left
}
