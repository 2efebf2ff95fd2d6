package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
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

	// After a transaction that failed, the database may still have it (the answer
	// to a commit can get lost). unsure holds where the chain then ends, and the
	// next write looks before it continues.
	unsure *link

	// lost is a block whose row was sent, and nobody said what became of it.
	lost *lostBlock
}

// lostBlock is a row of audit_blocks, and the chain's end that it makes.
type lostBlock struct {
	row []any
	end link
}

func newBatchWriter(l *Log) *batchWriter {
	return &batchWriter{log: l, now: time.Now, slot: rand.Int64N(slots)}
}

var errForeignRow = errors.New("audit: this writer's chain was changed by somebody else")

// attempt is a batch on its way into the chain.
type attempt struct {
	batch      []*pending
	start, end link // of the chain, before the block and with it
	noted      int64
}

// errWhole says that one statement is not enough.
var errWhole = errors.New("audit: this block wants a transaction")

// write adds a batch to the chain as one block in one transaction. As a rule that
// is a single statement, and so a single round trip to PostgreSQL.
func (w *batchWriter) write(batch []*pending) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	err := w.settle(ctx)
	a := &attempt{batch: batch, start: w.log.end, end: w.log.end} // written by this goroutine alone, so it may be read without the lock
	if err == nil {
		err = w.addRow(ctx, a)
	}
	if errors.Is(err, errWhole) {
		err = w.addWhole(ctx, a)
	}
	for try := 0; store.IsUnique(err) && try < 5; try++ { // another writer had the same number in the same microsecond
		w.slot = rand.Int64N(slots)
		err = w.addWhole(ctx, a)
	}
	w.log.observe(time.Since(began), len(batch), err)
	if err != nil {
		w.log.advance(a.start)
		if a.end != a.start { // else nothing was tried, and what was unsure still is
			w.unsure = &a.end
		}
		w.log.logger().Error("audit records could not be written", "records", len(batch), "error", err)
		return err
	}
	w.unsure, w.noted = nil, a.noted
	w.log.advance(a.end)
	return nil
}

// addRow adds a block by its row alone, where the chain's end is known and
// nothing else is due.
func (w *batchWriter) addRow(ctx context.Context, a *attempt) error {
	if w.unsure != nil || a.start.sequence == 0 {
		return errWhole
	}
	id := w.nextID()
	if w.noteDue(id) {
		return errWhole
	}
	end := w.encode(a.start, id, a.batch)
	row := w.row(id, w.log.number, a.start, end, len(a.batch))
	a.end, a.noted = end, w.noted
	err := w.log.db.AppendRow(ctx, insertBlock, row...)
	if fault.Is(err, fault.Unavailable) {
		w.lost, w.body = &lostBlock{row, end}, nil
		if err = w.settle(ctx); err == nil && w.log.end != end {
			err = errWhole // under another id
		}
	}
	return err
}

// settle sees to it that a lost block is in the chain before anything follows
// it. Its statement may still be under way, or not even begun, so that a look
// alone proves nothing; but it is added under its own id, of which there is one,
// whatever the server does with the first statement.
func (w *batchWriter) settle(ctx context.Context) error {
	if w.lost == nil {
		return nil
	}
	add := func(tx *store.Tx) error {
		found, err := w.find(tx)
		switch {
		case err != nil || found == w.lost.end:
			return err
		case found != w.log.end:
			return errForeignRow
		}
		_, err = tx.Exec(insertBlock, w.lost.row...)
		return err
	}
	err := w.log.db.Append(ctx, add)
	if store.IsUnique(err) { // it arrived behind the look; a second time: the id is another chain's, and the block can never come
		err = w.log.db.Append(ctx, add)
	}
	switch {
	case err == nil:
		w.log.advance(w.lost.end)
	case !store.IsUnique(err):
		return err
	}
	w.lost = nil
	return nil
}

// addWhole is addRow with all that it leaves out. Each of these transactions
// changes the chain's row, so that one whose answer got lost and that is still
// under way is waited for, and then seen.
func (w *batchWriter) addWhole(ctx context.Context, a *attempt) error {
	return w.log.db.Append(ctx, func(tx *store.Tx) error {
		if w.unsure != nil {
			found, err := w.find(tx)
			if err != nil {
				return err
			}
			if found != w.log.end && found != *w.unsure {
				return errForeignRow
			}
			a.start, a.end = found, found
		}
		end, noted, err := w.insert(tx, w.nextID(), a.start, a.batch)
		if err == nil {
			a.end, a.noted = end, noted
		}
		return err
	})
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

// nextID is in a microsecond after the last one's, for whatever slot that had.
func (w *batchWriter) nextID() int64 {
	w.last = max(blockID(w.now()), (w.last/slots+1)*slots) + w.slot
	return w.last
}

// noteDue reports whether the chain's row is to say where the chain is now.
func (w *batchWriter) noteDue(id int64) bool { return id-w.noted > noteEvery.Microseconds()*slots }

const insertBlock = "INSERT INTO audit_blocks (id, chain, sequence, records, mac, body) VALUES ($1, $2, $3, $4, $5, $6)"

// row is the values of insertBlock, for what encode has written.
func (w *batchWriter) row(id, number int64, start, end link, records int) []any {
	return []any{id, number, start.sequence + 1, records, end.mac[:], w.body}
}

// insert adds the batch after start and returns the chain's new end, and the id
// that the chain's row has now. It changes nothing but the database and buffers,
// because Update may run it again.
func (w *batchWriter) insert(tx *store.Tx, id int64, start link, batch []*pending) (end link, noted int64, err error) {
	number := w.log.number
	if start.sequence == 0 { // also after a first write that failed
		number = id
	}
	end = w.encode(start, id, batch)
	if _, err := tx.Exec(insertBlock, w.row(id, number, start, end, len(batch))...); err != nil {
		return link{}, 0, err
	}
	if number == id {
		w.log.number = id
		_, err = tx.Exec("INSERT INTO audit_chains (number, writer, noted, sequence) VALUES ($1, $2, $1, 0)", number, w.log.writer)
		return end, id, err
	}
	rows, err := tx.Exec("UPDATE audit_chains SET noted = $1 WHERE number = $2 AND writer = $3", id, number, w.log.writer)
	if err == nil && rows != 1 {
		err = fmt.Errorf("%w: its row is gone", errForeignRow)
	}
	return end, id, err
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
