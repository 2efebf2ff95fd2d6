package runtime

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
)

// buffers carry answers. What was in one is cleared before another call gets it.
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// relay passes an agent's answer on, each piece when it comes. The status has
// left: that an answer is not whole can only be told by cutting the connection,
// or, in AG-UI, by an event. A caller who leaves ends the agent's request.
func (s *Service) relay(ctx context.Context, c *call, n *session, response *http.Response) error {
	control := http.NewResponseController(c.w)
	_ = control.SetWriteDeadline(time.Now().Add(longestRun + time.Minute)) // for who stops reading and stays
	buffer := buffers.Get().(*[]byte)
	used := 0
	defer func() {
		clear((*buffer)[:used])
		buffers.Put(buffer)
	}()
	for {
		count, err := response.Body.Read(*buffer)
		used = max(used, count)
		if count > 0 {
			if _, err := c.w.Write((*buffer)[:count]); err != nil {
				return left(ctx)
			}
			if err := control.Flush(); err != nil {
				return left(ctx)
			}
		}
		switch {
		case err == io.EOF:
			_ = control.SetWriteDeadline(time.Time{})
			return nil
		case err != nil:
			return s.cut(ctx, c, n, response, err)
		}
	}
}

// left ends a call whose caller has gone: that is his right, and no failure.
func left(ctx context.Context) error {
	gate.Detail(ctx, "outcome", "caller-left")
	return nil
}

// cut ends an answer that breaks off.
func (s *Service) cut(ctx context.Context, c *call, n *session, response *http.Response, err error) error {
	if c.r.Context().Err() != nil {
		return left(ctx)
	}
	outcome := "agent-broke-off"
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errOver):
		outcome = "time-limit"
	case errors.Is(cause, errStopped), n.stopped() != "" && n.reason() != endedCrashed: // or its connection was sooner
		outcome = "session-ended"
	}
	gate.Detail(ctx, "outcome", outcome)
	logged(c.r, "an answer broke off: "+outcome, err)
	media, _, _ := mime.ParseMediaType(response.Header.Get(headerType))
	if c.at.speaks != api.ServerProtocolAgui || media != eventStream {
		// for the record: refuse cuts the connection, as the answer has begun
		return fault.New(fault.RuntimeClient, "The agent's answer broke off.").Because(err)
	}
	f := fault.Of(n.broken(ctx, err))
	// An empty line first: the agent may have stopped in the midst of an event.
	_, _ = c.w.Write(append([]byte("\n\n"), runError("AGENT_ERROR", f.Message)...))
	return nil
}
