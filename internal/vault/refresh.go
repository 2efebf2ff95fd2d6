package vault

import (
	"errors"
	"math/rand/v2"
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

// Renew makes a lease last for d from now; false when it is lost.
func (v *Vault) Renew(tx *store.Tx, g *Grant, fence int64, d time.Duration) (bool, error) {
	renewed, err := tx.Exec(`UPDATE grants SET lease_until = $1 WHERE id = $2 AND account = $3 AND fence = $4 AND lease_until > 0`,
		store.Micros(tx.Now.Add(d)), g.ID, g.Account, fence)
	return renewed == 1, fault.Wrap(err, "renewing the lease of a grant")
}

// Failed gives a lease back without a result. The grant stays as it is, and the
// provider is left alone for a while: longer each time, at most maxDelay, and no
// shorter than the provider has asked for.
func (v *Vault) Failed(tx *store.Tx, g *Grant, fence int64, retryAfter time.Duration) error {
	_, err := tx.Exec(`UPDATE grants SET lease_holder = '', lease_until = 0, refresh_failures = $1, refresh_failed = $2, next_refresh = $3
		WHERE id = $4 AND account = $5 AND fence = $6`,
		min(g.Failures+1, mostFailures), store.Micros(tx.Now), store.Micros(tx.Now.Add(max(delay(g.Failures), min(retryAfter, maxRetryAfter)))), g.ID, g.Account, fence)
	return fault.Wrap(err, "writing down that a refresh failed")
}

const (
	firstDelay    = time.Second
	maxDelay      = 5 * time.Minute
	maxRetryAfter = time.Hour // a provider that asks for more is asked again all the same
	mostFailures  = 1000      // enough to know
)

// delay is how long a provider is left alone after that many failures before
// this one: 1, 2, 4 seconds and so on, of which a random part up to a half is
// taken off, so that the grants of a provider that was away do not come back all at once.
func delay(before int) time.Duration {
	longest := maxDelay
	if before < 9 {
		longest = min(maxDelay, firstDelay<<before)
	}
	return longest - rand.N(longest/2)
}

// PutRefreshed stores what a refresh gave, under the lease it was made with. A
// refresh token that the provider did not send again is kept. The state is
// not touched: a grant that was marked meanwhile stays marked. ok is false when
// the lease was lost, or the grant replaced or deleted.
func (v *Vault) PutRefreshed(tx *store.Tx, g *Grant, fence int64, t Tokens) (ok bool, err error) {
	if t.Refresh.Empty() {
		if t.Refresh, err = v.OpenRefresh(tx, g, fence); err != nil {
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
	changed, err := tx.Exec(`UPDATE grants SET granted = $1, access_token = $2, refresh_token = $3, expires = $4, version = $5, refreshed = $6,
			lease_holder = '', lease_until = 0, refresh_failures = 0, refresh_failed = 0, next_refresh = 0
		WHERE id = $7 AND account = $8 AND version = $9 AND fence = $10`,
		granted.String(), sealed.access, sealed.refresh, store.Micros(t.Expiry), g.Version+1, store.Micros(tx.Now), g.ID, g.Account, g.Version, fence)
	return changed == 1, fault.Wrap(err, "storing refreshed tokens")
}
