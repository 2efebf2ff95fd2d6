package vault

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Tokens are what a provider gave, and on what terms.
type Tokens struct {
	Access  secret.Text
	Refresh secret.Text // empty: none on consent, unchanged on refresh
	Expiry  time.Time   // of Access; zero where unknown
	Asked   Scopes      // of a consent
	Granted Scopes      // nil where the provider said nothing
	Origin              // of a consent
}

// Put stores what a consent gave under its key. It replaces an earlier grant as
// a whole: a refresh token of the old consent is not kept beside new tokens,
// which may be those of another account at the provider.
func (v *Vault) Put(tx *store.Tx, key Key, t Tokens) (grantID string, err error) {
	lookup := key.Lookup()
	for range 2 { // the second round is for a row that another replica added in between
		var version int64
		err := tx.QueryRow(`SELECT id, version FROM grants WHERE lookup = $1 AND account = $2`, lookup, key.Account).Scan(&grantID, &version)
		if err != nil && !errors.Is(err, store.ErrNoRows) {
			return "", fault.Wrap(err, "finding the grant to replace")
		}
		if err == nil {
			return grantID, v.replace(tx, key, grantID, version+1, t)
		}
		grantID = rand.Text()[:idLength]
		if added, err := v.add(tx, grantID, lookup, key, t); added || err != nil {
			return grantID, err
		}
	}
	return "", errChanged
}

// idLength is 80 random bits: an id is no secret, it only has to be nobody else's.
const idLength = 16

func (v *Vault) add(tx *store.Tx, id, lookup string, key Key, t Tokens) (bool, error) {
	sealed, err := v.sealTokens(tx, key.Account, id, 1, t)
	if err != nil {
		return false, err
	}
	resources, err := encodeSet(key.Resources)
	if err != nil {
		return false, err
	}
	audiences, err := encodeSet(key.Audiences)
	if err != nil {
		return false, err
	}
	origin, err := originNumber(tx, key.Account, key.ProviderID, t.Origin)
	if err != nil {
		return false, err
	}
	added, err := tx.Exec(`INSERT INTO grants (id, account, lookup, workload_id, user_issuer, user_subject, user_id, provider_id, label, resources, audiences,
			asked, granted, state, origin, access_token, refresh_token, expires, version,
			lease_holder, lease_until, fence, refresh_failures, refresh_failed, next_refresh, created, refreshed, last_used)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 1, '', 0, 0, 0, 0, 0, $19, $19, 0)
		ON CONFLICT (lookup) DO NOTHING`,
		id, key.Account, lookup, key.WorkloadID, key.User.Issuer, key.User.Subject, key.User.ID, key.ProviderID, key.Label, resources, audiences,
		t.Asked.String(), t.Granted.String(), Active, origin, sealed.access, sealed.refresh, store.Micros(t.Expiry), store.Micros(tx.Now))
	if store.IsForeignKey(err) {
		return false, errDeleted
	}
	return added == 1, fault.Wrap(err, "storing a grant")
}

// replace also raises the fence: a refresh of the old tokens that is still under way stores nothing.
func (v *Vault) replace(tx *store.Tx, key Key, id string, version int64, t Tokens) error {
	sealed, err := v.sealTokens(tx, key.Account, id, version, t)
	if err != nil {
		return err
	}
	origin, err := originNumber(tx, key.Account, key.ProviderID, t.Origin)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE grants SET asked = $1, granted = $2, state = $3, origin = $4, access_token = $5, refresh_token = $6, expires = $7, version = $8, refreshed = $9,
			lease_holder = '', lease_until = 0, fence = fence + 1, refresh_failures = 0, refresh_failed = 0, next_refresh = 0
		WHERE id = $10 AND account = $11`,
		t.Asked.String(), t.Granted.String(), Active, origin, sealed.access, sealed.refresh, store.Micros(t.Expiry), version, store.Micros(tx.Now), id, key.Account)
	return fault.Wrap(err, "replacing a grant")
}

type sealedTokens struct{ access, refresh []byte }

func (v *Vault) sealTokens(tx *store.Tx, account, id string, version int64, t Tokens) (s sealedTokens, err error) {
	if t.Access.Empty() {
		return s, fault.New(fault.Internal, "A grant without an access token cannot be stored.")
	}
	if s.access, err = v.sealColumn(tx.Context(), account, id, accessToken, version, t.Access); err != nil {
		return s, err
	}
	s.refresh, err = v.sealColumn(tx.Context(), account, id, refreshToken, version, t.Refresh)
	return s, err
}

// MarkNeedsConsent keeps a grant and uses it no more, if its tokens are still
// those of the version: a consent given meanwhile is not spoiled.
func (v *Vault) MarkNeedsConsent(tx *store.Tx, account, id string, version int64) error {
	_, err := tx.Exec(`UPDATE grants SET state = $1, lease_holder = '', lease_until = 0 WHERE id = $2 AND account = $3 AND version = $4`, NeedsConsent, id, account, version)
	return fault.Wrap(err, "marking a grant")
}

// MarkProvider marks all grants of a provider that is not the one they were made
// with any more. It answers how many there were.
func (v *Vault) MarkProvider(tx *store.Tx, account, providerID string) (int64, error) {
	marked, err := tx.Exec(`UPDATE grants SET state = $1 WHERE provider_id = $2 AND account = $3 AND state = $4`, NeedsConsent, providerID, account, Active)
	return marked, fault.Wrap(err, "marking a provider's grants")
}
