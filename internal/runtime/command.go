package runtime

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/api/eventstream"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
)

const (
	maxCommand     = 1 << 20   // bytes of a request: 64 KB of command, each byte of which JSON may write as six
	maxOutput      = 100 << 20 // bytes that a command may print, as AWS has it
	maxChunk       = 64 << 10  // bytes of one event's text
	defaultTimeout = 300 * time.Second
)

// command runs a command beside a session's agent and streams what it prints. The
// session must be there: a command begins none.
func (s *Service) command(ctx context.Context, c *call) error {
	var request api.InvokeAgentRuntimeCommandRequest
	whole, inMemory := c.inMemory()
	if !inMemory {
		return fault.InvalidField("body", "The request is too long.")
	}
	request.AgentRuntimeArn, request.RuntimeSessionId = c.at.arn, &c.session
	missing, err := api.Decode(whole, &request)
	if err != nil {
		return err
	}
	if complaints := append(missing, request.Validate()...); len(complaints) > 0 {
		return &fault.Error{Kind: fault.Invalid, Message: complaints[0].Message, Fields: complaints}
	}
	timeout := defaultTimeout
	if t := request.Body.Timeout; t != nil {
		if *t < 1 || *t > 3600 {
			return fault.InvalidField("body.timeout", "The timeout is 1 to 3600 seconds.")
		}
		timeout = time.Duration(*t) * time.Second
	}
	n, release, err := s.join(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	if err := s.intend(ctx, c); err != nil {
		return err
	}
	ctx, cancel := n.during(ctx, timeout+time.Minute)
	defer cancel()
	c.w.Header().Set(headerType, eventstream.ContentType)
	c.begun = true
	c.w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(c.w)
	_ = control.SetWriteDeadline(time.Now().Add(timeout + 2*time.Minute)) // for who stops reading and stays
	out := &frames{w: c.w, flush: control.Flush, stop: cancel}
	out.chunk(api.ResponseChunk{ContentStart: &api.ContentStartEvent{}})
	stdout, stderr := &printer{to: out}, &printer{to: out, stderr: true}
	code, err := n.process.Run(ctx, Command{Line: request.Body.Command, Timeout: timeout, Stdout: stdout, Stderr: stderr})
	stdout.rest()
	stderr.rest()
	_ = control.SetWriteDeadline(time.Time{})
	return out.end(ctx, c, n, code, err)
}

// join finds the call's session, which somebody must have begun, and counts the
// call in.
//
// The session may be one that the caller opened for a person whom this operation
// has no way to name (SDKs send no user id with it). It is the caller's all the same;
// to run a command there, he must be one who may act for people.
func (s *Service) join(ctx context.Context, c *call) (*session, func(), error) {
	if c.session == "" {
		return nil, nil, fault.InvalidField("runtimeSessionId", "The session's id is missing: %s.", headerSession)
	}
	holder := s.opener(c)
	if !holder.User.IsZero() && c.caller.User.IsZero() && c.op.action == actionCommand {
		at := c.at.runtime
		if err := s.gate.May(ctx, c.caller, s.checks(actionForUser, at.account, at.id, c.at.endpoint)...); err != nil {
			return nil, nil, err
		}
	}
	n, err := s.find(ctx, holder, c.at.runtime.id, c.session)
	if err != nil {
		return nil, nil, err
	}
	release, err := n.enter(s.now)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-n.ready:
	case <-ctx.Done():
		release()
		return nil, nil, ctx.Err()
	}
	if n.failure != nil {
		release()
		return nil, nil, n.failure
	}
	return n, release, nil
}

// opener is the caller as the one who opened the session: with the user whom he
// opened it for, where he names none now.
func (s *Service) opener(c *call) principal.Caller {
	holder := c.holder()
	if holder.Kind == principal.Bearer || !holder.User.IsZero() {
		return holder
	}
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	n := s.live.all[sessionKey{c.at.runtime.id, c.session}]
	if n == nil {
		return holder
	}
	if holder.User = n.user; ownerOf(holder) != n.owner {
		holder.User = principal.User{}
	}
	return holder
}

// frames are the events of a command, whole and one after the other.
type frames struct {
	w     http.ResponseWriter
	flush func() error
	stop  context.CancelFunc

	mu      sync.Mutex
	buffer  []byte
	printed int
	full    bool
	gone    bool // the caller
}

// chunk sends one event.
func (f *frames) chunk(what api.ResponseChunk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.send(eventstream.AppendEvent(f.buffer[:0], "chunk", what.AppendJSON(nil)))
}

func (f *frames) send(frame []byte) {
	f.buffer = frame
	if f.gone {
		return
	}
	if _, err := f.w.Write(frame); err != nil || f.flush() != nil {
		f.gone = true
		f.stop() // nobody is there whom the command could tell
	}
}

// print sends text, and ends a command that prints too much.
func (f *frames) print(text string, stderr bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return
	}
	if f.printed += len(text); f.printed > maxOutput {
		f.full = true
		f.stop()
		return
	}
	delta := &api.ContentDeltaEvent{Stdout: &text}
	if stderr {
		delta = &api.ContentDeltaEvent{Stderr: &text}
	}
	f.send(eventstream.AppendEvent(f.buffer[:0], "chunk", (&api.ResponseChunk{ContentDelta: delta}).AppendJSON(nil)))
}

// end says how the command ended. A stream that merely stopped would look whole to SDKs.
func (f *frames) end(ctx context.Context, c *call, n *session, code int, err error) error {
	stopped := func(code int, status api.CommandExecutionStatus) error {
		gate.Detail(ctx, "outcome", strings.ToLower(string(status)))
		f.chunk(api.ResponseChunk{ContentStop: &api.ContentStopEvent{ExitCode: int32(code), Status: status}})
		return nil
	}
	failed := func(message string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		payload := append(api.AppendString([]byte(`{"message":`), message), '}')
		f.send(eventstream.AppendException(f.buffer[:0], "runtimeClientError", payload))
		return nil
	}
	switch cause := context.Cause(ctx); {
	case err == nil:
		return stopped(code, api.CommandExecutionStatusCompleted)
	case f.full:
		gate.Detail(ctx, "outcome", "too-much-output")
		return failed("The command was ended: it has printed more than 100 MB.")
	case c.r.Context().Err() != nil || f.gone:
		return left(ctx)
	case errors.Is(cause, errStopped):
		gate.Detail(ctx, "outcome", "session-ended")
		return failed("The session was ended while the command ran: " + n.stopped())
	case errors.Is(err, context.DeadlineExceeded):
		return stopped(-1, api.CommandExecutionStatusTimedOut)
	}
	logged(c.r, "a command could not be run", err)
	gate.Detail(ctx, "outcome", "not-run")
	return stopped(-1, api.CommandExecutionStatusCompleted)
}

// printer makes text of what a command prints: whole characters, in pieces that
// are not too long.
type printer struct {
	to     *frames
	stderr bool
	kept   []byte // the beginning of a character
}

func (p *printer) Write(b []byte) (int, error) {
	count := len(b)
	if len(p.kept) > 0 {
		b = append(p.kept, b...)
		p.kept = nil
	}
	for len(b) > 0 {
		piece := b[:min(len(b), maxChunk-utf8.UTFMax)]
		whole := len(piece) - unfinished(piece)
		if whole == 0 {
			break
		}
		p.to.print(strings.ToValidUTF8(string(piece[:whole]), "\ufffd"), p.stderr)
		b = b[whole:]
	}
	p.kept = append([]byte(nil), b...)
	return count, nil
}

// rest sends what was kept, once no more comes.
func (p *printer) rest() {
	if len(p.kept) > 0 {
		p.to.print("\ufffd", p.stderr)
	}
}

// unfinished is how many bytes at the end are the beginning of a character.
func unfinished(b []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if c := b[len(b)-back]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-back:]) {
				return back
			}
			return 0
		}
	}
	return 0
}
