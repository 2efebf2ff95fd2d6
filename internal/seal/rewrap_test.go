package seal_test

import (
	"context"
	"errors"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func TestThePlatformMovesToAnotherKey(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		v := newVaults(t, o)
		sealed := mustSeal(t, v.Keeper, grant, "x")
		theirs := grant
		theirs.Account = neighbour
		other := mustSeal(t, v.Keeper, theirs, "y")
		if _, err := v.Move(t.Context(), account, otherARN); err != nil {
			t.Fatal(err)
		}
		to := openSpec(t, v.kms.spec(t, kmsARN))
		failing := turncoat{to, func(context.Context) ([]byte, error) { return nil, errors.New("no") }}
		if _, err := v.Rewrap(t.Context(), failing); err == nil {
			t.Error("moved to a key that does not unwrap")
		}
		if _, err := v.Rewrap(t.Context(), v.platform); !fault.Is(err, fault.Invalid) {
			t.Errorf("moved to the same key: %v", err)
		}
		v.start(t, v.db)
		if n, err := v.Rewrap(t.Context(), to); err != nil || n < 12 {
			t.Fatalf("%d data keys, %v", n, err)
		}
		if _, err := seal.NewKeeper(t.Context(), v.db, v.platform, v.declared...); !fault.Is(err, fault.Undecryptable) {
			t.Errorf("starts with the old key: %v", err)
		}
		v.platform = to
		restarted := v.start(t, v.db)
		wantOpen(t, restarted, sealed, "x")
		if opened, err := restarted.Open(t.Context(), theirs, other); err != nil || string(opened) != "y" {
			t.Errorf("the neighbour's: %q, %v", opened, err)
		}
		wantChoice(t, restarted, otherARN)
	})
}
