package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Proof is what Verify found whole.
type Proof struct {
	Records int64
	Pruned  int64  // records that are gone because somebody with the key removed them, up to a proven point of their chain
	Heads   []Head // of every chain, oldest writer first: keep them elsewhere to prove later that no tail was cut
}

// Broken names the first record that does not hold. errors.As finds it in what
// Verify returns.
type Broken struct {
	Writer   string
	Sequence int64
	Why      string
}

func (b *Broken) Error() string {
	return fmt.Sprintf("audit chain %s breaks at record %d: %s", b.Writer, b.Sequence, b.Why)
}

// BrokenOf finds the broken record that an error is about.
func BrokenOf(err error) (broken *Broken, is bool) {
	is = errors.As(err, &broken)
	return broken, is
}

func (b *Broken) fault() error {
	return fault.New(fault.Internal, "The audit chain %s breaks at record %d: %s.", b.Writer, b.Sequence, b.Why).Because(b)
}

// Verify proves every chain from its first record, or the point up to which it
// was pruned, to its last: none missing, altered, moved or added. A cut tail
// cannot be seen in the chain that lost it; it is seen in the heads that later
// chains recorded when they began, and in heads, which the caller kept from the
// log or from an earlier Proof.
//
// An installation that was ever started has records, so that none at all is
// broken, too.
func (r *Reader) Verify(ctx context.Context, heads ...Head) (Proof, error) {
	proof, err := newVerification(r, heads).run(ctx, math.MaxInt64)
	return proof, asFault(err)
}

// asFault tells a caller of a broken chain what is broken.
func asFault(err error) error {
	if broken, is := BrokenOf(err); is {
		return broken.fault()
	}
	return err
}

// verification is one proof under way: a single walk through all blocks, in
// which each chain is a walk of its own.
type verification struct {
	reader *Reader
	walks  map[int64]*walk
	order  []*walk
	claims map[string][]Head // by writer, sorted by sequence: what others say about a chain
	counts pruneCount        // what the latest prune that is on record said

	// tell is told of each block that was proven, and the link that it follows.
	tell func(w *walk, keyed *chain, before link, b *block, records []Record) error
}

func newVerification(r *Reader, heads []Head) *verification {
	v := &verification{reader: r, walks: make(map[int64]*walk), claims: make(map[string][]Head)}
	for _, head := range heads {
		v.claims[head.Writer] = append(v.claims[head.Writer], head)
	}
	return v
}

// run walks up to a block's id. What others say about the chains' ends counts only where it walks through all.
func (v *verification) run(ctx context.Context, until int64) (Proof, error) {
	if err := v.begin(ctx); err != nil {
		return Proof{}, err
	}
	err := v.reader.ascending(ctx, math.MinInt64, until, func(b *block) error {
		w, err := v.walk(ctx, b.number)
		if err != nil {
			return err
		}
		if b.sequence > w.end.sequence+1 {
			if err := w.catchUp(ctx, b.id); err != nil {
				return err
			}
		}
		return w.block(ctx, b)
	})
	if err != nil || until != math.MaxInt64 {
		return Proof{}, err
	}
	return v.finish(ctx)
}

// begin reads which chains there are, and what the first record of each says
// about those before it: the claims must be known before their chains are
// walked. That they are genuine is proven by the walk itself.
func (v *verification) begin(ctx context.Context) error {
	chains, err := v.reader.chains(ctx)
	if err != nil {
		return err
	}
	for i := range chains {
		c := &chains[i]
		if _, err := v.add(ctx, c); err != nil {
			return err
		}
		blocks, err := v.reader.page(ctx, false, c.number, c.number)
		if err != nil {
			return err
		}
		for i := range blocks {
			if records, err := blocks[i].decode(); err == nil && len(records) > 0 { // if not, the walk will say so
				v.note(&records[0])
			}
		}
	}
	for _, claims := range v.claims {
		slices.SortFunc(claims, func(a, b Head) int { return cmp.Compare(a.Sequence, b.Sequence) })
	}
	return nil
}

// add begins the walk of a chain at its first record, or where it was pruned.
func (v *verification) add(ctx context.Context, c *chainRow) (*walk, error) {
	w := &walk{reader: v.reader, verification: v, row: *c, end: c.base, last: math.MinInt64}
	var err error
	if w.blocks, err = v.reader.key(ctx, chainKey(c.writer)); err != nil {
		return nil, err
	}
	if err := w.checkBase(c); err != nil {
		return nil, err
	}
	v.walks[c.number] = w
	v.order = append(v.order, w)
	return w, nil
}

// walk finds a chain, also one that began while the proof was under way.
func (v *verification) walk(ctx context.Context, number int64) (*walk, error) {
	if w := v.walks[number]; w != nil {
		return w, nil
	}
	c, err := v.reader.chain(ctx, number)
	if errors.Is(err, store.ErrNoRows) {
		return nil, &Broken{fmt.Sprintf("number %d", number), 1, "nobody knows whose chain it is"}
	}
	if err != nil {
		return nil, err
	}
	return v.add(ctx, &c)
}

// note takes up what an opening record says about the chains before it.
func (v *verification) note(opening *Record) {
	if opening.Action != openAction {
		return
	}
	for key, value := range opening.Detail {
		writer, ours := strings.CutPrefix(key, anchorPrefix)
		sequence, mac, whole := strings.Cut(value, " ")
		n, err := strconv.ParseInt(sequence, 10, 64)
		if ours && whole && err == nil {
			v.claims[writer] = append(v.claims[writer], Head{Writer: writer, Sequence: n, MAC: mac})
		}
	}
}

// finish compares where the chains end with what is known of them from elsewhere.
func (v *verification) finish(ctx context.Context) (proof Proof, err error) {
	for _, w := range v.order {
		for _, head := range v.claims[w.row.writer] {
			if head.Sequence > w.end.sequence {
				// A block that was committed late, with an id that the walk had passed, or a prune beside it.
				if err := w.catchUp(ctx, math.MaxInt64); err != nil {
					return proof, err
				}
			}
			switch {
			case head.Sequence > w.end.sequence:
				return proof, w.broken(fmt.Sprintf("it is missing, and so is all up to record %d", head.Sequence))
			case head.Sequence > 0 && head.Sequence == w.row.base.sequence && head.MAC != w.row.base.head("").MAC:
				return proof, &Broken{w.row.writer, head.Sequence, "what was pruned is not what was there when its head was noted"}
			}
		}
		delete(v.claims, w.row.writer)
		proof.Records += w.end.sequence - w.row.base.sequence
		proof.Pruned += w.row.base.sequence
		proof.Heads = append(proof.Heads, w.end.head(w.row.writer))
	}
	for writer, left := range v.claims { // chains of which nothing is there
		for _, head := range left {
			if head.Sequence > 0 {
				return proof, &Broken{writer, 1, "the whole chain is missing"}
			}
		}
	}
	if proof.Records == 0 {
		return proof, &Broken{"of this installation", 1, "there are no records at all, and a first start makes some"}
	}
	return proof, v.counts.compare(proof.Pruned, v.order)
}

// walk is the proof of one chain under way.
type walk struct {
	reader       *Reader
	verification *verification
	row          chainRow
	blocks       *chain // of what this version writes
	texts        *chain // of an earlier version's records
	end          link
	last         int64 // id of the last block
	jumped       bool  // a prune came past the walk
}

func (w *walk) broken(why string) error { return &Broken{w.row.writer, w.end.sequence + 1, why} }

// checkBase proves that the chain was pruned by somebody with the key.
func (w *walk) checkBase(c *chainRow) error {
	if c.base.sequence == 0 && len(c.proof) == 0 {
		return nil
	}
	if !bytes.Equal(w.blocks.prune(c.number, c.base), c.proof) {
		return &Broken{c.writer, 1, "it is said to have been pruned, and nobody did that"}
	}
	return nil
}

// catchUp looks again where records are missing before a block: one may have
// been committed late, behind the walk's back, and a prune may be at work beside it.
func (w *walk) catchUp(ctx context.Context, before int64) error {
	for {
		blocks, err := w.reader.chainPage(ctx, w.row.number, w.last, before)
		if err != nil {
			return err
		}
		if len(blocks) == 0 || blocks[0].sequence > w.end.sequence+1 {
			if jumped, err := w.jump(ctx); err != nil || !jumped {
				return err
			}
			continue
		}
		for i := range blocks {
			if err := w.block(ctx, &blocks[i]); err != nil {
				return err
			}
		}
	}
}

// jump takes note of a prune that has come past the walk.
func (w *walk) jump(ctx context.Context) (bool, error) {
	now, err := w.reader.chain(ctx, w.row.number)
	if err != nil || now.base.sequence <= w.end.sequence {
		return false, err
	}
	if err := w.checkBase(&now); err != nil {
		return false, err
	}
	w.end, w.row.base, w.row.proof, w.jumped = now.base, now.base, now.proof, true
	return true, nil
}

// block proves one block.
func (w *walk) block(ctx context.Context, b *block) error {
	if b.id <= w.last {
		return nil // catchUp had it
	}
	if b.sequence != w.end.sequence+1 || b.records < 1 {
		if w.jumped && b.sequence+b.records-1 <= w.row.base.sequence {
			return nil // it was pruned after this page was read
		}
		return w.broken("it is missing")
	}
	keyed := w.blocks
	if b.text != nil {
		if w.texts == nil {
			var err error
			if w.texts, err = w.reader.key(ctx, textKey(w.row.writer)); err != nil {
				return err
			}
		}
		keyed = w.texts
	}
	first := w.end.sequence + 1
	records, end, err := prove(keyed, w.end, b)
	if err != nil {
		w.end = end
		return w.broken(err.Error())
	}
	if err := w.compare(keyed, end, b); err != nil {
		return err
	}
	if first == 1 && b.number != b.id {
		return w.broken("it is not where its chain says it began")
	}
	for i := range records {
		w.verification.counts.note(&records[i])
	}
	before := w.end
	w.end, w.last = end, b.id
	if w.verification.tell != nil {
		return w.verification.tell(w, keyed, before, b, records)
	}
	return nil
}

// compare holds the records of a block that was proven, up to end, against the
// heads that were noted of them.
func (w *walk) compare(keyed *chain, end link, b *block) error {
	claims := w.verification.claims[w.row.writer]
	first, _ := slices.BinarySearchFunc(claims, b.sequence, func(h Head, sequence int64) int { return cmp.Compare(h.Sequence, sequence) })
	claims = claims[first:]
	if len(claims) == 0 || claims[0].Sequence > end.sequence {
		return nil
	}
	return links(keyed, w.end, b, func(now link) error {
		for ; len(claims) > 0 && claims[0].Sequence == now.sequence; claims = claims[1:] {
			if claims[0].MAC != now.head("").MAC {
				return &Broken{w.row.writer, now.sequence, "it is not the one that was there when its head was noted"}
			}
		}
		return nil
	})
}

var (
	errAltered = errors.New("it was altered, or is not in its place")
	errCut     = errors.New("it cannot be read")
	errPlace   = errors.New("it, or one that was written together with it, was altered or is not in its place")
)

// prove computes a block's MACs after before. With an error, end is the last
// record that holds.
func prove(keyed *chain, before link, b *block) (records []Record, end link, err error) {
	end = before
	if b.text != nil {
		if end = keyed.nextText(before, *b.text); b.records != 1 || !bytes.Equal(end.mac[:], b.mac) {
			return nil, before, errAltered
		}
	} else {
		end = keyed.enter(before, b.id, int(b.records))
	}
	var s state
	err = b.entries(func(entry, tag []byte) error {
		if tag != nil {
			next := keyed.next(end, entry)
			if !bytes.Equal(next.mac[:tagSize], tag) {
				if end.sequence == before.sequence {
					return errPlace // its place is part of the first record's MAC
				}
				return errAltered
			}
			end = next
		}
		record, err := s.read(entry, tag)
		if err != nil {
			end.sequence--
			return errCut
		}
		records = append(records, record)
		return nil
	})
	switch {
	case errors.Is(err, errMalformed):
		return nil, end, errCut
	case err != nil:
		return nil, end, err
	case !bytes.Equal(end.mac[:], b.mac):
		end.sequence--
		return nil, end, errAltered
	}
	return records, end, nil
}

// chain reads a chain's row.
func (r *Reader) chain(ctx context.Context, number int64) (c chainRow, err error) {
	err = r.db.View(ctx, func(tx *store.Tx) error {
		c = chainRow{}
		return c.scan(tx.QueryRow("SELECT "+chainColumns+" FROM audit_chains WHERE number = $1", number))
	})
	return c, err
}

// chainPage reads blocks of one chain between two ids.
func (r *Reader) chainPage(ctx context.Context, number, after, before int64) (blocks []block, err error) {
	err = r.db.View(ctx, func(tx *store.Tx) (err error) {
		blocks, err = readBlocks(tx, "SELECT "+blockColumns+" FROM audit_blocks WHERE id > $1 AND id < $2 AND chain = $3 ORDER BY id LIMIT $4", after, before, number, pageOfBlocks)
		return err
	})
	return blocks, fault.Wrap(err, "reading an audit chain")
}

// pruneCount is what prunes on record said: how many records had been pruned in
// all, and in how many chains. Rows of audit_chains are never removed, so that
// there cannot be fewer now.
type pruneCount struct {
	records int64
	chains  int
}

func (c *pruneCount) note(r *Record) {
	if r.Action != PruneAction || r.Phase != Done || r.Outcome != OK {
		return
	}
	records, _ := strconv.ParseInt(r.Detail[detailPruned], 10, 64)
	chains, _ := strconv.Atoi(r.Detail[detailChains])
	c.records, c.chains = max(c.records, records), max(c.chains, chains)
}

func (c *pruneCount) compare(records int64, walks []*walk) error {
	pruned := 0
	for _, w := range walks {
		if w.row.base.sequence > 0 {
			pruned++
		}
	}
	if records < c.records || pruned < c.chains {
		return &Broken{"of this installation", 1, fmt.Sprintf("%d records of %d chains were pruned by now, and it is known of %d of %d: chains have vanished", c.records, c.chains, records, pruned)}
	}
	return nil
}

// PruneAction is under which a prune is on record.
const PruneAction = "onbehalf:PruneAuditRecords"
