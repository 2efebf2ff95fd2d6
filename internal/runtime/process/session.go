//go:build linux

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

// session is a running one.
type session struct {
	driver  *Driver
	host    int
	group   *group
	command *exec.Cmd
	channel *inside.Channel
	storage *storage      // that outlives it; nil where there is none
	ended   chan struct{} // closed by agentEnded
	cleared chan struct{} // a moment later: its storage is saved, and the control group gone

	restoring time.Duration // that its storage may take at the start
	over      sync.Once     // of agentEnded

	mu      sync.Mutex
	end     string
	stopped bool
	calls   uint64
	dials   map[uint64]chan dialled // wanted; nil when the channel has ended
}

// dialled is a connection to the agent, or why there is none.
type dialled struct {
	conn net.Conn
	err  error
}

// begun waits until the agent runs. One that has ended by the time that this is heard
// of did run, and what it printed and how it ended are the session's to tell.
func (s *session) begun(ctx context.Context, ready <-chan struct{}) error {
	longest := startTime + s.restoring
	patience := time.NewTimer(longest)
	defer patience.Stop()
	select {
	case <-ready:
		return nil
	case <-s.ended:
	case <-patience.C:
		return fmt.Errorf("the session's surroundings were not made within %v", longest)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-ready:
		return nil
	default:
		return fault.New(fault.RuntimeClient, "%s", s.End())
	}
}

// receive takes in what the init says until the channel ends.
func (s *session) receive(ready chan<- struct{}, platform, proxy http.Handler) {
	defer s.noMoreDials()
	begun := false
	for {
		m, files, err := s.channel.Receive()
		if err != nil {
			return
		}
		if begun && m.Kind == inside.KindReady { // an init that says so twice is ours no more
			inside.CloseAll(files)
			return
		}
		switch m.Kind {
		case inside.KindReady:
			begun = true
			handlers, patience := []http.Handler{platform, proxy}, []time.Duration{patience, 0}
			for i, f := range files[:min(len(files), len(handlers))] {
				if d, err := openDoor(f, handlers[i], patience[i]); err == nil {
					defer d.shut()
				}
			}
			if s.storage != nil {
				s.storage.looks = m.Text
			}
			close(ready)
		case inside.KindDialled:
			s.dialled(m, files)
		case inside.KindSaved:
			if s.storage != nil {
				s.storage.answered(m)
			}
		case inside.KindEnd:
			s.because(m.Text)
			if s.storage != nil {
				s.storage.settle()
			}
		}
		inside.CloseAll(files)
	}
}

// wait sees the session off.
func (s *session) wait(printed, received <-chan struct{}) {
	err := s.command.Wait()
	// The pipe ends with the last process that had it, and that is now.
	<-printed
	<-received // and the channel with the init, whose last word is in it
	why := "The agent was ended."
	if s.group != nil && s.group.outOfMemory() {
		why = outOfMemory
	}
	if err != nil && !s.wasStopped() {
		why = "The session's first process was ended: " + err.Error() + "."
	}
	s.agentEnded(why)
	_ = s.channel.Close()
	s.driver.free(s.host)
	if s.group != nil {
		s.group.remove() // the kernel may take its time until it lets go of an empty group
	}
	if s.storage != nil { // its next life is to have all that is kept of this one, and has it to itself
		select {
		case <-s.storage.over:
		case <-time.After(lastWords): // the disk does not answer
		}
	}
	close(s.cleared)
}

// agentEnded says that nothing of the agent is left, and why, if nobody has said so before.
func (s *session) agentEnded(why string) {
	s.over.Do(func() {
		if s.group != nil && s.group.outOfMemory() {
			s.killedForMemory()
		}
		s.because(why)
		close(s.ended)
	})
}

// contain runs what stands outside of any request. Where it breaks by a fault of
// ours, the session ends, and nothing else.
func (s *session) contain(doing string, fn func()) {
	if err := fault.Contain(doing, func() error { fn(); return nil }); err != nil {
		slog.Error("a session is ended by a fault of the platform", "error", err)
		_ = s.command.Process.Kill()
	}
}

// because says why there is no agent any more; the first reason counts.
func (s *session) because(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == "" {
		s.end = why
	}
}

const outOfMemory = "The agent took more memory than its limit, and was ended."

// killedForMemory says what SIGKILL was for, if that was the agent's end. One of its
// other processes may have met it long ago, and the agent has gone on.
func (s *session) killedForMemory() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasSuffix(s.end, "SIGKILL.") {
		s.end = outOfMemory
	}
}

func (s *session) wasStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

func (s *session) Ended() <-chan struct{} { return s.ended }

func (s *session) End() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

func (s *session) Dial(ctx context.Context) (net.Conn, error) {
	answer := make(chan dialled, 1)
	s.mu.Lock()
	if s.dials == nil {
		s.mu.Unlock()
		return nil, errEnded
	}
	s.calls++
	number := s.calls
	s.dials[number] = answer
	s.mu.Unlock()
	err := s.channel.Send(inside.Message{Kind: inside.KindDial, Number: number})
	if err == nil {
		select {
		case a := <-answer:
			return a.conn, a.err
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	s.mu.Lock()
	delete(s.dials, number)
	s.mu.Unlock()
	select {
	case a := <-answer: // it came at the last moment
		if a.conn != nil {
			_ = a.conn.Close()
		}
	default:
	}
	return nil, err
}

// errEnded is what a dial of a session that has ended meets.
var errEnded = &net.OpError{Op: "dial", Net: "session", Err: net.ErrClosed}

// dialled hands a connection to who wanted it. Whoever has left wants it no more.
func (s *session) dialled(m inside.Message, files []*os.File) {
	var a dialled
	if len(files) == 1 {
		a.conn, a.err = net.FileConn(files[0]) // a copy of the descriptor
	} else {
		a.err = errors.New(m.Text)
	}
	s.mu.Lock()
	answer := s.dials[m.Number]
	if answer != nil {
		answer <- a // there is room for one, and no other comes
	}
	delete(s.dials, m.Number)
	s.mu.Unlock()
	if answer == nil && a.conn != nil {
		_ = a.conn.Close()
	}
}

func (s *session) noMoreDials() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, answer := range s.dials {
		answer <- dialled{err: errEnded}
	}
	s.dials = nil
}

func (s *session) Stop(grace time.Duration) {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	if grace > 0 && s.channel.Send(inside.Message{Kind: inside.KindStop}) == nil {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		ends := true
		select {
		case <-s.ended:
		case <-timer.C:
			ends = s.storage != nil && s.channel.Send(inside.Message{Kind: inside.KindFinish}) == nil
		}
		if ends {
			timer.Reset(lastLimit + 2*lastWords)
			select {
			case <-s.cleared:
				return
			case <-timer.C:
			}
		}
	}
	_ = s.command.Process.Kill() // process 1: the kernel ends the rest
	<-s.cleared
}

func (s *session) Run(ctx context.Context, c runtime.Command) (int, error) {
	ours, theirs, err := inside.SocketPair(syscall.SOCK_STREAM)
	if err != nil {
		return -1, err
	}
	defer ours.Close()
	told, err := net.FileConn(ours)
	if err != nil {
		_ = theirs.Close()
		return -1, err
	}
	defer told.Close()
	var copies sync.WaitGroup
	files := make([]*os.File, 0, 3)
	taps := make([]*tap, 0, 2)
	for _, to := range []io.Writer{c.Stdout, c.Stderr} {
		read, write, err := os.Pipe()
		if err != nil {
			inside.CloseAll(files)
			_ = theirs.Close()
			return -1, err
		}
		files = append(files, write)
		t := &tap{pipe: read, left: pipeful}
		taps = append(taps, t)
		copies.Go(func() {
			defer read.Close()
			s.contain("passing on what a command prints", func() { _, _ = io.Copy(to, t) })
		})
	}
	text, _ := json.Marshal(inside.Order{Line: c.Line, Timeout: c.Timeout})
	if err := s.channel.Send(inside.Message{Kind: inside.KindRun, Text: string(text)}, append(files, theirs)...); err != nil {
		return -1, err
	}
	defer context.AfterFunc(ctx, func() { _ = told.Close() })()
	var out inside.Outcome
	err = json.NewDecoder(told).Decode(&out)
	for _, t := range taps {
		t.end()
	}
	copies.Wait()
	switch {
	case ctx.Err() != nil:
		return -1, ctx.Err()
	case err != nil:
		return -1, fmt.Errorf("the session ended: %s", s.End())
	case out.Error != "":
		return -1, errors.New(out.Error)
	case out.TimedOut:
		return -1, context.DeadlineExceeded
	}
	return out.Code, nil
}
