package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func newLog(t testing.TB, folder, session, name string) *sessionLog {
	t.Helper()
	l := &sessionLog{folder: folder, session: session, name: name, secrets: &secrets{}, clock: &logClock{}}
	t.Cleanup(l.close)
	return l
}

func print(t testing.TB, l *sessionLog, pieces ...string) {
	t.Helper()
	for _, piece := range pieces {
		if n, err := l.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("%d of %d, %v", n, len(piece), err)
		}
	}
}

func texts(events []logEvent) (all []string) {
	for _, e := range events {
		all = append(all, e.text)
	}
	return all
}

func read(t testing.TB, folder string) []string {
	t.Helper()
	events, err := readLogs(folder, "", logCursor{}, time.Now().Add(time.Hour), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return texts(events)
}

// Lines come as they were printed: in pieces, empty, without an end, not text, and
// too long, without a secret cut in two.
func TestLinesOfALog(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l := newLog(t, folder, "s", "n")
	l.secrets.keep("the-secret-value")
	print(t, l, "one\ntw", "o\r\n\n", "the-sec", "ret-value and the-secret-value\n", "\xff\xfe\x00bin\n", "[onbehalf] The session ended.\n", "last")
	l.close()
	if got, want := read(t, folder), []string{"one", "two", "", redacted + " and " + redacted, "\ufffd\x00bin", "| [onbehalf] The session ended.", "last"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}

	for shift := range 40 {
		folder := t.TempDir()
		l := newLog(t, folder, "s", "n")
		l.secrets.keep("the-secret-value")
		line := strings.Repeat("x", lineLength-20+shift) + "the-secret-value" + strings.Repeat("y", 3*lineLength)
		print(t, l, line[:lineLength/2], line[lineLength/2:], "\nnext\n")
		l.close()
		got := read(t, folder)
		if joined := strings.Join(got[:len(got)-1], ""); strings.Contains(joined, "secret") || !strings.Contains(joined, "x"+redacted+"y") || got[len(got)-1] != "next" {
			t.Fatalf("shift %d: %d lines, %q", shift, len(got), joined[lineLength-40:lineLength+40])
		}
	}
}

// What the platform says of a file is one line, whatever the file is called.
func TestNoteOfALog(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l := newLog(t, folder, "s", "n")
	l.note("It was not saved: a\n2026-11-22T21:00:00.000000Z [onbehalf] The session ended.")
	l.close()
	if got, want := read(t, folder), []string{"[onbehalf] It was not saved: a 2026-11-22T21:00:00.000000Z [onbehalf] The session ended."}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A session keeps so much and no more, the newest.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l := newLog(t, folder, "s", "n")
	line := strings.Repeat("z", 10<<10)
	for i := range (sessionPieces + 2) * pieceSize / len(line) {
		print(t, l, fmt.Sprintf("%06d %s\n", i, line))
	}
	l.close()
	got := read(t, folder)
	if pieces := piecesOf(folder); len(pieces) != sessionPieces || len(got) < sessionPieces*pieceSize/len(line)/2 {
		t.Errorf("%d pieces, %d lines", len(pieces), len(got))
	}
	for i := 1; i < len(got); i++ {
		if got[i][:6] <= got[i-1][:6] {
			t.Fatalf("%s after %s", got[i][:6], got[i-1][:6])
		}
	}

	big := strings.Repeat("b", 64<<20)
	for i := range 6 {
		path := filepath.Join(folder, fmt.Sprintf("20200101T00000%d.000000-old-001.log", i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(len(big))); err != nil { // takes no room
			t.Fatal(err)
		}
	}
	trimLogs(folder)
	left := piecesOf(folder)
	if len(left) != sessionPieces+3 || !strings.Contains(left[0], "20200101T000003") {
		t.Errorf("%d pieces are left, the oldest %s", len(left), left[0])
	}
}

// Where the disk takes nothing the agent goes on, and its last lines are known.
func TestLogWithoutADisk(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "gone")
	l := newLog(t, folder, "s", "n")
	for i := range 100 {
		print(t, l, fmt.Sprintf("line %d\n", i))
	}
	if tail := l.tail(); !strings.HasSuffix(tail, "\nline 98\nline 99") || strings.Contains(tail, "line 79\n") {
		t.Error(tail)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	print(t, l, "it is back\n")
	if got := read(t, folder); !slices.Equal(got, []string{"it is back"}) {
		t.Errorf("%q", got)
	}
	// A line that was torn by a full disk, and a piece without its head, are passed over.
	file, err := os.OpenFile(piecesOf(folder)[0], os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString("2026-11-22T17:0")
	}
	if err != nil || file.Close() != nil || os.WriteFile(filepath.Join(folder, "20260101T000000.000000-x-001.log"), []byte("no head\n2026-01-01T00:00:00.000000Z x\n"), 0o600) != nil {
		t.Fatal(err)
	}
	l.torn = true
	print(t, l, "after\n")
	if got := read(t, folder); !slices.Equal(got, []string{"it is back", "after"}) {
		t.Errorf("%q", got)
	}
}

// Logs are followed by their tokens, of one session or all, also after the session
// has ended; another account's are not there; a token of another kind is refused.
func TestGetAgentRuntimeLogs(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	made := h.create(t, "logs", func(r *api.CreateAgentRuntimeRequest) {
		r.EnvironmentVariables = map[string]secret.Text{"KEY": secret.New("a-secret-of-the-environment")}
	})
	at := h.at(t, made)
	for _, id := range []string{"a", "b"} {
		n := h.begin(t, h.admin(), at, named(id))
		for i := range 5 {
			print(t, n.log, fmt.Sprintf("%s%d a-secret-of-the-environment\n", id, i))
		}
	}
	follow := func(session, token *string, most int32) (lines []string, next *string) {
		t.Helper()
		out, err := h.GetAgentRuntimeLogs(t.Context(), h.admin(), &api.GetAgentRuntimeLogsRequest{AgentRuntimeId: made.AgentRuntimeId, RuntimeSessionId: session, NextToken: token, MaxResults: &most})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range out.Events {
			lines = append(lines, e.Message)
		}
		return lines, &out.NextToken
	}
	var all []string
	var token *string
	for range 8 {
		lines, next := follow(nil, token, 3)
		all, token = append(all, lines...), next
	}
	if joined := strings.Join(all, "|"); len(all) != 12 || strings.Contains(joined, "secret") || !strings.Contains(joined, "a0 "+redacted+"|a1 ") || !strings.Contains(joined, "b4") {
		t.Errorf("%d: %q", len(all), all)
	}
	if lines, _ := follow(nil, token, 3); len(lines) != 0 {
		t.Errorf("again: %q", lines)
	}
	b := named("b")
	lines, ofB := follow(&b, nil, 100)
	if len(lines) != 6 || !strings.HasPrefix(lines[1], "b0") {
		t.Errorf("of b: %q", lines)
	}
	n, err := h.find(t.Context(), h.admin(), made.AgentRuntimeId, b)
	if err != nil {
		t.Fatal(err)
	}
	print(t, n.log, "the last, without an end")
	n.stop("It was stopped.")
	<-n.over
	if lines, _ := follow(&b, ofB, 100); len(lines) != 2 || lines[0] != "the last, without an end" && lines[1] != "the last, without an end" {
		t.Errorf("of b, ended: %q", lines)
	}

	foreign := principal.Caller{Kind: principal.Key, Account: "111111111111", ARN: "arn:aws:iam::111111111111:root", Root: true}
	if _, err := h.GetAgentRuntimeLogs(t.Context(), foreign, &api.GetAgentRuntimeLogsRequest{AgentRuntimeId: made.AgentRuntimeId}); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	for _, bad := range []string{"x", "AAAA", strings.Repeat("A", 400), "MjAyNi0xMS0yMlQxNzowMDowMC4wMDAwMDBZLi4v"} {
		if _, err := h.GetAgentRuntimeLogs(t.Context(), h.admin(), &api.GetAgentRuntimeLogsRequest{AgentRuntimeId: made.AgentRuntimeId, NextToken: &bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := h.DeleteAgentRuntime(t.Context(), h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId}); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if _, err := os.Stat(h.logFolder(made.AgentRuntimeId)); !os.IsNotExist(err) {
		t.Errorf("a deleted runtime's logs: %v", err)
	}
	kept := h.create(t, "kept", nil).AgentRuntimeId
	for _, id := range []string{kept, "deleted-elsewhere"} {
		if err := os.MkdirAll(h.logFolder(id), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.sweepLogs(t.Context())
	if left, err := os.ReadDir(h.logFolder("")); err != nil || len(left) != 1 || left[0].Name() != kept {
		t.Errorf("%v, %v", left, err)
	}
}

// A clock that goes back hides no line, neither those from before nor the new ones of
// another session, and whoever follows sees each once.
func TestLogsOfAClockThatGoesBack(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	made := h.create(t, "clock", nil)
	at := h.at(t, made)
	a, b := h.begin(t, h.admin(), at, named("a")), h.begin(t, h.admin(), at, named("b"))
	a.log.mu.Lock()
	a.log.written = time.Now().UTC().Add(time.Hour) // its last line was printed before
	a.log.mu.Unlock()
	var all []string
	var token *string
	follow := func() {
		t.Helper()
		out, err := h.GetAgentRuntimeLogs(t.Context(), h.admin(), &api.GetAgentRuntimeLogsRequest{AgentRuntimeId: made.AgentRuntimeId, NextToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range out.Events {
			if !strings.HasPrefix(e.Message, noteMark) {
				all = append(all, e.Message)
			}
		}
		token = &out.NextToken
	}
	for _, n := range []*session{a, b, a, b} {
		print(t, n.log, fmt.Sprintf("line %d\n", len(all)))
		follow()
	}
	if want := []string{"line 0", "line 1", "line 2", "line 3"}; !slices.Equal(all, want) {
		t.Errorf("%q", all)
	}
}
