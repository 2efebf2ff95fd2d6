package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// early is the connection to an agent that has answered and closed when the first
// part of a body comes: its answer can be read after a write has failed.
type early struct {
	net.Conn
	writes int
	broken chan struct{}
	once   sync.Once
	answer io.Reader
}

func (c *early) Write(p []byte) (int, error) {
	if c.writes++; c.writes == 1 {
		return len(p), nil
	}
	c.once.Do(func() { close(c.broken) })
	return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
}

func (c *early) Read(p []byte) (int, error) {
	<-c.broken
	time.Sleep(10 * time.Millisecond) // the failed write is always first
	return c.answer.Read(p)
}

func (c *early) Close() error { return nil }

type dialled struct {
	inProcess
	dial func() net.Conn
}

func (d *dialled) Dial(context.Context) (net.Conn, error) { return d.dial(), nil }

// An agent may answer before it has read the body, and close: what it said counts.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	n := &session{process: &dialled{dial: func() net.Conn {
		return &early{broken: make(chan struct{}), answer: strings.NewReader("HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo long")}
	}}}
	agent := n.transport()
	for call := range 3 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent/invocations", strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		response, err := agent.RoundTrip(r)
		if err != nil {
			t.Fatalf("call %d: %v", call, err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusRequestEntityTooLarge || string(body) != "too long" {
			t.Errorf("call %d: %d %q %v", call, response.StatusCode, body, err)
		}
	}
	c := &hearing{deaf: syscall.EPIPE}
	if _, err := c.Write([]byte("POST /invocations HTTP/1.1\r\n")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("another call begins on a connection that takes nothing: %v", err)
	}
}

// An agent that never ends its error, or changes to a protocol that nobody asked
// for, keeps its caller for seconds.
func TestErrorsWithoutEnd(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Traceparent") == "switches" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "first words")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	made := h.create(t, "endless", nil)
	for how, says := range map[string]string{"goes on": "Received error (500) from runtime. first words", "switches": "Received error (101)"} {
		began := time.Now()
		response, body := h.invokes(t, made.AgentRuntimeArn, "{}", "Traceparent", how)
		if took := time.Since(began); response.StatusCode != 424 || !strings.Contains(body, says) || took > 6*wordsLimit {
			t.Errorf("%s: %d %s after %v", how, response.StatusCode, body, took)
		}
	}
}

// An agent that answers an error without words has said why in its log, a moment
// later as far as the platform sees it: who may read logs is told.
func TestWordlessErrors(t *testing.T) {
	t.Parallel()
	h := serving(t, nil)
	var calls atomic.Int64
	h.agents.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		output, reason := h.agents.newest().output, fmt.Sprintf("the reason of call %d\n", calls.Load())
		time.AfterFunc(lull/2, func() { _, _ = io.WriteString(output, reason) })
		w.WriteHeader(http.StatusInternalServerError)
	})
	made := h.create(t, "wordless", nil)
	told := false
	for !told && calls.Add(1) <= 20 { // a busy machine may print later than that once
		response, body := h.invokes(t, made.AgentRuntimeArn, "{}")
		if response.StatusCode != 424 || !strings.Contains(body, "It said nothing more") {
			t.Errorf("%d %s", response.StatusCode, body)
		}
		told = strings.Contains(body, fmt.Sprint("the reason of call ", calls.Load()))
	}
	if !told {
		t.Error("nobody is told the reason")
	}
}

// A crash is told as one, though the machine is slow to say so; an agent that goes on
// after it has broken a call off is not waited for.
func TestLateNewsOfACrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for says, listens := range map[string]bool{"exit code 4": false, "did not answer": true} {
			ended := make(chan struct{})
			p := &listening{inProcess: inProcess{ended: ended, why: "The agent ended with exit code 4."}, listens: listens}
			n := &session{process: p, log: newLog(t, t.TempDir(), "s", "n")}
			print(t, n.log, "the last words\n")
			news := time.AfterFunc(5*time.Second, func() { close(ended) })
			began := time.Now()
			err := n.broken(t.Context(), io.EOF)
			if took := time.Since(began); !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "the last words") || listens && took > untilKnown || took > lateNews {
				t.Errorf("after %v: %v", took, err)
			}
			news.Stop()
		}
	})
}

// listening is a process of which only its port is known.
type listening struct {
	inProcess
	listens bool
}

func (l *listening) Dial(context.Context) (net.Conn, error) {
	if !l.listens {
		return nil, syscall.ECONNREFUSED
	}
	here, there := net.Pipe()
	return here, there.Close()
}
