package server

import (
	"context"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// Vaults tells which key each account's vault is under, and how its data keys stand.
func (o *Operator) Vaults(ctx context.Context, account string) ([]seal.State, error) {
	states, err := o.custodian().States(ctx, account)
	return states, readable(err)
}

func (o *Operator) custodian() *seal.Custodian { return seal.NewCustodian(o.keeper, sealedTables()) }

// Rotated is what became of a rotation.
type Rotated struct {
	Resumed   bool // one that was begun earlier was finished, with the keys it had
	Rotation  seal.Rotation
	Destroyed int // old data keys; 0 where a running server does it a quarter of an hour later
}

const (
	watchEvery = 300 * time.Millisecond

	// serverBegins is how long a running server is given to take up the work; one
	// that does not is of an older version, or hangs.
	serverBegins = 8 * time.Second
)

// RotateVault gives an account new data keys and has every row sealed anew. A
// server that runs on the data folder does the work itself, so that its own
// requests and the work take turns; otherwise this process does. progress is
// called now and then.
func (o *Operator) RotateVault(ctx context.Context, account string, progress func(seal.Rotation)) (done Rotated, err error) {
	c := o.custodian()
	alone := false
	if !o.shared {
		if f, err := openFolder(o.folder.path); err == nil {
			alone = true
			defer f.close()
		}
	}
	err = o.act(ctx, account, "RotateVault", api.TokenVaultARN(o.region, account), func(ctx context.Context) (err error) {
		done.Resumed, err = c.Begin(ctx, account)
		return err
	})
	if err != nil {
		return done, err
	}
	if err := o.finishRotation(ctx, c, account, alone, progress); err != nil {
		return done, readable(err)
	}
	found, err := c.Rotations(ctx, account)
	if err != nil || len(found) != 1 {
		return done, readable(err)
	}
	done.Rotation = found[0]
	if alone {
		done.Destroyed, err = c.Destroy(ctx, account, 0)
	}
	return done, readable(err)
}

// finishRotation works, or watches who works, until the rotation is finished.
func (o *Operator) finishRotation(ctx context.Context, c *seal.Custodian, account string, alone bool, progress func(seal.Rotation)) error {
	ours := alone || o.shared
	begun := time.Now()
	working := make(chan error, 1)
	idle := true
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		found, err := c.Rotations(ctx, account)
		if err != nil {
			return err
		}
		if len(found) == 1 {
			progress(found[0])
			if !found[0].Finished.IsZero() {
				if !idle {
					return <-working
				}
				return nil
			}
			if !found[0].Worked.IsZero() && o.db.Now().Sub(found[0].Worked) < serverBegins {
				begun = time.Now() // somebody is at it
			}
		}
		if idle && (ours || time.Since(begun) > serverBegins) {
			idle = false
			go func() { working <- c.Work(ctx, account, alone) }()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case err := <-working:
			idle = true
			if err != nil && !seal.Busy(err) {
				return err
			}
			if err != nil { // another process has the lease: watch it, and look again
				ours, begun = false, time.Now()
			}
		}
	}
}

// Rotation is where the sealing anew of an account's rows stands.
type Rotation = seal.Rotation

// Rewrap puts the platform's data keys under another key-encryption key. stopped
// is the operator's word that no replica runs on a PostgreSQL database; of a data
// folder its lock tells.
func (o *Operator) Rewrap(ctx context.Context, to string, stopped bool) (dataKeys int, err error) {
	spec, err := seal.ParseWrapper(to)
	if err != nil {
		return 0, readable(err)
	}
	if o.shared && !stopped {
		return 0, errors.New("stop every replica first, and say so with --stopped: one that runs would go on with the old key")
	}
	if !o.shared {
		f, err := openFolder(o.folder.path)
		if err != nil {
			return 0, err
		}
		defer f.close()
	}
	wrapper, err := spec.Open()
	if err != nil {
		return 0, readable(err)
	}
	err = o.act(ctx, seal.Platform, "Rewrap", "*", func(ctx context.Context) (err error) {
		dataKeys, err = o.keeper.Rewrap(ctx, wrapper)
		return err
	})
	return dataKeys, err
}
