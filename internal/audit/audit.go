// Package audit keeps one record of every act, in chains that show whatever is
// changed afterwards, and it keeps secrets out of the log.
//
//	gate ── Record ──▶ Append ──▶ queue ──▶ one goroutine ── all that waits ──▶ one commit ──▶ Append returns
//	                                            └─ MAC over the previous MAC, the sequence and the record
//	Run, Close ── the chain's head ──▶ log
//	Reader: List, Export, Verify ── the chains, the heads ──▶ proof, or the first broken record; Prune
//	slog ──▶ NewHandler ── known shapes of secrets masked ──▶ output
//
// Invariant: when Append returns nil the record survives a power failure; and a
// record that was kept cannot be changed, moved or taken out of its chain
// without Verify naming it.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

var (
	errIncomplete = errors.New("audit: a record without action, decision or phase")
	errClosed     = errors.New("audit: the log is closed")
	errFull       = errors.New("audit: gave up waiting for the record to be written")
)

const (
	queueLength = 1024             // callers that may wait; the next one waits for a place
	headsEvery  = time.Minute      // how often the head goes to the log, when it has moved
	patience    = 8 * time.Second  // for one commit
	giveUpAfter = 10 * time.Second // for one record; a little more than one commit
)

// Log is this process's writer, and a Reader. It is safe for concurrent use.
type Log struct {
	*Reader
	writer  string
	number  int64 // of the chain, once it has a block; of the committing goroutine alone, as chain is
	chain   *chain
	queue   chan *pending
	closing chan struct{} // closed by Close: no new records
	done    chan struct{} // closed by the committing goroutine: no more commits
	close   func()
	logger  func() *slog.Logger
	watch   atomic.Pointer[func(time.Duration, int, error)]

	mu     sync.Mutex
	end    link // the last committed record
	logged int64
}

// New opens a chain for this process. A writer is used once; an empty one is
// made up, which is what everybody but a test wants. The chain's first record
// names the heads of the chains before it, so that these cannot lose their tails
// unnoticed. Close the Log before the database.
func New(ctx context.Context, db *store.DB, keeper *seal.Keeper, writer string) (*Log, error) {
	if writer == "" {
		writer = newWriter()
	}
	reader := NewReader(db, keeper)
	keyed, err := reader.key(ctx, chainKey(writer))
	if err != nil {
		return nil, err
	}
	l := &Log{
		Reader: reader, writer: writer, chain: keyed, logger: slog.Default,
		queue: make(chan *pending, queueLength), closing: make(chan struct{}), done: make(chan struct{}),
	}
	l.close = sync.OnceFunc(func() { close(l.closing); <-l.done; l.tellHead() })
	before, err := l.headsBefore(ctx)
	if err != nil {
		return nil, err
	}
	go l.commit()
	if err := l.Append(ctx, openingRecord(before)); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// Watch has do told of every commit: how long it took, how many records it
// carried, and whether it failed. It must be quick; it is for metrics.
func (l *Log) Watch(do func(took time.Duration, records int, err error)) { l.watch.Store(&do) }

func (l *Log) observe(took time.Duration, records int, err error) {
	if do := l.watch.Load(); do != nil {
		(*do)(took, records, err)
	}
}

// Append keeps a record, and returns when it is durable, or after giveUpAfter.
// When it returns an error the record may be kept all the same (the caller gave
// up while the commit was under way, or the database's answer got lost): treat
// the act as unrecorded.
// Never call it inside an Update: on SQLite its commit waits for that one.
func (l *Log) Append(ctx context.Context, r Record) error {
	if err := r.prepare(); err != nil {
		return err
	}
	select {
	case <-l.closing: // a select picks at random: look here first
		return unrecorded(errClosed)
	default:
	}
	p := newPending(&r)
	p.timer.Reset(giveUpAfter)
	select {
	case l.queue <- p:
	default:
		select {
		case l.queue <- p:
		case <-l.closing:
			return unrecorded(errClosed)
		case <-p.timer.C:
			return unrecorded(errFull)
		case <-ctx.Done():
			return unrecorded(errors.Join(errFull, context.Cause(ctx)))
		}
	}
	select {
	case err := <-p.answer:
		p.free()
		return unrecorded(err)
	case <-p.timer.C:
		return unrecorded(errFull)
	case <-ctx.Done():
		return unrecorded(errors.Join(errFull, context.Cause(ctx)))
	case <-l.done:
	}
	select {
	case err := <-p.answer: // it was in the last commit
		return unrecorded(err)
	default:
		return unrecorded(errClosed)
	}
}

// unrecorded is what a caller of Append sees: never more than that it failed.
func unrecorded(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Internal, "The request could not be recorded, so it was not carried out.").Because(err)
}

// Run writes the chain's head to the log every minute in which it moved, until
// ctx ends. A head in a log that lies elsewhere is what shows a cut tail.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(headsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.tellHead()
		case <-ctx.Done():
			return nil
		}
	}
}

// Close commits what waits, writes the head to the log, and refuses every
// record from then on. It may be called again.
func (l *Log) Close() error {
	l.close()
	return nil
}

// Head is the end of this process's chain: the last durable record.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end.head(l.writer)
}

func (l *Log) tellHead() {
	head := l.Head()
	l.mu.Lock()
	moved := head.Sequence != l.logged
	l.logged = head.Sequence
	l.mu.Unlock()
	if moved {
		l.logger().Info("audit head", "writer", head.Writer, "sequence", head.Sequence, "mac", head.MAC)
	}
}

// anchors bounds how many chains an opening record names. Each chain is named by
// those that follow it, so that a few are enough.
const anchors = 8

const (
	openAction   = "onbehalf:OpenAuditChain"
	anchorPrefix = "head " // of a Detail key: "head WRITER" -> "SEQUENCE MAC"
)

func openingRecord(before []Head) Record {
	r := Record{PrincipalKind: "system", Action: openAction, Decision: Allow, Phase: Done, Outcome: OK, Detail: make(map[string]string)}
	for _, head := range before {
		r.Detail[anchorPrefix+head.Writer] = fmt.Sprintf("%d %s", head.Sequence, head.MAC)
	}
	return r
}
