package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// listKeysDefault is the page size of a list that names none: AWS's maximum, which is higher here.
const listKeysDefault = 100

// GetResourceApiKey answers the key itself: the one way in which it is ever
// read. The workload access token, with or without a user, says who asks; the
// operation's scope has opened it, and policy has decided on what was in it.
//
// Like a grant, the key is remembered, sealed, until something is written.
func (b *Broker) GetResourceApiKey(ctx context.Context, caller principal.Caller, r *api.GetResourceApiKeyRequest) (*api.GetResourceApiKeyResponse, error) {
	if caller.Workload.IsZero() {
		return nil, fault.New(fault.Invalid, "An API key is given to a workload identity, and the caller has none.")
	}
	p, err := b.keys.Look(ctx, keyName{caller.Account, r.ResourceCredentialProviderName}, func(tx *store.Tx) (*apiKeyProvider, error) {
		return b.apiKeyProvider(tx, caller.Account, r.ResourceCredentialProviderName)
	})
	if err != nil {
		return nil, err
	}
	gate.Detail(ctx, "key_version", strconv.FormatInt(p.version, 10))
	key, err := b.key(ctx, p)
	if err != nil {
		return nil, err
	}
	return &api.GetResourceApiKeyResponse{ApiKey: key}, nil
}

// CreateApiKeyCredentialProvider seals a key under a name.
func (b *Broker) CreateApiKeyCredentialProvider(ctx context.Context, caller principal.Caller, r *api.CreateApiKeyCredentialProviderRequest) (*api.CreateApiKeyCredentialProviderResponse, error) {
	key, reference, err := b.givenKey(ctx, caller.Account, r.ApiKey, r.ApiKeySecretSource, r.ApiKeySecretConfig)
	if err != nil {
		return nil, err
	}
	p := &apiKeyProvider{id: rand.Text(), account: caller.Account, name: r.Name, suffix: newSecretSuffix(), tags: r.Tags}
	if err := b.setKey(ctx, p, key, reference); err != nil {
		return nil, err
	}
	if err := b.db.Update(ctx, func(tx *store.Tx) error { return b.insertAPIKeyProvider(tx, p) }); err != nil {
		return nil, err
	}
	arn, jsonKey, source := b.shownKey(p)
	return &api.CreateApiKeyCredentialProviderResponse{
		Name:                  p.name,
		CredentialProviderArn: b.apiKeyARN(p),
		ApiKeySecretArn:       arn,
		ApiKeySecretJsonKey:   jsonKey,
		ApiKeySecretSource:    source,
	}, nil
}

// GetApiKeyCredentialProvider shows a provider without its key.
func (b *Broker) GetApiKeyCredentialProvider(ctx context.Context, caller principal.Caller, r *api.GetApiKeyCredentialProviderRequest) (*api.GetApiKeyCredentialProviderResponse, error) {
	var p *apiKeyProvider
	err := b.db.View(ctx, func(tx *store.Tx) (err error) {
		p, err = b.apiKeyProvider(tx, caller.Account, r.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	arn, jsonKey, source := b.shownKey(p)
	return &api.GetApiKeyCredentialProviderResponse{
		Name:                  p.name,
		CredentialProviderArn: b.apiKeyARN(p),
		ApiKeySecretArn:       arn,
		ApiKeySecretJsonKey:   jsonKey,
		ApiKeySecretSource:    source,
		CreatedTime:           api.Epoch(p.created),
		LastUpdatedTime:       api.Epoch(p.updated),
	}, nil
}

// UpdateApiKeyCredentialProvider replaces the key. Whoever asks gets the old one
// until the moment of the commit and the new one from then on, and never none.
func (b *Broker) UpdateApiKeyCredentialProvider(ctx context.Context, caller principal.Caller, r *api.UpdateApiKeyCredentialProviderRequest) (*api.UpdateApiKeyCredentialProviderResponse, error) {
	key, reference, err := b.givenKey(ctx, caller.Account, r.ApiKey, r.ApiKeySecretSource, r.ApiKeySecretConfig)
	if err != nil {
		return nil, err
	}
	var p *apiKeyProvider
	err = b.db.Update(ctx, func(tx *store.Tx) (err error) {
		if p, err = b.apiKeyProvider(tx, caller.Account, r.Name); err != nil {
			return err
		}
		before := p.version
		if err := b.setKey(ctx, p, key, reference); err != nil {
			return err
		}
		p.updated = tx.Now
		changed, err := tx.Exec(`UPDATE api_key_providers SET api_key = $1, version = $2, updated = $3, external_secret = $4 WHERE id = $5 AND account = $6 AND version = $7`,
			p.sealed, p.version, store.Micros(p.updated), encodeReference(p.external), p.id, p.account, before)
		if err == nil && changed == 0 {
			return fault.New(fault.Conflict, "The credential provider %s was changed meanwhile. Try again.", p.name)
		}
		return fault.Wrap(err, "updating an API key credential provider")
	})
	if err != nil {
		return nil, err
	}
	arn, jsonKey, source := b.shownKey(p)
	return &api.UpdateApiKeyCredentialProviderResponse{
		Name:                  p.name,
		CredentialProviderArn: b.apiKeyARN(p),
		ApiKeySecretArn:       arn,
		ApiKeySecretJsonKey:   jsonKey,
		ApiKeySecretSource:    source,
		CreatedTime:           api.Epoch(p.created),
		LastUpdatedTime:       api.Epoch(p.updated),
	}, nil
}

// DeleteApiKeyCredentialProvider deletes a provider with its key.
func (b *Broker) DeleteApiKeyCredentialProvider(ctx context.Context, caller principal.Caller, r *api.DeleteApiKeyCredentialProviderRequest) (*api.DeleteApiKeyCredentialProviderResponse, error) {
	err := b.db.Update(ctx, func(tx *store.Tx) error {
		deleted, err := tx.Exec(`DELETE FROM api_key_providers WHERE account = $1 AND name = $2`, caller.Account, r.Name)
		if err == nil && deleted == 0 {
			return noAPIKeyProvider(r.Name)
		}
		return fault.Wrap(err, "deleting an API key credential provider")
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteApiKeyCredentialProviderResponse{}, nil
}

// ListApiKeyCredentialProviders pages by name; the cursor is the last name of the page before.
func (b *Broker) ListApiKeyCredentialProviders(ctx context.Context, caller principal.Caller, r *api.ListApiKeyCredentialProvidersRequest) (*api.ListApiKeyCredentialProvidersResponse, error) {
	limit, after := api.Page(r.MaxResults, r.NextToken, listKeysDefault)
	var page *api.ListApiKeyCredentialProvidersResponse
	err := b.db.View(ctx, func(tx *store.Tx) error {
		page = &api.ListApiKeyCredentialProvidersResponse{CredentialProviders: []api.ApiKeyCredentialProviderItem{}}
		rows, err := tx.Query(`SELECT name, created, updated FROM api_key_providers WHERE account = $1 AND name > $2 ORDER BY name LIMIT $3`, caller.Account, after, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if len(page.CredentialProviders) == limit { // one more than asked for: there is a next page
				page.NextToken = &page.CredentialProviders[limit-1].Name
				break
			}
			var item api.ApiKeyCredentialProviderItem
			var created, updated int64
			if err := rows.Scan(&item.Name, &created, &updated); err != nil {
				return err
			}
			item.CredentialProviderArn = api.ApiKeyCredentialProviderARN(b.options.Region, caller.Account, item.Name)
			item.CreatedTime, item.LastUpdatedTime = api.Epoch(store.Time(created)), api.Epoch(store.Time(updated))
			page.CredentialProviders = append(page.CredentialProviders, item)
		}
		return errors.Join(rows.Err(), rows.Close())
	})
	return page, fault.Wrap(err, "listing API key credential providers")
}
