package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const steps = 7

// progress prints the seven steps the way the README shows them, and the log
// between them.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	begun bool // a line waits for its end
	logs  logWriter
	log   *slog.Logger
}

func newProgress(out, errOut io.Writer, level slog.Level) *progress {
	p := &progress{out: out}
	p.logs = logWriter{p, errOut}
	p.log = slog.New(slog.NewTextHandler(p.logs, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindString {
			a.Value = slog.StringValue(redact(a.Value.String()))
		} else if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(safe(err))
		}
		return a
	}}))
	return p
}

// logWriter keeps log lines out of a line that is not finished yet.
type logWriter struct {
	progress *progress
	out      io.Writer
}

func (w logWriter) Write(line []byte) (int, error) {
	w.progress.mu.Lock()
	defer w.progress.mu.Unlock()
	w.progress.endLine()
	return w.out.Write(line)
}

// step prints the line of a step that is done, or that is about to take long.
func (p *progress) step(number int, name, format string, args ...any) {
	p.log.Debug("step", "number", number, "name", name)
	p.print("%s", strings.TrimRight(fmt.Sprintf("[%d/%d] %-20s %s", number, steps, name, fmt.Sprintf(format, args...)), " "))
}

// more prints a line that belongs to the step above it.
func (p *progress) more(format string, args ...any) { p.print("      "+format, args...) }

func (p *progress) print(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLine()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// endLine ends a begun line that something else interrupts. Caller holds p.mu.
func (p *progress) endLine() {
	if p.begun {
		p.begun = false
		fmt.Fprintln(p.out)
	}
}

// begin prints the first half of a line whose end is not known yet; finish
// prints the rest. Without a begun line, finish prints a line of its own.
func (p *progress) begin(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLine()
	p.begun = true
	fmt.Fprintf(p.out, "      "+format, args...)
}

// entered notes that Enter, pressed by the person, has ended the begun line on the screen.
func (p *progress) entered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = false
}

func (p *progress) finish(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		fmt.Fprint(p.out, "     ")
	}
	p.begun = false
	fmt.Fprintf(p.out, " "+format+"\n", args...)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d %s", int(d.Minutes()), plural(int(d.Minutes()), "minute"))
	}
	return d.String()
}
