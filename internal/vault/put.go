package vault

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Tokens are what a provider gave, and on what terms.
type Tokens struct {
	Access  secret.Text
	Refresh secret.Text // empty: none on consent, unchanged on refresh
	ID      secret.Text // likewise
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
		err := tx.QueryRow(`SELECT id, version FROM grants WHERE account = $1 AND lookup = $2`, key.Account, lookup).Scan(&grantID, &version)
		if err != nil && !errors.Is(err, store.ErrNoRows) {
			return "", fault.Wrap(err, "finding the grant to replace")
		}
		if err == nil {
			return grantID, v.replace(tx, key.Account, grantID, version+1, t)
		}
		grantID = rand.Text()
		if added, err := v.add(tx, grantID, lookup, key, t); added || err != nil {
			return grantID, err
		}
	}
	return "", fault.New(fault.Unavailable, "The grant changed underneath. Try again.")
}

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
	added, err := tx.Exec(`INSERT INTO grants (id, account, lookup, workload_id, user_issuer, user_subject, user_id, provider_id, label, resources, audiences,
			asked, granted, state, issuer, token_endpoint, client_id, access_token, refresh_token, id_token, expires, version,
			lease_holder, lease_until, fence, created, refreshed, last_used)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, 1, '', 0, 0, $22, $22, 0)
		ON CONFLICT (account, lookup) DO NOTHING`,
		id, key.Account, lookup, key.WorkloadID, key.User.Issuer, key.User.Subject, key.User.ID, key.ProviderID, key.Label, resources, audiences,
		t.Asked.String(), t.Granted.String(), Active, t.Issuer, t.TokenEndpoint, t.ClientID, sealed.access, sealed.refresh, sealed.id,
		store.Micros(t.Expiry), store.Micros(tx.Now))
	if store.IsForeignKey(err) {
		return false, fault.New(fault.NotFound, "The workload identity or the credential provider was deleted meanwhile.")
	}
	return added == 1, fault.Wrap(err, "storing a grant")
}

// replace also raises the fence: a refresh of the old tokens that is still under way stores nothing.
func (v *Vault) replace(tx *store.Tx, account, id string, version int64, t Tokens) error {
	sealed, err := v.sealTokens(tx, account, id, version, t)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE grants SET asked = $1, granted = $2, state = $3, issuer = $4, token_endpoint = $5, client_id = $6,
			access_token = $7, refresh_token = $8, id_token = $9, expires = $10, version = $11, refreshed = $12,
			lease_holder = '', lease_until = 0, fence = fence + 1
		WHERE id = $13 AND account = $14`,
		t.Asked.String(), t.Granted.String(), Active, t.Issuer, t.TokenEndpoint, t.ClientID,
		sealed.access, sealed.refresh, sealed.id, store.Micros(t.Expiry), version, store.Micros(tx.Now), id, account)
	return fault.Wrap(err, "replacing a grant")
}

type sealedTokens struct{ access, refresh, id []byte }

func (v *Vault) sealTokens(tx *store.Tx, account, id string, version int64, t Tokens) (s sealedTokens, err error) {
	if t.Access.Empty() {
		return s, fault.New(fault.Internal, "A grant without an access token cannot be stored.")
	}
	if s.access, err = v.sealColumn(tx.Context(), account, id, accessToken, version, t.Access); err != nil {
		return s, err
	}
	if s.refresh, err = v.sealColumn(tx.Context(), account, id, refreshToken, version, t.Refresh); err != nil {
		return s, err
	}
	s.id, err = v.sealColumn(tx.Context(), account, id, idToken, version, t.ID)
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

// DeleteByUser deletes all that a person has granted, whatever the workload. (A
// deleted provider's or workload's grants go with its row.) It answers how many there were.
func (v *Vault) DeleteByUser(tx *store.Tx, account string, user principal.User) (int64, error) {
	deleted, err := tx.Exec(`DELETE FROM grants WHERE account = $1 AND user_issuer = $2 AND user_subject = $3 AND user_id = $4`, account, user.Issuer, user.Subject, user.ID)
	return deleted, fault.Wrap(err, "deleting a user's grants")
}
