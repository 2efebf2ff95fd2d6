package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/server"
)

type providersCmd struct {
	List    providersListCmd    `cmd:"" help:"List credential providers: OAuth2 clients and API keys." example:"onbehalf providers list --type oauth2"`
	Show    providersShowCmd    `cmd:"" help:"Show one; never its secret." example:"onbehalf providers show google"`
	Create  providersCreateCmd  `cmd:"" help:"Make one: the platform's client at an OAuth2 vendor, or an API key."`
	Update  providersUpdateCmd  `cmd:"" help:"Give one another client, secret, key or address."`
	Delete  providersDeleteCmd  `cmd:"" help:"Delete one, with everything users granted through it." example:"onbehalf providers delete google"`
	Vendors providersVendorsCmd `cmd:"" help:"List the OAuth2 vendors, and what each one needs." example:"onbehalf providers vendors"`
}

// Help is shown below the commands of providers.
func (providersCmd) Help() string {
	return `Examples:
  onbehalf providers create google      # prints its callback URL
  onbehalf providers update google --client-id 123 --client-secret-file secret
  onbehalf providers create custom --name people \
    --discovery-url https://id.example.com/.well-known/openid-configuration
  onbehalf providers create api-key --name openai --api-key-file key
Secrets are read from files, from standard input (-) or from the keyboard.`
}

// The two kinds of credential provider. Their names are two worlds: there may be one of each called the same.
const (
	kindOAuth2 = "oauth2"
	kindAPIKey = "api-key"
)

// provider is a credential provider in JSON.
type provider struct {
	Name                  string     `json:"name"`
	Type                  string     `json:"type"`
	Vendor                string     `json:"vendor,omitempty"`
	ARN                   string     `json:"arn"`
	ClientID              string     `json:"clientId,omitempty"`
	CallbackURL           string     `json:"callbackUrl,omitempty"`
	DiscoveryURL          string     `json:"discoveryUrl,omitempty"`
	Issuer                string     `json:"issuer,omitempty"`
	AuthorizationEndpoint string     `json:"authorizationEndpoint,omitempty"`
	TokenEndpoint         string     `json:"tokenEndpoint,omitempty"`
	AuthMethod            string     `json:"clientAuthenticationMethod,omitempty"`
	SecretSource          string     `json:"secretSource,omitempty"`
	SecretID              string     `json:"secretId,omitempty"`
	SecretJSONKey         string     `json:"secretJsonKey,omitempty"`
	Status                string     `json:"status,omitempty"`
	Created               *time.Time `json:"created,omitempty"`
	Updated               *time.Time `json:"updated,omitempty"`
}

const providersList = "onbehalf providers list"

// ofKind is the flag that tells two providers of one name apart.
type ofKind struct {
	Type string `name:"type" enum:",oauth2,api-key" default:"" placeholder:"TYPE" help:"oauth2 or api-key."`
}

type providersListCmd struct {
	listing
	ofKind
	platform
}

// Run lists them.
func (c providersListCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	now := time.Now()
	row := func(v provider) []string {
		return []string{v.Name, v.Type, v.Vendor, ago(v.Created, now), ago(v.Updated, now)}
	}
	return p.advised(list(t, c.Output, columns("NAME", "TYPE", "VENDOR", "CREATED", "UPDATED"), row,
		"There are no credential providers. Make one: onbehalf providers create VENDOR", first(c.listing, p.providers(ctx, c.Type))), providersList)
}

// providers yields those of one kind, or all.
func (c *connection) providers(ctx context.Context, kind string) iter.Seq2[provider, error] {
	return func(yield func(provider, error) bool) {
		for _, half := range []struct {
			kind  string
			items iter.Seq2[provider, error]
		}{{kindOAuth2, c.oauth2Providers(ctx)}, {kindAPIKey, c.apiKeyProviders(ctx)}} {
			if kind != "" && kind != half.kind {
				continue
			}
			for item, err := range half.items {
				if !yield(item, err) {
					return
				}
			}
		}
	}
}

// providerAnswer is a credential provider of either kind, as the API has it.
type providerAnswer struct {
	Name         string `json:"name"`
	ARN          string `json:"credentialProviderArn"`
	Vendor       string `json:"credentialProviderVendor"`
	CallbackURL  string `json:"callbackUrl"`
	Config       union  `json:"oauth2ProviderConfigOutput"`
	SecretSource string `json:"clientSecretSource"`
	SecretARN    arn    `json:"clientSecretArn"`
	SecretKey    string `json:"clientSecretJsonKey"`
	KeySource    string `json:"apiKeySecretSource"`
	KeyARN       arn    `json:"apiKeySecretArn"`
	KeyKey       string `json:"apiKeySecretJsonKey"`
	Status       string `json:"status"`
	Created      clock  `json:"createdTime"`
	Updated      clock  `json:"lastUpdatedTime"`
}

type arn struct {
	ARN string `json:"secretArn"`
}

func (a providerAnswer) oauth2() provider {
	p := provider{
		Name: a.Name, Type: kindOAuth2, Vendor: shortVendor(a.Vendor), ARN: a.ARN, CallbackURL: a.CallbackURL, SecretSource: a.SecretSource,
		SecretJSONKey: a.SecretKey, Status: a.Status, Created: a.Created.at(), Updated: a.Updated.at(),
	}
	if p.SecretSource == sourceExternal {
		p.SecretID = a.SecretARN.ARN
	}
	a.Config.read(&p)
	if p.ClientID == placeholder {
		p.ClientID = ""
	}
	return p
}

func (a providerAnswer) apiKey() provider {
	p := provider{Name: a.Name, Type: kindAPIKey, ARN: a.ARN, SecretSource: a.KeySource, SecretJSONKey: a.KeyKey, Created: a.Created.at(), Updated: a.Updated.at()}
	if p.SecretSource == sourceExternal {
		p.SecretID = a.KeyARN.ARN
	}
	return p
}

func (c *connection) oauth2Providers(ctx context.Context) iter.Seq2[provider, error] {
	return identityPages(ctx, c, "ListOauth2CredentialProviders", providerAnswer.oauth2)
}

func (c *connection) apiKeyProviders(ctx context.Context) iter.Seq2[provider, error] {
	return identityPages(ctx, c, "ListApiKeyCredentialProviders", providerAnswer.apiKey)
}

// vendorOf finds a vendor by what people type, or by its name in the API.
func vendorOf(typed string) (server.Vendor, bool) {
	for _, v := range server.Vendors() {
		if strings.EqualFold(typed, v.Short) || strings.EqualFold(typed, v.Name) {
			return v, true
		}
	}
	return server.Vendor{}, false
}

func shortVendor(name string) string {
	if v, known := vendorOf(name); known {
		return v.Short
	}
	return name
}

// provider finds one by name. Where the kind is not said, both are asked for.
func (c *connection) provider(ctx context.Context, name, kind string) (provider, error) {
	var oauth2, apiKey provider
	oauth2Err, apiKeyErr := error(errSkipped), error(errSkipped)
	if kind != kindAPIKey {
		oauth2, _, oauth2Err = c.oauth2Provider(ctx, name)
	}
	if kind != kindOAuth2 {
		apiKey, apiKeyErr = c.apiKeyProvider(ctx, name)
	}
	switch {
	case oauth2Err == nil && apiKeyErr == nil:
		return provider{}, usageError{hinted{fmt.Errorf("an OAuth2 provider and an API-key provider are both called %s", name), "say which: --type oauth2 or --type api-key"}}
	case oauth2Err == nil:
		return oauth2, nil
	case apiKeyErr == nil:
		return apiKey, nil
	case errors.Is(oauth2Err, errSkipped) || !isMissing(apiKeyErr) && isMissing(oauth2Err):
		return provider{}, apiKeyErr
	case kind == "" && isMissing(oauth2Err):
		return provider{}, hinted{fmt.Errorf("there is no credential provider %s", name), providersList + " shows what there is"}
	}
	return provider{}, oauth2Err
}

var errSkipped = errors.New("not asked for")

func isMissing(err error) bool {
	var said smithy.APIError
	return errors.As(err, &said) && said.ErrorCode() == "ResourceNotFoundException"
}

func isDenied(err error) bool {
	var said smithy.APIError
	return errors.As(err, &said) && said.ErrorCode() == "AccessDeniedException"
}

const sourceExternal = "EXTERNAL"

func (c *connection) oauth2Provider(ctx context.Context, name string) (provider, providerAnswer, error) {
	var found providerAnswer
	err := c.identity(ctx, "GetOauth2CredentialProvider", object{"name": name}, &found)
	return found.oauth2(), found, err
}

func (c *connection) apiKeyProvider(ctx context.Context, name string) (provider, error) {
	var found providerAnswer
	err := c.identity(ctx, "GetApiKeyCredentialProvider", object{"name": name}, &found)
	return found.apiKey(), err
}

type providersShowCmd struct {
	ofKind
	Name string `arg:"" name:"name" help:"Name of the credential provider." complete:"providers"`
	platform
}

// Run shows it.
func (c providersShowCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	found, err := p.provider(ctx, c.Name, c.Type)
	if err != nil {
		return p.advised(err, providersList)
	}
	return showProvider(t, c.Output, found)
}

func showProvider(t *terminal, output string, p provider) error {
	now := time.Now()
	client, secret := p.ClientID, ""
	if client == "" && p.Type == kindOAuth2 {
		client = "none yet: register the callback URL, then onbehalf providers update"
	}
	if p.SecretSource == sourceExternal {
		secret = strings.TrimSuffix(p.SecretID+" "+p.SecretJSONKey, " ")
	}
	return show(t, output, p, field{"Name", p.Name}, field{"Type", p.Type}, field{"Vendor", p.Vendor}, field{"Client ID", client},
		field{"Callback URL", p.CallbackURL}, field{"Discovery URL", p.DiscoveryURL}, field{"Issuer", p.Issuer},
		field{"Authorization endpoint", p.AuthorizationEndpoint}, field{"Token endpoint", p.TokenEndpoint}, field{"Client authentication", p.AuthMethod},
		field{"Secret lies at", secret}, field{"Status", p.Status}, field{"ARN", p.ARN}, field{"Created", exactly(p.Created, now)}, field{"Updated", exactly(p.Updated, now)})
}

type providersDeleteCmd struct {
	ofKind
	Name string `arg:"" name:"name" help:"Name of the credential provider." complete:"providers"`
	Yes  bool   `name:"yes" help:"Do not ask."`
	platform
}

// Run deletes it.
func (c providersDeleteCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	found, err := p.provider(ctx, c.Name, c.Type)
	if err != nil {
		return p.advised(err, providersList)
	}
	question := "Delete the API key " + c.Name + "?"
	if found.Type == kindOAuth2 {
		question = "Delete credential provider " + c.Name + " and all that users granted through it?"
	}
	if err := t.sure(ctx, c.Yes, question); err != nil {
		return err
	}
	operation := "DeleteApiKeyCredentialProvider"
	if found.Type == kindOAuth2 {
		operation = "DeleteOauth2CredentialProvider"
	}
	if err := p.identity(ctx, operation, object{"name": c.Name}, nil); err != nil {
		return p.advised(err, providersList)
	}
	return c.done(t, "deleted")
}

type providersVendorsCmd struct {
	Output string `name:"output" enum:"table,json" default:"table" help:"table or json."`
}

// Run lists the vendors. It asks no platform: the table is the program's own.
func (c providersVendorsCmd) Run(t *terminal) error {
	type vendor struct {
		Name          string   `json:"name"`
		Title         string   `json:"title"`
		Vendor        string   `json:"vendor"`
		Needs         []string `json:"needs"`
		RefreshScope  string   `json:"refreshScope,omitempty"`
		NoRefresh     bool     `json:"noRefreshTokens,omitempty"`
		Documentation string   `json:"documentation"`
	}
	items := func(yield func(vendor, error) bool) {
		for _, v := range server.Vendors() {
			if !yield(vendor{v.Short, v.Title, v.Name, needs(v), v.RefreshScope, v.WithoutRefresh, v.Documentation}, nil) {
				return
			}
		}
	}
	row := func(v vendor) []string {
		more, refresh := strings.Join(v.Needs[2:], " "), v.RefreshScope
		if v.NoRefresh {
			refresh = "(no refresh tokens)"
		}
		return []string{v.Name, v.Title, refresh, more}
	}
	err := list(t, c.Output, columns("VENDOR", "IS", "REFRESH SCOPE", "NEEDS, BESIDES CLIENT AND SECRET~"), row, "", items)
	if _, person := screen(t.err); person && c.Output == "table" && err == nil {
		fmt.Fprintln(t.err, "api-key is for what has no OAuth2. Each vendor's documentation: --output json.")
	}
	return err
}

// needs are the flags of create that a vendor wants.
func needs(v server.Vendor) []string {
	list := []string{"--client-id", "--client-secret-file"}
	switch {
	case v.Short == vendorCustom:
		return append(list, "--name", "--discovery-url")
	case v.Tenanted:
		return append(list, "--issuer", "--authorization-endpoint", "--token-endpoint")
	case v.Tenants:
		return append(list, "[--tenant]")
	}
	return list
}
