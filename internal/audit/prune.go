package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// youngest is the age that a record has reached before it may be pruned: by
// then no commit with an older id can still be on its way.
const youngest = time.Hour

// Pruned is what a Prune did, and how much was pruned in all, ever.
type Pruned struct {
	Records, Blocks     int64
	PrunedInAll, Chains int64
}

// CheckPrune says whether what was committed before a time may be pruned.
func CheckPrune(before time.Time) error {
	if time.Since(before) < youngest {
		return fault.New(fault.Invalid, "Records younger than an hour are not pruned.")
	}
	return nil
}

// Prune removes what was committed before a time: a block at a time is proven
// once more and removed, and its chain notes, under the key, up to where it was
// proven. So Verify still proves the rest, and that what is gone had been whole
// when it went. Transactions are short, so that writers do not wait. Whoever
// calls this records it, before and after.
func (r *Reader) Prune(ctx context.Context, before time.Time) (done Pruned, err error) {
	if err := CheckPrune(before); err != nil {
		return done, err
	}
	limit := blockID(before) - 1
	for more := true; more; {
		var blocks, records int64
		err := r.db.Append(ctx, func(tx *store.Tx) (err error) {
			blocks, records, err = r.prunePage(tx, limit)
			return err
		})
		if err != nil {
			return done, asFault(err)
		}
		done.Blocks += blocks
		done.Records += records
		more = blocks == pageOfBlocks
	}
	chains, err := r.chains(ctx)
	for _, c := range chains {
		if c.base.sequence > 0 {
			done.PrunedInAll += c.base.sequence
			done.Chains++
		}
	}
	return done, err
}

// prunePage removes the oldest blocks, as many as a page has.
func (r *Reader) prunePage(tx *store.Tx, limit int64) (removed, records int64, err error) {
	blocks, err := readBlocks(tx, "SELECT "+blockColumns+" FROM audit_blocks WHERE id <= $1 ORDER BY id LIMIT $2", limit, pageOfBlocks)
	if err != nil || len(blocks) == 0 {
		return 0, 0, err
	}
	touched := make(map[int64]*pruning)
	for i := range blocks {
		b := &blocks[i]
		p := touched[b.number]
		if p == nil {
			if p, err = r.beginPruning(tx, b.number); err != nil {
				return 0, 0, err
			}
			touched[b.number] = p
		}
		if err := p.block(tx.Context(), r, b); err != nil {
			return 0, 0, err
		}
		records += b.records
	}
	rows, err := tx.Exec("DELETE FROM audit_blocks WHERE id <= $1", blocks[len(blocks)-1].id)
	if err == nil && rows != int64(len(blocks)) {
		err = fmt.Errorf("audit: %d blocks were removed instead of %d", rows, len(blocks))
	}
	if err != nil {
		return 0, 0, err
	}
	for number, p := range touched {
		proof := p.blocks.prune(number, p.row.base)
		if _, err := tx.Exec("UPDATE audit_chains SET sequence = $1, mac = $2, proof = $3 WHERE number = $4", p.row.base.sequence, p.row.base.mac[:], proof, number); err != nil {
			return 0, 0, err
		}
	}
	return int64(len(blocks)), records, nil
}

// pruning is one chain of which a prune takes blocks.
type pruning struct {
	row           chainRow
	blocks, texts *chain
}

func (r *Reader) beginPruning(tx *store.Tx, number int64) (*pruning, error) {
	p := &pruning{}
	err := p.row.scan(tx.QueryRow("SELECT "+chainColumns+" FROM audit_chains WHERE number = $1", number))
	if errors.Is(err, store.ErrNoRows) {
		return nil, &Broken{fmt.Sprintf("number %d", number), 1, "nobody knows whose chain it is"}
	}
	if err != nil {
		return nil, err
	}
	if p.blocks, err = r.key(tx.Context(), chainKey(p.row.writer)); err != nil {
		return nil, err
	}
	if p.row.base.sequence > 0 && !bytes.Equal(p.blocks.prune(number, p.row.base), p.row.proof) {
		return nil, &Broken{p.row.writer, 1, "it is said to have been pruned, and nobody did that"}
	}
	return p, nil
}

func (p *pruning) block(ctx context.Context, r *Reader, b *block) error {
	if b.sequence != p.row.base.sequence+1 {
		return &Broken{p.row.writer, p.row.base.sequence + 1, "it is missing"}
	}
	keyed := p.blocks
	if b.text != nil {
		if p.texts == nil {
			var err error
			if p.texts, err = r.key(ctx, textKey(p.row.writer)); err != nil {
				return err
			}
		}
		keyed = p.texts
	}
	_, end, err := prove(keyed, p.row.base, b)
	if err != nil {
		return &Broken{p.row.writer, end.sequence + 1, err.Error()}
	}
	p.row.base = end
	return nil
}

// Detail is what the record of a prune must say: Verify holds what it finds against it.
func (p Pruned) Detail() map[string]string {
	return map[string]string{
		"records": strconv.FormatInt(p.Records, 10), detailPruned: strconv.FormatInt(p.PrunedInAll, 10), detailChains: strconv.FormatInt(p.Chains, 10),
	}
}

const (
	detailPruned = "prunedInAll"
	detailChains = "chains"
)
