package store

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// gatherer sends what is looked up at about the same time to PostgreSQL together:
//
//	Look ──▶ queue ──▶ a lane takes all that wait ── one round trip ──▶ each Look has its rows
//
// Nothing waits for company: while a lane's round trip is under way the next
// questions gather, and the more callers there are, the more share one. Each
// question is asked after its Look began, and each is a statement with a snapshot
// of its own, so that what another replica committed before is seen.
type gatherer struct {
	pool  *sql.DB
	again func(error) bool // what failed may be asked again
	queue chan *question
	end   chan struct{}
	close func() // waits for what is under way
	lanes sync.WaitGroup
}

const (
	// lanes is how many round trips are under way at once. Few callers then never
	// wait for each other, and with many a batch is worth its round trip.
	lanes        = 3
	largestRound = 64
	roundWithin  = acquireWithin + 5*time.Second // a round's questions are read by key
)

// question is a statement on its way, and who waits for it. The lane keeps it
// when the asker has gone, so they share nothing but the answer.
type question struct {
	query  string
	args   []any
	answer chan *answer // holds one: the lane never waits
}

type answer struct {
	columns []string
	rows    [][]any
	err     error
}

func newGatherer(pool *sql.DB, again func(error) bool) *gatherer {
	g := &gatherer{pool: pool, again: again, queue: make(chan *question, 1024), end: make(chan struct{})}
	g.close = sync.OnceFunc(func() { close(g.end); g.lanes.Wait() })
	for range lanes {
		g.lanes.Go(g.serve)
	}
	return g
}

// over reports whether close was called.
func (g *gatherer) over() bool {
	select {
	case <-g.end:
		return true
	default:
		return false
	}
}

// ask answers a question, or an error when ctx ends first.
func (g *gatherer) ask(ctx context.Context, query string, args []any) *answer {
	q := &question{query: query, args: args, answer: make(chan *answer, 1)}
	select {
	case g.queue <- q:
	case <-ctx.Done():
		return &answer{err: interrupted(ctx)}
	case <-g.end:
		return &answer{err: errClosed}
	}
	select {
	case a := <-q.answer:
		return a
	case <-ctx.Done():
		return &answer{err: interrupted(ctx)}
	case <-g.end:
	}
	select {
	case a := <-q.answer:
		return a
	default:
		return &answer{err: errClosed}
	}
}

func (g *gatherer) serve() {
	round := make([]*question, 0, largestRound)
	for {
		select {
		case q := <-g.queue:
			round = append(round[:0], q)
		case <-g.end:
			return
		}
	more:
		for len(round) < largestRound {
			select {
			case q := <-g.queue:
				round = append(round, q)
			default:
				break more
			}
		}
		g.contained(round)
		clear(round)
	}
}

// contained is run. Where that breaks by a fault of ours, those who wait hear of it,
// and the lane goes on.
func (g *gatherer) contained(round []*question) {
	ctx, cancel := context.WithTimeout(context.Background(), roundWithin)
	defer cancel()
	err := fault.Contain("looking up", func() error { g.run(ctx, round); return nil })
	if err == nil {
		return
	}
	for _, q := range round {
		select {
		case q.answer <- &answer{err: err}:
		default: // it had its answer before
		}
	}
}

// run answers a round before ctx ends. A statement that fails spoils those that
// were sent with it, so that each is then asked by itself.
func (g *gatherer) run(ctx context.Context, round []*question) {
	answers, err := g.send(ctx, round)
	for try := 1; err != nil && g.again(err) && try < begins; try++ {
		answers, err = g.send(ctx, round)
	}
	if err != nil && len(round) > 1 && !fault.Is(err, fault.Unavailable) {
		for i := range round {
			g.run(ctx, round[i:i+1])
		}
		return
	}
	for i, q := range round {
		if err != nil {
			q.answer <- &answer{err: err}
		} else {
			q.answer <- answers[i]
		}
	}
}

// send makes one round trip, on another connection where one turns out to be
// broken: reading twice does no harm.
func (g *gatherer) send(ctx context.Context, round []*question) ([]*answer, error) {
	for attempt := 1; ; attempt++ {
		conn, err := take(ctx, g.pool)
		if err != nil {
			return nil, err
		}
		var answers []*answer
		broken := false
		if raw := conn.Raw(func(driver any) error {
			c := driver.(*stdlib.Conn).Conn()
			answers, err = exchange(ctx, c, round)
			broken = c.IsClosed()
			return nil
		}); raw != nil {
			err, broken = raw, true
		}
		_ = conn.Close()
		switch {
		case err == nil:
			return answers, nil
		case !broken:
			return nil, err
		case attempt == begins || ctx.Err() != nil:
			return nil, unreachable(ctx, err)
		}
	}
}

// exchange sends a round on a connection and reads all answers.
func exchange(ctx context.Context, c *pgx.Conn, round []*question) ([]*answer, error) {
	var batch pgx.Batch
	for _, q := range round {
		batch.Queue(q.query, q.args...)
	}
	results := c.SendBatch(ctx, &batch)
	answers := make([]*answer, len(round))
	for i := range round {
		rows, err := results.Query()
		if err == nil {
			answers[i], err = collect(rows)
		}
		if err != nil {
			_ = results.Close()
			return nil, err
		}
	}
	return answers, results.Close()
}

func collect(rows pgx.Rows) (*answer, error) {
	defer rows.Close()
	a := &answer{}
	for _, field := range rows.FieldDescriptions() {
		a.columns = append(a.columns, field.Name)
	}
	for rows.Next() {
		row, err := rows.Values()
		if err != nil {
			return nil, err
		}
		for i, value := range row { // SUM of integers, which database/sql knows by its text
			if number, ok := value.(pgtype.Numeric); ok {
				if row[i], err = number.Value(); err != nil {
					return nil, err
				}
			}
		}
		a.rows = append(a.rows, row)
	}
	return a, rows.Err()
}
