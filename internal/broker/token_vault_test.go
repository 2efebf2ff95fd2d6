package broker

import (
	"maps"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

func TestTokenVault(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for _, id := range []*string{nil, pointer("default")} {
			shown, err := w.GetTokenVault(t.Context(), root, &api.GetTokenVaultRequest{TokenVaultId: id})
			if err != nil || shown.TokenVaultId != "default" || shown.KmsConfiguration.KeyType != api.KeyTypeServiceManagedKey || shown.KmsConfiguration.KmsKeyArn != nil || shown.LastModifiedDate.IsZero() {
				t.Errorf("got %+v, %v", shown, err)
			}
		}
		_, err := w.GetTokenVault(t.Context(), root, &api.GetTokenVaultRequest{TokenVaultId: pointer("second")})
		wantFault(t, err, fault.NotFound, "second not found")
		if _, err = w.GetTokenVault(t.Context(), principal.Caller{Account: "222222222222"}, &api.GetTokenVaultRequest{}); err == nil {
			t.Error("an account that does not exist has a vault")
		}
	})
}

func TestTagsOfProviders(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		w.apiKey(t, "google", "canary-key")
		set := func(key string) func(map[string]string) error {
			return func(tags map[string]string) error { tags[key] = "x"; return nil }
		}
		if _, err := w.Oauth2ProviderTags(t.Context(), account, "google", set("oauth2")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.ApiKeyProviderTags(t.Context(), account, "google", set("key")); err != nil {
			t.Fatal(err)
		}
		update(t, w, custom(w.idp, "client")) // replaces the configuration, and no tags
		oauth2, err := w.Oauth2ProviderTags(t.Context(), account, "google", nil)
		if err != nil || !maps.Equal(oauth2, map[string]string{"oauth2": "x"}) {
			t.Errorf("got %v, %v", oauth2, err)
		}
		key, err := w.ApiKeyProviderTags(t.Context(), account, "google", nil)
		if err != nil || !maps.Equal(key, map[string]string{"key": "x"}) {
			t.Errorf("got %v, %v", key, err)
		}
		_, err = w.Oauth2ProviderTags(t.Context(), other, "google", set("mine"))
		wantFault(t, err, fault.NotFound, "google not found")
		_, err = w.ApiKeyProviderTags(t.Context(), other, "google", set("mine"))
		wantFault(t, err, fault.NotFound, "google not found")
	})
}
