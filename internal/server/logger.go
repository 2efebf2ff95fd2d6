package server

import (
	"io"
	"log/slog"

	"github.com/onbehalf/onbehalf/internal/audit"
)

// Logger is the log that a configuration asks for. Behind the types that redact
// themselves it has a second net: audit's handler masks what looks like a secret.
func Logger(c Config, out io.Writer) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(c.LogLevel)) != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(out, options)
	if c.LogFormat == "json" {
		handler = slog.NewJSONHandler(out, options)
	}
	return slog.New(audit.NewHandler(handler))
}
