package auth

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// DefaultRole is the role that every account starts with.
const DefaultRole = "onbehalf-default"

// Role is a principal that programs run under.
type Role struct {
	Account     string
	Name        string
	ID          string // immutable, never used again
	Created     time.Time
	Trust       string // its trust policy, JSON: who may take it on; empty is the platform alone
	Description string
	MaxSession  time.Duration
	Tags        map[string]string
}

// ARN is the role's name as a principal.
func (r Role) ARN() string { return RoleARN(r.Account, r.Name) }

// RoleARN names a role.
func RoleARN(account, name string) string { return "arn:aws:iam::" + account + ":role/" + name }

// CreateRole makes a role that may do nothing until a policy is attached.
// fault.Conflict where the name is taken. Its trust policy has been checked by
// the caller.
func (a *Authenticator) CreateRole(tx *store.Tx, role Role) error {
	if err := checkAccount(role.Account); err != nil {
		return err
	}
	if !validName(role.Name) {
		return fault.New(fault.Invalid, "A role's name has 1 to 64 letters, digits or any of +=,.@_-")
	}
	if role.MaxSession == 0 {
		role.MaxSession = MaxSession
	}
	if role.Tags == nil {
		role.Tags = map[string]string{}
	}
	tags, err := json.Marshal(role.Tags)
	if err != nil {
		return fault.Wrap(err, "encoding a role's tags")
	}
	var count int64
	if err := tx.QueryRow(`SELECT count(*) FROM roles WHERE account = $1`, role.Account).Scan(&count); err != nil {
		return fault.Wrap(err, "counting roles")
	}
	if count >= maxRoles {
		return fault.New(fault.QuotaExceeded, "Cannot exceed quota for RolesPerAccount: %d", maxRoles)
	}
	made, err := tx.Exec(`INSERT INTO roles (account, name, id, created, trust, description, max_session, tags)
		SELECT account, $2, $3, $4, $5, $6, $7, $8 FROM accounts WHERE account = $1 ON CONFLICT (account, name) DO NOTHING`,
		role.Account, role.Name, rand.Text(), store.Micros(tx.Now), role.Trust, role.Description, int64(role.MaxSession/time.Second), string(tags))
	if err != nil {
		return fault.Wrap(err, "making a role")
	}
	if made > 0 {
		return nil
	}
	if _, err := roleID(tx, role.Account, role.Name); err == nil {
		return fault.New(fault.Conflict, "The role %s exists.", RoleARN(role.Account, role.Name))
	}
	return fault.New(fault.NotFound, "There is no account %s.", role.Account)
}

// maxRoles is AWS's quota of an account.
const maxRoles = 1000

const roleColumns = `name, id, created, trust, description, max_session, tags`

func scanRole(account string, scan func(...any) error) (Role, error) {
	r := Role{Account: account}
	var created, seconds int64
	var tags string
	if err := scan(&r.Name, &r.ID, &created, &r.Trust, &r.Description, &seconds, &tags); err != nil {
		return Role{}, err
	}
	r.Created, r.MaxSession = store.Time(created), time.Duration(seconds)*time.Second
	return r, json.Unmarshal([]byte(tags), &r.Tags)
}

// FindRole is one role; fault.NotFound.
func (a *Authenticator) FindRole(tx *store.Tx, account, name string) (Role, error) {
	r, err := scanRole(account, tx.QueryRow(`SELECT `+roleColumns+` FROM roles WHERE account = $1 AND name = $2`, account, name).Scan)
	if errors.Is(err, store.ErrNoRows) {
		return Role{}, noRole(account, name)
	}
	return r, fault.Wrap(err, "reading a role")
}

// ListRoles is the account's roles by name.
func (a *Authenticator) ListRoles(tx *store.Tx, account string) ([]Role, error) {
	rows, err := tx.Query(`SELECT `+roleColumns+` FROM roles WHERE account = $1 ORDER BY name`, account)
	if err != nil {
		return nil, fault.Wrap(err, "listing roles")
	}
	defer rows.Close()
	var list []Role
	for rows.Next() {
		r, err := scanRole(account, rows.Scan)
		if err != nil {
			return nil, fault.Wrap(err, "listing roles")
		}
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
