package broker

import (
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const (
	vaultKey  = "arn:aws:kms:us-east-1:" + account + ":key/00000000-0000-0000-0000-000000000001"
	othersKey = "arn:aws:kms:us-east-1:" + other + ":key/00000000-0000-0000-0000-000000000002"
)

// eachVaultWorld is a bare world whose two accounts may choose a key of their own
// each. restart is another process, to which the account's key is what is given.
func eachVaultWorld(t *testing.T, fn func(t *testing.T, w *world, restart func(own seal.KeyWrapper) *world)) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		folder, keys := t.TempDir(), map[string]seal.KeyWrapper{}
		for _, name := range []string{"platform", "own", "other"} {
			if err := seal.CreateFileKey(filepath.Join(folder, name)); err != nil {
				t.Fatal(err)
			}
			var err error
			if keys[name], err = seal.OpenFileKey(filepath.Join(folder, name)); err != nil {
				t.Fatal(err)
			}
		}
		provider := newIDP(t)
		restart := func(own seal.KeyWrapper) *world {
			keeper, err := seal.NewKeeper(t.Context(), db, keys["platform"],
				seal.Declared{ARN: vaultKey, Account: account, Wrapper: own}, seal.Declared{ARN: othersKey, Account: other, Wrapper: keys["other"]})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range []string{account, other} {
				if err := keeper.EnsureAccount(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			w := worldOn(t, db, keeper, provider, &atomic.Int64{})
			w.options.Custodian = seal.NewCustodian(keeper, Sealed)
			return w
		}
		fn(t, restart(keys["own"]), restart)
	})
}

func setKey(t *testing.T, w *world, caller principal.Caller, arn *string, kind api.KeyType) (*api.SetTokenVaultCMKResponse, error) {
	t.Helper()
	return w.SetTokenVaultCMK(t.Context(), caller, &api.SetTokenVaultCMKRequest{KmsConfiguration: &api.KmsConfiguration{KeyType: kind, KmsKeyArn: arn}})
}

func TestSetTokenVaultCMK(t *testing.T) {
	eachVaultWorld(t, func(t *testing.T, w *world, _ func(seal.KeyWrapper) *world) {
		for name, given := range map[string]struct {
			arn  *string
			kind api.KeyType
			want string
		}{
			"no ARN":              {nil, api.KeyTypeCustomerManagedKey, "needs a kmsKeyArn"},
			"an ARN too many":     {pointer(vaultKey), api.KeyTypeServiceManagedKey, "has no kmsKeyArn"},
			"another account's":   {pointer(othersKey), api.KeyTypeCustomerManagedKey, "none of those that the operator declared"},
			"not declared at all": {pointer(vaultKey[:len(vaultKey)-1] + "9"), api.KeyTypeCustomerManagedKey, "none of those that the operator declared"},
		} {
			_, err := setKey(t, w, root, given.arn, given.kind)
			wantFault(t, err, fault.Invalid, given.want)
			if shown, err := w.GetTokenVault(t.Context(), root, &api.GetTokenVaultRequest{}); err != nil || shown.KmsConfiguration.KeyType != api.KeyTypeServiceManagedKey {
				t.Errorf("%s: changed to %+v, %v", name, shown, err)
			}
		}
		set, err := setKey(t, w, root, pointer(vaultKey), api.KeyTypeCustomerManagedKey)
		if err != nil || set.KmsConfiguration.KeyType != api.KeyTypeCustomerManagedKey || *set.KmsConfiguration.KmsKeyArn != vaultKey {
			t.Fatalf("%+v, %v", set, err)
		}
		shown, err := w.GetTokenVault(t.Context(), root, &api.GetTokenVaultRequest{})
		if err != nil || *shown.KmsConfiguration.KmsKeyArn != vaultKey || shown.LastModifiedDate != set.LastModifiedDate {
			t.Errorf("%+v, %v", shown, err)
		}
		theirs, err := w.GetTokenVault(t.Context(), principal.Caller{Kind: principal.Key, Account: other}, &api.GetTokenVaultRequest{})
		if err != nil || theirs.KmsConfiguration.KmsKeyArn != nil {
			t.Errorf("the neighbour's vault moved along: %+v, %v", theirs, err)
		}
		_, err = w.SetTokenVaultCMK(t.Context(), root, &api.SetTokenVaultCMKRequest{TokenVaultId: pointer("second"), KmsConfiguration: &api.KmsConfiguration{KeyType: api.KeyTypeServiceManagedKey}})
		wantFault(t, err, fault.NotFound, "second not found")
		_, err = w.ResetTokenVaultKeyMaterial(t.Context(), root, &api.ResetTokenVaultKeyMaterialRequest{TokenVaultId: "default"})
		wantFault(t, err, fault.Invalid, "still exists")
		if set, err = setKey(t, w, root, nil, api.KeyTypeServiceManagedKey); err != nil || set.KmsConfiguration.KmsKeyArn != nil {
			t.Errorf("back to the platform's: %+v, %v", set, err)
		}
		_, err = w.ResetTokenVaultKeyMaterial(t.Context(), root, &api.ResetTokenVaultKeyMaterialRequest{TokenVaultId: "default"})
		wantFault(t, err, fault.Invalid, "platform's own key")
	})
}

// A provider outlives the vault's key: its client secret is under the platform's.
func TestResetTokenVaultKeyMaterial(t *testing.T) {
	eachVaultWorld(t, func(t *testing.T, w *world, restart func(seal.KeyWrapper) *world) {
		w.apiKey(t, "model", "canary-key")
		if _, err := setKey(t, w, root, pointer(vaultKey), api.KeyTypeCustomerManagedKey); err != nil {
			t.Fatal(err)
		}
		w = restart(seal.Gone)
		reset, err := w.ResetTokenVaultKeyMaterial(t.Context(), root, &api.ResetTokenVaultKeyMaterialRequest{TokenVaultId: "default"})
		if err != nil || reset.KmsConfiguration.KeyType != api.KeyTypeServiceManagedKey || reset.KmsConfiguration.KmsKeyArn != nil {
			t.Fatalf("%+v, %v", reset, err)
		}
		shown, err := w.GetApiKeyCredentialProvider(t.Context(), root, &api.GetApiKeyCredentialProviderRequest{Name: "model"})
		if err != nil || shown.Name != "model" {
			t.Errorf("the provider: %v", err)
		}
	})
}
