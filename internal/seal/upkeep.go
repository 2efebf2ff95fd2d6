package seal

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// How old a data key grows before there is another one. What tokens, cursors and
// states are sealed with is bounded by numbers, too: one key is good for 2^32 of
// them. Keys of rows are replaced so that a copy of the database from long ago,
// whose key became known, opens nothing of today.
var ages = map[Purpose]time.Duration{
	Tokens:   24 * time.Hour,
	Pages:    7 * 24 * time.Hour,
	Sessions: 7 * 24 * time.Hour,
	Vault:    90 * 24 * time.Hour,
	Secrets:  90 * 24 * time.Hour,
}

const (
	// outlived is for how long what was sealed without a row may be presented: a
	// workload token lives an hour, a session ten minutes, a cursor as long as
	// somebody pages through a list.
	outlived = 48 * time.Hour

	// destroyAfter is how long after its last row a key is kept: longer than any
	// replica may still seal with it (stale) and store what it sealed.
	destroyAfter = 15 * time.Minute

	workEvery   = 3 * time.Second
	upkeepEvery = 10 * time.Minute
)

// Run does what is left to do, whoever began it, and what age brings, until the
// context ends. Of several replicas one does it.
func (c *Custodian) Run(ctx context.Context) error {
	work, upkeep := time.NewTicker(workEvery), time.NewTicker(upkeepEvery)
	defer work.Stop()
	defer upkeep.Stop()
	c.try(ctx, "upkeep of the keys", c.adopt)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-work.C:
			c.try(ctx, "sealing rows anew", c.workAll)
		case <-upkeep.C:
			c.try(ctx, "upkeep of the keys", c.Upkeep)
		}
	}
}

func (c *Custodian) try(ctx context.Context, what string, do func(context.Context) error) {
	if err := do(ctx); err != nil && ctx.Err() == nil && !Busy(err) {
		slog.ErrorContext(ctx, what+" failed; it is tried again", "error", err)
	}
}

// workAll goes on with whatever rotation is not finished.
func (c *Custodian) workAll(ctx context.Context) error {
	found, err := c.Rotations(ctx, "")
	for _, r := range found {
		if r.Finished.IsZero() {
			err = errors.Join(err, c.Work(ctx, r.Account, false))
		}
	}
	return err
}

// adopt seals secrets anew that are sealed for the vault still, as they were
// before they had keys of their own.
func (c *Custodian) adopt(ctx context.Context) error {
	var accounts []string
	err := c.db.View(ctx, func(tx *store.Tx) error {
		accounts = nil
		for _, t := range c.tables {
			if t.purpose() != Secrets {
				continue
			}
			for _, column := range t.Columns {
				found, err := texts(tx, "SELECT DISTINCT account FROM "+t.Name+" WHERE substr("+column.Name+", 1, 1) = $1", []byte{Vault.format()})
				if err != nil {
					return err
				}
				accounts = append(accounts, found...)
			}
		}
		slices.Sort(accounts)
		accounts = slices.Compact(accounts)
		return nil
	})
	for _, account := range accounts {
		_, _, problem := c.pass(ctx, account, Secrets, new(atomic.Int64))
		err = errors.Join(err, problem)
	}
	return fault.Wrap(err, "giving secrets a key of their own")
}

// Upkeep makes new keys where they are old and destroys those that are over.
func (c *Custodian) Upkeep(ctx context.Context) error {
	if err := c.take(ctx, "key upkeep", false); err != nil {
		return err
	}
	err := c.renew(ctx)
	_, problem := c.Destroy(ctx, "", destroyAfter)
	return errors.Join(err, problem, c.db.Scrub(ctx))
}

// renew makes new keys for what is older than its age.
func (c *Custodian) renew(ctx context.Context) error {
	accounts, err := c.accounts(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, account := range accounts {
		for p, age := range ages {
			old, err := c.older(ctx, slot{account, p}, age)
			if err != nil {
				return err
			}
			switch {
			case !old:
			case p == Vault || p == Secrets:
				_, err = c.Begin(ctx, account) // both, and Run seals the rows anew
			default:
				err = c.keeper.Rotate(ctx, account, p)
			}
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// older reports whether the newest key of a purpose was made that long ago.
func (c *Custodian) older(ctx context.Context, at slot, age time.Duration) (bool, error) {
	var made int64
	var now time.Time
	err := c.db.View(ctx, func(tx *store.Tx) error {
		now = tx.Now
		return tx.QueryRow("SELECT coalesce(max(created), 0) FROM data_keys WHERE account = $1 AND purpose = $2 AND generation > 0", at.account, string(at.purpose)).Scan(&made)
	})
	return made > 0 && now.Sub(store.Time(made)) > age, fault.Wrap(err, "reading a data key's age")
}

// Destroy destroys data keys that nothing is sealed with any more: those of rows
// that were retired that long ago, and those of values without rows that are
// outlived. An empty account is all accounts.
func (c *Custodian) Destroy(ctx context.Context, account string, after time.Duration) (destroyed int, err error) {
	if err := c.clearLost(ctx, account); err != nil {
		return 0, err
	}
	var over []row
	var now time.Time
	err = c.db.View(ctx, func(tx *store.Tx) (err error) {
		now = tx.Now
		over, err = readRows(tx, `AS old WHERE (account = $1 OR $1 = '') AND generation > 0 AND (retired > 0 AND retired <= $2
			OR purpose IN ($3, $4, $5) AND EXISTS (SELECT 1 FROM data_keys AS next WHERE next.account = old.account AND next.purpose = old.purpose
				AND next.generation = old.generation + 1 AND next.created <= $6)) ORDER BY account, purpose, generation`,
			account, store.Micros(now.Add(-after)), string(Tokens), string(Pages), string(Sessions), store.Micros(now.Add(-outlived)))
		return err
	})
	if err != nil {
		return 0, fault.Wrap(err, "looking for data keys that are over")
	}
	for _, r := range over {
		n, err := c.sealedWith(ctx, r)
		if err != nil {
			return destroyed, err
		}
		if n > 0 {
			if err := c.reopen(ctx, r); err != nil {
				return destroyed, err
			}
			continue
		}
		gone, err := c.destroy(ctx, r)
		if err != nil {
			return destroyed, err
		}
		if gone {
			destroyed++
		}
	}
	return destroyed, c.dropLost(ctx, account, now.Add(-after))
}

// sealedWith counts the rows that a data key is needed for.
func (c *Custodian) sealedWith(ctx context.Context, r row) (n int64, err error) {
	head := appendHeader(nil, r.purpose, r.generation)
	err = c.db.View(ctx, func(tx *store.Tx) error {
		n = 0
		for _, t := range c.tables {
			if t.purpose() != r.purpose && !(r.purpose == Vault && t.purpose() == Secrets) {
				continue
			}
			found, err := t.count(tx, r.account, t.any("= $2"), head)
			if err != nil {
				return err
			}
			n += found
		}
		return nil
	})
	return n, fault.Wrap(err, "looking for what a data key sealed")
}

// reopen goes on with a rotation that looked finished: a replica that did not
// know of the new key has sealed something since.
func (c *Custodian) reopen(ctx context.Context, r row) error {
	err := c.db.Append(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("UPDATE data_keys SET retired = 0 WHERE account = $1 AND purpose = $2 AND generation = $3", r.account, string(r.purpose), int64(r.generation)); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE key_rotations SET finished = 0 WHERE account = $1", r.account)
		return err
	})
	return fault.Wrap(err, "going on with a rotation")
}

// destroy deletes a data key. Of the first one stays what other keys were derived
// from: they hold for as long as the account lives.
func (c *Custodian) destroy(ctx context.Context, r row) (gone bool, err error) {
	key, err := c.keeper.unwrap(ctx, r)
	if err != nil {
		return false, err
	}
	w, err := c.keeper.wrapperOf(r.account, r.arn)
	if err != nil {
		return false, err
	}
	left, err := w.Wrap(ctx, key.root, boundTo(r.account, r.purpose, 0))
	if err != nil {
		return false, err
	}
	err = c.db.Append(ctx, func(tx *store.Tx) error {
		gone = false
		var lower int64
		if err := tx.QueryRow("SELECT count(*) FROM data_keys WHERE account = $1 AND purpose = $2 AND generation < $3 AND wrapper <> ''", r.account, string(r.purpose), int64(r.generation)).Scan(&lower); err != nil {
			return err
		}
		n, err := tx.Exec("DELETE FROM data_keys WHERE account = $1 AND purpose = $2 AND generation = $3 AND wrapped = $4", r.account, string(r.purpose), int64(r.generation), r.wrapped)
		if err != nil || n == 0 {
			return err // moved to another key in this moment: next time
		}
		gone = true
		if lower > 0 {
			return nil
		}
		_, err = tx.Exec("INSERT INTO data_keys (account, purpose, generation, wrapper, wrapped, created, arn) VALUES ($1, $2, 0, $3, $4, $5, $6)",
			r.account, string(r.purpose), w.ID(), left, store.Micros(tx.Now), r.arn)
		return err
	})
	if gone && err == nil {
		c.keeper.forget(r.slot)
	}
	return gone, fault.Wrap(err, "destroying a data key")
}

// dropLost forgets generations that were lost long ago.
func (c *Custodian) dropLost(ctx context.Context, account string, before time.Time) error {
	lost, err := c.lost(ctx, account)
	if err != nil || len(lost) == 0 {
		return err
	}
	err = c.db.Append(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM data_keys WHERE wrapper = '' AND retired <= $1 AND (account = $2 OR $2 = '')", store.Micros(before), account)
		return err
	})
	return fault.Wrap(err, "forgetting a lost data key")
}
