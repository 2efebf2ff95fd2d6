package gate

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/principal"
)

// May asks policy alone, inside an act that was decided: which rows of a list
// the caller gets to see, or whether all that an act turned out to touch is
// permitted. It records nothing; the act around it does.
func (g *Gate) May(ctx context.Context, caller principal.Caller, checks ...Check) error {
	return g.policy.Decide(ctx, caller, checks)
}
