package broker

import (
	"slices"
	"testing"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// What is declared in sealed.go is what the code seals with: everything opens
// that way, is sealed anew, and works afterwards.
func TestDeclaredColumnsAreSealedAnew(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.workload(t, "asker", returnURL)
		w.provider(t, "google", w.idp)
		w.apiKey(t, "model", "canary-key")
		request := TokenRequest{ProviderName: "google", Scopes: []string{"read"}, ReturnURL: returnURL}
		ada := w.consented(t, "asker", "ada", request)
		token := w.token(t, ada, request)
		machine := w.m2m(t, w.alone(t, "agent"), TokenRequest{ProviderName: "google", Scopes: []string{"read"}})

		c := seal.NewCustodian(w.keeper, slices.Concat(Sealed, vault.Sealed))
		var values int64
		if err := w.db.View(t.Context(), func(tx *store.Tx) (err error) { values, err = c.Verify(tx, seal.Undamaged); return err }); err != nil || values < 4 {
			t.Fatalf("%d values open, %v; want those of a grant, a cached token, a provider and an API key", values, err)
		}
		if _, err := c.Begin(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		if err := c.Work(t.Context(), account, true); err != nil {
			t.Fatal(err)
		}
		r, err := c.Rotations(t.Context(), account)
		if err != nil || r[0].Failed != 0 || r[0].Done != 4 {
			t.Errorf("%+v, %v", r, err)
		}
		if n, err := c.Destroy(t.Context(), account, 0); err != nil || n != 2 {
			t.Errorf("%d old keys destroyed, %v", n, err)
		}
		if got := w.token(t, ada, request); got != token {
			t.Errorf("another token: %s", got)
		}
		if got := w.m2m(t, w.alone(t, "agent"), TokenRequest{ProviderName: "google", Scopes: []string{"read"}}); got != machine {
			t.Errorf("another client token: %s", got) // its lookup is derived from the first data key
		}
		if got, err := w.readKey(t, ada, "model"); err != nil || got != "canary-key" {
			t.Errorf("the API key: %v", err)
		}
	})
}
