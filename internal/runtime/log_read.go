package runtime

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	pageEvents  = 100 // of an answer where the request does not say
	longestRead = lineLength + 64<<10
)

// logCursor is where an answer ended: at a line's time, and its piece where two
// sessions printed in the same microsecond.
type logCursor struct {
	at    time.Time
	piece string
}

func (c logCursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.at.Format(logTimeFormat) + c.piece))
}

func readCursor(text *string) (c logCursor, err error) {
	if text == nil || *text == "" {
		return c, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(*text)
	if err == nil && (len(raw) < len(logTimeFormat) || len(raw) > len(logTimeFormat)+128) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		c.at, err = time.Parse(logTimeFormat, string(raw[:len(logTimeFormat)]))
		c.piece = string(raw[min(len(raw), len(logTimeFormat)):])
	}
	if err != nil {
		return c, fault.InvalidField("nextToken", "The token is none of this operation's.")
	}
	return c, nil
}

func (c logCursor) before(e logEvent) bool {
	if order := e.at.Compare(c.at); order != 0 {
		return order > 0
	}
	return e.piece > c.piece
}

// logEvent is a line as it is read.
type logEvent struct {
	at             time.Time
	piece, session string
	text           string
}

// GetAgentRuntimeLogs reads what a runtime's sessions have printed on this server,
// ended ones among them. Asking again with the answer's token follows.
func (s *Service) GetAgentRuntimeLogs(ctx context.Context, caller principal.Caller, r *api.GetAgentRuntimeLogsRequest) (*api.GetAgentRuntimeLogsResponse, error) {
	cursor, err := readCursor(r.NextToken)
	if err != nil {
		return nil, err
	}
	most := pageEvents
	if r.MaxResults != nil {
		most = int(*r.MaxResults)
	}
	if err := s.db.View(ctx, func(tx *store.Tx) error {
		_, err := findRuntime(tx, caller.Account, r.AgentRuntimeId)
		return err
	}); err != nil {
		return nil, err
	}
	until := s.logTime.next(time.Time{})
	for _, n := range s.those(func(n *session) bool { return n.key.runtime == r.AgentRuntimeId }) {
		n.settle()
	}
	session := ""
	if r.RuntimeSessionId != nil {
		session = *r.RuntimeSessionId
	}
	events, err := readLogs(s.logFolder(r.AgentRuntimeId), session, cursor, until, most)
	if err != nil {
		return nil, err
	}
	out := &api.GetAgentRuntimeLogsResponse{Events: make([]api.AgentRuntimeLogEvent, 0, len(events)), NextToken: cursor.String()}
	for _, e := range events {
		out.Events = append(out.Events, api.AgentRuntimeLogEvent{Timestamp: api.ISO(e.at), RuntimeSessionId: e.session, Message: e.text})
		out.NextToken = logCursor{e.at, e.piece}.String()
	}
	return out, nil
}

// settle returns when every line of the session that has a time is in its file.
func (n *session) settle() {
	n.mu.Lock()
	l := n.log
	n.mu.Unlock()
	if l != nil {
		l.settle()
	}
}

// readLogs reads the first lines after the cursor, of one session or of all. A line
// from until on is left for the next time: another session's may come before it.
func readLogs(folder, session string, after logCursor, until time.Time, most int) (events []logEvent, err error) {
	now := time.Now()
	for _, path := range piecesOf(folder) {
		// What was written last is older than the cursor: nothing new is in it. A cursor in
		// the future is from before the clock went back, and says nothing about files.
		if info, err := os.Stat(path); err != nil || after.at.Before(now) && info.ModTime().Before(after.at.Add(-time.Second)) {
			continue
		}
		// It begins after all that is wanted.
		if begun := pieceBegun(path); len(events) >= most && begun.After(events[most-1].at) {
			continue
		}
		found, err := readPiece(path, session, after, until, most)
		if err != nil {
			return nil, err
		}
		events = append(events, found...)
		slices.SortFunc(events, func(a, b logEvent) int {
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.piece, b.piece))
		})
		events = events[:min(len(events), most)]
	}
	return events, nil
}

// pieceBegun is the time in a piece's name; zero where there is none.
func pieceBegun(path string) time.Time {
	first, _, _ := strings.Cut(filepath.Base(path), "-")
	at, _ := time.Parse("20060102T150405.000000", first)
	return at
}

// readPiece reads a piece's lines after the cursor. A line that is torn, and a
// piece that was removed meanwhile, is passed over.
func readPiece(path, session string, after logCursor, until time.Time, most int) (events []logEvent, err error) {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(err, "reading an agent's log")
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 64<<10), longestRead)
	var head pieceHead
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil || session != "" && head.Session != session {
		return nil, nil
	}
	name := filepath.Base(path)
	for len(events) < most && lines.Scan() {
		stamp, text, found := bytes.Cut(lines.Bytes(), []byte(" "))
		at, err := time.Parse(logTimeFormat, string(stamp))
		e := logEvent{at: at, piece: name, session: head.Session}
		if err != nil || !found || !after.before(e) {
			continue
		}
		if !at.Before(until) {
			break
		}
		e.text = string(text)
		events = append(events, e)
	}
	return events, nil
}
