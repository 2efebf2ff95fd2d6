package gate

import (
	"context"
	"slices"

	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// ClaimValues are the condition keys of a user's token, for the checks of an act that verifies it.
func ClaimValues(token string) map[string][]string { return policy.ClaimValues(token) }

// Permitted reports whether the act under way was permitted on this very
// resource. A room asks before it touches what is another account's.
func Permitted(ctx context.Context, resource string) bool {
	a, _ := ctx.Value(actKey{}).(*act)
	return a != nil && slices.ContainsFunc(a.checks, func(check Check) bool { return check.Resource == resource })
}

// Under asks whether a role may do what a gateway does by itself within an act:
// it runs under the role it was given, and has no other rights. The act's record
// names the role. session is the gateway's id.
//
// It decides for a role of the account, whoever the caller of the act is, and so
// belongs only where the platform itself is about to act.
func (g *Gate) Under(ctx context.Context, account, role, session string, checks []Check) error {
	Detail(ctx, "role", role)
	return g.policy.Decide(ctx, principal.Caller{
		Kind: principal.Role, Account: account, ARN: "arn:aws:sts::" + account + ":assumed-role/" + roleName(account, role) + "/" + session, Request: principal.RequestOf(ctx),
	}, checks)
}

// roleName is empty, and then nobody's, for a role of another account.
func roleName(account, role string) string {
	if prefix := "arn:aws:iam::" + account + ":role/"; len(role) > len(prefix) && role[:len(prefix)] == prefix {
		return role[len(prefix):]
	}
	return ""
}
