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
		answer, err := a.begin(t.Context(), call{session: one, payload: map[string]any{"do": "stream", "count": 10, "millis": 200}})
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Response.Close()
		if kind := *answer.ContentType; !strings.HasPrefix(kind, "text/event-stream") || *answer.RuntimeSessionId != one {
			t.Errorf("content type %s, session %s", kind, *answer.RuntimeSessionId)
		}
		var at []time.Time
		for lines := bufio.NewScanner(answer.Response); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data: ") {
				at = append(at, time.Now())
			}
		}
		if len(at) != 10 || at[9].Sub(at[0]) < 1500*time.Millisecond {
			t.Errorf("%d events, the last %v after the first: not as the agent sent them", len(at), at[len(at)-1].Sub(at[0]))
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
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			if payload["do"] == "stream" {
				answer, err := a.begin(ctx, call{session: one, payload: payload})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(answer.Response, make([]byte, 10)); err != nil {
					t.Fatal(err)
				}
				leave()
				_ = answer.Response.Close()
			} else {
				time.AfterFunc(500*time.Millisecond, leave)
				if answer, err := a.begin(ctx, call{session: one, payload: payload}); err == nil {
					_ = answer.Response.Close()
					t.Fatal("it was answered")
				}
			}
			left := time.Now().UnixMilli()
			var noticed int64
			eventually(t, 10*time.Second, "the agent notices that its caller has left", func() bool {
				a.do(one, map[string]any{"do": "cancelled"}, &noticed)
				return noticed != 0
			})
			if late := noticed - left; late > 1000 {
				t.Errorf("the agent noticed after %d ms; a second is allowed", late)
			}
		})
	}
}
