// Package policy decides. (Unfinished: signatures first.)
package policy

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Check is one question: may the caller do Action on Resource.
type Check struct {
	Action   string // "bedrock-agentcore:CreateGateway"
	Resource string // ARN, or "*" for an action that names no resource
}

// The actions of a browser on the OAuth front channel.
const (
	ActionAuthorize = "onbehalf:Authorize" // opens a consent link
	ActionCallback  = "onbehalf:Callback"  // comes back from the provider
	ActionConnect   = "onbehalf:Connect"   // finishes on our own return page
)

// Engine answers Checks.
type Engine struct{}

func New(db *store.DB) *Engine { return &Engine{} }

func (e *Engine) Decide(ctx context.Context, caller principal.Caller, checks []Check) error {
	return fault.New(fault.Internal, "policy: unfinished")
}
