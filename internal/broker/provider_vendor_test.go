package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// everyVendor are the API's, apart from Custom, each with the member of the union that is its own.
var everyVendor = map[api.CredentialProviderVendorType]string{
	"GoogleOauth2": "google", "GithubOauth2": "github", "SlackOauth2": "slack", "SalesforceOauth2": "salesforce", "MicrosoftOauth2": "microsoft",
	"AtlassianOauth2": "atlassian", "LinkedinOauth2": "linkedin", "XOauth2": "", "OktaOauth2": "", "OneLoginOauth2": "", "PingOneOauth2": "",
	"FacebookOauth2": "", "YandexOauth2": "", "RedditOauth2": "", "ZoomOauth2": "", "TwitchOauth2": "", "SpotifyOauth2": "", "DropboxOauth2": "",
	"NotionOauth2": "", "HubspotOauth2": "", "CyberArkOauth2": "", "FusionAuthOauth2": "", "Auth0Oauth2": "", "CognitoOauth2": "",
}

// ofVendor is a configuration of the vendor's own member.
func ofVendor(vendor api.CredentialProviderVendorType, clientID string, clientSecret *secret.Text) *api.Oauth2ProviderConfigInput {
	switch everyVendor[vendor] {
	case "google":
		return &api.Oauth2ProviderConfigInput{GoogleOauth2ProviderConfig: &api.GoogleOauth2ProviderConfigInput{ClientId: clientID, ClientSecret: clientSecret}}
	case "github":
		return &api.Oauth2ProviderConfigInput{GithubOauth2ProviderConfig: &api.GithubOauth2ProviderConfigInput{ClientId: clientID, ClientSecret: clientSecret}}
	case "slack":
		return &api.Oauth2ProviderConfigInput{SlackOauth2ProviderConfig: &api.SlackOauth2ProviderConfigInput{ClientId: clientID, ClientSecret: clientSecret}}
	case "salesforce":
		return &api.Oauth2ProviderConfigInput{SalesforceOauth2ProviderConfig: &api.SalesforceOauth2ProviderConfigInput{ClientId: clientID, ClientSecret: clientSecret}}
	case "microsoft":
		return &api.Oauth2ProviderConfigInput{MicrosoftOauth2ProviderConfig: &api.MicrosoftOauth2ProviderConfigInput{ClientId: clientID, ClientSecret: clientSecret}}
	case "atlassian":
		return &api.Oauth2ProviderConfigInput{AtlassianOauth2ProviderConfig: &api.AtlassianOauth2ProviderConfigInput{ClientId: clientID, ClientSecret: clientSecret}}
	case "linkedin":
		return &api.Oauth2ProviderConfigInput{LinkedinOauth2ProviderConfig: &api.LinkedinOauth2ProviderConfigInput{ClientId: clientID, ClientSecret: clientSecret}}
	}
	return &api.Oauth2ProviderConfigInput{IncludedOauth2ProviderConfig: &api.IncludedOauth2ProviderConfigInput{ClientId: clientID, ClientSecret: clientSecret}}
}

// at gives an included vendor's configuration the three addresses of a server.
func at(input *api.Oauth2ProviderConfigInput, server string) *api.Oauth2ProviderConfigInput {
	in := input.IncludedOauth2ProviderConfig
	in.Issuer, in.AuthorizationEndpoint, in.TokenEndpoint = pointer(server), pointer(server+"/authorize"), pointer(server+"/token")
	return input
}

// shownBy reads the vendor's member of an output, whichever it is.
func shownBy(t *testing.T, out *api.Oauth2ProviderConfigOutput) (member string, discovery *api.Oauth2Discovery, clientID string) {
	t.Helper()
	found := 0
	take := func(name string, d *api.Oauth2Discovery, id *string) {
		found++
		member, discovery, clientID = name, d, *id
	}
	if o := out.GoogleOauth2ProviderConfig; o != nil {
		take("google", o.OauthDiscovery, o.ClientId)
	}
	if o := out.GithubOauth2ProviderConfig; o != nil {
		take("github", o.OauthDiscovery, o.ClientId)
	}
	if o := out.SlackOauth2ProviderConfig; o != nil {
		take("slack", o.OauthDiscovery, o.ClientId)
	}
	if o := out.SalesforceOauth2ProviderConfig; o != nil {
		take("salesforce", o.OauthDiscovery, o.ClientId)
	}
	if o := out.MicrosoftOauth2ProviderConfig; o != nil {
		take("microsoft", o.OauthDiscovery, o.ClientId)
	}
	if o := out.AtlassianOauth2ProviderConfig; o != nil {
		take("atlassian", o.OauthDiscovery, o.ClientId)
	}
	if o := out.LinkedinOauth2ProviderConfig; o != nil {
		take("linkedin", o.OauthDiscovery, o.ClientId)
	}
	if o := out.IncludedOauth2ProviderConfig; o != nil {
		take("", o.OauthDiscovery, o.ClientId)
	}
	if found != 1 {
		t.Fatalf("%d members of the union are set", found)
	}
	return member, discovery, clientID
}

func TestEveryVendor(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for vendor, member := range everyVendor {
			row, known := oauth.VendorOf(string(vendor))
			if !known {
				t.Errorf("%s has no row", vendor)
				continue
			}
			input := ofVendor(vendor, "client-of-"+string(vendor), secret.Pointer(clientSecret))
			if row.Tenanted {
				at(input, w.idp.URL)
			}
			made, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: string(vendor), CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: input})
			if err != nil {
				t.Errorf("%s: %v", vendor, err)
				continue
			}
			got, discovery, id := shownBy(t, made.Oauth2ProviderConfigOutput)
			if got != member || id != "client-of-"+string(vendor) || strings.Contains(string(made.AppendJSON(nil)), clientSecret) {
				t.Errorf("%s: shown as %q, client %s", vendor, got, id)
			}
			switch {
			case discovery.DiscoveryUrl != nil:
				if *discovery.DiscoveryUrl != row.DiscoveryURL || strings.Contains(row.DiscoveryURL, "{") {
					t.Errorf("%s: discovery URL %s", vendor, *discovery.DiscoveryUrl)
				}
			case discovery.AuthorizationServerMetadata == nil:
				t.Errorf("%s: no metadata is shown", vendor)
			default:
				m := discovery.AuthorizationServerMetadata
				for _, url := range []string{m.AuthorizationEndpoint, m.TokenEndpoint} { // Microsoft's issuer for all tenants is a template
					if !strings.HasPrefix(url, "http") || strings.Contains(url, "{") || m.Issuer == "" {
						t.Errorf("%s: metadata %+v", vendor, m)
					}
				}
			}
			shown, err := w.GetOauth2CredentialProvider(t.Context(), root, &api.GetOauth2CredentialProviderRequest{Name: string(vendor)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(made.Oauth2ProviderConfigOutput, shown.Oauth2ProviderConfigOutput); diff != "" || shown.CredentialProviderVendor != vendor {
				t.Errorf("%s: get shows another one:\n%s", vendor, diff)
			}
			if _, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: string(vendor), CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: input}); err != nil {
				t.Errorf("%s: update: %v", vendor, err)
			}
		}
		w.noCanaries(t)
	})
}

func TestMicrosoftTenant(t *testing.T) {
	t.Parallel()
	if row, known := oauth.VendorOf("MicrosoftOauth2"); !known || row.DefaultTenant == "" {
		t.Fatal("Microsoft has no tenants")
	}
	w := newBareWorld(t)
	for i, c := range []struct {
		tenant *string
		want   string
	}{{nil, "https://login.microsoftonline.com/common/"}, {pointer("contoso.onmicrosoft.com"), "https://login.microsoftonline.com/contoso.onmicrosoft.com/"}} {
		input := ofVendor("MicrosoftOauth2", "client", secret.Pointer(clientSecret))
		input.MicrosoftOauth2ProviderConfig.TenantId = c.tenant
		made, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: fmt.Sprint("ms", i), CredentialProviderVendor: "MicrosoftOauth2", Oauth2ProviderConfigInput: input})
		if err != nil {
			t.Fatal(err)
		}
		m := made.Oauth2ProviderConfigOutput.MicrosoftOauth2ProviderConfig.OauthDiscovery.AuthorizationServerMetadata
		if m == nil || !strings.HasPrefix(m.AuthorizationEndpoint, c.want) || !strings.HasPrefix(m.TokenEndpoint, c.want) {
			t.Errorf("the metadata is %+v, want endpoints below %s", m, c.want)
		}
	}
	for _, tenant := range []string{"../evil", "a/b", "evil.example#", "a b", "{tenant}", "x?y"} {
		input := ofVendor("MicrosoftOauth2", "client", secret.Pointer(clientSecret))
		input.MicrosoftOauth2ProviderConfig.TenantId = &tenant
		_, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "bad", CredentialProviderVendor: "MicrosoftOauth2", Oauth2ProviderConfigInput: input})
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("tenant %q: %v", tenant, err)
		}
	}
}

// A vendor with an address per customer goes the whole way to a token at the address that was given.
func TestConsentAtATenantedVendor(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent", returnURL)
	if _, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{
		Name: "google", CredentialProviderVendor: "OktaOauth2", Oauth2ProviderConfigInput: at(ofVendor("OktaOauth2", "client", secret.Pointer(clientSecret)), w.idp.URL),
	}); err != nil {
		t.Fatal(err)
	}
	ada := w.consented(t, "agent", "ada", ask("profile"))
	if token := w.token(t, ada, ask("profile")); !strings.HasPrefix(token, "canary-access-ada-") {
		t.Errorf("got %s", token)
	}
	link := w.link(t, w.as(t, "agent", "bob"), ask("profile"))
	if title := w.open(t, newBrowser("bob"), link).ProviderTitle; title != "Okta" {
		t.Errorf("the page calls the provider %q", title)
	}
}

func TestVendorConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	type included = api.IncludedOauth2ProviderConfigInput
	okta := func(change func(*included)) *api.Oauth2ProviderConfigInput {
		input := at(ofVendor("OktaOauth2", "client", secret.Pointer(clientSecret)), "https://tenant.okta.com")
		change(input.IncludedOauth2ProviderConfig)
		return input
	}
	x := func(change func(*included)) *api.Oauth2ProviderConfigInput {
		input := ofVendor("XOauth2", "client", secret.Pointer(clientSecret))
		change(input.IncludedOauth2ProviderConfig)
		return input
	}
	for name, c := range map[string]struct {
		vendor api.CredentialProviderVendorType
		input  *api.Oauth2ProviderConfigInput
		kind   fault.Kind
		text   string
	}{
		"another vendor's member":   {"SlackOauth2", ofVendor("GithubOauth2", "client", secret.Pointer(clientSecret)), fault.Invalid, "not the one of the vendor SlackOauth2"},
		"included for a named one":  {"GithubOauth2", okta(func(*included) {}), fault.Invalid, "not the one of the vendor GithubOauth2"},
		"named for an included one": {"ZoomOauth2", ofVendor("GithubOauth2", "client", secret.Pointer(clientSecret)), fault.Invalid, "not the one of the vendor ZoomOauth2"},
		"custom for a vendor":       {"OktaOauth2", custom(w.idp, "client"), fault.Invalid, "not the one of the vendor OktaOauth2"},
		"no secret":                 {"XOauth2", ofVendor("XOauth2", "client", nil), fault.Invalid, "includedOauth2ProviderConfig.clientSecret"},
		"no client":                 {"SlackOauth2", ofVendor("SlackOauth2", "", secret.Pointer(clientSecret)), fault.Invalid, "slackOauth2ProviderConfig.clientId"},
		"external":                  {"XOauth2", x(func(c *included) { c.ClientSecretSource = api.SecretSourceTypeExternal }), fault.Invalid, "needs clientSecretConfig"},
		"no issuer":                 {"OktaOauth2", okta(func(c *included) { c.Issuer = nil }), fault.Invalid, "issuer"},
		"no authorization endpoint": {"OktaOauth2", okta(func(c *included) { c.AuthorizationEndpoint = nil }), fault.Invalid, "authorizationEndpoint"},
		"no token endpoint":         {"OktaOauth2", okta(func(c *included) { c.TokenEndpoint = nil }), fault.Invalid, "tokenEndpoint"},
		"empty token endpoint":      {"OktaOauth2", okta(func(c *included) { c.TokenEndpoint = pointer("") }), fault.Invalid, "missing"},
		"private token endpoint":    {"OktaOauth2", okta(func(c *included) { c.TokenEndpoint = pointer("https://169.254.169.254/token") }), fault.Invalid, "not allowed"},
		"plain http":                {"OktaOauth2", okta(func(c *included) { c.TokenEndpoint = pointer("http://tenant.okta.com/token") }), fault.Invalid, "https"},
		"script":                    {"OktaOauth2", okta(func(c *included) { c.AuthorizationEndpoint = pointer("javascript:alert(1)") }), fault.Invalid, "authorizationEndpoint"},
		"private where none needed": {"XOauth2", x(func(c *included) { c.TokenEndpoint = pointer("https://10.0.0.1/token") }), fault.Invalid, "not allowed"},
	} {
		_, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "p", CredentialProviderVendor: c.vendor, Oauth2ProviderConfigInput: c.input})
		text := ""
		if err != nil {
			text = fault.Of(err).Message + " " + fmt.Sprint(fault.Of(err).Fields)
		}
		if !fault.Is(err, c.kind) || !strings.Contains(text, c.text) || strings.Contains(fmt.Sprint(err), clientSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := w.count(t, `SELECT COUNT(*) FROM oauth2_providers`); n != 0 {
		t.Errorf("%d providers are stored", n)
	}
}
