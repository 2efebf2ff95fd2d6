package seal

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Custodian looks after data keys: it makes new ones when they grow old, seals
// anew what older ones sealed, and destroys a key that seals nothing any more.
//
//	Begin ──▶ a new data key ── Work ──▶ each row sealed anew ──▶ older keys retired ── Sweep ──▶ destroyed
//
// Reads go on all the while: a value opens with whichever key sealed it. Work
// and Sweep may be killed at any moment and run by several processes: what is
// left to do is seen from the rows.
type Custodian struct {
	keeper *Keeper
	db     *store.DB
	tables []Table
	holder string // names this process in leases
}

// NewCustodian is told of every table; those without sealed columns do not concern it.
func NewCustodian(k *Keeper, tables []Table) *Custodian {
	tables = slices.DeleteFunc(slices.Clone(tables), func(t Table) bool { return len(t.Columns) == 0 })
	return &Custodian{keeper: k, db: k.db, tables: tables, holder: rand.Text()}
}

// resealed are the purposes whose values lie in tables for good.
var resealed = []Purpose{Vault, Secrets}

// Rotation is where the sealing anew of an account's rows stands.
type Rotation struct {
	Account                 string
	Begun, Worked, Finished time.Time // zero Finished: there is work
	Total, Done, Failed     int64
}

// Begin gives an account new data keys for its rows, and says that there is work.
// An unfinished rotation is gone on with instead, without new keys.
func (c *Custodian) Begin(ctx context.Context, account string) (resumed bool, err error) {
	found, err := c.Rotations(ctx, account)
	if err != nil {
		return false, err
	}
	if len(found) == 1 && found[0].Finished.IsZero() {
		return true, c.renewSince(ctx, account, found[0].Begun)
	}
	// First the note, then the keys: killed in between, there is a pass that finds nothing to do.
	err = c.db.Append(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO key_rotations (account, begun, total, done, failed, worked, finished) VALUES ($1, $2, 0, 0, 0, 0, 0)
			ON CONFLICT (account) DO UPDATE SET begun = excluded.begun, total = 0, done = 0, failed = 0, worked = 0, finished = 0`, account, store.Micros(tx.Now))
		return err
	})
	if err != nil {
		return false, fault.Wrap(err, "beginning a rotation")
	}
	for _, p := range resealed {
		if err := c.keeper.Rotate(ctx, account, p); err != nil {
			return false, err
		}
	}
	return false, nil
}

// renewSince makes the data keys that a rotation lacks whose process was killed
// between its note and its keys.
func (c *Custodian) renewSince(ctx context.Context, account string, begun time.Time) error {
	for _, p := range resealed {
		var made int64
		if err := c.db.View(ctx, func(tx *store.Tx) error {
			return tx.QueryRow("SELECT coalesce(max(created), 0) FROM data_keys WHERE account = $1 AND purpose = $2 AND generation > 0", account, string(p)).Scan(&made)
		}); err != nil {
			return fault.Wrap(err, "reading a data key's age")
		}
		if store.Time(made).Before(begun) {
			if err := c.keeper.Rotate(ctx, account, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rotations tells of an account's rotation, or of all accounts'.
func (c *Custodian) Rotations(ctx context.Context, account string) (found []Rotation, err error) {
	err = c.db.View(ctx, func(tx *store.Tx) error {
		found = nil
		rows, err := tx.Query(`SELECT account, begun, total, done, failed, worked, finished FROM key_rotations WHERE account = $1 OR $1 = '' ORDER BY account`, account)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r Rotation
			var begun, worked, finished int64
			if err := rows.Scan(&r.Account, &begun, &r.Total, &r.Done, &r.Failed, &worked, &finished); err != nil {
				return err
			}
			r.Begun, r.Worked, r.Finished = store.Time(begun), store.Time(worked), store.Time(finished)
			found = append(found, r)
		}
		return rows.Err()
	})
	return found, fault.Wrap(err, "reading rotations")
}

// Reset gives an account an empty vault, once the key that it chose for the old
// one is gone: nothing in there can be opened by anybody any more. Providers
// stay; they are under the platform's key.
func (c *Custodian) Reset(ctx context.Context, account string) (Choice, error) {
	k := c.keeper
	before, err := k.vaultRows(ctx, account)
	if err != nil {
		return Choice{}, err
	}
	if before[0].arn == "" {
		return Choice{}, fault.New(fault.Invalid, "The token vault is under the platform's own key: its key material cannot be reset.")
	}
	lost, err := k.Lost(ctx, account)
	if err != nil {
		return Choice{}, err
	}
	if !lost {
		return Choice{}, fault.New(fault.Invalid, "The key %s still exists: key material is reset only after the key was deleted. To leave it, set another one with SetTokenVaultCMK.", before[0].arn)
	}
	generation := before[len(before)-1].generation + 1
	raw := make([]byte, keySize)
	defer clear(raw)
	_, _ = rand.Read(raw) // never fails
	wrapped, err := k.platform.Wrap(ctx, raw, boundTo(account, Vault, generation))
	if err != nil {
		return Choice{}, fault.Wrap(err, "wrapping a data key")
	}
	err = c.db.Update(ctx, func(tx *store.Tx) error {
		now, err := readRows(tx, "WHERE account = $1 AND purpose = $2 ORDER BY generation", account, string(Vault))
		if err != nil {
			return err
		}
		if !same(before, now) {
			return fault.New(fault.Concurrent, "The vault's keys were changed meanwhile. Try again.")
		}
		// The generations stay on record without a key until whatever a replica may
		// still have sealed with them is gone, too.
		if _, err := tx.Exec("UPDATE data_keys SET wrapper = '', wrapped = $1, arn = '', retired = $2 WHERE account = $3 AND purpose = $4 AND generation > 0",
			[]byte{}, store.Micros(tx.Now), account, string(Vault)); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM data_keys WHERE account = $1 AND purpose = $2 AND generation = 0", account, string(Vault)); err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO data_keys (account, purpose, generation, wrapper, wrapped, created) VALUES ($1, $2, $3, $4, $5, $6)",
			account, string(Vault), int64(generation), k.platform.ID(), wrapped, store.Micros(tx.Now))
		return err
	})
	if err != nil {
		return Choice{}, fault.Wrap(err, "resetting a vault")
	}
	k.forget(slot{account, Vault})
	if err := c.clearLost(ctx, account); err != nil {
		return Choice{}, err
	}
	return k.Chosen(ctx, account)
}

// Move is Keeper.Move, after secrets from before they had a key of their own have
// left the vault's: they stay under the platform's.
func (c *Custodian) Move(ctx context.Context, account, arn string) (Choice, error) {
	if arn != "" {
		if err := c.keeper.mayChoose(account, arn); err != nil {
			return Choice{}, err
		}
		if _, _, err := c.pass(ctx, account, Secrets, new(atomic.Int64)); err != nil {
			return Choice{}, err
		}
	}
	return c.keeper.Move(ctx, account, arn)
}

// clearLost deletes the rows that were sealed with data keys which nobody can
// unwrap any more, some at a time.
func (c *Custodian) clearLost(ctx context.Context, account string) error {
	lost, err := c.lost(ctx, account)
	if err != nil {
		return err
	}
	for _, l := range lost {
		for _, t := range c.tables {
			if t.purpose() != Vault {
				continue
			}
			header := appendHeader(nil, Vault, l.generation)
			if err := c.walk(ctx, t, func(from, to int64) error {
				return c.db.Update(ctx, func(tx *store.Tx) error {
					_, err := tx.Exec("DELETE FROM "+t.Name+" WHERE "+tx.Between("$1", "$2")+" AND "+ofAccount+"$3 AND "+t.any("= $4"), from, to, l.account, header)
					return err
				})
			}); err != nil {
				return fault.Wrap(err, "emptying a vault")
			}
		}
	}
	return nil
}

// lost lists data keys without a key around them, of one account or of all.
func (c *Custodian) lost(ctx context.Context, account string) (found []row, err error) {
	err = c.db.View(ctx, func(tx *store.Tx) error {
		found = nil
		rows, err := tx.Query("SELECT account, generation, retired FROM data_keys WHERE wrapper = '' AND purpose = $2 AND (account = $1 OR $1 = '')", account, string(Vault))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r := row{slot: slot{purpose: Vault}}
			if err := rows.Scan(&r.account, &r.generation, &r.retired); err != nil {
				return err
			}
			found = append(found, r)
		}
		return rows.Err()
	})
	return found, fault.Wrap(err, "reading data keys")
}

// walk calls step for one stretch of a table after the other.
func (c *Custodian) walk(ctx context.Context, t Table, step func(from, to int64) error) error {
	var end, stretch int64
	if err := c.db.View(ctx, func(tx *store.Tx) (err error) {
		end, err = tx.Extent(t.Name)
		stretch = tx.Stretch()
		return err
	}); err != nil {
		return err
	}
	for from := int64(0); from < end; from += stretch {
		if err := step(from, from+stretch); err != nil {
			return err
		}
	}
	return nil
}

// accounts lists the accounts that have data keys.
func (c *Custodian) accounts(ctx context.Context) (found []string, err error) {
	err = c.db.View(ctx, func(tx *store.Tx) (err error) {
		found, err = texts(tx, "SELECT DISTINCT account FROM data_keys ORDER BY account")
		return err
	})
	return found, fault.Wrap(err, "reading data keys")
}

// Accounts lists the tenants that have data keys.
func (c *Custodian) Accounts(ctx context.Context) ([]string, error) {
	found, err := c.accounts(ctx)
	return slices.DeleteFunc(found, func(a string) bool { return a == Platform }), err
}

// errBusy says that another process is at the same work.
var errBusy = errors.New("seal: another process seals these rows anew")
