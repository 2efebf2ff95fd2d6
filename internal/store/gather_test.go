package store_test

import (
	"database/sql/driver"
	"os"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

type breaking struct{}

func (breaking) Value() (driver.Value, error) { panic("in the middle") }

// A question that breaks the lane which asks it fails itself, and the lane goes on.
func TestLaneThatBreaks(t *testing.T) {
	t.Parallel()
	if os.Getenv(storetest.Variable) == "" {
		t.Skipf("%s is not set", storetest.Variable)
	}
	db := storetest.OpenWith(t, store.Options{URL: storetest.Postgres(t)})
	lease(t, db, "one", time.Hour)
	for range 10 { // there are three lanes
		if _, err := number(t.Context(), db, `SELECT COUNT(*) FROM leases WHERE name = $1`, breaking{}); !fault.Is(err, fault.Internal) {
			t.Fatalf("%v", err)
		}
	}
	if n, err := number(t.Context(), db, `SELECT COUNT(*) FROM leases WHERE name = $1`, "one"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
