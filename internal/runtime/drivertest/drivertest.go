// Package drivertest is what the tests of every driver need: a session of an
// agent, asked as a caller would, and what it said. The programs that play the
// agent are each driver's own: what they try depends on what a session must not do.
package drivertest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// Output keeps what is written to it by anybody at any time.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Session is one that ends with its test.
type Session struct {
	runtime.Process
	HTTP *http.Client // reaches the agent, whatever a URL's host is
	Said *Output      // unless the launch had an Output of its own
}

// Start starts it.
func Start(t testing.TB, d runtime.Driver, l runtime.Launch) *Session {
	t.Helper()
	s := &Session{Said: &Output{}}
	if l.Output == nil {
		l.Output = s.Said
	}
	var err error
	if s.Process, err = d.Start(t.Context(), l); err != nil {
		t.Fatalf("%v; it said: %s", err, s.Said)
	}
	t.Cleanup(func() { s.Stop(0) })
	s.HTTP = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx) }, DisableKeepAlives: true}}
	return s
}

// Ask waits for the agent and asks it. Of a session that ended it is told how.
func (s *Session) Ask(t testing.TB, path string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		response, err := s.HTTP.Get("http://agent" + path)
		if err == nil {
			defer response.Body.Close()
			text, _ := io.ReadAll(response.Body)
			return string(text)
		}
		select {
		case <-s.Ended():
			return "ended: " + s.End()
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v; it said %s", path, err, s.Said)
		}
	}
}

// Stops stops an agent that says bye when it is asked to end, and one that does
// not hear: a stop is polite, then not.
func Stops(t testing.TB, polite, stubborn *Session) {
	t.Helper()
	begun := time.Now()
	polite.Stop(time.Minute)
	if took := time.Since(begun); took > 30*time.Second || !strings.Contains(polite.Said.String(), "bye") {
		t.Errorf("a polite agent took %v and said %q", took, polite.Said)
	}
	begun = time.Now()
	stubborn.Stop(500 * time.Millisecond)
	if took := time.Since(begun); took < 500*time.Millisecond || took > 30*time.Second {
		t.Errorf("a stubborn agent took %v: %s", took, stubborn.End())
	}
}
