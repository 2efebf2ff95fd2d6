package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// lane is a set of sessions of one kind (the writer, the readers), lent to one
// transaction at a time. The most recently used is lent first: its page cache
// and its processor cache are warm. Database/sql's own pool would do, but for
// 1 µs more per transaction and for prepared statements that wander between
// connections.
type lane struct {
	address  string
	settings []setting
	limit    int
	patience time.Duration

	mu      sync.Mutex
	idle    []*session
	open    int
	waiting []chan *session
	closed  bool
}

func newLane(address string, settings []setting, limit int, patience time.Duration) *lane {
	return &lane{address: address, settings: settings, limit: limit, patience: patience}
}

func (l *lane) run(ctx context.Context, begin string, fn func(statements) error) error {
	s, err := l.take(ctx)
	if err != nil {
		return err
	}
	defer l.give(s)
	return s.transact(ctx, begin, fn)
}

var errClosed = fault.New(fault.Unavailable, "The server is shutting down.").Because(errors.New("store: the database is closed"))

// take lends a session: an idle one, a new one below the limit, or the next that
// is given back.
func (l *lane) take(ctx context.Context) (*session, error) {
	if ctx.Err() != nil {
		return nil, interrupted(ctx)
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, errClosed
	}
	if last := len(l.idle) - 1; last >= 0 {
		s := l.idle[last]
		l.idle = l.idle[:last]
		l.mu.Unlock()
		return s, nil
	}
	if l.open < l.limit {
		l.open++
		l.mu.Unlock()
		return l.grow(ctx)
	}
	turn := make(chan *session, 1)
	l.waiting = append(l.waiting, turn)
	l.mu.Unlock()

	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	select {
	case s := <-turn:
		if s == nil {
			return nil, errClosed
		}
		return s, nil
	case <-ctx.Done():
	case <-timer.C:
	}
	return l.impatient(ctx, turn)
}

// impatient leaves the queue. A session handed over in the same moment is used,
// or given back.
func (l *lane) impatient(ctx context.Context, turn chan *session) (*session, error) {
	l.mu.Lock()
	at := slices.Index(l.waiting, turn)
	if at < 0 {
		l.mu.Unlock()
		s := <-turn
		if s == nil {
			return nil, errClosed
		}
		if ctx.Err() != nil {
			l.give(s)
			return nil, interrupted(ctx)
		}
		return s, nil
	}
	l.waiting = slices.Delete(l.waiting, at, at+1)
	if ctx.Err() != nil {
		l.mu.Unlock()
		return nil, interrupted(ctx)
	}
	if l.limit == 1 {
		l.mu.Unlock()
		return nil, fault.New(fault.Unavailable, "The database is busy. Try again.").
			Because(errors.New("store: the writer was not free for " + l.patience.String() + "; is there an Update inside an Update?"))
	}
	l.open++
	l.mu.Unlock()
	return l.grow(ctx)
}

// grow opens the session that the caller has counted in open already.
func (l *lane) grow(ctx context.Context) (*session, error) {
	// The session outlives this request: its context must not close it.
	s, err := openSession(context.WithoutCancel(ctx), l.address, l.settings)
	if err != nil {
		l.mu.Lock()
		l.open--
		l.mu.Unlock()
		return nil, err
	}
	return s, nil
}

// give takes a session back, for the one who has waited longest.
func (l *lane) give(s *session) {
	l.mu.Lock()
	switch {
	case len(l.waiting) > 0:
		l.waiting[0] <- s
		l.waiting = slices.Delete(l.waiting, 0, 1)
		l.mu.Unlock()
	case l.closed || l.open > l.limit || s.raw.broken:
		l.open--
		l.mu.Unlock()
		_ = s.close()
	default:
		l.idle = append(l.idle, s)
		l.mu.Unlock()
	}
}

// close closes what is idle; what is lent out is closed when it is given back.
func (l *lane) close() error {
	l.mu.Lock()
	l.closed = true
	idle := l.idle
	l.idle = nil
	l.open -= len(idle)
	for _, turn := range l.waiting {
		turn <- nil
	}
	l.waiting = nil
	l.mu.Unlock()
	var err error
	for _, s := range idle {
		err = errors.Join(err, s.close())
	}
	return err
}
