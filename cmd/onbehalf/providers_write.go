package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/onbehalf/onbehalf/internal/server"
)

const vendorCustom = "custom"

// placeholder stands for the client of a provider that has none yet. The API
// wants one, and the callback URL, which the vendor wants first, comes with the provider.
const placeholder = "not-registered-yet"

// providerFlags are what create and update have in common.
type providerFlags struct {
	ClientID              string `name:"client-id" placeholder:"ID" help:"The client's id at the vendor." group:"OAuth2"`
	ClientSecretFile      string `name:"client-secret-file" placeholder:"FILE" help:"File with the client's secret; - reads standard input. At a terminal it is asked for." group:"OAuth2"`
	DiscoveryURL          string `name:"discovery-url" placeholder:"URL" help:"Of custom: where the provider publishes its metadata (OpenID or RFC 8414)." group:"OAuth2"`
	Issuer                string `name:"issuer" placeholder:"URL" help:"Of custom without discovery, and of vendors with an address per customer." group:"OAuth2"`
	AuthorizationEndpoint string `name:"authorization-endpoint" placeholder:"URL" help:"Where its users consent; with --issuer." group:"OAuth2"`
	TokenEndpoint         string `name:"token-endpoint" placeholder:"URL" help:"Where it hands out tokens; with --issuer." group:"OAuth2"`
	Tenant                string `name:"tenant" placeholder:"TENANT" help:"Of microsoft: the tenant's id or domain." group:"OAuth2"`
	AuthMethod            string `name:"auth-method" enum:",basic,post" default:"" placeholder:"METHOD" help:"Of custom: basic or post, how the client proves itself. Default: what the metadata says." group:"OAuth2"`
	APIKeyFile            string `name:"api-key-file" placeholder:"FILE" help:"File with the API key; - reads standard input. At a terminal it is asked for." group:"API key"`
	SecretID              string `name:"secret-id" placeholder:"REFERENCE" help:"The secret or key stays where it is: its reference at a source that the operator declared." group:"Secret elsewhere"`
	SecretJSONKey         string `name:"secret-json-key" placeholder:"KEY" help:"The member, where that secret is a JSON object." group:"Secret elsewhere"`
}

// oauth2Given names the flags that make no sense for an API key.
func (f providerFlags) oauth2Given() string {
	for _, each := range []struct{ flag, value string }{
		{"--client-id", f.ClientID}, {"--client-secret-file", f.ClientSecretFile}, {"--discovery-url", f.DiscoveryURL}, {"--issuer", f.Issuer},
		{"--authorization-endpoint", f.AuthorizationEndpoint}, {"--token-endpoint", f.TokenEndpoint}, {"--tenant", f.Tenant}, {"--auth-method", f.AuthMethod},
	} {
		if each.value != "" {
			return each.flag
		}
	}
	return ""
}

// check refuses flags that another vendor has, before anything is asked or sent.
func (f providerFlags) check(v server.Vendor) error {
	custom := v.Short == vendorCustom
	addresses := firstOf(f.Issuer, f.AuthorizationEndpoint, f.TokenEndpoint) != ""
	switch {
	case f.APIKeyFile != "":
		return usageError{fmt.Errorf("--api-key-file is not for %s", v.Short)}
	case f.DiscoveryURL != "" && !custom:
		return usageError{hinted{fmt.Errorf("--discovery-url is not for %s", v.Short), "onbehalf providers vendors says what each vendor needs; custom takes any discovery URL"}}
	case f.AuthMethod != "" && !custom:
		return usageError{fmt.Errorf("--auth-method is not for %s: how its clients prove themselves is known", v.Short)}
	case f.Tenant != "" && !v.Tenants:
		return usageError{fmt.Errorf("--tenant is not for %s", v.Short)}
	case addresses && !custom && ownMember[v.Short]:
		return usageError{fmt.Errorf("--issuer, --authorization-endpoint and --token-endpoint are not for %s, whose addresses are known", v.Short)}
	case f.DiscoveryURL != "" && addresses:
		return usageError{errors.New("--discovery-url has issuer and endpoints: give one or the others")}
	case f.SecretID != "" && f.ClientSecretFile != "":
		return usageError{errors.New("--secret-id and --client-secret-file: the secret is here or there")}
	case f.SecretJSONKey != "" && f.SecretID == "":
		return usageError{errors.New("--secret-json-key is of --secret-id, which is missing")}
	}
	return nil
}

type providersCreateCmd struct {
	Vendor string            `arg:"" name:"vendor" help:"google, github, …, custom or api-key: onbehalf providers vendors lists them." complete:"vendors"`
	Name   string            `name:"name" placeholder:"NAME" help:"What agents call it. Default: the vendor's name."`
	Tags   map[string]string `name:"tag" placeholder:"KEY=VALUE" help:"A tag. Repeatable."`
	providerFlags
	platform
}

// Help is shown below the flags.
func (providersCreateCmd) Help() string {
	return `Examples:
  onbehalf providers create google
  onbehalf providers create github --client-id Iv1.8a61 --client-secret-file secret
  onbehalf providers create custom --name people \
    --discovery-url https://id.example.com/.well-known/openid-configuration
  pass show openai | onbehalf providers create api-key --name openai --api-key-file -
Without --client-id it gets its callback URL first and its client with onbehalf providers update.`
}

// Run makes it.
func (c providersCreateCmd) Run(ctx context.Context, t *terminal) error {
	if strings.EqualFold(c.Vendor, kindAPIKey) {
		return c.createAPIKey(ctx, t)
	}
	v, known := vendorOf(c.Vendor)
	if !known {
		return usageError{hinted{fmt.Errorf("%s is no vendor that is known", c.Vendor), "onbehalf providers vendors lists them; custom takes any OAuth2 provider"}}
	}
	if err := c.check(v); err != nil {
		return err
	}
	name := c.Name
	if name == "" && v.Short == vendorCustom {
		return usageError{errors.New("--name is missing: what will agents call this provider?")}
	} else if name == "" {
		name = v.Short
	}
	client := oauthClient{vendor: v, id: c.ClientID, tenant: c.Tenant, discoveryURL: c.DiscoveryURL,
		issuer: c.Issuer, authorizationEndpoint: c.AuthorizationEndpoint, tokenEndpoint: c.TokenEndpoint, method: c.AuthMethod}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	switch {
	case c.ClientID == "" && (c.ClientSecretFile != "" || c.SecretID != ""):
		return usageError{errors.New("--client-id is missing")}
	case c.ClientID == "":
		client.id, client.secret = placeholder, placeholder
	case c.SecretID != "":
		client.secretID, client.secretJSONKey = c.SecretID, c.SecretJSONKey
	default:
		if client.secret, err = t.secret(ctx, "--client-secret-file", c.ClientSecretFile, "Client secret of "+name); err != nil {
			return err
		}
	}
	err = p.identity(ctx, "CreateOauth2CredentialProvider", object{"name": name, "credentialProviderVendor": v.Name, "oauth2ProviderConfigInput": client.input(), "tags": tagged(c.Tags)}, nil)
	if err != nil {
		return p.exists(err, "onbehalf providers update "+name+" changes it", providersList)
	}
	made, _, err := p.oauth2Provider(ctx, name)
	if err != nil {
		return p.advised(err, providersList)
	}
	if err := showProvider(t, c.Output, made); err != nil {
		return err
	}
	if c.ClientID == "" {
		where := v.Title
		if v.Short == vendorCustom {
			where = "the provider"
		}
		fmt.Fprintf(t.err, "next: register the callback URL at %s, then:\n  onbehalf providers update %s --client-id ID --client-secret-file FILE\n", where, name)
	}
	return nil
}

func (c providersCreateCmd) createAPIKey(ctx context.Context, t *terminal) error {
	if err := c.checkAPIKey(); err != nil {
		return err
	}
	if c.Name == "" {
		return usageError{errors.New("--name is missing: what will agents call this key?")}
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	input := object{"name": c.Name, "tags": tagged(c.Tags)}
	if err := c.putAPIKey(ctx, t, c.Name, input); err != nil {
		return err
	}
	if err := p.identity(ctx, "CreateApiKeyCredentialProvider", input, nil); err != nil {
		return p.exists(err, "onbehalf providers update "+c.Name+" gives it another key", providersList)
	}
	return p.showAPIKey(ctx, c.Output, c.Name)
}

func (f providerFlags) checkAPIKey() error {
	switch {
	case f.oauth2Given() != "":
		return usageError{fmt.Errorf("%s is not for an API key", f.oauth2Given())}
	case f.SecretID != "" && f.APIKeyFile != "":
		return usageError{errors.New("--secret-id and --api-key-file: the key is here or there")}
	case f.SecretJSONKey != "" && f.SecretID == "":
		return usageError{errors.New("--secret-json-key is of --secret-id, which is missing")}
	}
	return nil
}

// putAPIKey puts into a request where an API key lies, or the key itself.
func (f providerFlags) putAPIKey(ctx context.Context, t *terminal, name string, input object) error {
	if f.SecretID != "" {
		input["apiKeySecretSource"], input["apiKeySecretConfig"] = sourceExternal, reference(f.SecretID, f.SecretJSONKey)
		return nil
	}
	key, err := t.secret(ctx, "--api-key-file", f.APIKeyFile, "API key "+name)
	if err != nil {
		return err
	}
	input["apiKey"] = key
	return nil
}

func (c *connection) showAPIKey(ctx context.Context, output, name string) error {
	p, err := c.apiKeyProvider(ctx, name)
	if err != nil {
		return c.advised(err, providersList)
	}
	return showProvider(c.t, output, p)
}

type providersUpdateCmd struct {
	ofKind
	Name string `arg:"" name:"name" help:"Name of the credential provider." complete:"providers"`
	providerFlags
	platform
}

// Help is shown below the flags.
func (providersUpdateCmd) Help() string {
	return `Examples:
  onbehalf providers update google --client-id 123 --client-secret-file secret
  onbehalf providers update openai --api-key-file key
What is not given stays, but the client's secret: nobody can read it, so it is given again.
A new secret changes nothing for users. With another client or address they are asked for consent again.`
}

// Run changes it.
func (c providersUpdateCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	found, err := p.provider(ctx, c.Name, c.Type)
	if err != nil {
		return p.advised(err, providersList)
	}
	if found.Type == kindAPIKey {
		return c.updateAPIKey(ctx, t, p)
	}
	before, full, err := p.oauth2Provider(ctx, c.Name)
	if err != nil {
		return p.advised(err, providersList)
	}
	v, known := vendorOf(before.Vendor)
	if !known {
		return fmt.Errorf("the vendor %s of %s is newer than this command: use the AWS CLI", before.Vendor, c.Name)
	}
	if err := c.check(v); err != nil {
		return err
	}
	if c.oauth2Given() == "" && c.SecretID == "" {
		return usageError{hinted{errors.New("nothing to change"), "onbehalf providers update --help lists what can be"}}
	}
	client, err := clientOf(v, before, full)
	if err != nil {
		return err
	}
	client.override(c.providerFlags)
	if client.id == "" {
		return usageError{hinted{fmt.Errorf("%s has no client yet", c.Name), "give --client-id and --client-secret-file"}}
	}
	switch {
	case c.SecretID != "":
		client.secretID, client.secretJSONKey = c.SecretID, c.SecretJSONKey
	case client.secretID != "" && c.ClientSecretFile == "", client.needsNoSecret():
	default:
		client.secretID = ""
		if client.secret, err = t.secret(ctx, "--client-secret-file", c.ClientSecretFile, "Client secret of "+c.Name); err != nil {
			return err
		}
	}
	if err := p.identity(ctx, "UpdateOauth2CredentialProvider", object{"name": c.Name, "credentialProviderVendor": full.Vendor, "oauth2ProviderConfigInput": client.input()}, nil); err != nil {
		return p.advised(err, providersList)
	}
	after, _, err := p.oauth2Provider(ctx, c.Name)
	if err != nil {
		return p.advised(err, providersList)
	}
	if err := showProvider(t, c.Output, after); err != nil {
		return err
	}
	if before.ClientID != "" && (after.ClientID != before.ClientID || after.Issuer != before.Issuer || after.TokenEndpoint != before.TokenEndpoint || after.DiscoveryURL != before.DiscoveryURL) {
		fmt.Fprintln(t.err, "It is another client now: users who granted something are asked again.")
	}
	return nil
}

func (c providersUpdateCmd) updateAPIKey(ctx context.Context, t *terminal, p *connection) error {
	if err := c.checkAPIKey(); err != nil {
		return err
	}
	input := object{"name": c.Name}
	if err := c.putAPIKey(ctx, t, c.Name, input); err != nil {
		return err
	}
	if err := p.identity(ctx, "UpdateApiKeyCredentialProvider", input, nil); err != nil {
		return p.advised(err, providersList)
	}
	return p.showAPIKey(ctx, c.Output, c.Name)
}
