package store

import (
	"context"
	"errors"
	"time"
)

// leaseKept is how long a lease that nobody holds stays on record.
const leaseKept = 24 * time.Hour

// Lease takes or renews the named lease for holder until d from now. It answers
// ok=false while another holder has it.
//
// fence grows with each taking, also by the same holder after a lapse, and stays
// the same on renewal: write it beside what the lease protects and refuse a
// smaller one, so that a holder who slept through the end of its lease cannot
// overwrite the work of the next. A name's first fence is the time in
// microseconds, and so greater than any from before the lease was last swept.
//
// Replicas' clocks must agree to well within d.
func (tx *Tx) Lease(name, holder string, d time.Duration) (fence int64, ok bool, err error) {
	now := Micros(tx.Now)
	err = tx.QueryRow(`INSERT INTO leases (name, holder, fence, expires) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET
			fence = CASE WHEN leases.holder = excluded.holder AND leases.expires > $3 THEN leases.fence
				WHEN leases.fence >= excluded.fence THEN leases.fence + 1 ELSE excluded.fence END,
			holder = excluded.holder,
			expires = excluded.expires
		WHERE leases.expires <= $3 OR leases.holder = excluded.holder
		RETURNING fence`,
		name, holder, now, Micros(tx.Now.Add(d))).Scan(&fence)
	if errors.Is(err, ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if fence == now { // taken, not renewed: the rarer case pays for the sweep
		_, err = tx.Exec("DELETE FROM leases WHERE expires < $1", Micros(tx.Now.Add(-leaseKept)))
	}
	return fence, err == nil, err
}

// Release ends the lease before its time, if holder has it. The fence stays on record.
func (tx *Tx) Release(name, holder string) error {
	_, err := tx.Exec("UPDATE leases SET expires = $1 WHERE name = $2 AND holder = $3 AND expires > $1", Micros(tx.Now), name, holder)
	return err
}

// Sweep is Update for work that recurs and that one replica does for all: the
// replica that did it last goes on doing it, and when it is gone another one
// does, at most one and a half times every later. Elsewhere Sweep does nothing.
func (db *DB) Sweep(ctx context.Context, name string, every time.Duration, fn func(*Tx) error) error {
	return db.Update(ctx, func(tx *Tx) error {
		_, ours, err := tx.Lease("sweep "+name, db.holder, every+every/2)
		if err != nil || !ours {
			return err
		}
		return fn(tx)
	})
}
