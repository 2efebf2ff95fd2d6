package broker

import (
	"context"
	"encoding/json"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/external"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// The longest secrets that the API takes; those that lie elsewhere are held to the same.
const (
	longestClientSecret = 2048
	longestAPIKey       = 65536
)

func clientSecretContext(p *Provider) seal.Context {
	return seal.Context{Account: p.Account, Purpose: seal.Secrets, Kind: "oauth2-client-secret", Row: p.ID, Version: p.Version}
}

// client is the provider with what its client proves itself by, opened for the
// one conversation that carries it. It may have to ask where the secret lies, so
// never call it inside a transaction, nor between a point of no return and what it is for.
func (b *Broker) client(ctx context.Context, p *Provider) (oauth.Server, error) {
	server := b.server(p)
	var err error
	switch {
	case server.AuthMethod == oauth.AuthNone:
	case server.AuthMethod == oauth.AuthPrivateKeyJWT:
		server.Assertion, err = b.assertion(ctx, p)
	case p.External != nil:
		server.ClientSecret, err = b.resolve(ctx, p.Account, p.External, longestClientSecret)
	default:
		server.ClientSecret, err = b.keeper.OpenText(ctx, clientSecretContext(p), p.sealedSecret)
	}
	return server, err
}

// server is the provider as the protocol sees it, without any proof: enough to
// say where a browser goes, and nothing to send.
func (b *Broker) server(p *Provider) oauth.Server {
	return oauth.Server{Vendor: p.Vendor, Metadata: p.Metadata, ClientID: p.ClientID, AuthMethod: p.authMethod(), RedirectURL: b.callbackURL(p)}
}

func (b *Broker) resolve(ctx context.Context, account string, r *api.SecretReference, limit int) (secret.Text, error) {
	return b.options.Secrets.Resolve(ctx, account, external.Reference{ID: r.SecretId, JSONKey: r.JsonKey}, limit)
}

// assertion is how a client signs for itself, with its key at hand.
func (b *Broker) assertion(ctx context.Context, p *Provider) (*oauth.ClientAssertion, error) {
	config, err := b.privateKeyJWT(ctx, p)
	if err != nil {
		return nil, err
	}
	return b.assertionOf(ctx, p.Account, config)
}

func (b *Broker) assertionOf(ctx context.Context, account string, c *api.PrivateKeyJwtConfig) (*oauth.ClientAssertion, error) {
	a := oauth.ClientAssertion{Algorithm: string(c.SigningAlgorithm), Header: revealed(c.AdditionalHeaderClaims), Payload: revealed(c.AdditionalPayloadClaims)}
	var err error
	if a.Signer, err = b.options.Keys.Signer(ctx, account, c.PrivateKeySource.KmsKeySource.KmsKeyArn); err != nil {
		return nil, err
	}
	return &a, a.Check()
}

func revealed(claims map[string]secret.Text) map[string]string {
	out := make(map[string]string, len(claims))
	for name, value := range claims {
		out[name] = value.Reveal()
	}
	return out
}

// privateKeyJWT opens the configuration of a client that signs; nil for others.
func (b *Broker) privateKeyJWT(ctx context.Context, p *Provider) (*api.PrivateKeyJwtConfig, error) {
	if p.AuthMethod != oauth.AuthPrivateKeyJWT {
		return nil, nil
	}
	text, err := b.keeper.OpenText(ctx, clientSecretContext(p), p.sealedSecret)
	if err != nil {
		return nil, err
	}
	var config api.PrivateKeyJwtConfig
	if err := json.Unmarshal([]byte(text.Reveal()), &config); err != nil {
		return nil, fault.Wrap(err, "decoding a credential provider")
	}
	return &config, nil
}

const memberPrivateKey = memberCustom + ".privateKeyJwtConfig"

// configurePrivateKey checks a client that signs: it has an id, no secret, and a
// key that the operator has declared and that fits the algorithm.
func (b *Broker) configurePrivateKey(ctx context.Context, account string, c *configuration, in *api.CustomOauth2ProviderConfigInput) error {
	config := in.PrivateKeyJwtConfig
	switch {
	case in.ClientId == nil || *in.ClientId == "":
		return fault.InvalidField(memberCustom+".clientId", "A clientId is required: it is what the client signs.")
	case in.ClientSecret != nil && !in.ClientSecret.Empty():
		return fault.InvalidField(memberCustom+".clientSecret", "A client that authenticates by PRIVATE_KEY_JWT has no clientSecret.")
	case in.ClientSecretSource == api.SecretSourceTypeExternal || in.ClientSecretConfig != nil:
		return fault.InvalidField(memberCustom+".clientSecretSource", "A client that authenticates by PRIVATE_KEY_JWT has no client secret, here or elsewhere.")
	case config == nil:
		return fault.InvalidField(memberPrivateKey, "The clientAuthenticationMethod PRIVATE_KEY_JWT needs a privateKeyJwtConfig.")
	case config.SigningAlgorithm == "":
		return fault.InvalidField(memberPrivateKey+".signingAlgorithm", "A signingAlgorithm is required.")
	case config.PrivateKeySource == nil || config.PrivateKeySource.KmsKeySource == nil:
		return fault.InvalidField(memberPrivateKey+".privateKeySource", "A privateKeySource with a kmsKeySource is required.")
	}
	if _, err := b.assertionOf(ctx, account, config); err != nil {
		known := fault.Of(err)
		if known.Kind != fault.Invalid {
			return err
		}
		return fault.InvalidField(memberPrivateKey, "%s", known.Message).Because(err)
	}
	c.clientID, c.authMethod = *in.ClientId, oauth.AuthPrivateKeyJWT
	c.clientSecret = secret.New(string(config.AppendJSON(nil)))
	return nil
}

// givenSecret is the secret of a create or an update, or where it lies: one of
// them, each time, unless the client is public. The members are those of the request's structure. What lies
// elsewhere is read once, so that a mistake is heard of now and not at night; the value is not kept.
func (b *Broker) givenSecret(ctx context.Context, account, prefix, name string, given *secret.Text, source api.SecretSourceType, reference *api.SecretReference, limit int, optional bool) (secret.Text, *api.SecretReference, error) {
	sourceMember, configMember := prefix+name+"SecretSource", prefix+name+"SecretConfig"
	member := prefix + name
	if name == "client" {
		member += "Secret"
	}
	there := given != nil && !given.Empty()
	switch {
	case source != api.SecretSourceTypeExternal && reference != nil:
		return secret.Text{}, nil, fault.InvalidField(configMember, "%sSecretConfig says where a secret lies that is EXTERNAL: give %sSecretSource EXTERNAL with it.", name, name)
	case source != api.SecretSourceTypeExternal && !there && optional:
		return secret.Text{}, nil, nil
	case source != api.SecretSourceTypeExternal && !there:
		return secret.Text{}, nil, fault.InvalidField(member, "%s is required, here or EXTERNAL. An update replaces the whole configuration and takes it again.", member[len(prefix):])
	case source != api.SecretSourceTypeExternal:
		return *given, nil, nil
	case reference == nil:
		return secret.Text{}, nil, fault.InvalidField(configMember, "The %sSecretSource EXTERNAL needs %sSecretConfig.", name, name)
	case there:
		return secret.Text{}, nil, fault.InvalidField(sourceMember, "A secret is either given or EXTERNAL.")
	}
	if _, err := b.resolve(ctx, account, reference, limit); err != nil {
		known := fault.Of(err)
		if known.Kind != fault.Invalid {
			return secret.Text{}, nil, err
		}
		return secret.Text{}, nil, fault.InvalidField(configMember, "%s", known.Message).Because(err)
	}
	return secret.Text{}, reference, nil
}

// shownSecret is what answers say of a secret: where it lies, and never what it is.
func (b *Broker) shownSecret(account, managed string, r *api.SecretReference) (arn *api.Secret, jsonKey *string, source api.SecretSourceType) {
	if r == nil {
		return &api.Secret{SecretArn: api.SecretARN(b.options.Region, account, managed)}, nil, api.SecretSourceTypeManaged
	}
	return &api.Secret{SecretArn: b.options.Secrets.Show(account, r.SecretId)}, &r.JsonKey, api.SecretSourceTypeExternal
}

// encodeReference is how a reference is stored: as an empty text where the secret is sealed here.
func encodeReference(r *api.SecretReference) string {
	if r == nil {
		return ""
	}
	return string(r.AppendJSON(nil))
}

func decodeReference(stored string) (*api.SecretReference, error) {
	if stored == "" {
		return nil, nil
	}
	var r api.SecretReference
	err := json.Unmarshal([]byte(stored), &r)
	return &r, fault.Wrap(err, "decoding a credential provider")
}
