package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
)

const steps = 7

// progress prints the seven steps the way the README shows them.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	log   *slog.Logger
	begun bool // a line waits for its end
}

func newProgress(out io.Writer, logs io.Writer, level slog.Level) *progress {
	handler := slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindString {
			a.Value = slog.StringValue(redact(a.Value.String()))
		} else if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(safe(err))
		}
		return a
	}})
	return &progress{out: out, log: slog.New(handler)}
}

// step prints the line of a step that is done, or that is about to take long.
func (p *progress) step(number int, name, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLine()
	line := fmt.Sprintf("[%d/%d] %-20s %s", number, steps, name, fmt.Sprintf(format, args...))
	fmt.Fprintln(p.out, strings.TrimRight(line, " "))
}

// endLine ends a begun line that something else interrupts. Caller holds p.mu.
func (p *progress) endLine() {
	if p.begun {
		p.begun = false
		fmt.Fprintln(p.out)
	}
}

// entered notes that Enter, pressed by the person, has ended the begun line on the screen.
func (p *progress) entered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = false
}

// more prints a line that belongs to the step above it.
func (p *progress) more(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLine()
	fmt.Fprintf(p.out, "      %s\n", fmt.Sprintf(format, args...))
}

// begin prints the first half of a line whose end is not known yet; finish
// prints the rest. Without a begun line, finish prints a line of its own.
func (p *progress) begin(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = true
	fmt.Fprintf(p.out, "      %s", fmt.Sprintf(format, args...))
}

func (p *progress) finish(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		fmt.Fprint(p.out, "     ")
	}
	p.begun = false
	fmt.Fprintf(p.out, " %s\n", fmt.Sprintf(format, args...))
}

// openBrowser opens a link where there is a display to show it on. It reports
// whether it tried; the link is always printed as well.
func openBrowser(link string) bool {
	var command *exec.Cmd
	switch {
	case runtime.GOOS == "darwin":
		command = exec.Command("open", link)
	case runtime.GOOS == "windows":
		command = exec.Command("rundll32", "url.dll,FileProtocolHandler", link)
	case os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "":
		command = exec.Command("xdg-open", link)
	default:
		return false
	}
	if command.Start() != nil {
		return false
	}
	go func() { _ = command.Wait() }()
	return true
}

// What must never be seen: the values of these parameters, bearer tokens and JWTs.
var (
	secretParameter = regexp.MustCompile(`((?:request_uri|code|state|session_id|id_token|access_token|refresh_token|client_secret|code_verifier)=)[^&\s"']+`)
	requestURN      = regexp.MustCompile(`urn:ietf:params:oauth:request_uri:[A-Za-z0-9._~-]+`)
	bearer          = regexp.MustCompile(`(?i)(bearer\s+)[A-Za-z0-9._~+/=-]+`)
	jsonWebToken    = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
)

// redact masks secrets in a text that goes to a log or an error message.
func redact(text string) string {
	text = secretParameter.ReplaceAllString(text, "${1}[redacted]")
	text = requestURN.ReplaceAllString(text, "urn:ietf:params:oauth:request_uri:[redacted]")
	text = bearer.ReplaceAllString(text, "${1}[redacted]")
	return jsonWebToken.ReplaceAllString(text, "[redacted]")
}

// safe is an error's text, redacted and on one line.
func safe(err error) string {
	return redact(strings.Join(strings.Fields(err.Error()), " "))
}
