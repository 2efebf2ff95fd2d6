package identity

import (
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// What is declared in sealed.go is what the code seals with.
func TestDeclaredColumnsOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")
	w.forJWT(t, "agent", w.jwt(t, "ada", 10*time.Minute, 6000))
	var values int64
	if err := w.db.View(t.Context(), func(tx *store.Tx) (err error) {
		values, err = seal.NewCustodian(w.keeper, Sealed).Verify(tx, seal.Undamaged)
		return err
	}); err != nil || values != 1 {
		t.Errorf("%d values open, %v", values, err)
	}
}
