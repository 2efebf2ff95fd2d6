package runtime

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	logSize    = 10 << 20 // bytes of a file; one older is kept beside it
	lineLength = 16 << 10 // of a line; longer ones are cut in several
	tailLines  = 20
)

// sessionLog is what a session's agent prints, line by line with the time, in a
// file of bounded size. Every secret that the session was handed is replaced.
type sessionLog struct {
	path    string
	secrets *secrets

	mu   sync.Mutex
	file *os.File
	size int64
	line []byte // what has come of the next line
	last []string
}

func (s *Service) openLog(n *session) *sessionLog {
	for _, variable := range n.version.settings.EnvironmentVariables {
		n.secrets.add(variable.Reveal())
	}
	folder := filepath.Join(s.options.Folder, "logs", n.key.runtime)
	l := &sessionLog{path: filepath.Join(folder, n.name+".log"), secrets: n.secrets}
	if os.MkdirAll(folder, 0o700) == nil {
		l.file, _ = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	l.note("The session " + n.key.id + " begins with version " + text(n.version.version) + ".")
	return l
}

// Write takes in what the agent prints. It never fails: an agent must not hang
// because the platform's disk is full.
func (l *sessionLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			l.line = append(l.line, rest...)
			break
		}
		l.line = append(l.line, rest[:end]...)
		l.flush()
		rest = rest[end+1:]
	}
	for len(l.line) > lineLength {
		l.flush()
	}
	return len(p), nil
}

// flush writes one line, or a part of one that is too long.
func (l *sessionLog) flush() {
	line := l.line
	if len(line) > lineLength {
		line = line[:lineLength]
	}
	l.put(l.secrets.hide(string(line)))
	l.line = append(l.line[:0], l.line[len(line):]...)
}

func (l *sessionLog) put(line string) {
	l.last = append(l.last, line)
	if len(l.last) > tailLines {
		l.last = slices.Delete(l.last, 0, len(l.last)-tailLines)
	}
	if l.file == nil {
		return
	}
	if l.size > logSize {
		_ = l.file.Close()
		_ = os.Rename(l.path, l.path+".1")
		l.file, _ = os.OpenFile(l.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		l.size = 0
	}
	n, _ := fmt.Fprintf(l.file, "%s %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), line)
	l.size += int64(n)
}

// note is a line of the platform's own.
func (l *sessionLog) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put("[onbehalf] " + text)
}

// tail is what was printed last, for whoever is told that the agent failed.
func (l *sessionLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, line := range l.last {
		if !strings.HasPrefix(line, "[onbehalf] ") {
			lines = append(lines, line)
		}
	}
	if len(l.line) > 0 {
		lines = append(lines, l.secrets.hide(string(l.line)))
	}
	if len(lines) == 0 {
		return ""
	}
	return " It printed last:\n" + strings.Join(lines, "\n")
}

func (l *sessionLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.flush()
	}
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}

// secrets are the values that a session was handed.
type secrets struct {
	mu     sync.RWMutex
	values []string
}

// shortest is the length from which a value is looked for: replacing shorter ones
// would eat ordinary words.
const shortest = 6

func (s *secrets) add(value string) {
	if len(value) < shortest {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.values, value) {
		s.values = append(s.values, value)
	}
}

func (s *secrets) hide(text string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, value := range s.values {
		text = strings.ReplaceAll(text, value, "[redacted]")
	}
	return text
}

// watch serves a call of the session to the platform, and remembers the secrets in
// the answer.
func (s *secrets) watch(w http.ResponseWriter, r *http.Request, to http.Handler) {
	switch r.URL.Path {
	case "/identities/oauth2/token", "/identities/api-key", "/identities/GetWorkloadAccessToken", "/identities/GetWorkloadAccessTokenForJWT", "/identities/GetWorkloadAccessTokenForUserId":
		to.ServeHTTP(&overheard{ResponseWriter: w, secrets: s}, r)
	default:
		to.ServeHTTP(w, r)
	}
}

// overheard takes the texts out of a JSON answer on its way. Such answers are written at once.
type overheard struct {
	http.ResponseWriter
	secrets *secrets
}

func (o *overheard) Write(p []byte) (int, error) {
	for part := range strings.SplitSeq(string(p), `"`) {
		if len(part) >= 16 && !strings.Contains(part, "://") {
			o.secrets.add(part)
		}
	}
	return o.ResponseWriter.Write(p)
}

func (o *overheard) Unwrap() http.ResponseWriter { return o.ResponseWriter }

var _ io.Writer = (*sessionLog)(nil)
