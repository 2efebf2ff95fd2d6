package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Query selects records of one account. Members that are zero do not restrict.
type Query struct {
	Account  string // required: a tenant, or Platform
	From     time.Time
	Until    time.Time // the first moment that does not belong
	User     string    // principal.User in one line
	Workload string    // ARN
	Action   string
	Limit    int    // records per page, at most 1000; zero is 100
	Cursor   string // where the page before ended
}

// Limits of a page.
const (
	defaultLimit = 100
	largestLimit = 1000
)

// List returns records, newest first, and the cursor of the next page: empty
// after the last.
func (l *Log) List(ctx context.Context, q Query) (records []Record, next string, err error) {
	text, args, limit, err := q.statement()
	if err != nil {
		return nil, "", err
	}
	err = l.db.View(ctx, func(tx *store.Tx) error {
		records, next = nil, ""
		rows, err := tx.Query(text, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		var at position
		for rows.Next() {
			var record string
			if len(records) == limit {
				next = at.cursor()
				return nil
			}
			if err := rows.Scan(&at.writer, &at.sequence, &at.time, &record); err != nil {
				return err
			}
			decoded, err := decode(record)
			if err != nil {
				return fmt.Errorf("record %d of %s: %w", at.sequence, at.writer, err)
			}
			records = append(records, decoded)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, "", fault.Wrap(err, "listing audit records")
	}
	return records, next, nil
}

// statement builds the SQL: one text per combination of members, not per value.
func (q Query) statement() (text string, args []any, limit int, err error) {
	if q.Account == "" {
		return "", nil, 0, fault.New(fault.Invalid, "A query of the audit log names an account.")
	}
	limit = q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, largestLimit)
	where := []string{"account = $1"}
	args = []any{q.Account}
	add := func(condition string, values ...any) {
		for _, value := range values {
			args = append(args, value)
			condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		where = append(where, condition)
	}
	if !q.From.IsZero() {
		add("time >= ?", store.Micros(q.From))
	}
	if !q.Until.IsZero() {
		add("time < ?", store.Micros(q.Until))
	}
	if q.User != "" {
		add("person = ?", q.User)
	}
	if q.Workload != "" {
		add("workload = ?", q.Workload)
	}
	if q.Action != "" {
		add("action = ?", q.Action)
	}
	if q.Cursor != "" {
		at, err := parseCursor(q.Cursor)
		if err != nil {
			return "", nil, 0, err
		}
		add("(time, writer, sequence) < (?, ?, ?)", at.time, at.writer, at.sequence)
	}
	args = append(args, limit+1) // one more tells whether there is a next page
	return "SELECT writer, sequence, time, record FROM audit_records WHERE " + strings.Join(where, " AND ") +
		" ORDER BY time DESC, writer DESC, sequence DESC LIMIT $" + strconv.Itoa(len(args)), args, limit, nil
}

// position is where a page ended.
type position struct {
	time, sequence int64
	writer         string
}

func (p position) cursor() string { return fmt.Sprintf("%d/%d/%s", p.time, p.sequence, p.writer) }

var errCursor = errors.New("audit: a cursor that List did not make")

func parseCursor(cursor string) (position, error) {
	at, rest, _ := strings.Cut(cursor, "/")
	sequence, writer, _ := strings.Cut(rest, "/")
	var p position
	var errTime, errSequence error
	p.time, errTime = strconv.ParseInt(at, 10, 64)
	p.sequence, errSequence = strconv.ParseInt(sequence, 10, 64)
	p.writer = writer
	if errTime != nil || errSequence != nil || writer == "" || strings.ContainsFunc(writer, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return position{}, fault.New(fault.Invalid, "The page token is not valid.").Because(errCursor)
	}
	return p, nil
}
