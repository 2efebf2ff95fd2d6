package auth

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// DefaultRole is the role that every account starts with.
const DefaultRole = "onbehalf-default"

// Role is a principal that programs run under.
type Role struct {
	Account string
	Name    string
	Created time.Time
}

// ARN is the role's name as a principal.
func (r Role) ARN() string { return RoleARN(r.Account, r.Name) }

// RoleARN names a role.
func RoleARN(account, name string) string { return "arn:aws:iam::" + account + ":role/" + name }

// CreateRole makes a role that may do nothing until a policy is attached.
// fault.Conflict where the name is taken.
func (a *Authenticator) CreateRole(tx *store.Tx, account, name string) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	if !validName(name) {
		return fault.New(fault.Invalid, "A role's name has 1 to 64 letters, digits or any of +=,.@_-")
	}
	made, err := tx.Exec(`INSERT INTO roles (account, name, id, created) SELECT account, $2, $3, $4 FROM accounts WHERE account = $1
		ON CONFLICT (account, name) DO NOTHING`, account, name, rand.Text(), store.Micros(tx.Now))
	if err != nil {
		return fault.Wrap(err, "making a role")
	}
	if made > 0 {
		return nil
	}
	if _, err := roleID(tx, account, name); err == nil {
		return fault.New(fault.Conflict, "The role %s exists.", RoleARN(account, name))
	}
	return fault.New(fault.NotFound, "There is no account %s.", account)
}

// ListRoles is the account's roles by name.
func (a *Authenticator) ListRoles(tx *store.Tx, account string) ([]Role, error) {
	rows, err := tx.Query(`SELECT name, created FROM roles WHERE account = $1 ORDER BY name`, account)
	if err != nil {
		return nil, fault.Wrap(err, "listing roles")
	}
	defer rows.Close()
	var list []Role
	for rows.Next() {
		r := Role{Account: account}
		var created int64
		if err := rows.Scan(&r.Name, &created); err != nil {
			return nil, fault.Wrap(err, "listing roles")
		}
		r.Created = store.Time(created)
		list = append(list, r)
	}
	return list, fault.Wrap(rows.Err(), "listing roles")
}

// DeleteRole takes a role away, and within a second the credentials issued for
// it. Its policies are policy's: delete them in the same transaction.
func (a *Authenticator) DeleteRole(tx *store.Tx, account, name string) error {
	gone, err := tx.Exec(`DELETE FROM roles WHERE account = $1 AND name = $2`, account, name)
	if err == nil && gone == 0 {
		err = noRole(account, name)
	}
	return fault.Wrap(err, "deleting a role")
}

// CheckRole is fault.NotFound where the account has no such role.
func (a *Authenticator) CheckRole(tx *store.Tx, account, name string) error {
	_, err := roleID(tx, account, name)
	return err
}

func roleID(tx *store.Tx, account, name string) (id string, err error) {
	err = tx.QueryRow(`SELECT id FROM roles WHERE account = $1 AND name = $2`, account, name).Scan(&id)
	if errors.Is(err, store.ErrNoRows) {
		return "", noRole(account, name)
	}
	return id, fault.Wrap(err, "reading a role")
}

func noRole(account, name string) error {
	return fault.New(fault.NotFound, "There is no role %s.", RoleARN(account, name))
}
