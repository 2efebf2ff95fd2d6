package storetest

import (
	"path/filepath"
	"testing"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Keeper seals for the accounts in db, with a key file of its own.
func Keeper(t testing.TB, db *store.DB, accounts ...string) *seal.Keeper {
	t.Helper()
	wrapper, err := seal.FileKey(t.Context(), db, filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := seal.NewKeeper(t.Context(), db, wrapper)
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range accounts {
		if err := keeper.EnsureAccount(t.Context(), account); err != nil {
			t.Fatal(err)
		}
	}
	return keeper
}
