package server

import (
	"cmp"
	"strings"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
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

// roleChecker says whether a gateway may run under a role: it is of the gateway's
// account, exists, and trusts the platform.
func roleChecker(a *auth.Authenticator, policies *policy.Engine) func(tx *store.Tx, account, roleARN, gatewayARN string) error {
	return func(tx *store.Tx, account, roleARN, gatewayARN string) error {
		name, ours := strings.CutPrefix(roleARN, auth.RoleARN(account, ""))
		role, err := auth.Role{}, error(nil)
		if ours {
			role, err = a.FindRole(tx, account, name)
		}
		if !ours || fault.Is(err, fault.NotFound) {
			return fault.InvalidField("roleArn", "The role %s does not exist in account %s. An account has %s; an operator makes others with onbehalf roles create, and iam:CreateRole does.", roleARN, account, auth.RoleARN(account, auth.DefaultRole))
		}
		if err != nil {
			return err
		}
		trusted, err := policies.Trusts(cmp.Or(role.Trust, policy.DefaultTrust), account, gatewayARN)
		if err == nil && !trusted {
			err = fault.InvalidField("roleArn", "The trust policy of the role %s does not let %s assume it.", roleARN, policy.Service)
		}
		return err
	}
}

// deletePolicy takes a resource's policy away with the resource.
func deletePolicy(policies *policy.Engine) func(*store.Tx, string, string) error {
	return func(tx *store.Tx, account, arn string) error {
		_, err := policies.DeleteResource(tx, account, arn)
		return err
	}
}
