package agent

import (
	"context"
	"io"
	"log/slog"
	"time"
)

// NewLogHandler writes one JSON object per line, with the keys of the other SDKs
// (timestamp, level, message), and the request and session of the context that a
// line is logged with. For a whole program:
//
//	slog.SetDefault(slog.New(agent.NewLogHandler(os.Stderr)))
func NewLogHandler(w io.Writer) slog.Handler {
	return callHandler{slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			return slog.String("timestamp", a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
		case slog.MessageKey:
			a.Key = "message"
		}
		if a.Value.Kind() == slog.KindDuration {
			return slog.Float64(a.Key, float64(a.Value.Duration())/float64(time.Second))
		}
		return a
	}})}
}

// callHandler adds the call that a line belongs to.
type callHandler struct{ slog.Handler }

func (h callHandler) Handle(ctx context.Context, r slog.Record) error {
	of := requestOf(ctx)
	if of.id != "" {
		r.AddAttrs(slog.String("requestId", of.id))
	}
	if of.session != "" {
		r.AddAttrs(slog.String("sessionId", of.session))
	}
	return h.Handler.Handle(ctx, r)
}

func (h callHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return callHandler{h.Handler.WithAttrs(attrs)}
}

func (h callHandler) WithGroup(name string) slog.Handler {
	return callHandler{h.Handler.WithGroup(name)}
}
