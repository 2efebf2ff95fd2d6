package auth

import (
	"context"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// AccessKey is an access key without its secret.
type AccessKey struct {
	ID        string
	Account   string
	Principal string // ARN
	Root      bool
	State     string // KeyActive or KeyDisabled
	Created   time.Time
	LastUsed  time.Time // zero: never; else at most a minute old
}

// The states of an access key. Whatever is not active is refused.
const (
	KeyActive   = "active"
	KeyDisabled = "disabled"
)

// CreateKey makes an access key of a user, arn:aws:iam::ACCOUNT:user/NAME. A
// user is no more than what its keys and policies name: it needs no making, and
// may do what its policies say. The secret is known here and now and never again.
func (a *Authenticator) CreateKey(ctx context.Context, user string) (NewKey, error) {
	arn, err := api.ParseARN(user)
	if err != nil {
		return NewKey{}, err
	}
	name, isUser := strings.CutPrefix(arn.Resource, "user/")
	if !isUser || arn.Service != "iam" || arn.Partition != "aws" || arn.Region != "" || !validName(name) {
		return NewKey{}, fault.New(fault.Invalid, "Access keys belong to users, arn:aws:iam::ACCOUNT:user/NAME, with 1 to 64 letters, digits or any of +=,.@_- in the name.")
	}
	key := newKey("AKIA")
	sealed, err := a.keeper.SealText(ctx, sealContext(arn.Account, key.ID), key.Secret)
	if err != nil {
		return NewKey{}, a.orNoAccount(ctx, arn.Account, err)
	}
	err = a.db.Update(ctx, func(tx *store.Tx) error { return insertKey(tx, arn.Account, user, false, key.ID, sealed) })
	if err != nil {
		return NewKey{}, a.orNoAccount(ctx, arn.Account, err)
	}
	return key, nil
}

// orNoAccount is fault.NotFound where there is no such account, and else err.
func (a *Authenticator) orNoAccount(ctx context.Context, account string, err error) error {
	var known int
	if look := a.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM accounts WHERE account = $1`, account).Scan(&known)
	}); look == nil && known == 0 {
		return fault.New(fault.NotFound, "There is no account %s.", account)
	}
	return err
}

func insertKey(tx *store.Tx, account, arn string, root bool, id string, sealed []byte) error {
	isRoot := 0
	if root {
		isRoot = 1
	}
	_, err := tx.Exec(`INSERT INTO access_keys (id, account, arn, root, state, secret, created) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id, account, arn, isRoot, KeyActive, sealed, store.Micros(tx.Now))
	return fault.Wrap(err, "storing an access key")
}

// ListKeys is the account's access keys by principal; with an empty account, all.
func (a *Authenticator) ListKeys(tx *store.Tx, account string) ([]AccessKey, error) {
	return readKeys(tx, `WHERE account = $1 OR $1 = '' ORDER BY account, root DESC, arn, created, id`, account)
}

// FindKey is one access key; fault.NotFound where there is none.
func (a *Authenticator) FindKey(tx *store.Tx, id string) (AccessKey, error) {
	list, err := readKeys(tx, `WHERE id = $1`, id)
	if err == nil && len(list) == 0 {
		err = noKey(id)
	}
	if err != nil {
		return AccessKey{}, err
	}
	return list[0], nil
}

func readKeys(tx *store.Tx, where string, args ...any) ([]AccessKey, error) {
	rows, err := tx.Query(`SELECT id, account, arn, root, state, created, last_used FROM access_keys `+where, args...)
	if err != nil {
		return nil, fault.Wrap(err, "reading access keys")
	}
	defer rows.Close()
	var list []AccessKey
	for rows.Next() {
		var k AccessKey
		var root int
		var created, used int64
		if err := rows.Scan(&k.ID, &k.Account, &k.Principal, &root, &k.State, &created, &used); err != nil {
			return nil, fault.Wrap(err, "reading access keys")
		}
		k.Root, k.Created, k.LastUsed = root == 1, store.Time(created), store.Time(used)
		list = append(list, k)
	}
	return list, fault.Wrap(rows.Err(), "reading access keys")
}

// SetKeyState enables or disables a key, on every replica within a second. Also
// a root key may be disabled; a restart does not make another.
func (a *Authenticator) SetKeyState(tx *store.Tx, id, state string) error {
	if state != KeyActive && state != KeyDisabled {
		return fault.New(fault.Invalid, "The state of an access key is %s or %s.", KeyActive, KeyDisabled)
	}
	changed, err := tx.Exec(`UPDATE access_keys SET state = $1 WHERE id = $2`, state, id)
	if err == nil && changed == 0 {
		err = noKey(id)
	}
	return fault.Wrap(err, "changing an access key")
}

// DeleteKey takes a user's key away for good. A root key is replaced (ResetRoot)
// or disabled: without any, the next start would make one.
func (a *Authenticator) DeleteKey(tx *store.Tx, id string) error {
	key, err := a.FindKey(tx, id)
	if err != nil {
		return err
	}
	if key.Root {
		return fault.New(fault.Conflict, "%s is the root key of account %s: reset the root key to replace it, or disable it.", id, key.Account)
	}
	_, err = tx.Exec(`DELETE FROM access_keys WHERE id = $1 AND root = 0`, id)
	return fault.Wrap(err, "deleting an access key")
}

// ResetRoot replaces the account's root key: the old one, also a disabled one,
// is gone in the same transaction. save runs last before the commit, as that of EnsureRoot.
func (a *Authenticator) ResetRoot(ctx context.Context, account string, save func(NewKey) error) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	key := newKey("AKIA")
	sealed, err := a.keeper.SealText(ctx, sealContext(account, key.ID), key.Secret)
	if err != nil {
		return a.orNoAccount(ctx, account, err)
	}
	err = a.db.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM access_keys WHERE account = $1 AND root = 1`, account); err != nil {
			return fault.Wrap(err, "deleting the root key")
		}
		if err := insertKey(tx, account, "arn:aws:iam::"+account+":root", true, key.ID, sealed); err != nil {
			return err
		}
		return fault.Wrap(save(key), "saving the root key")
	})
	if err != nil {
		return a.orNoAccount(ctx, account, err)
	}
	return nil
}

func noKey(id string) error { return fault.New(fault.NotFound, "There is no access key %s.", id) }

// validName is IAM's rule for names of users and roles.
func validName(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("+=,.@_-", r)
	})
}
