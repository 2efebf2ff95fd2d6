package vault

import (
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Lease reserves a grant's refresh for one process. ok is false when another
// one holds it, or when the grant is not what was read any more (refreshed,
// replaced, marked): read it again then. A lease that is not given back ends by
// itself after d; its fence no longer stores anything once there is a new one.
func (v *Vault) Lease(tx *store.Tx, g *Grant, holder string, d time.Duration) (fence int64, ok bool, err error) {
	err = tx.QueryRow(`UPDATE grants SET lease_holder = $1, lease_until = $2, fence = fence + 1
		WHERE id = $3 AND account = $4 AND version = $5 AND state = $6 AND lease_until <= $7 RETURNING fence`,
		holder, store.Micros(tx.Now.Add(d)), g.ID, g.Account, g.Version, Active, store.Micros(tx.Now)).Scan(&fence)
	if errors.Is(err, store.ErrNoRows) {
		return 0, false, nil
	}
	return fence, err == nil, fault.Wrap(err, "leasing a grant")
}

// Release gives a lease back without a result: the refresh failed, the grant stays as it is.
func (v *Vault) Release(tx *store.Tx, g *Grant, fence int64) error {
	_, err := tx.Exec(`UPDATE grants SET lease_holder = '', lease_until = 0 WHERE id = $1 AND account = $2 AND fence = $3`, g.ID, g.Account, fence)
	return fault.Wrap(err, "releasing a grant")
}

// PutRefreshed stores what a refresh gave, under the lease it was made with. A
// refresh or ID token that the provider did not send again is kept. The state is
// not touched: a grant that was marked meanwhile stays marked. ok is false when
// the lease was lost or the grant replaced.
func (v *Vault) PutRefreshed(tx *store.Tx, g *Grant, fence int64, t Tokens) (ok bool, err error) {
	if t.Refresh.Empty() {
		if t.Refresh, err = v.openColumn(tx, g.Account, g.ID, refreshToken, g.Version); err != nil {
			return false, err
		}
	}
	if t.ID.Empty() {
		if t.ID, err = v.openColumn(tx, g.Account, g.ID, idToken, g.Version); err != nil {
			return false, err
		}
	}
	granted := g.Granted
	if t.Granted != nil {
		granted = t.Granted
	}
	sealed, err := v.sealTokens(tx, g.Account, g.ID, g.Version+1, t)
	if err != nil {
		return false, err
	}
	changed, err := tx.Exec(`UPDATE grants SET granted = $1, access_token = $2, refresh_token = $3, id_token = $4, expires = $5, version = $6, refreshed = $7,
			lease_holder = '', lease_until = 0
		WHERE id = $8 AND account = $9 AND version = $10 AND fence = $11`,
		granted.String(), sealed.access, sealed.refresh, sealed.id, store.Micros(t.Expiry), g.Version+1, store.Micros(tx.Now), g.ID, g.Account, g.Version, fence)
	return changed == 1, fault.Wrap(err, "storing refreshed tokens")
}
