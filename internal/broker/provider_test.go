package broker

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

func pointer[T any](value T) *T { return &value }

func TestGoogle(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	input := &api.Oauth2ProviderConfigInput{GoogleOauth2ProviderConfig: &api.GoogleOauth2ProviderConfigInput{ClientId: "client.apps", ClientSecret: secret.Pointer(clientSecret)}}
	made, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{
		Name: "my-google", CredentialProviderVendor: api.CredentialProviderVendorTypeGoogleOauth2, Oauth2ProviderConfigInput: input, Tags: map[string]string{"team": "blue"},
	})
	if err != nil {
		t.Fatal(err)
	}
	secretARN := made.ClientSecretArn.SecretArn
	if !regexp.MustCompile(`^arn:aws:secretsmanager:us-east-1:000000000000:secret:bedrock-agentcore-identity!default/oauth2/my-google-[A-Z0-9]{6}$`).MatchString(secretARN) {
		t.Errorf("secret ARN %s", secretARN)
	}
	if !regexp.MustCompile(`^` + publicURL + `/identities/oauth2/callback/[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(*made.CallbackUrl) {
		t.Errorf("callback URL %s", *made.CallbackUrl)
	}
	config := &api.Oauth2ProviderConfigOutput{GoogleOauth2ProviderConfig: &api.GoogleOauth2ProviderConfigOutput{
		ClientId: pointer("client.apps"), OauthDiscovery: &api.Oauth2Discovery{DiscoveryUrl: pointer("https://accounts.google.com/.well-known/openid-configuration")},
	}}
	want := &api.CreateOauth2CredentialProviderResponse{
		Name: "my-google", CredentialProviderArn: "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/oauth2credentialprovider/my-google",
		ClientSecretArn: made.ClientSecretArn, ClientSecretSource: api.SecretSourceTypeManaged, CallbackUrl: made.CallbackUrl, Oauth2ProviderConfigOutput: config, Status: api.StatusReady,
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("create (-want +got):\n%s", diff)
	}
	if strings.Contains(string(made.AppendJSON(nil)), clientSecret) {
		t.Error("the secret was echoed")
	}
	w.noCanaries(t)

	_, err = w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "my-google", CredentialProviderVendor: api.CredentialProviderVendorTypeGoogleOauth2, Oauth2ProviderConfigInput: input})
	wantFault(t, err, fault.Conflict, "already exists")

	// A full replacement, by another vendor even; what clients registered elsewhere stays.
	updated, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{
		Name: "my-google", CredentialProviderVendor: api.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: custom(w.idp, "other"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if *updated.CallbackUrl != *made.CallbackUrl || updated.ClientSecretArn.SecretArn != secretARN || updated.CredentialProviderVendor != api.CredentialProviderVendorTypeCustomOauth2 {
		t.Errorf("after the update: %+v", updated)
	}
	shown, err := w.GetOauth2CredentialProvider(t.Context(), root, &api.GetOauth2CredentialProviderRequest{Name: "my-google"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&api.Oauth2ProviderConfigOutput{CustomOauth2ProviderConfig: &api.CustomOauth2ProviderConfigOutput{
		ClientId: pointer("other"), OauthDiscovery: &api.Oauth2Discovery{DiscoveryUrl: pointer(w.idp.discovery())}, ClientAuthenticationMethod: api.ClientAuthenticationMethodTypeClientSecretBasic,
	}}, shown.Oauth2ProviderConfigOutput); diff != "" {
		t.Errorf("get (-want +got):\n%s", diff)
	}
	if shown.CreatedTime.IsZero() || shown.LastUpdatedTime.Before(shown.CreatedTime.Time) {
		t.Errorf("times %v, %v", shown.CreatedTime, shown.LastUpdatedTime)
	}

	// Deleted and made again, it has the same callback URL, and is another provider.
	for range 2 {
		_, err = w.DeleteOauth2CredentialProvider(t.Context(), root, &api.DeleteOauth2CredentialProviderRequest{Name: "my-google"})
	}
	wantFault(t, err, fault.NotFound, "my-google not found")
	again := w.provider(t, "my-google", w.idp)
	if *again.CallbackUrl != *made.CallbackUrl || again.ClientSecretArn.SecretArn == secretARN {
		t.Errorf("made again: %+v", again)
	}
	if callbackID(other, "my-google") == callbackID(account, "my-google") || callbackID(account, "my-google2") == callbackID(account, "my-google") {
		t.Error("two providers share a callback")
	}
}

func TestProvidersOfAnotherAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := principal.Caller{Kind: principal.Key, Account: other, Root: true}
	_, err := w.GetOauth2CredentialProvider(t.Context(), stranger, &api.GetOauth2CredentialProviderRequest{Name: "google"})
	wantFault(t, err, fault.NotFound, "google not found")
	_, err = w.DeleteOauth2CredentialProvider(t.Context(), stranger, &api.DeleteOauth2CredentialProviderRequest{Name: "google"})
	wantFault(t, err, fault.NotFound, "google not found")
	_, err = w.UpdateOauth2CredentialProvider(t.Context(), stranger, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: custom(w.idp, "client")})
	wantFault(t, err, fault.NotFound, "google not found")
	page, err := w.ListOauth2CredentialProviders(t.Context(), stranger, &api.ListOauth2CredentialProvidersRequest{})
	if err != nil || len(page.CredentialProviders) != 0 {
		t.Errorf("another account sees %v, %v", page, err)
	}
}

func TestProviderByARN(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arn := api.Oauth2CredentialProviderARN("us-east-1", account, "google")
	find := func(account, arn string) (p Provider, err error) {
		err = w.db.View(t.Context(), func(tx *store.Tx) error { p, err = w.ProviderByARN(tx, account, arn); return err })
		return p, err
	}
	if p, err := find(account, arn); err != nil || p.ARN != arn || p.Name != "google" || p.ID == "" {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, wrong := range []string{
		"", "google", api.ApiKeyCredentialProviderARN("us-east-1", account, "google"), api.Oauth2CredentialProviderARN("eu-west-1", account, "google"),
		api.Oauth2CredentialProviderARN("us-east-1", other, "google"), api.Oauth2CredentialProviderARN("us-east-1", account, "nobody"),
	} {
		_, err := find(account, wrong)
		wantFault(t, err, fault.NotFound, "not found")
	}
	_, err := find(other, api.Oauth2CredentialProviderARN("us-east-1", other, "google"))
	wantFault(t, err, fault.NotFound, "not found")
}

func TestListOfProviders(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	for i := range 21 {
		w.provider(t, fmt.Sprintf("p%02d", i), w.idp)
	}
	page, err := w.ListOauth2CredentialProviders(t.Context(), root, &api.ListOauth2CredentialProvidersRequest{})
	if err != nil || len(page.CredentialProviders) != 20 || page.NextToken == nil {
		t.Fatalf("the first page has %d, %v", len(page.CredentialProviders), err)
	}
	rest, err := w.ListOauth2CredentialProviders(t.Context(), root, &api.ListOauth2CredentialProvidersRequest{NextToken: page.NextToken, MaxResults: pointer(int32(1))})
	if err != nil || len(rest.CredentialProviders) != 1 || rest.NextToken != nil || rest.CredentialProviders[0].Name != "p20" || rest.CredentialProviders[0].CredentialProviderVendor != vendorCustom {
		t.Errorf("the last page is %+v, %v", rest, err)
	}
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*api.CustomOauth2ProviderConfigInput)
		basic  bool
	}{
		"default":               {func(*api.CustomOauth2ProviderConfigInput) {}, true},
		"CLIENT_SECRET_BASIC":   {func(c *api.CustomOauth2ProviderConfigInput) { c.ClientAuthenticationMethod = "CLIENT_SECRET_BASIC" }, true},
		"CLIENT_SECRET_POST":    {func(c *api.CustomOauth2ProviderConfigInput) { c.ClientAuthenticationMethod = "CLIENT_SECRET_POST" }, false},
		"deprecated post":       {methods("client_secret_post"), false},
		"deprecated basic":      {methods("client_secret_basic"), true},
		"deprecated, both ways": {methods("client_secret_post", "client_secret_basic"), true},
	} {
		w := newBareWorld(t)
		w.workload(t, "agent", returnURL)
		input := explicit(w.idp.URL, w.idp.URL+"/authorize", w.idp.URL+"/token", "client", clientSecret)
		c.change(input.CustomOauth2ProviderConfig)
		made, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.consented(t, "agent", "ada", ask("profile"))
		if sent := w.idp.everSent(clientSecret); sent == c.basic {
			t.Errorf("%s: the secret was in the form: %v", name, sent)
		}
		// What Get shows can be given to Update.
		out := made.Oauth2ProviderConfigOutput.CustomOauth2ProviderConfig
		update(t, w, &api.Oauth2ProviderConfigInput{CustomOauth2ProviderConfig: &api.CustomOauth2ProviderConfigInput{
			OauthDiscovery: out.OauthDiscovery, ClientId: out.ClientId, ClientAuthenticationMethod: out.ClientAuthenticationMethod, ClientSecret: secret.Pointer(clientSecret),
		}})
		w.token(t, w.as(t, "agent", "ada"), ask("profile"))
	}
}

func methods(names ...string) func(*api.CustomOauth2ProviderConfigInput) {
	return func(c *api.CustomOauth2ProviderConfigInput) {
		c.OauthDiscovery.AuthorizationServerMetadata.TokenEndpointAuthMethods = names
	}
}

func TestAuthorizationServerMetadataByRFC8414(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent", returnURL)
	input := custom(w.idp, "client")
	input.CustomOauth2ProviderConfig.OauthDiscovery.DiscoveryUrl = pointer(w.idp.URL + "/.well-known/oauth-authorization-server")
	if _, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input}); err != nil {
		t.Fatal(err)
	}
	w.consented(t, "agent", "ada", ask("profile"))
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	with := func(change func(*api.CustomOauth2ProviderConfigInput)) *api.Oauth2ProviderConfigInput {
		input := explicit(w.idp.URL, w.idp.URL+"/authorize", w.idp.URL+"/token", "client", clientSecret)
		change(input.CustomOauth2ProviderConfig)
		return input
	}
	metadata := func(change func(*api.Oauth2AuthorizationServerMetadata)) *api.Oauth2ProviderConfigInput {
		return with(func(c *api.CustomOauth2ProviderConfigInput) {
			change(c.OauthDiscovery.AuthorizationServerMetadata)
		})
	}
	discovery := func(url string) *api.Oauth2ProviderConfigInput {
		return with(func(c *api.CustomOauth2ProviderConfigInput) {
			c.OauthDiscovery = &api.Oauth2Discovery{DiscoveryUrl: &url}
		})
	}
	type input = api.CustomOauth2ProviderConfigInput
	for name, c := range map[string]struct {
		vendor api.CredentialProviderVendorType
		input  *api.Oauth2ProviderConfigInput
		kind   fault.Kind
		text   string
	}{
		"another vendor's part":  {"GoogleOauth2", custom(w.idp, "client"), fault.Invalid, "not the one of the vendor GoogleOauth2"},
		"external secret":        {vendorCustom, with(func(c *input) { c.ClientSecretSource = api.SecretSourceTypeExternal }), fault.Invalid, "needs clientSecretConfig"},
		"external reference":     {vendorCustom, with(func(c *input) { c.ClientSecretConfig = &api.SecretReference{SecretId: "x", JsonKey: "y"} }), fault.Invalid, "clientSecretSource EXTERNAL"},
		"private key":            {vendorCustom, with(func(c *input) { c.ClientAuthenticationMethod = api.ClientAuthenticationMethodTypePrivateKeyJwt }), fault.Invalid, "has no clientSecret"},
		"AWS identity token":     {vendorCustom, with(func(c *input) { c.ClientAuthenticationMethod = api.ClientAuthenticationMethodTypeAwsIamIdTokenJwt }), fault.NotBuilt, "AWS_IAM_ID_TOKEN_JWT"},
		"private key settings":   {vendorCustom, with(func(c *input) { c.PrivateKeyJwtConfig = &api.PrivateKeyJwtConfig{} }), fault.Invalid, "privateKeyJwtConfig belongs"},
		"no client id":           {vendorCustom, with(func(c *input) { c.ClientId = nil }), fault.Invalid, "clientId"},
		"no secret":              {vendorCustom, with(func(c *input) { c.ClientSecret = nil }), fault.Invalid, "clientSecret"},
		"empty secret":           {vendorCustom, with(func(c *input) { c.ClientSecret = secret.Pointer("") }), fault.Invalid, "clientSecret"},
		"both methods":           {vendorCustom, with(func(c *input) { methods("client_secret_post")(c); c.ClientAuthenticationMethod = "CLIENT_SECRET_POST" }), fault.Invalid, "cannot be given together"},
		"no code flow":           {vendorCustom, metadata(func(m *api.Oauth2AuthorizationServerMetadata) { m.ResponseTypes = []string{"token"} }), fault.Invalid, "responseTypes"},
		"no issuer":              {vendorCustom, metadata(func(m *api.Oauth2AuthorizationServerMetadata) { m.Issuer = "" }), fault.Invalid, "issuer"},
		"no token endpoint":      {vendorCustom, metadata(func(m *api.Oauth2AuthorizationServerMetadata) { m.TokenEndpoint = "" }), fault.Invalid, "missing"},
		"plain http":             {vendorCustom, metadata(func(m *api.Oauth2AuthorizationServerMetadata) { m.TokenEndpoint = "http://idp.example/token" }), fault.Invalid, "https"},
		"metadata service":       {vendorCustom, metadata(func(m *api.Oauth2AuthorizationServerMetadata) { m.TokenEndpoint = "https://169.254.169.254/token" }), fault.Invalid, "not allowed"},
		"private authorization":  {vendorCustom, metadata(func(m *api.Oauth2AuthorizationServerMetadata) { m.AuthorizationEndpoint = "javascript:alert(1)" }), fault.Invalid, "authorization endpoint"},
		"user in URL":            {vendorCustom, metadata(func(m *api.Oauth2AuthorizationServerMetadata) { m.TokenEndpoint = "https://a:b@idp.example/token" }), fault.Invalid, "user name"},
		"private discovery":      {vendorCustom, discovery("https://10.0.0.1/.well-known/openid-configuration"), fault.Invalid, "discoveryUrl"},
		"discovery without host": {vendorCustom, discovery("https:///.well-known/openid-configuration"), fault.Invalid, "discoveryUrl"},
	} {
		_, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "p", CredentialProviderVendor: c.vendor, Oauth2ProviderConfigInput: c.input})
		if !fault.Is(err, c.kind) || !strings.Contains(fault.Of(err).Message, c.text) || strings.Contains(fmt.Sprint(err), clientSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.provider(t, "google", w.idp)
	_, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{
		Name: "google", CredentialProviderVendor: vendorCustom,
		Oauth2ProviderConfigInput: metadata(func(m *api.Oauth2AuthorizationServerMetadata) { m.TokenEndpoint = "https://169.254.169.254/token" }),
	})
	wantFault(t, err, fault.Invalid, "not allowed")
	if n := w.count(t, `SELECT COUNT(*) FROM oauth2_providers`); n != 1 {
		t.Errorf("%d providers are stored", n)
	}
}
