package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
)

// How much is kept of what agents print. A session has pieces of one size, and the
// oldest goes when there are too many, first its own, then of the whole runtime.
const (
	pieceSize      = 2 << 20
	sessionPieces  = 5
	runtimePieces  = 5000
	runtimeBytes   = 256 << 20
	lineLength     = 16 << 10 // of a line; longer ones are cut in several
	tailLines      = 20
	tailLength     = 4 << 10
	logTimeFormat  = "2006-01-02T15:04:05.000000Z"
	pieceExtension = ".log"
	noteMark       = "[onbehalf]" // begins the platform's own lines, and no line of an agent's
)

// sessionLog is what a session's agent prints, line by line with the time, in
// pieces of bounded size. Every secret that the session was handed is replaced.
//
//	logs/RUNTIME/TIME-SESSION-NUMBER.log    TIME: of the first line, so that names sort by age
//	{"session":…}                           the first line
//	2026-11-22T17:00:00.000001Z a line
type sessionLog struct {
	folder  string
	session string // runtimeSessionId
	name    string
	secrets *secrets
	clock   *logClock

	mu      sync.Mutex
	file    *os.File
	size    int64
	number  int
	pieces  []string // those that there are, the oldest first
	torn    bool     // the last write stopped in the midst of a line
	told    bool     // that the disk does not take it
	line    []byte   // what has come of the next line
	cut     bool     // line goes on one that was too long
	last    []string // of what the agent printed
	written time.Time
	heard   time.Time // when the agent printed last
	closed  bool
}

// logClock is the time of all lines of a room. It never goes back: where the machine's
// clock does, lines that were printed before would be in the future, and what is
// printed now before them, where nobody who follows looks any more.
type logClock struct {
	mu   sync.Mutex
	last time.Time
}

// next is a time after all that were given out, and after another.
func (c *logClock) next(after time.Time) time.Time {
	now := time.Now().UTC().Truncate(time.Microsecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, earlier := range []time.Time{c.last, after} {
		if !now.After(earlier) {
			now = earlier.Add(time.Microsecond)
		}
	}
	c.last = now
	return now
}

// pieceHead is the first line of a piece.
type pieceHead struct {
	Session string `json:"session"`
}

func (s *Service) logFolder(runtime string) string {
	return filepath.Join(s.options.Folder, "logs", runtime)
}

func (s *Service) openLog(n *session) *sessionLog {
	for _, variable := range n.version.settings.EnvironmentVariables {
		n.secrets.keep(variable.Reveal())
	}
	l := &sessionLog{folder: s.logFolder(n.key.runtime), session: n.key.id, name: n.name, secrets: n.secrets, clock: &s.logTime}
	if err := os.MkdirAll(l.folder, 0o700); err != nil {
		l.trouble(err)
	}
	l.note(fmt.Sprintf("The session %s begins, with version %d.", n.key.id, n.version.version))
	return l
}

// Write takes in what the agent prints. It never fails: an agent must not hang
// because the platform's disk is full.
func (l *sessionLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			l.line = append(l.line, rest...)
			l.cutLong()
			break
		}
		l.line = append(l.line, rest[:end]...)
		rest = rest[end+1:]
		l.cutLong()
		l.flush(len(l.line))
		l.cut = false
	}
	return len(p), nil
}

// cutLong writes the beginning of a line that is too long, and cuts no secret in two.
func (l *sessionLog) cutLong() {
	for keep := l.secrets.longest(); len(l.line) > lineLength+keep; keep = l.secrets.longest() {
		l.flush(l.secrets.cut(string(l.line[:lineLength+keep]), lineLength))
		l.cut = true
	}
}

// flush writes so much of the line.
func (l *sessionLog) flush(count int) {
	text := l.secrets.hide(string(l.line[:count]))
	text = strings.TrimSuffix(strings.ToValidUTF8(text, "\ufffd"), "\r")
	if strings.HasPrefix(text, noteMark) {
		text = "| " + text // an agent does not speak for the platform
	}
	if count > 0 || !l.cut {
		l.last = append(l.last, text)
		if len(l.last) > tailLines {
			l.last = slices.Delete(l.last, 0, len(l.last)-tailLines)
		}
		l.put(text)
	}
	l.line = append(l.line[:0], l.line[count:]...)
}

// put writes a line to the file. Its time is later than that of the line before,
// and all of it is written when the lock is free: readers rely on both.
func (l *sessionLog) put(text string) {
	if l.closed {
		return
	}
	now := l.clock.next(l.written)
	l.written = now
	if l.file == nil || l.size > pieceSize {
		if err := l.begin(now); err != nil {
			l.trouble(err)
			return
		}
	}
	line := now.Format(logTimeFormat) + " " + text + "\n"
	if l.torn {
		line = "\n" + line
	}
	count, err := l.file.WriteString(line)
	l.size += int64(count)
	l.torn = err != nil && (count > 0 || l.torn)
	if err != nil {
		l.trouble(err)
	}
}

// begin opens the next piece.
func (l *sessionLog) begin(now time.Time) error {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
	if len(l.pieces) >= sessionPieces {
		_ = os.Remove(l.pieces[0])
		l.pieces = slices.Delete(l.pieces, 0, 1)
	}
	l.number++
	path := filepath.Join(l.folder, fmt.Sprintf("%s-%s-%03d%s", now.Format("20060102T150405.000000"), l.name, l.number, pieceExtension))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	head, _ := json.Marshal(pieceHead{l.session})
	count, err := file.Write(append(head, '\n'))
	if err != nil {
		_ = file.Close()
		_ = os.Remove(path) // a piece without its first line belongs to nobody
		return err
	}
	l.file, l.size, l.torn = file, int64(count), false
	l.pieces = append(l.pieces, path)
	return nil
}

// trouble tells the platform's log once for a session that its log is not kept.
func (l *sessionLog) trouble(err error) {
	if !l.told {
		l.told = true
		slog.Warn("an agent's log is not kept whole", "folder", l.folder, "error", err)
	}
}

// note is a line of the platform's own, and never two: a reason that it quotes may
// have the name of an agent's file in it.
func (l *sessionLog) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(noteMark + " " + oneLine.Replace(text))
}

var oneLine = strings.NewReplacer("\n", " ")

// lull is how long an agent has to print nothing until what it said of a failure is
// thought to be whole. Its lines and its answer come by different ways.
const lull = 50 * time.Millisecond

// calm returns when the agent has printed nothing for a lull, or after five.
func (l *sessionLog) calm(ctx context.Context) {
	began := time.Now()
	for until := began.Add(lull); ; {
		wait := time.NewTimer(time.Until(until))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case now := <-wait.C:
			l.mu.Lock()
			until = l.heard.Add(lull)
			l.mu.Unlock()
			if !until.After(now) || now.Sub(began) >= 5*lull {
				return
			}
		}
	}
}

// tail is what was printed last, for whoever is told that the agent failed.
func (l *sessionLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := slices.Clone(l.last)
	if len(l.line) > 0 {
		lines = append(lines, strings.ToValidUTF8(l.secrets.hide(string(l.line)), "\ufffd"))
	}
	text := strings.Join(lines, "\n")
	if len(text) > tailLength {
		text = "…" + strings.ToValidUTF8(text[len(text)-tailLength:], "")
	}
	if text == "" {
		return ""
	}
	return " It printed last:\n" + text
}

// settle returns when every line that has a time is in the file.
func (l *sessionLog) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
}

func (l *sessionLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.flush(len(l.line))
	}
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
	l.closed = true
}

// trimLogs removes a runtime's oldest pieces until the rest is within bounds.
func trimLogs(folder string) {
	var bytes int64
	pieces := piecesOf(folder)
	for i, path := range slices.Backward(pieces) {
		if info, err := os.Stat(path); err == nil {
			bytes += info.Size()
		}
		if bytes > runtimeBytes || len(pieces)-i > runtimePieces {
			_ = os.Remove(path)
		}
	}
}

// piecesOf are the pieces in a runtime's folder, the oldest first.
func piecesOf(folder string) (paths []string) {
	entries, err := os.ReadDir(folder) // sorted by name, and so by age
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), pieceExtension) {
			paths = append(paths, filepath.Join(folder, entry.Name()))
		}
	}
	return paths
}

// sweepLogs removes the logs of runtimes that were deleted on another replica, or
// while this one was not there.
func (s *Service) sweepLogs(ctx context.Context) {
	folders, err := os.ReadDir(s.logFolder(""))
	if err != nil {
		return // there are none
	}
	for _, folder := range folders {
		var there int64
		err := s.db.View(ctx, func(tx *store.Tx) error {
			return tx.QueryRow("SELECT count(*) FROM agent_runtimes WHERE id = $1", folder.Name()).Scan(&there)
		})
		if err != nil {
			return
		}
		if there == 0 {
			_ = os.RemoveAll(s.logFolder(folder.Name()))
		}
	}
}

// removeLogs removes what a deleted runtime's sessions have printed.
func (s *Service) removeLogs(runtime string) {
	if err := os.RemoveAll(s.logFolder(runtime)); err != nil {
		slog.Warn("a deleted agent's logs could not be removed", "runtime", runtime, "error", err)
	}
}
