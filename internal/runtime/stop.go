package runtime

import (
	"context"
	"io"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// stopSession ends a session and does not wait: its calls are cut now, its agent
// has its seconds to put things away. Again while that lasts is no error; after it
// there is no such session.
func (s *Service) stopSession(ctx context.Context, c *call) error {
	if c.session == "" {
		return fault.InvalidField("runtimeSessionId", "The session's id is missing: %s.", headerSession)
	}
	n, err := s.find(ctx, s.opener(c), c.at.runtime.id, c.session)
	if err != nil {
		return err
	}
	if err := s.intend(ctx, c); err != nil {
		return err
	}
	n.stop("It was stopped by a call of StopRuntimeSession.")
	c.begun = true
	c.w.Header().Set(headerType, jsonType)
	_, _ = io.WriteString(c.w, "{}")
	return nil
}
