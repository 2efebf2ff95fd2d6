// Package policy answers one question: may this caller do this action on this
// resource.
//
//	gate ── Caller, Checks ──▶ Decide ──▶ account of each resource ──▶ what the kind of caller may ──▶ yes, or AWS's refusal
//
// Invariant: what no rule allows is denied, and no rule reaches beyond the
// caller's own account.
package policy

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Check is one question. An act that touches several resources asks several,
// and happens only when all are answered with yes.
type Check struct {
	Action   string // "bedrock-agentcore:CreateGateway"
	Resource string // an ARN, or Any for an action that names no resource
}

// Any is the resource of an action that names none. It never reaches beyond the caller's account.
const Any = "*"

// The actions that callers without an IAM identity may do. All others need one.
const (
	InvokeGateway   = "bedrock-agentcore:InvokeGateway" // calls a tool of a gateway
	ActionAuthorize = "onbehalf:Authorize"              // a browser opens a consent link
	ActionCallback  = "onbehalf:Callback"               // a browser comes back from the provider
	ActionConnect   = "onbehalf:Connect"                // a browser ends on our own return page
)

var frontChannel = []string{ActionAuthorize, ActionCallback, ActionConnect}

// Engine answers Checks.
type Engine struct{}

// New makes an engine over the database that policy documents are kept in. No
// caller has documents yet: what a caller may do follows from its kind.
func New(*store.DB) *Engine { return &Engine{} }

// Decide returns nil when the caller may do all of checks, and otherwise a
// fault.Denied whose text names principal, action and resource as AWS does. To
// ask nothing is a mistake of the program, and refused as fault.Internal.
func (e *Engine) Decide(ctx context.Context, caller principal.Caller, checks []Check) error {
	if len(checks) == 0 {
		return fault.Wrap(errors.New("an act without a check"), "deciding")
	}
	for _, check := range checks {
		if check.Action == "" || check.Resource == "" {
			return fault.Wrap(errors.New("a check without an action or a resource"), "deciding")
		}
		if !ownAccount(caller, check.Resource) {
			return denied(caller, check, "resource-based")
		}
		if !allowed(caller, check) {
			return denied(caller, check, "identity-based")
		}
	}
	return nil
}

// ownAccount keeps tenants apart. An ARN without an account, or that is none,
// belongs to nobody.
func ownAccount(caller principal.Caller, resource string) bool {
	if resource == Any {
		return true
	}
	arn, err := api.ParseARN(resource)
	return err == nil && arn.Account != "" && arn.Account == caller.Account
}

// allowed is what a kind of caller may do within its account.
func allowed(caller principal.Caller, check Check) bool {
	switch caller.Kind {
	case principal.System:
		return true
	case principal.Key:
		return caller.Root && caller.Account != ""
	case principal.Bearer, principal.Anonymous:
		return check.Action == InvokeGateway && check.Resource != Any && check.Resource == caller.Authorizer
	case principal.Browser:
		return slices.Contains(frontChannel, check.Action)
	default: // Nobody, Role, and what is added without a thought for this line
		return false
	}
}

// denied words the refusal as AWS does, because people search for its words.
func denied(caller principal.Caller, check Check, missing string) error {
	return fault.New(fault.Denied, "User: %s is not authorized to perform: %s on resource: %s because no %s policy allows the %s action",
		name(caller), check.Action, check.Resource, missing, check.Action)
}

// name is what the refusal calls the caller: it goes back to the caller alone.
func name(caller principal.Caller) string {
	switch {
	case caller.ARN != "":
		return caller.ARN
	case caller.Kind == principal.Bearer && !caller.User.IsZero():
		return caller.User.String()
	default:
		return cmp.Or(string(caller.Kind), "anonymous")
	}
}
