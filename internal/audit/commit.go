package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/store"
)

// pending is a record on its way: what is stored of it, and who waits.
type pending struct {
	account, person, workload, action string
	time                              int64
	text                              string
	answer                            chan error // holds one, so that the committing goroutine never waits
}

// newPending does in the caller's goroutine whatever can be done there.
func newPending(r *Record) *pending {
	return &pending{
		account: r.Account, person: r.User, workload: r.Workload, action: r.Action, time: store.Micros(r.Time),
		text: r.text(), answer: make(chan error, 1),
	}
}

// commit is the one goroutine that writes. While one commit is under way the
// next records gather, and then go together: the more callers, the larger the
// batch, with no delay that waits for company.
func (l *Log) commit() {
	defer close(l.done)
	w := &batchWriter{log: l}
	batch := make([]*pending, 0, largestBatch)
	for {
		batch = l.take(batch[:0])
		if len(batch) == 0 {
			return
		}
		err := w.write(batch)
		for _, p := range batch {
			p.answer <- err
		}
		clear(batch)
	}
}

// take waits for a record and takes all that wait with it. Nothing means that
// the Log is closed and the queue empty.
func (l *Log) take(batch []*pending) []*pending {
	select {
	case p := <-l.queue:
		batch = append(batch, p)
	case <-l.closing:
	}
	for len(batch) < largestBatch {
		select {
		case p := <-l.queue:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// batchWriter commits batches and keeps the chain's end in step with the database.
type batchWriter struct {
	log  *Log
	args []any

	// After a write that failed, the database may still have it (the answer to a
	// commit can get lost). unsure holds where the chain would then end, and the
	// next write looks before it continues.
	unsure *link
}

var errForeignRow = errors.New("audit: this writer's chain was changed by somebody else")

// write adds a batch to the chain in one transaction.
func (w *batchWriter) write(batch []*pending) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := w.log.end // written by this goroutine alone, so it may be read without the lock
	end := start
	err := w.log.db.Append(ctx, func(tx *store.Tx) error {
		if w.unsure != nil {
			found, err := lastLink(tx, w.log.writer)
			if err != nil {
				return err
			}
			if found != w.log.end && found != *w.unsure {
				return errForeignRow
			}
			start, end = found, found
		}
		reached, err := w.insert(tx, start, batch)
		if err == nil {
			end = reached
		}
		return err
	})
	if err != nil {
		w.log.advance(start)
		w.unsure = &end
		w.log.logger().Error("audit records could not be written", "records", len(batch), "error", err)
		return err
	}
	w.unsure = nil
	w.log.advance(end)
	return nil
}

func (l *Log) advance(end link) {
	l.mu.Lock()
	l.end = end
	l.mu.Unlock()
}

// lastLink reads where a chain ends; the zero link for an empty one.
func lastLink(tx *store.Tx, writer string) (link, error) {
	var end link
	var mac []byte
	err := tx.QueryRow("SELECT sequence, mac FROM audit_records WHERE writer = $1 ORDER BY sequence DESC LIMIT 1", writer).Scan(&end.sequence, &mac)
	if errors.Is(err, store.ErrNoRows) {
		return link{}, nil
	}
	if err == nil && copy(end.mac[:], mac) != len(end.mac) {
		err = errForeignRow
	}
	return end, err
}

// Rows are inserted many per statement, in a few fixed numbers so that the
// statements stay prepared: a batch of 23 is one of 16, one of 4, one of 2 and one of 1.
var inserts = func() map[int]string {
	texts := make(map[int]string)
	for _, rows := range insertSizes {
		texts[rows] = insertText(rows)
	}
	return texts
}()

var insertSizes = []int{64, 32, 16, 8, 4, 2, 1}

const (
	largestBatch = 256
	columns      = 8 // per row, besides the writer, which is $1 for all
)

func insertText(rows int) string {
	var text strings.Builder
	text.WriteString("INSERT INTO audit_records (writer, sequence, mac, account, time, person, workload, action, record) VALUES ")
	for row := range rows {
		if row > 0 {
			text.WriteByte(',')
		}
		text.WriteString("($1")
		for column := range columns {
			text.WriteString(",$" + strconv.Itoa(2+row*columns+column))
		}
		text.WriteByte(')')
	}
	return text.String()
}

// insert adds the batch after start and returns the chain's new end. It changes
// nothing but the database, because Update may run it again.
func (w *batchWriter) insert(tx *store.Tx, start link, batch []*pending) (link, error) {
	end := start
	for _, rows := range insertSizes {
		for ; len(batch) >= rows; batch = batch[rows:] {
			w.args = append(w.args[:0], w.log.writer)
			for _, p := range batch[:rows] {
				end = w.log.chain.next(end, p.text)
				w.args = append(w.args, end.sequence, append([]byte(nil), end.mac[:]...), p.account, p.time, p.person, p.workload, p.action, p.text)
			}
			added, err := tx.Exec(inserts[rows], w.args...)
			if err == nil && added != int64(rows) {
				err = fmt.Errorf("audit: %d rows were added instead of %d", added, rows)
			}
			if err != nil {
				return link{}, err
			}
		}
	}
	return end, nil
}
