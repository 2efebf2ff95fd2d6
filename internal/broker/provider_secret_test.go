package broker

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/external"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// sources gives the world a folder of secrets, and the account other a folder of its own.
func (w *world) sources(t testing.TB) string {
	t.Helper()
	folder := t.TempDir()
	var declared []external.Source
	for _, text := range []string{"name=files,kind=file,folder=" + folder, "name=theirs,kind=file,account=" + other + ",folder=" + folder} {
		source, err := external.ParseSource(text, account)
		if err != nil {
			t.Fatal(err)
		}
		declared = append(declared, source)
	}
	var err error
	if w.options.Secrets, err = external.New(declared, external.Options{Region: "us-east-1"}); err != nil {
		t.Fatal(err)
	}
	return folder
}

func put(t testing.TB, folder, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func externally(p *idp, id, key string) *api.Oauth2ProviderConfigInput {
	input := custom(p, "client")
	input.CustomOauth2ProviderConfig.ClientSecret = nil
	input.CustomOauth2ProviderConfig.ClientSecretSource = api.SecretSourceTypeExternal
	input.CustomOauth2ProviderConfig.ClientSecretConfig = &api.SecretReference{SecretId: id, JsonKey: key}
	return input
}

func TestExternalClientSecret(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		folder := w.sources(t)
		put(t, folder, "google.json", `{"clientSecret":"`+clientSecret+`","other":"canary-other"}`)
		w.workload(t, "reader", returnURL)
		made, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{
			Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: externally(w.idp, "files/google.json", "clientSecret"),
		})
		if err != nil {
			t.Fatal(err)
		}
		const arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:files/google.json"
		if made.ClientSecretArn.SecretArn != arn || made.ClientSecretSource != api.SecretSourceTypeExternal || made.ClientSecretJsonKey == nil || *made.ClientSecretJsonKey != "clientSecret" {
			t.Errorf("got %+v", made)
		}

		// Each flow proves itself with what lies there.
		caller := w.consented(t, "reader", "ada", ask("profile"))
		w.m2m(t, caller, TokenRequest{ProviderName: "google", Scopes: []string{"read"}})
		w.later(2 * 3600e9)
		w.token(t, caller, ask("profile")) // a refresh
		if refreshes, _ := w.idp.counts(); refreshes != 1 {
			t.Errorf("%d refreshes", refreshes)
		}
		w.noCanaries(t)

		// What is shown can be given back, and grants stay.
		updated, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{
			Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: externally(w.idp, arn, *made.ClientSecretJsonKey),
		})
		if err != nil || updated.ClientSecretArn.SecretArn != arn {
			t.Fatalf("got %+v, %v", updated, err)
		}
		w.token(t, caller, ask("profile"))

		// Back to a secret that is sealed here, and elsewhere once more.
		back, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: custom(w.idp, "client")})
		if err != nil || back.ClientSecretSource != api.SecretSourceTypeManaged || back.ClientSecretJsonKey != nil || !strings.Contains(back.ClientSecretArn.SecretArn, "default/oauth2/google-") {
			t.Fatalf("got %+v, %v", back, err)
		}
		shown, err := w.GetOauth2CredentialProvider(t.Context(), root, &api.GetOauth2CredentialProviderRequest{Name: "google"})
		if diff := cmp.Diff(back.ClientSecretArn, shown.ClientSecretArn); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	})
}

func TestExternalSecretThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	folder := w.sources(t)
	w.workload(t, "agent", returnURL)
	put(t, folder, "google.json", `{"clientSecret":"`+clientSecret+`"}`)
	put(t, folder, "long.json", `{"clientSecret":"`+strings.Repeat("canary", 400)+`"}`)
	create := func(input *api.Oauth2ProviderConfigInput) error {
		_, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input})
		return err
	}
	for id, why := range map[string]string{
		"files/nobody": "none of that name", "files/long.json": "longer than 2048", "theirs/google.json": "No source", "files/../google.json": "must be SOURCE/PATH",
		"arn:aws:secretsmanager:us-east-1:111111111111:secret:theirs/google.json": "No source",
	} {
		err := create(externally(w.idp, id, "clientSecret"))
		wantFault(t, err, fault.Invalid, why)
		if fields := fault.Of(err).Fields; len(fields) != 1 || fields[0].Name != memberCustom+".clientSecretConfig" {
			t.Errorf("%s: %v", id, fields)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", id, err)
		}
	}
	both := externally(w.idp, "files/google.json", "clientSecret")
	both.CustomOauth2ProviderConfig.ClientSecret = secret.Pointer(clientSecret)
	wantFault(t, create(both), fault.Invalid, "either given or EXTERNAL")

	// Taken away later: a clear error, no request to the provider, and nobody loses the way.
	if err := create(externally(w.idp, "files/google.json", "clientSecret")); err != nil {
		t.Fatal(err)
	}
	caller := w.as(t, "agent", "ada")
	link := w.link(t, caller, ask("profile"))
	w.goThrough(t, newBrowser("ada"), link)
	if err := os.Remove(filepath.Join(folder, "google.json")); err != nil {
		t.Fatal(err)
	}
	w.sources(t) // forgets what was read
	_, before := w.idp.counts()
	err := w.completeAs(t.Context(), link, byID("ada"))
	wantFault(t, err, fault.Invalid, "files/google.json cannot be read")
	_, err = w.ClientToken(t.Context(), caller, TokenRequest{ProviderName: "google"})
	wantFault(t, err, fault.Invalid, "files/google.json cannot be read")
	if _, after := w.idp.counts(); after != before {
		t.Errorf("%d requests reached the provider", after-before)
	}
	put(t, w.sources(t), "google.json", `{"clientSecret":"`+clientSecret+`"}`)
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Errorf("the code was lost: %v", err)
	}
}

func TestExternalAPIKey(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		folder := w.sources(t)
		put(t, folder, "weather", "canary-weather\n")
		made, err := w.CreateApiKeyCredentialProvider(t.Context(), root, &api.CreateApiKeyCredentialProviderRequest{
			Name: "weather", ApiKeySecretSource: api.SecretSourceTypeExternal, ApiKeySecretConfig: &api.SecretReference{SecretId: "files/weather", JsonKey: external.WholeValue},
		})
		if err != nil || made.ApiKeySecretArn.SecretArn != "arn:aws:secretsmanager:us-east-1:000000000000:secret:files/weather" || *made.ApiKeySecretJsonKey != "$" || made.ApiKeySecretSource != api.SecretSourceTypeExternal {
			t.Fatalf("got %+v, %v", made, err)
		}
		get := func() (string, error) {
			response, err := w.GetResourceApiKey(t.Context(), w.alone(t, "agent"), &api.GetResourceApiKeyRequest{ResourceCredentialProviderName: "weather"})
			if err != nil {
				return "", err
			}
			return response.ApiKey.Reveal(), nil
		}
		if key, err := get(); key != "canary-weather" || err != nil {
			t.Errorf("got %q, %v", key, err)
		}
		w.noCanaries(t)
		put(t, w.sources(t), "weather", "canary-rotated") // elsewhere, and nothing of the old one is remembered
		if key, err := get(); key != "canary-rotated" || err != nil {
			t.Errorf("got %q, %v", key, err)
		}
		w.sources(t)
		_, err = get()
		wantFault(t, err, fault.Invalid, "files/weather cannot be read")
		shown, err := w.GetApiKeyCredentialProvider(t.Context(), root, &api.GetApiKeyCredentialProviderRequest{Name: "weather"})
		if err != nil || shown.ApiKeySecretArn.SecretArn != made.ApiKeySecretArn.SecretArn || *shown.ApiKeySecretJsonKey != "$" {
			t.Errorf("got %+v, %v", shown, err)
		}
		updated, err := w.UpdateApiKeyCredentialProvider(t.Context(), root, &api.UpdateApiKeyCredentialProviderRequest{Name: "weather", ApiKey: secret.Pointer("canary-sealed")})
		if err != nil || updated.ApiKeySecretSource != api.SecretSourceTypeManaged || updated.ApiKeySecretJsonKey != nil {
			t.Fatalf("got %+v, %v", updated, err)
		}
		if key, err := get(); key != "canary-sealed" || err != nil {
			t.Errorf("got %q, %v", key, err)
		}
	})
}

// Vendors' clients may have their secret elsewhere as well.
func TestExternalSecretOfEveryVendor(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	put(t, w.sources(t), "secret", "canary-of-the-vendor")
	reference := &api.SecretReference{SecretId: "files/secret", JsonKey: external.WholeValue}
	for vendor := range everyVendor {
		input := ofVendor(vendor, "client", nil)
		union := reflect.ValueOf(input).Elem()
		for i := range union.NumField() {
			if member := union.Field(i); !member.IsNil() {
				member.Elem().FieldByName("ClientSecretSource").SetString(string(api.SecretSourceTypeExternal))
				member.Elem().FieldByName("ClientSecretConfig").Set(reflect.ValueOf(reference))
			}
		}
		if input.IncludedOauth2ProviderConfig != nil {
			at(input, w.idp.URL)
		}
		made, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: string(vendor), CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: input})
		if err != nil || made.ClientSecretSource != api.SecretSourceTypeExternal || made.ClientSecretArn.SecretArn != "arn:aws:secretsmanager:us-east-1:000000000000:secret:files/secret" || *made.ClientSecretJsonKey != "$" {
			t.Errorf("%s: %+v, %v", vendor, made, err)
			continue
		}
		var server oauth.Server
		err = w.db.View(t.Context(), func(tx *store.Tx) error {
			p, err := w.providerByName(tx, account, string(vendor))
			if err == nil {
				server, err = w.client(t.Context(), p)
			}
			return err
		})
		if err != nil || server.ClientSecret.Reveal() != "canary-of-the-vendor" {
			t.Errorf("%s: %v", vendor, err)
		}
	}
	w.noCanaries(t)
}

// A refresh that lacks its client's secret loses nothing: the grant waits for it.
func TestGrantOutlivesItsClientsSecret(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	folder := w.sources(t)
	put(t, folder, "google.json", `{"clientSecret":"`+clientSecret+`"}`)
	w.workload(t, "agent", returnURL)
	if _, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: externally(w.idp, "files/google.json", "clientSecret")}); err != nil {
		t.Fatal(err)
	}
	caller := w.consented(t, "agent", "ada", ask("profile"))
	w.later(2 * time.Hour)
	w.sources(t) // an empty folder
	_, before := w.idp.counts()
	_, err := w.UserToken(t.Context(), caller, ask("profile"))
	wantFault(t, err, fault.Invalid, "files/google.json cannot be read")
	if _, after := w.idp.counts(); after != before {
		t.Error("the provider was asked")
	}
	put(t, w.sources(t), "google.json", `{"clientSecret":"`+clientSecret+`"}`)
	w.later(time.Hour) // whatever the back-off is
	w.token(t, caller, ask("profile"))
}
