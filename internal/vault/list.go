package vault

import (
	"context"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Filter says which grants a list is about. Account, and one of the others at
// least, is set: each of them has an index, which ends with when a grant was made.
type Filter struct {
	Account    string
	WorkloadID string
	ProviderID string
	User       principal.User
}

// Place is a position in a list: right after the grant that was made then and has this id.
type Place struct {
	Created time.Time
	ID      string
}

// List reads at most limit grants after a place, oldest first, their secrets sealed as ever.
func (v *Vault) List(tx *store.Tx, f Filter, after Place, limit int) ([]*Grant, error) {
	where, args := `WHERE account = $1 AND (created > $2 OR created = $2 AND id > $3) AND created >= $2`, []any{f.Account, store.Micros(after.Created), after.ID}
	equals := func(column, value string) {
		args = append(args, value)
		where += ` AND ` + column + ` = $` + digits(len(args))
	}
	if !f.User.IsZero() {
		equals("user_subject", f.User.Subject)
		equals("user_id", f.User.ID)
		equals("user_issuer", f.User.Issuer)
	}
	if f.WorkloadID != "" {
		equals("workload_id", f.WorkloadID)
	}
	if f.ProviderID != "" {
		equals("provider_id", f.ProviderID)
	}
	if len(args) == 3 {
		return nil, fault.Wrap(errors.New("a list of nobody's grants"), "listing grants")
	}
	args = append(args, limit)
	rows, err := tx.Query(keyColumns+grantColumns+where+` ORDER BY created, id LIMIT $`+digits(len(args)), args...)
	if err != nil {
		return nil, fault.Wrap(err, "listing grants")
	}
	defer rows.Close()
	var list []*Grant
	for rows.Next() {
		g, err := scanWhole(rows)
		if err != nil {
			return nil, fault.Wrap(err, "listing grants")
		}
		list = append(list, g)
	}
	return list, fault.Wrap(errors.Join(rows.Err(), rows.Close()), "listing grants")
}

// digits spells a parameter's number.
func digits(n int) string { return string(rune('0' + n)) }

// Withdrawn is a grant that is gone, with what its provider may be told to take back.
type Withdrawn struct {
	*Grant
	Origin
	refresh []byte // sealed
}

// Delete removes a grant for good. A refresh of it that is under way stores
// nothing, and no later read finds it. nil when it was not there.
func (v *Vault) Delete(tx *store.Tx, account, id string) (*Withdrawn, error) {
	g, err := v.Get(tx, account, id)
	if g == nil || err != nil {
		return nil, err
	}
	w := &Withdrawn{Grant: g}
	if w.Origin, err = v.OriginOf(tx, g); err != nil {
		return nil, err
	}
	if err := tx.QueryRow(`DELETE FROM grants WHERE id = $1 AND account = $2 RETURNING refresh_token`, id, account).Scan(&w.refresh); err != nil {
		return nil, fault.Wrap(err, "deleting a grant")
	}
	return w, nil
}

// OpenWithdrawn opens both tokens of a grant that is gone, for the requests that
// take them back; the refresh token is empty where there was none.
func (v *Vault) OpenWithdrawn(ctx context.Context, w *Withdrawn) (refresh, access secret.Text, err error) {
	if w.refresh != nil {
		if refresh, err = v.keeper.OpenText(ctx, bound(w.Account, w.ID, refreshToken, w.Version), w.refresh); err != nil {
			return refresh, access, err
		}
	}
	access, err = v.keeper.OpenText(ctx, bound(w.Account, w.ID, accessToken, w.Version), w.access)
	return refresh, access, err
}

// HeldOf says for which workloads and providers a user holds grants, however many.
func (v *Vault) HeldOf(tx *store.Tx, f Filter) ([]Key, error) {
	return keysOf(tx, f, `SELECT DISTINCT workload_id, provider_id FROM grants WHERE account = $1 AND user_issuer = $2 AND user_subject = $3 AND user_id = $4
		AND ($5 = '' OR workload_id = $5) AND ($6 = '' OR provider_id = $6)`, f.Account, f.User.Issuer, f.User.Subject, f.User.ID, f.WorkloadID, f.ProviderID)
}

// keysOf reads what a query finds of a user's workloads and providers.
func keysOf(tx *store.Tx, f Filter, query string, args ...any) ([]Key, error) {
	const doing = "looking up what a user holds"
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, fault.Wrap(err, doing)
	}
	defer rows.Close()
	var keys []Key
	for rows.Next() {
		k := Key{Account: f.Account, User: f.User}
		if err := rows.Scan(&k.WorkloadID, &k.ProviderID); err != nil {
			return nil, fault.Wrap(err, doing)
		}
		keys = append(keys, k)
	}
	return keys, fault.Wrap(errors.Join(rows.Err(), rows.Close()), doing)
}

const cachedOf = ` FROM cached_tokens WHERE account = $1 AND user_issuer = $2 AND user_subject = $3 AND ($4 = '' OR workload_id = $4) AND ($5 = '' OR provider_id = $5)`

// CachedOf says for which workloads and providers tokens were traded for a user's sign-in.
func (v *Vault) CachedOf(tx *store.Tx, f Filter) ([]Key, error) {
	if f.User.Issuer == "" || f.User.Subject == "" { // nothing is traded for who did not sign in
		return nil, nil
	}
	return keysOf(tx, f, `SELECT DISTINCT workload_id, provider_id`+cachedOf, f.Account, f.User.Issuer, f.User.Subject, f.WorkloadID, f.ProviderID)
}

// DropCachedOf forgets the tokens that were traded for a user's sign-in.
func (v *Vault) DropCachedOf(tx *store.Tx, f Filter) (int64, error) {
	if f.User.Issuer == "" || f.User.Subject == "" { // nothing is traded for who did not sign in
		return 0, nil
	}
	dropped, err := tx.Exec(`DELETE`+cachedOf, f.Account, f.User.Issuer, f.User.Subject, f.WorkloadID, f.ProviderID)
	return dropped, fault.Wrap(err, "dropping a user's cached tokens")
}
