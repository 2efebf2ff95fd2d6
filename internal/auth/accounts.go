package auth

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Account is a tenant.
type Account struct {
	ID      string // 12 digits
	Created time.Time
	Keys    int // access keys, disabled ones included
}

// CreateAccount makes an account with its data keys, its default role and its
// root key, whose secret is known here and now and never again. fault.Conflict
// where the account exists: its root key is not replaced by this way.
func (a *Authenticator) CreateAccount(ctx context.Context, account string) (NewKey, error) {
	var root NewKey
	created, err := a.EnsureRoot(ctx, account, func(key NewKey) error { root = key; return nil })
	if err != nil {
		return NewKey{}, err
	}
	if !created {
		return NewKey{}, fault.New(fault.Conflict, "The account %s exists.", account)
	}
	return root, nil
}

// ListAccounts is every account, by its id.
func (a *Authenticator) ListAccounts(tx *store.Tx) ([]Account, error) {
	rows, err := tx.Query(`SELECT account, created, (SELECT COUNT(*) FROM access_keys WHERE access_keys.account = accounts.account) FROM accounts ORDER BY account`)
	if err != nil {
		return nil, fault.Wrap(err, "listing accounts")
	}
	defer rows.Close()
	var list []Account
	for rows.Next() {
		var a Account
		var created int64
		if err := rows.Scan(&a.ID, &created, &a.Keys); err != nil {
			return nil, fault.Wrap(err, "listing accounts")
		}
		a.Created = store.Time(created)
		list = append(list, a)
	}
	return list, fault.Wrap(rows.Err(), "listing accounts")
}

// makeAccount makes the account's row and, with a new one, its default role and
// whatever else an account starts with. Writing the row, also when it is there,
// makes replicas that do this at the same moment go one after the other.
func (a *Authenticator) makeAccount(tx *store.Tx, account string) error {
	var created int64
	if err := tx.QueryRow(`INSERT INTO accounts (account, created) VALUES ($1, $2)
		ON CONFLICT (account) DO UPDATE SET account = excluded.account RETURNING created`, account, store.Micros(tx.Now)).Scan(&created); err != nil {
		return fault.Wrap(err, "making the account")
	}
	var known int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM roles WHERE account = $1`, account).Scan(&known); err != nil {
		return fault.Wrap(err, "looking for roles")
	}
	if created != store.Micros(tx.Now) || known > 0 {
		return nil // not new: what an operator took away since stays away
	}
	if err := a.CreateRole(tx, Role{Account: account, Name: DefaultRole}); err != nil {
		return err
	}
	if a.opts.NewAccount == nil {
		return nil
	}
	return a.opts.NewAccount(tx, account)
}
