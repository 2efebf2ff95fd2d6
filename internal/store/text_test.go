package store_test

import (
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// What cannot be stored as text is the caller's mistake, on both engines, in reads and in writes.
func TestTextsThatNoEngineHolds(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for name, bad := range map[string]string{"NUL": "a\x00b", "no UTF-8": "a\xffb"} {
			read := db.View(t.Context(), func(tx *store.Tx) error {
				var n int
				return fault.Wrap(tx.QueryRow(`SELECT count(*) FROM workload_identities WHERE name = $1`, bad).Scan(&n), "counting")
			})
			write := db.Update(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(`DELETE FROM workload_identities WHERE name = $1`, bad)
				return fault.Wrap(err, "deleting")
			})
			for what, err := range map[string]error{"reading": read, "writing": write} {
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("%s with %s: %v", what, name, err)
				}
			}
		}
	})
}
