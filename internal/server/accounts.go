package server

import (
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/store"
)

// newAccount is what an account starts with besides its root key and its default
// role: that role's policy.
func newAccount(policies *policy.Engine) func(*store.Tx, string) error {
	return func(tx *store.Tx, account string) error {
		return policies.Put(tx, account, auth.RoleARN(account, auth.DefaultRole), auth.DefaultRole, policy.DefaultRoleDocument)
	}
}
