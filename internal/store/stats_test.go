package store_test

import (
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func TestStats(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		if err := db.Update(t.Context(), func(*store.Tx) error {
			if got := db.Stats()["write"]; got.InUse != 1 || got.Open < 1 {
				t.Errorf("inside an Update: %+v", got)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got := db.Stats()["write"]; got.InUse != 0 {
			t.Errorf("outside: %+v", got)
		}
	})
}
