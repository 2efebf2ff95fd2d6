package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Proof is what Verify found whole.
type Proof struct {
	Records int64
	Heads   []Head // of every chain, oldest writer first: keep them elsewhere to prove later that no tail was cut
}

// Broken names the first record that does not hold, in the chain of the first
// such writer. errors.As finds it in what Verify returns.
type Broken struct {
	Writer   string
	Sequence int64
	Why      string
}

func (b *Broken) Error() string {
	return fmt.Sprintf("audit chain %s breaks at record %d: %s", b.Writer, b.Sequence, b.Why)
}

func (b *Broken) fault() error {
	return fault.New(fault.Internal, "The audit chain %s breaks at record %d: %s.", b.Writer, b.Sequence, b.Why).Because(b)
}

// pageOfProof is how many records one snapshot reads: a proof of millions must
// not hold one snapshot from begin to end.
const pageOfProof = 2000

// Verify proves every chain from its first record to its last: none missing,
// altered, moved or added. A cut tail cannot be seen in the chain that lost it;
// it is seen in the heads that later chains recorded when they began, and in
// heads, which the caller kept from the log or from an earlier Proof.
func (l *Log) Verify(ctx context.Context, heads ...Head) (Proof, error) {
	var proof Proof
	claims := make(map[string][]Head) // by writer
	for _, head := range heads {
		claims[head.Writer] = append(claims[head.Writer], head)
	}
	// Later chains speak about earlier ones, so the latest goes first and its
	// claims are known when theirs is walked. Old heads first would need two walks.
	writers, err := l.writers(ctx)
	if err != nil {
		return Proof{}, err
	}
	for i := len(writers) - 1; i >= 0; i-- {
		end, err := l.prove(ctx, writers[i], claims)
		if err != nil {
			return Proof{}, err
		}
		proof.Records += end.sequence
		proof.Heads = append(proof.Heads, end.head(writers[i]))
		delete(claims, writers[i])
	}
	slices.Reverse(proof.Heads)
	for writer, left := range claims { // chains of which nothing is there
		for _, head := range left {
			if head.Sequence > 0 {
				return Proof{}, (&Broken{writer, 1, "the whole chain is missing"}).fault()
			}
		}
	}
	return proof, nil
}

// prove walks one chain, adds what it says about others to claims, and compares
// it with what claims say about it.
func (l *Log) prove(ctx context.Context, writer string, claims map[string][]Head) (link, error) {
	key, err := l.keeper.Derive(ctx, seal.Platform, seal.AuditMAC, chainKey(writer))
	if err != nil {
		return link{}, err
	}
	w := &walk{writer: writer, chain: newChain(key), claims: claims}
	clear(key)
	for more := true; more; {
		before := w.end.sequence
		err := l.db.View(ctx, func(tx *store.Tx) error { return w.page(tx) })
		if err != nil {
			var broken *Broken
			if errors.As(err, &broken) {
				return link{}, broken.fault()
			}
			return link{}, fault.Wrap(err, "reading the audit chain")
		}
		more = w.end.sequence-before == pageOfProof
	}
	for _, head := range claims[writer] {
		if head.Sequence > w.end.sequence {
			return link{}, (&Broken{writer, w.end.sequence + 1, fmt.Sprintf("it is missing, and so is all up to record %d", head.Sequence)}).fault()
		}
	}
	return w.end, nil
}

// walk is the proof of one chain under way.
type walk struct {
	writer string
	chain  *chain
	claims map[string][]Head
	end    link
}

// page proves the next records.
func (w *walk) page(tx *store.Tx) error {
	after := w.end.sequence
	if after == 0 {
		after = math.MinInt64 // nothing may hide below the first
	}
	rows, err := tx.Query(`SELECT sequence, mac, account, time, person, workload, action, record
		FROM audit_records WHERE writer = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`, w.writer, after, pageOfProof)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r stored
		if err := rows.Scan(&r.sequence, &r.mac, &r.account, &r.time, &r.person, &r.workload, &r.action, &r.record); err != nil {
			return err
		}
		if err := w.step(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// stored is a row as it lies in the database.
type stored struct {
	sequence, time                            int64
	mac                                       []byte
	account, person, workload, action, record string
}

// step proves one record.
func (w *walk) step(r stored) error {
	broken := func(why string) error { return &Broken{w.writer, w.end.sequence + 1, why} }
	if r.sequence != w.end.sequence+1 {
		return broken("it is missing")
	}
	after := w.chain.next(w.end, r.record)
	if string(after.mac[:]) != string(r.mac) {
		return broken("it was altered, or is not in its place")
	}
	record, err := decode(r.record)
	if err != nil {
		return broken("it cannot be read")
	}
	if r.account != record.Account || r.time != store.Micros(record.Time) || r.person != record.User || r.workload != record.Workload || r.action != record.Action {
		return broken("the columns that it is found by were altered")
	}
	for _, claim := range w.claims[w.writer] {
		if claim.Sequence == after.sequence && claim.MAC != after.head(w.writer).MAC {
			return broken("it is not the one that was there when its head was noted")
		}
	}
	if record.Action == openAction && after.sequence == 1 {
		w.note(record)
	}
	w.end = after
	return nil
}

// note takes up what an opening record says about the chains before it.
func (w *walk) note(opening Record) {
	for key, value := range opening.Detail {
		writer, ours := strings.CutPrefix(key, anchorPrefix)
		sequence, mac, whole := strings.Cut(value, " ")
		n, err := strconv.ParseInt(sequence, 10, 64)
		if ours && whole && err == nil {
			w.claims[writer] = append(w.claims[writer], Head{Writer: writer, Sequence: n, MAC: mac})
		}
	}
}

// writers lists all chains, oldest first, one step of the index each.
func (l *Log) writers(ctx context.Context) ([]string, error) {
	var writers []string
	err := l.db.View(ctx, func(tx *store.Tx) error {
		writers = nil
		for last := ""; ; {
			err := tx.QueryRow("SELECT writer FROM audit_records WHERE writer > $1 ORDER BY writer LIMIT 1", last).Scan(&last)
			if errors.Is(err, store.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			writers = append(writers, last)
		}
	})
	return writers, fault.Wrap(err, "listing the audit chains")
}

// headsBefore reads the heads of the latest chains.
func (l *Log) headsBefore(ctx context.Context) ([]Head, error) {
	var heads []Head
	err := l.db.View(ctx, func(tx *store.Tx) error {
		heads = nil
		for last := l.writer; len(heads) < anchors; {
			err := tx.QueryRow("SELECT writer FROM audit_records WHERE writer < $1 ORDER BY writer DESC LIMIT 1", last).Scan(&last)
			if errors.Is(err, store.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			end, err := lastLink(tx, last)
			if err != nil {
				return err
			}
			heads = append(heads, end.head(last))
		}
		return nil
	})
	return heads, fault.Wrap(err, "reading the heads of the audit chains")
}
