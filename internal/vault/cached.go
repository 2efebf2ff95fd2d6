package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// CachedKey is whose token it is. Lookup says everything that it was asked with:
// two requests that differ in anything have two tokens.
type CachedKey struct {
	Account    string
	WorkloadID string
	ProviderID string
	Lookup     string
	User       principal.User // whose sign-in was traded for it; nobody where the client itself asked
}

// Cached is a token that can be had again without asking a person, its secret apart.
type Cached struct {
	ID string
	CachedKey
	Expiry      time.Time
	RefreshedAt time.Time
	Version     int64 // grows with each token

	access []byte // sealed
}

// Fresh reports whether the token can be handed out as it is.
func (c *Cached) Fresh(now time.Time) bool { return fresh(now, c.Expiry, c.RefreshedAt) }

// Expired reports whether the token is of no use any more.
func (c *Cached) Expired(now time.Time) bool { return !now.Before(c.Expiry) }

const cachedColumns = `SELECT id, workload_id, provider_id, access_token, expires, version, refreshed FROM cached_tokens WHERE lookup = $1 AND account = $2 AND version > 0`

// FindCached reads the token of a lookup; nil when there is none.
func (v *Vault) FindCached(tx *store.Tx, account, lookup string) (*Cached, error) {
	return scanCached(tx.QueryRow(cachedColumns, lookup, account), account, lookup)
}

// FindCachedNamed is FindCached for a provider that was known to have this name:
// nil also when it has not any more.
func (v *Vault) FindCachedNamed(tx *store.Tx, key CachedKey, provider string) (*Cached, error) {
	return scanCached(tx.QueryRow(cachedColumns+` AND provider_id = $3`+providerNamed, key.Lookup, key.Account, key.ProviderID, provider), key.Account, key.Lookup)
}

func scanCached(row interface{ Scan(...any) error }, account, lookup string) (*Cached, error) {
	c := &Cached{CachedKey: CachedKey{Account: account, Lookup: lookup}}
	var expires, refreshed int64
	err := row.Scan(&c.ID, &c.WorkloadID, &c.ProviderID, &c.access, &expires, &c.Version, &refreshed)
	if errors.Is(err, store.ErrNoRows) {
		return nil, nil
	}
	c.Expiry, c.RefreshedAt = store.Time(expires), store.Time(refreshed)
	return c, fault.Wrap(err, "finding a cached token")
}

// OpenCached opens the token for the answer that carries it.
func (v *Vault) OpenCached(ctx context.Context, c *Cached) (secret.Text, error) {
	return v.keeper.OpenText(ctx, cachedContext(c.Account, c.ID, c.Version), c.access)
}

// CachedLease is one process's turn to fetch a token.
type CachedLease struct {
	CachedKey
	id      string
	fence   int64
	version int64
}

// LeaseCached reserves the fetching of a token for one process, if the token is
// still the version that was read (0: none). ok is false when another process has
// the lease or has stored a token meanwhile. A lease that is not given back ends by itself after d.
func (v *Vault) LeaseCached(tx *store.Tx, key CachedKey, version int64, holder string, d time.Duration) (l CachedLease, ok bool, err error) {
	l = CachedLease{CachedKey: key, version: version}
	if version == 0 {
		_, err = tx.Exec(`INSERT INTO cached_tokens (id, account, lookup, workload_id, provider_id, user_issuer, user_subject, expires, version, lease_holder, lease_until, fence, created, refreshed)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, '', 0, 0, $8, 0) ON CONFLICT (account, lookup) DO NOTHING`,
			rand.Text(), key.Account, key.Lookup, key.WorkloadID, key.ProviderID, key.User.Issuer, key.User.Subject, store.Micros(tx.Now))
		if store.IsForeignKey(err) {
			return l, false, fault.New(fault.NotFound, "The workload identity or the credential provider was deleted meanwhile.")
		}
		if err != nil {
			return l, false, fault.Wrap(err, "adding a cached token")
		}
	}
	err = tx.QueryRow(`UPDATE cached_tokens SET lease_holder = $1, lease_until = $2, fence = fence + 1
		WHERE account = $3 AND lookup = $4 AND version = $5 AND lease_until <= $6 RETURNING id, fence`,
		holder, store.Micros(tx.Now.Add(d)), key.Account, key.Lookup, version, store.Micros(tx.Now)).Scan(&l.id, &l.fence)
	if errors.Is(err, store.ErrNoRows) {
		return l, false, nil
	}
	return l, err == nil, fault.Wrap(err, "leasing a cached token")
}

// RenewCached makes a lease last for d from now; false when it is lost.
func (v *Vault) RenewCached(tx *store.Tx, l CachedLease, d time.Duration) (bool, error) {
	renewed, err := tx.Exec(`UPDATE cached_tokens SET lease_until = $1 WHERE id = $2 AND account = $3 AND fence = $4 AND lease_until > 0`,
		store.Micros(tx.Now.Add(d)), l.id, l.Account, l.fence)
	return renewed == 1, fault.Wrap(err, "renewing the lease of a cached token")
}

// ReleaseCached gives a lease back without a token: an older one stays as it is.
func (v *Vault) ReleaseCached(tx *store.Tx, l CachedLease) error {
	if _, err := tx.Exec(`DELETE FROM cached_tokens WHERE id = $1 AND account = $2 AND fence = $3 AND version = 0`, l.id, l.Account, l.fence); err != nil {
		return fault.Wrap(err, "releasing a cached token")
	}
	_, err := tx.Exec(`UPDATE cached_tokens SET lease_holder = '', lease_until = 0 WHERE id = $1 AND account = $2 AND fence = $3`, l.id, l.Account, l.fence)
	return fault.Wrap(err, "releasing a cached token")
}

// PutCached stores what was fetched under a lease; nil when the lease was lost,
// or when what the token belongs to is gone or has become something else.
func (v *Vault) PutCached(tx *store.Tx, l CachedLease, access secret.Text, expiry time.Time) (*Cached, error) {
	c := &Cached{ID: l.id, CachedKey: l.CachedKey, Expiry: expiry, RefreshedAt: tx.Now, Version: l.version + 1}
	var err error
	if c.access, err = v.keeper.SealText(tx.Context(), cachedContext(c.Account, c.ID, c.Version), access); err != nil {
		return nil, err
	}
	changed, err := tx.Exec(`UPDATE cached_tokens SET access_token = $1, expires = $2, version = $3, refreshed = $4, lease_holder = '', lease_until = 0
		WHERE id = $5 AND account = $6 AND version = $7 AND fence = $8`,
		c.access, store.Micros(expiry), c.Version, store.Micros(tx.Now), l.id, l.Account, l.version, l.fence)
	if err != nil || changed == 0 {
		return nil, fault.Wrap(err, "storing a cached token")
	}
	return c, nil
}

// DropCached forgets the tokens of a provider that is another one now; those
// being fetched will not be stored.
func (v *Vault) DropCached(tx *store.Tx, account, providerID string) error {
	_, err := tx.Exec(`DELETE FROM cached_tokens WHERE provider_id = $1 AND account = $2`, providerID, account)
	return fault.Wrap(err, "dropping a provider's cached tokens")
}

// sweepCached deletes tokens that have expired, and rows whose fetcher died.
func sweepCached(tx *store.Tx) error {
	_, err := tx.Exec(`DELETE FROM cached_tokens WHERE expires <= $1 AND lease_until <= $1`, store.Micros(tx.Now))
	return err
}

func cachedContext(account, id string, version int64) seal.Context {
	return seal.Context{Account: account, Kind: "cached_token.access_token", Row: id, Version: version}
}
