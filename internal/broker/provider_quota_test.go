package broker

import (
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func TestQuotaOfProviders(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.options.ProviderLimit = 2
		neighbour := principal.Caller{Kind: principal.Key, Account: other, ARN: "arn:aws:iam::111111111111:root", Root: true}
		oauth2 := func(caller principal.Caller, name string) error {
			_, err := w.CreateOauth2CredentialProvider(t.Context(), caller, &api.CreateOauth2CredentialProviderRequest{Name: name, CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: custom(w.idp, "client")})
			return err
		}
		key := func(caller principal.Caller, name string) error {
			_, err := w.CreateApiKeyCredentialProvider(t.Context(), caller, &api.CreateApiKeyCredentialProviderRequest{Name: name, ApiKey: secret.Pointer("canary")})
			return err
		}
		for _, c := range []struct {
			create func(principal.Caller, string) error
			text   string
		}{
			{oauth2, "The number of agent identity Oauth2 credential providers in this account has reached its limit"},
			{key, "The number of agent identity API key credential providers in this account has reached its limit"},
		} {
			for _, name := range []string{"one", "two"} {
				if err := c.create(root, name); err != nil {
					t.Fatal(err)
				}
			}
			wantFault(t, c.create(root, "three"), fault.QuotaExceeded, c.text)
			wantFault(t, c.create(root, "two"), fault.Conflict, "already exists")
			if err := c.create(neighbour, "three"); err != nil {
				t.Errorf("another account: %v", err)
			}
		}
		for _, table := range []string{"oauth2_providers", "api_key_providers"} {
			if n := w.count(t, `SELECT COUNT(*) FROM `+table+` WHERE account = $1`, account); n != 2 {
				t.Errorf("%d rows in %s", n, table)
			}
		}
	})
}
