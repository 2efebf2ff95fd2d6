package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// workLease is how long a process that was killed keeps others from its work.
const workLease = 15 * time.Second

// Busy reports whether an error of Work says that another process is at it.
func Busy(err error) bool { return errors.Is(err, errBusy) }

// Work seals an account's rows anew that older data keys sealed, and retires
// those keys. It is gone on with after a kill by calling it again. alone says
// that no other process can be at it, whatever a lease says.
func (c *Custodian) Work(ctx context.Context, account string, alone bool) error {
	name := "reseal " + account
	if err := c.take(ctx, name, alone); err != nil {
		return err
	}
	defer func() {
		_ = c.db.Append(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Release(name, c.holder) })
	}()
	heads, err := c.heads(ctx, account)
	if err != nil {
		return err
	}
	if err := c.count(ctx, account, heads); err != nil {
		return err
	}
	var done atomic.Int64
	noted := c.noting(ctx, name, account, &done)
	var failed int64
	for _, p := range resealed {
		// A second pass finds what a replica sealed that did not know the new key yet.
		for range 3 {
			changed, bad, err := c.pass(noted.ctx, account, p, &done)
			if err != nil {
				return errors.Join(noted.end(), err)
			}
			if bad > 0 || changed == 0 {
				failed += bad
				break
			}
		}
	}
	if err := noted.end(); err != nil {
		return err
	}
	return c.finish(ctx, account, failed, heads)
}

// take takes the lease of a work.
func (c *Custodian) take(ctx context.Context, name string, alone bool) error {
	ours := false
	err := c.db.Append(ctx, func(tx *store.Tx) (err error) {
		if alone {
			if _, err := tx.Exec("DELETE FROM leases WHERE name = $1", name); err != nil {
				return err
			}
		}
		_, ours, err = tx.Lease(name, c.holder, workLease)
		return err
	})
	if err == nil && !ours {
		return errBusy
	}
	return err
}

// count notes how many rows there are to be sealed anew.
func (c *Custodian) count(ctx context.Context, account string, heads map[Purpose][]byte) error {
	var total int64
	err := c.db.View(ctx, func(tx *store.Tx) error {
		total = 0
		for _, t := range c.tables {
			if head := heads[t.purpose()]; head != nil {
				n, err := t.count(tx, account, t.any("<> $2"), head)
				if err != nil {
					return err
				}
				total += n
			}
		}
		return nil
	})
	if err == nil {
		err = c.db.Append(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE key_rotations SET total = done + $1, worked = $2 WHERE account = $3", total, store.Micros(tx.Now), account)
			return err
		})
	}
	return fault.Wrap(err, "counting what to seal anew")
}

// notes is the writing down of progress beside the work.
type notes struct {
	ctx context.Context // of the work: it ends when the lease was lost
	end func() error
}

// noting renews the lease and writes down how far the work is, twice a second.
// Not with each batch: writers of one table must not meet in one row.
func (c *Custodian) noting(ctx context.Context, name, account string, done *atomic.Int64) notes {
	ctx, lose := context.WithCancelCause(ctx)
	stop, ended := make(chan struct{}), make(chan error, 1)
	note := func(ctx context.Context) error {
		rows := done.Swap(0)
		return c.db.Append(ctx, func(tx *store.Tx) error {
			if _, ours, err := tx.Lease(name, c.holder, workLease); err != nil || !ours {
				return errors.Join(err, errBusy)
			}
			_, err := tx.Exec("UPDATE key_rotations SET done = done + $1, worked = $2 WHERE account = $3", rows, store.Micros(tx.Now), account)
			return err
		})
	}
	go func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				ended <- note(context.WithoutCancel(ctx))
				return
			case <-ticker.C:
				if err := note(ctx); errors.Is(err, errBusy) {
					lose(errBusy)
				}
			}
		}
	}()
	return notes{ctx, func() error {
		close(stop)
		err := <-ended
		lose(nil)
		return fault.Wrap(err, "noting a rotation")
	}}
}

// finish retires the older keys, unless some rows could not be opened with them.
func (c *Custodian) finish(ctx context.Context, account string, failed int64, heads map[Purpose][]byte) error {
	err := c.db.Append(ctx, func(tx *store.Tx) error {
		now := store.Micros(tx.Now)
		for p, head := range heads {
			if failed > 0 {
				break
			}
			if _, err := tx.Exec(`UPDATE data_keys SET retired = $1 WHERE account = $2 AND purpose = $3 AND generation > 0 AND retired = 0 AND generation < $4`,
				now, account, string(p), int64(binary.BigEndian.Uint32(head[1:]))); err != nil {
				return err
			}
		}
		_, err := tx.Exec("UPDATE key_rotations SET finished = $1, failed = $2 WHERE account = $3", now, failed, account)
		return err
	})
	return fault.Wrap(err, "finishing a rotation")
}

// heads are what current values of the account begin with.
func (c *Custodian) heads(ctx context.Context, account string) (map[Purpose][]byte, error) {
	heads := make(map[Purpose][]byte)
	for _, p := range resealed {
		keys, err := c.keeper.load(ctx, slot{account, p})
		if err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			return nil, unknownAccount(account, p)
		}
		heads[p] = appendHeader(nil, p, keys.generation())
	}
	return heads, nil
}

// batch is some rows of a table, opened and sealed anew.
type batch struct {
	rows  []sealedRow
	fresh [][][]byte // nil for a column that stays
}

// pass goes through the tables of a purpose once, and counts along in done. Rows
// that do not open are left and counted.
func (c *Custodian) pass(ctx context.Context, account string, p Purpose, done *atomic.Int64) (changed, failed int64, err error) {
	keys, err := c.keeper.load(ctx, slot{account, p})
	if err != nil {
		return 0, 0, err
	}
	head := appendHeader(nil, p, keys.generation())
	for _, t := range c.tables {
		if t.purpose() != p {
			continue
		}
		n, bad, err := c.passTable(ctx, t, account, head, done)
		changed, failed = changed+n, failed+bad
		if err != nil {
			return changed, failed, err
		}
	}
	return changed, failed, nil
}

// passTable reads and seals ahead of the writer, so that the one writer of SQLite
// does nothing but write. On PostgreSQL several write.
func (c *Custodian) passTable(ctx context.Context, t Table, account string, head []byte, done *atomic.Int64) (changed, failed int64, err error) {
	group, ctx := errgroup.WithContext(ctx)
	ready := make(chan batch, 2)
	group.Go(func() error {
		defer close(ready)
		return c.walk(ctx, t, func(from, to int64) error {
			b, bad, err := c.prepare(ctx, t, account, head, from, to)
			failed += bad
			if err != nil || len(b.rows) == 0 {
				return err
			}
			select {
			case ready <- b:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	writers := 1
	if c.db.Engine() == "postgres" {
		writers = 3
	}
	counts := make([]int64, writers)
	for i := range writers {
		group.Go(func() error {
			for b := range ready {
				if err := c.store(ctx, t, b); err != nil {
					return err
				}
				counts[i] += int64(len(b.rows))
				done.Add(int64(len(b.rows)))
			}
			return nil
		})
	}
	err = group.Wait()
	for _, n := range counts {
		changed += n
	}
	return changed, failed, fault.Wrap(err, "sealing "+t.Name+" anew")
}

// prepare opens a stretch's rows that are not sealed with the newest key, and seals them with it.
func (c *Custodian) prepare(ctx context.Context, t Table, account string, head []byte, from, to int64) (b batch, failed int64, err error) {
	var rows []sealedRow
	if err := c.db.View(ctx, func(tx *store.Tx) (err error) {
		rows, err = t.read(tx, from, to, ofAccount+"$3 AND "+t.any("<> $4"), account, head)
		return err
	}); err != nil {
		return b, 0, err
	}
	for _, r := range rows {
		fresh := make([][]byte, len(r.values))
		for i, value := range r.values {
			if len(value) == 0 || bytes.HasPrefix(value, head) {
				continue
			}
			plaintext, err := c.keeper.Open(ctx, t.context(r, i), value)
			if fault.Is(err, fault.Undecryptable) {
				failed++
				slog.Error("a sealed value does not open", "table", t.Name, "row", r.row, "column", t.Columns[i].Name)
				continue
			}
			if err != nil {
				return b, failed, err
			}
			fresh[i], err = c.keeper.Seal(ctx, t.context(r, i), plaintext)
			clear(plaintext)
			if err != nil {
				return b, failed, err
			}
		}
		b.rows, b.fresh = append(b.rows, r), append(b.fresh, fresh)
	}
	return b, failed, nil
}

// store replaces what was read, and nothing that was changed since: a refresh
// that came in between has sealed its tokens with a new version and its own key.
func (c *Custodian) store(ctx context.Context, t Table, b batch) error {
	// Not Update: a remembered read has the old value, which opens for as long as it is remembered.
	return c.db.Swap(ctx, func(tx *store.Tx) error {
		for i, r := range b.rows {
			var set, unchanged []string
			var args []any
			for column, fresh := range b.fresh[i] {
				if fresh == nil {
					continue
				}
				name := t.Columns[column].Name
				args = append(args, fresh, r.values[column])
				set = append(set, fmt.Sprintf("%s = $%d", name, len(args)-1))
				unchanged = append(unchanged, fmt.Sprintf("%s = $%d", name, len(args)))
			}
			if set == nil {
				continue
			}
			args = append(args, r.place)
			if _, err := tx.Exec("UPDATE "+t.Name+" SET "+strings.Join(set, ", ")+" WHERE "+tx.PlaceIs(fmt.Sprintf("$%d", len(args)))+" AND "+strings.Join(unchanged, " AND "), args...); err != nil {
				return err
			}
		}
		return nil
	})
}
