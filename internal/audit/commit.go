package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
)

// pending is a record on its way, and who waits for it.
type pending struct {
	record Record
	detail []string   // the record's Detail, sorted
	answer chan error // holds one, so that the committing goroutine never waits
	timer  *time.Timer
}

// waiters are pendings to use again: with their channel and timer they would be
// most of what a record allocates. One that was given up is not: its answer may still come.
var waiters = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &pending{answer: make(chan error, 1), timer: timer}
}}

// newPending does in the caller's goroutine what can be done there.
func newPending(r *Record) *pending {
	p := waiters.Get().(*pending)
	p.record, p.detail = *r, sortedDetail(r.Detail)
	return p
}

// free gives back a pending that was answered.
func (p *pending) free() {
	p.timer.Stop()
	p.record, p.detail = Record{}, nil
	waiters.Put(p)
}

// commit is the one goroutine that writes. While one commit is under way the
// next records gather, and then go together: the more callers, the larger the
// batch, with no delay that waits for company.
func (l *Log) commit() {
	defer close(l.done)
	w := newBatchWriter(l)
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

const (
	largestBatch = 256
	slots        = 1024        // block ids per microsecond
	noteEvery    = time.Minute // how far a chain's end may be from where its row says
)

// blockID is the first id of a moment.
func blockID(at time.Time) int64 { return store.Micros(at) * slots }

// batchWriter commits batches and keeps the chain's end in step with the database.
type batchWriter struct {
	log   *Log
	now   func() time.Time
	slot  int64 // of this writer, so that two rarely make the same id
	last  int64 // id of the last block that was tried
	noted int64 // id that the chain's row has

	body, entry []byte // reused

	// After a write that failed, the database may still have it (the answer to a
	// commit can get lost). unsure holds where the chain would then end, and the
	// next write looks before it continues.
	unsure *link
}

func newBatchWriter(l *Log) *batchWriter {
	return &batchWriter{log: l, now: time.Now, slot: rand.Int64N(slots)}
}

var errForeignRow = errors.New("audit: this writer's chain was changed by somebody else")

// write adds a batch to the chain as one block in one transaction.
func (w *batchWriter) write(batch []*pending) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	start := w.log.end // written by this goroutine alone, so it may be read without the lock
	end := start
	var noted int64
	add := func(tx *store.Tx) error {
		if w.unsure != nil {
			found, err := w.find(tx)
			if err != nil {
				return err
			}
			if found != w.log.end && found != *w.unsure {
				return errForeignRow
			}
			start, end = found, found
		}
		reached, note, err := w.insert(tx, start, batch)
		if err == nil {
			end, noted = reached, note
		}
		return err
	}
	err := w.log.db.Append(ctx, add)
	for try := 0; store.IsUnique(err) && try < 5; try++ { // another writer had the same number in the same microsecond
		w.slot = rand.Int64N(slots)
		err = w.log.db.Append(ctx, add)
	}
	w.log.observe(time.Since(began), len(batch), err)
	if err != nil {
		w.log.advance(start)
		w.unsure = &end
		w.log.logger().Error("audit records could not be written", "records", len(batch), "error", err)
		return err
	}
	w.unsure, w.noted = nil, noted
	w.log.advance(end)
	return nil
}

func (l *Log) advance(end link) {
	l.mu.Lock()
	l.end = end
	l.mu.Unlock()
}

// find reads where this writer's chain ends; the zero link for an empty one.
func (w *batchWriter) find(tx *store.Tx) (link, error) {
	if w.log.number == 0 {
		return link{}, nil
	}
	return endOf(tx, w.log.number, w.last)
}

// endOf reads the last block of a chain that has an id of at most until; the zero link where there is none.
func endOf(tx *store.Tx, number, until int64) (link, error) {
	var end link
	var records int64
	var mac []byte
	err := tx.QueryRow("SELECT sequence, records, mac FROM audit_blocks WHERE id >= $1 AND id <= $2 AND chain = $1 ORDER BY id DESC LIMIT 1", number, until).
		Scan(&end.sequence, &records, &mac)
	if errors.Is(err, store.ErrNoRows) {
		return link{}, nil
	}
	if err == nil && copy(end.mac[:], mac) != len(end.mac) {
		err = errForeignRow
	}
	end.sequence += records - 1
	return end, err
}

// insert adds the batch after start and returns the chain's new end, and the id
// that the chain's row has now. It changes nothing but the database and buffers,
// because Update may run it again.
func (w *batchWriter) insert(tx *store.Tx, start link, batch []*pending) (end link, noted int64, err error) {
	id := max(blockID(w.now()), (w.last/slots+1)*slots) + w.slot // in a microsecond after the last one's, for whatever slot that had
	w.last = id
	number := w.log.number
	if start.sequence == 0 { // also after a first write that failed
		number = id
	}
	end = w.encode(start, id, batch)
	if _, err := tx.Exec("INSERT INTO audit_blocks (id, chain, sequence, records, mac, body) VALUES ($1, $2, $3, $4, $5, $6)",
		id, number, start.sequence+1, len(batch), end.mac[:], w.body); err != nil {
		return link{}, 0, err
	}
	noted = w.noted
	switch {
	case number == id:
		w.log.number, noted = id, id
		_, err = tx.Exec("INSERT INTO audit_chains (number, writer, noted, sequence) VALUES ($1, $2, $1, 0)", number, w.log.writer)
	case id-noted > noteEvery.Microseconds()*slots:
		noted = id
		var rows int64
		if rows, err = tx.Exec("UPDATE audit_chains SET noted = $1 WHERE number = $2 AND writer = $3", id, number, w.log.writer); err == nil && rows != 1 {
			err = fmt.Errorf("%w: its row is gone", errForeignRow)
		}
	}
	return end, noted, err
}

// encode writes the batch into body, each record with the beginning of its MAC.
func (w *batchWriter) encode(start link, id int64, batch []*pending) link {
	var s state
	w.body = w.body[:0]
	end := w.log.chain.enter(start, id, len(batch))
	for _, p := range batch {
		w.entry = s.appendEntry(w.entry[:0], &p.record, p.detail)
		end = w.log.chain.next(end, w.entry)
		w.body = binary.AppendUvarint(w.body, uint64(len(w.entry)))
		w.body = append(w.body, w.entry...)
		w.body = append(w.body, end.mac[:tagSize]...)
	}
	return end
}
