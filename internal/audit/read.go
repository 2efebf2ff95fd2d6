package audit

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Reader reads and proves what Logs wrote, beside them or when none is at work.
// It writes nothing but what Prune removes.
type Reader struct {
	db     *store.DB
	keeper *seal.Keeper
}

// NewReader reads a database's records.
func NewReader(db *store.DB, keeper *seal.Keeper) *Reader { return &Reader{db: db, keeper: keeper} }

// block is a row of audit_blocks.
type block struct {
	id, number, sequence, records int64
	mac, body                     []byte
	text                          *string // of an earlier version: one record, instead of body
}

const blockColumns = "id, chain, sequence, records, mac, body, record"

func (b *block) scan(row interface{ Scan(...any) error }) error {
	return row.Scan(&b.id, &b.number, &b.sequence, &b.records, &b.mac, &b.body, &b.text)
}

// entries hands each record's bytes and tag to do: a version before had one, without a tag.
func (b *block) entries(do func(entry, tag []byte) error) error {
	if b.text != nil {
		return do([]byte(*b.text), nil)
	}
	r := reader{rest: b.body}
	for range b.records {
		entry := r.bytes(r.number())
		tag := r.bytes(tagSize)
		if r.bad {
			return errMalformed
		}
		if err := do(entry, tag); err != nil {
			return err
		}
	}
	if len(r.rest) > 0 {
		return errMalformed
	}
	return nil
}

// decode reads the block's records, oldest first.
func (b *block) decode() ([]Record, error) {
	var s state
	var list []Record
	err := b.entries(func(entry, tag []byte) error {
		record, err := s.read(entry, tag)
		list = append(list, record)
		return err
	})
	if err == nil && int64(len(list)) != b.records {
		err = errMalformed
	}
	return list, err
}

// read decodes an entry of either version.
func (s *state) read(entry, tag []byte) (Record, error) {
	if tag == nil {
		return decodeText(entry)
	}
	return s.readEntry(entry)
}

// pageOfBlocks is how many blocks one snapshot reads: a walk through millions
// must not hold one snapshot from begin to end.
const pageOfBlocks = 256

// page reads blocks after an id, or before one, in that order.
func (r *Reader) page(ctx context.Context, newestFirst bool, from, until int64) ([]block, error) {
	direction := "ASC"
	if newestFirst {
		direction = "DESC"
	}
	var blocks []block
	err := r.db.View(ctx, func(tx *store.Tx) (err error) {
		blocks, err = readBlocks(tx, "SELECT "+blockColumns+" FROM audit_blocks WHERE id >= $1 AND id <= $2 ORDER BY id "+direction+" LIMIT $3", from, until, pageOfBlocks)
		return err
	})
	return blocks, fault.Wrap(err, "reading the audit records")
}

func readBlocks(tx *store.Tx, query string, args ...any) (blocks []block, err error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b block
		if err := b.scan(rows); err != nil {
			return nil, err
		}
		blocks = append(blocks, b)
	}
	return blocks, rows.Err()
}

// ascending hands every block to do, oldest first.
func (r *Reader) ascending(ctx context.Context, from, until int64, do func(*block) error) error {
	for {
		blocks, err := r.page(ctx, false, from, until)
		if err != nil {
			return err
		}
		for i := range blocks {
			if err := do(&blocks[i]); err != nil {
				return err
			}
		}
		if len(blocks) < pageOfBlocks {
			return nil
		}
		from = blocks[len(blocks)-1].id + 1
	}
}

// chainRow is a row of audit_chains.
type chainRow struct {
	number, noted int64
	writer        string
	base          link   // the last record that was pruned
	proof         []byte // that it was
}

const chainColumns = "number, writer, noted, sequence, mac, proof"

func (c *chainRow) scan(row interface{ Scan(...any) error }) error {
	var mac []byte
	if err := row.Scan(&c.number, &c.writer, &c.noted, &c.base.sequence, &mac, &c.proof); err != nil {
		return err
	}
	copy(c.base.mac[:], mac)
	return nil
}

// chains reads all chains, in the order in which they began.
func (r *Reader) chains(ctx context.Context) ([]chainRow, error) {
	var chains []chainRow
	err := r.db.View(ctx, func(tx *store.Tx) error {
		chains = nil
		rows, err := tx.Query("SELECT " + chainColumns + " FROM audit_chains ORDER BY number")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c chainRow
			if err := c.scan(rows); err != nil {
				return err
			}
			chains = append(chains, c)
		}
		return rows.Err()
	})
	return chains, fault.Wrap(err, "listing the audit chains")
}

// writers are the chains' names by their numbers.
func (r *Reader) writers(ctx context.Context) (map[int64]string, error) {
	chains, err := r.chains(ctx)
	names := make(map[int64]string, len(chains))
	for _, c := range chains {
		names[c.number] = c.writer
	}
	return names, err
}

// headsBefore reads the heads of the chains that began last.
func (r *Reader) headsBefore(ctx context.Context) ([]Head, error) {
	var heads []Head
	err := r.db.View(ctx, func(tx *store.Tx) error {
		heads = nil
		for before := int64(math.MaxInt64); len(heads) < anchors; {
			var c chainRow
			err := c.scan(tx.QueryRow("SELECT "+chainColumns+" FROM audit_chains WHERE number < $1 ORDER BY number DESC LIMIT 1", before))
			if errors.Is(err, store.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			before = c.number
			// Its row was brought up to date less than noteEvery before its end, so this
			// looks through a minute of blocks at most, however many there are. A margin
			// covers what was on its way.
			end, err := endOf(tx, c.number, c.noted+2*noteEvery.Microseconds()*slots)
			if err != nil {
				return err
			}
			if end.sequence == 0 { // all of it was pruned
				end = c.base
			}
			heads = append(heads, end.head(c.writer))
		}
		return nil
	})
	return heads, fault.Wrap(err, "reading the heads of the audit chains")
}

// key makes the MACs of a writer's chain.
func (r *Reader) key(ctx context.Context, info string) (*chain, error) {
	key, err := r.keeper.Derive(ctx, seal.Platform, seal.AuditMAC, info)
	if err != nil {
		return nil, fmt.Errorf("deriving a key of the audit chains: %w", err)
	}
	defer clear(key)
	return newChain(key), nil
}
