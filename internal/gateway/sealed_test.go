package gateway_test

import (
	"testing"

	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// What is declared in sealed.go is what the code seals with.
func TestDeclaredColumnsOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.peopleGateway(t)
	var values int64
	if err := r.db.View(t.Context(), func(tx *store.Tx) (err error) {
		values, err = seal.NewCustodian(r.keeper, gateway.Sealed).Verify(tx, seal.Undamaged)
		return err
	}); err != nil || values == 0 {
		t.Errorf("%d values open, %v", values, err)
	}
}
