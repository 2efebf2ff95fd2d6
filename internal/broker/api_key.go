package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// apiKeyProvider is an API-key credential provider as stored. Whoever has one
// may share it with the cache: it is not changed once it has been read.
type apiKeyProvider struct {
	id       string // immutable: a re-created name has another one
	account  string
	name     string
	suffix   string // of apiKeySecretArn
	sealed   []byte
	external *api.SecretReference // where the key lies; nil: it is sealed here
	tags     map[string]string
	version  int64 // of the key
	created  time.Time
	updated  time.Time
}

// mostKeys bounds the API keys that are remembered, sealed, between requests.
const mostKeys = 4096

// keyName is what decides which key a request gets.
type keyName struct{ account, name string }

func (b *Broker) apiKeyARN(p *apiKeyProvider) string {
	return api.ApiKeyCredentialProviderARN(b.options.Region, p.account, p.name)
}

func (b *Broker) shownKey(p *apiKeyProvider) (*api.Secret, *string, api.SecretSourceType) {
	return b.shownSecret(p.account, "bedrock-agentcore-identity!default/apikey/"+p.name+"-"+p.suffix, p.external)
}

func apiKeyContext(p *apiKeyProvider) seal.Context {
	return seal.Context{Account: p.account, Purpose: seal.Secrets, Kind: "api-key", Row: p.id, Version: p.version}
}

// setKey gives the provider a key, or the place of one, under a new version.
func (b *Broker) setKey(ctx context.Context, p *apiKeyProvider, key secret.Text, reference *api.SecretReference) (err error) {
	p.version++
	p.external = reference
	p.sealed, err = b.keeper.SealText(ctx, apiKeyContext(p), key)
	return err
}

// givenKey is the key of a create or an update, or where it lies: one of them, each time.
func (b *Broker) givenKey(ctx context.Context, account string, key *secret.Text, source api.SecretSourceType, reference *api.SecretReference) (secret.Text, *api.SecretReference, error) {
	return b.givenSecret(ctx, account, "", "apiKey", key, source, reference, longestAPIKey, false)
}

// APIKey answers the key of the provider of an ARN, for a gateway target: for the
// Caller's Workload, as GetResourceApiKey does.
func (b *Broker) APIKey(ctx context.Context, caller principal.Caller, arn string) (secret.Text, error) {
	name, err := b.apiKeyNameInARN(caller.Account, arn)
	if err != nil {
		return secret.Text{}, err
	}
	response, err := b.GetResourceApiKey(ctx, caller, &api.GetResourceApiKeyRequest{ResourceCredentialProviderName: name})
	if err != nil {
		return secret.Text{}, err
	}
	return response.ApiKey, nil
}

// HasAPIKey reports fault.NotFound where an ARN names no API-key provider of the account.
func (b *Broker) HasAPIKey(tx *store.Tx, account, arn string) error {
	name, err := b.apiKeyNameInARN(account, arn)
	if err == nil {
		_, err = b.apiKeyProvider(tx, account, name)
	}
	return err
}

func (b *Broker) apiKeyNameInARN(account, arn string) (string, error) {
	name := arn[strings.LastIndexByte(arn, '/')+1:]
	if api.ApiKeyCredentialProviderARN(b.options.Region, account, name) != arn {
		return "", noAPIKeyProvider(arn)
	}
	return name, nil
}

// key opens the key, here or where it lies.
func (b *Broker) key(ctx context.Context, p *apiKeyProvider) (secret.Text, error) {
	if p.external != nil {
		return b.resolve(ctx, p.account, p.external, longestAPIKey)
	}
	return b.keeper.OpenText(ctx, apiKeyContext(p), p.sealed)
}

func noAPIKeyProvider(name string) error {
	return fault.New(fault.NotFound, "API key credential provider %s not found.", name)
}

func (b *Broker) apiKeyProvider(tx *store.Tx, account, name string) (*apiKeyProvider, error) {
	p := &apiKeyProvider{account: account, name: name}
	var tags, externalSecret string
	var created, updated int64
	err := tx.QueryRow(`SELECT id, secret_suffix, api_key, external_secret, tags, version, created, updated FROM api_key_providers WHERE account = $1 AND name = $2`, account, name).
		Scan(&p.id, &p.suffix, &p.sealed, &externalSecret, &tags, &p.version, &created, &updated)
	if errors.Is(err, store.ErrNoRows) {
		return nil, noAPIKeyProvider(name)
	}
	if err != nil {
		return nil, fault.Wrap(err, "reading an API key credential provider")
	}
	if err := json.Unmarshal([]byte(tags), &p.tags); err != nil {
		return nil, fault.Wrap(err, "decoding an API key credential provider")
	}
	if p.external, err = decodeReference(externalSecret); err != nil {
		return nil, err
	}
	p.created, p.updated = store.Time(created), store.Time(updated)
	return p, nil
}

// insertAPIKeyProvider writes a new row; fault.Conflict when the name is taken.
func (b *Broker) insertAPIKeyProvider(tx *store.Tx, p *apiKeyProvider) error {
	tags, err := encodeTags(p.tags)
	if err != nil {
		return err
	}
	added, err := tx.Exec(`INSERT INTO api_key_providers (id, account, name, secret_suffix, api_key, tags, version, created, updated, external_secret)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9) ON CONFLICT (account, name) DO NOTHING`,
		p.id, p.account, p.name, p.suffix, p.sealed, tags, p.version, store.Micros(tx.Now), encodeReference(p.external))
	if err != nil {
		return fault.Wrap(err, "storing an API key credential provider")
	}
	if added == 0 {
		return fault.New(fault.Conflict, "Credential provider with name %s already exists.", p.name)
	}
	return b.withinQuota(tx, "api_key_providers", "API key", p.account)
}

func encodeTags(tags map[string]string) (string, error) {
	if tags == nil {
		return "{}", nil
	}
	encoded, err := json.Marshal(tags)
	return string(encoded), fault.Wrap(err, "encoding tags")
}
