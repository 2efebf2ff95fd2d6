package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Query selects records of one account. Members that are zero do not restrict.
//
// There is no index but time: a query walks the blocks backwards from Until and
// decodes each record, some hundred thousand a second, until it has enough or
// has come to From. So a bound in time is what makes a rare thing quick to find.
type Query struct {
	Account   string // required: a tenant, or Platform
	From      time.Time
	Until     time.Time // the first moment that does not belong
	User      string    // principal.User in one line, or the id or subject at its end
	Workload  string    // ARN, or the name at its end
	Action    string    // "bedrock-agentcore:CreateGateway", or the name at its end
	Principal string    // ARN, or user/NAME, role/NAME, root; a role stands for all of its sessions
	Outcome   string    // OK, a fault.Kind's name, or Deny for whatever was refused
	Limit     int       // records per page, at most 1000; zero is 100
	Cursor    string    // where the page before ended
}

// Entry is a record and its place in the chains.
type Entry struct {
	Record
	Writer   string
	Sequence int64
}

// Limits of a page.
const (
	defaultLimit = 100
	largestLimit = 1000
)

// List returns records, newest first, and the cursor of the next page: empty
// after the last.
func (r *Reader) List(ctx context.Context, q Query) (records []Record, next string, err error) {
	entries, next, err := r.Entries(ctx, q)
	for i := range entries {
		records = append(records, entries[i].Record)
	}
	return records, next, err
}

// Entries is List with each record's place.
func (r *Reader) Entries(ctx context.Context, q Query) (entries []Entry, next string, err error) {
	limit, at, err := q.bounds()
	if err != nil {
		return nil, "", err
	}
	from, until := q.window()
	until = min(until, at.id)
	var writers map[int64]string
	for {
		blocks, err := r.page(ctx, true, from, until)
		if err != nil {
			return nil, "", err
		}
		for i := range blocks {
			b := &blocks[i]
			if _, known := writers[b.number]; !known { // also one that has begun meanwhile
				if writers, err = r.writers(ctx); err != nil {
					return nil, "", err
				}
			}
			records, err := b.decode()
			if err != nil {
				return nil, "", fault.Wrap(fmt.Errorf("record %d of %s: %w", b.sequence, writers[b.number], err), "listing audit records")
			}
			for n := len(records) - 1; n >= 0; n-- {
				if b.id == at.id && n >= at.record || !q.matches(&records[n]) {
					continue
				}
				if len(entries) == limit {
					return entries, next, nil
				}
				entries = append(entries, Entry{records[n], writers[b.number], b.sequence + int64(n)})
				next = position{b.id, n}.cursor()
			}
		}
		if len(blocks) < pageOfBlocks {
			return entries, "", nil
		}
		until = blocks[len(blocks)-1].id - 1
	}
}

func (q *Query) bounds() (limit int, at position, err error) {
	if q.Account == "" {
		return 0, at, fault.New(fault.Invalid, "A query of the audit log names an account.")
	}
	limit = q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	at = position{math.MaxInt64, 0}
	if q.Cursor != "" {
		at, err = parseCursor(q.Cursor)
	}
	return min(limit, largestLimit), at, err
}

// clockSlack is how far a record may be older than its block: seconds, unless
// somebody set the clock back.
const clockSlack = time.Hour

// window is where blocks with the query's records lie.
func (q *Query) window() (from, until int64) {
	from, until = math.MinInt64, math.MaxInt64
	if !q.From.IsZero() {
		from = blockID(q.From)
	}
	if !q.Until.IsZero() {
		until = blockID(q.Until.Add(clockSlack))
	}
	return from, until
}

// matches compares a record with every member of the query.
func (q *Query) matches(r *Record) bool {
	return r.Account == q.Account &&
		(q.From.IsZero() || !r.Time.Before(q.From)) && (q.Until.IsZero() || r.Time.Before(q.Until)) &&
		(q.User == "" || r.User == q.User || r.User == "id:"+q.User || strings.HasSuffix(r.User, "#"+q.User)) &&
		(q.Workload == "" || r.Workload == q.Workload || strings.HasSuffix(r.Workload, "/"+q.Workload)) &&
		(q.Action == "" || r.Action == q.Action || strings.HasSuffix(r.Action, ":"+q.Action)) &&
		(q.Principal == "" || samePrincipal(r.Principal, q.Principal)) &&
		(q.Outcome == "" || r.Outcome == q.Outcome || q.Outcome == Deny && r.Decision == Deny)
}

// samePrincipal: arn:aws:sts::A:assumed-role/NAME/SESSION is a session of role/NAME.
func samePrincipal(recorded, asked string) bool {
	if recorded == asked || strings.HasSuffix(recorded, ":"+asked) {
		return true
	}
	_, asked, isRole := strings.Cut(":"+asked, ":role/")
	if !isRole {
		return false
	}
	_, session, isSession := strings.Cut(recorded, ":assumed-role/")
	role, _, _ := strings.Cut(session, "/")
	return isSession && role == asked
}

// position is where a page ended: a block, and the last record that was shown of it.
type position struct {
	id     int64
	record int
}

func (p position) cursor() string { return fmt.Sprintf("%d.%d", p.id, p.record) }

var errCursor = errors.New("audit: a cursor that List did not make")

func parseCursor(cursor string) (p position, err error) {
	id, record, _ := strings.Cut(cursor, ".")
	var errID, errRecord error
	p.id, errID = strconv.ParseInt(id, 10, 64)
	p.record, errRecord = strconv.Atoi(record)
	if errID != nil || errRecord != nil {
		return position{}, fault.New(fault.Invalid, "The page token is not valid.").Because(errCursor)
	}
	return p, nil
}
