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

// listDefault is the page size of a list that names none: AWS's maximum.
const listDefault = 20

// CreateOauth2CredentialProvider stores a client of a provider; its secret is sealed and never shown again.
func (b *Broker) CreateOauth2CredentialProvider(ctx context.Context, caller principal.Caller, r *api.CreateOauth2CredentialProviderRequest) (*api.CreateOauth2CredentialProviderResponse, error) {
	c, err := b.configure(ctx, caller.Account, r.CredentialProviderVendor, r.Oauth2ProviderConfigInput, false)
	if err != nil {
		return nil, err
	}
	p := &Provider{
		ID: rand.Text(), Account: caller.Account, Name: r.Name, ARN: api.Oauth2CredentialProviderARN(b.options.Region, caller.Account, r.Name),
		CallbackID: callbackID(caller.Account, r.Name), Tags: r.Tags, secretSuffix: newSecretSuffix(),
	}
	if err := b.apply(ctx, p, c); err != nil {
		return nil, err
	}
	if err := b.db.Update(ctx, func(tx *store.Tx) error { return b.insertProvider(tx, p) }); err != nil {
		return nil, err
	}
	p.Private.tell(ctx, p.ARN)
	shown, err := b.show(ctx, p)
	if err != nil {
		return nil, err
	}
	return &api.CreateOauth2CredentialProviderResponse{
		Name:                       p.Name,
		CredentialProviderArn:      p.ARN,
		ClientSecretArn:            shown.secretARN,
		ClientSecretJsonKey:        shown.jsonKey,
		ClientSecretSource:         shown.source,
		CallbackUrl:                &shown.callbackURL,
		Oauth2ProviderConfigOutput: shown.config,
		Status:                     api.StatusReady,
	}, nil
}

// apply makes the provider what the configuration says: all of it, under a new version.
func (b *Broker) apply(ctx context.Context, p *Provider, c configuration) (err error) {
	p.Version++
	p.Vendor, p.Metadata, p.DiscoveryURL, p.ClientID, p.AuthMethod = c.vendor, c.metadata, c.discoveryURL, c.clientID, c.authMethod
	p.External, p.OnBehalfOf, p.Private = c.external, c.onBehalfOf, c.private
	p.sealedSecret, err = b.keeper.SealText(ctx, clientSecretContext(p), c.clientSecret)
	return err
}

// shown is what the three answers that show a provider have in common.
type shown struct {
	secretARN   *api.Secret
	jsonKey     *string
	source      api.SecretSourceType
	callbackURL string
	config      *api.Oauth2ProviderConfigOutput
}

func (b *Broker) show(ctx context.Context, p *Provider) (s shown, err error) {
	s.secretARN, s.jsonKey, s.source = b.shownSecret(p.Account, "bedrock-agentcore-identity!default/oauth2/"+p.Name+"-"+p.secretSuffix, p.External)
	s.callbackURL = b.callbackURL(p)
	s.config, err = b.output(ctx, p)
	return s, err
}

// named reads a provider of the account; fault.NotFound.
func (b *Broker) named(ctx context.Context, account, name string) (p *Provider, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) (err error) {
		p, err = b.providerByName(tx, account, name)
		return err
	})
	return p, err
}

// GetOauth2CredentialProvider shows a provider without its secret.
func (b *Broker) GetOauth2CredentialProvider(ctx context.Context, caller principal.Caller, r *api.GetOauth2CredentialProviderRequest) (*api.GetOauth2CredentialProviderResponse, error) {
	p, err := b.named(ctx, caller.Account, r.Name)
	if err != nil {
		return nil, err
	}
	shown, err := b.show(ctx, p)
	if err != nil {
		return nil, err
	}
	return &api.GetOauth2CredentialProviderResponse{
		Name:                       p.Name,
		CredentialProviderVendor:   api.CredentialProviderVendorType(p.Vendor),
		CredentialProviderArn:      p.ARN,
		ClientSecretArn:            shown.secretARN,
		ClientSecretJsonKey:        shown.jsonKey,
		ClientSecretSource:         shown.source,
		CallbackUrl:                &shown.callbackURL,
		Oauth2ProviderConfigOutput: shown.config,
		CreatedTime:                api.Epoch(p.Created),
		LastUpdatedTime:            api.Epoch(p.Updated),
		Status:                     api.StatusReady,
	}, nil
}

// UpdateOauth2CredentialProvider replaces the whole configuration. The callback
// URL stays. If the provider is another one now (issuer, token endpoint or
// client id), its grants need consent again and codes under way are dropped;
// a new secret alone changes nothing for anybody.
func (b *Broker) UpdateOauth2CredentialProvider(ctx context.Context, caller principal.Caller, r *api.UpdateOauth2CredentialProviderRequest) (*api.UpdateOauth2CredentialProviderResponse, error) {
	stored, err := b.named(ctx, caller.Account, r.Name)
	if err != nil {
		return nil, err
	}
	public := stored.settings.Public
	c, err := b.configure(ctx, caller.Account, r.CredentialProviderVendor, r.Oauth2ProviderConfigInput, public)
	if err != nil {
		return nil, err
	}
	var p *Provider
	var marked int64
	err = b.db.Update(ctx, func(tx *store.Tx) (err error) {
		marked = 0
		if p, err = b.providerByName(tx, caller.Account, r.Name); err != nil {
			return err
		}
		if p.settings.Public != public { // which decides whether the update needs a secret
			return fault.New(fault.Conflict, "The credential provider %s was changed meanwhile. Try again.", p.Name)
		}
		before, traded := p.Origin(), encodeOnBehalfOf(p)
		if err := b.apply(ctx, p, c); err != nil {
			return err
		}
		p.Updated = tx.Now
		if err := b.updateProvider(tx, p); err != nil {
			return err
		}
		if err := b.keepSettings(ctx, tx, p, before); err != nil {
			return err
		}
		if p.Origin() != before || encodeOnBehalfOf(p) != traded {
			if err := b.vault.DropCached(tx, caller.Account, p.ID); err != nil {
				return err
			}
		}
		if p.Origin() == before {
			return nil
		}
		if marked, err = b.vault.MarkProvider(tx, caller.Account, p.ID); err != nil {
			return err
		}
		if err := b.tellAll(tx, p, marked); err != nil {
			return err
		}
		return b.dropAttempts(tx, caller.Account, p.ID)
	})
	if err != nil {
		return nil, err
	}
	if marked > 0 {
		gate.Detail(ctx, "grants_needing_consent", strconv.FormatInt(marked, 10))
	}
	p.Private.tell(ctx, p.ARN)
	shown, err := b.show(ctx, p)
	if err != nil {
		return nil, err
	}
	return &api.UpdateOauth2CredentialProviderResponse{
		Name:                       p.Name,
		CredentialProviderVendor:   api.CredentialProviderVendorType(p.Vendor),
		CredentialProviderArn:      p.ARN,
		ClientSecretArn:            shown.secretARN,
		ClientSecretJsonKey:        shown.jsonKey,
		ClientSecretSource:         shown.source,
		CallbackUrl:                &shown.callbackURL,
		Oauth2ProviderConfigOutput: shown.config,
		CreatedTime:                api.Epoch(p.Created),
		LastUpdatedTime:            api.Epoch(p.Updated),
		Status:                     api.StatusReady,
	}, nil
}

// DeleteOauth2CredentialProvider deletes a provider with its grants and sessions.
func (b *Broker) DeleteOauth2CredentialProvider(ctx context.Context, caller principal.Caller, r *api.DeleteOauth2CredentialProviderRequest) (*api.DeleteOauth2CredentialProviderResponse, error) {
	err := b.db.Update(ctx, func(tx *store.Tx) error {
		deleted, err := tx.Exec(`DELETE FROM oauth2_providers WHERE account = $1 AND name = $2`, caller.Account, r.Name)
		if err == nil && deleted == 0 {
			return noProvider(r.Name)
		}
		return fault.Wrap(err, "deleting a credential provider")
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteOauth2CredentialProviderResponse{}, nil
}

// ListOauth2CredentialProviders pages by name; the cursor is the last name of the page before.
func (b *Broker) ListOauth2CredentialProviders(ctx context.Context, caller principal.Caller, r *api.ListOauth2CredentialProvidersRequest) (*api.ListOauth2CredentialProvidersResponse, error) {
	limit, after := api.Page(r.MaxResults, r.NextToken, listDefault)
	var page *api.ListOauth2CredentialProvidersResponse
	err := b.db.View(ctx, func(tx *store.Tx) error {
		page = &api.ListOauth2CredentialProvidersResponse{CredentialProviders: []api.Oauth2CredentialProviderItem{}}
		rows, err := tx.Query(`SELECT name, vendor, created, updated FROM oauth2_providers WHERE account = $1 AND name > $2 ORDER BY name LIMIT $3`, caller.Account, after, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if len(page.CredentialProviders) == limit { // one more than asked for: there is a next page
				page.NextToken = &page.CredentialProviders[limit-1].Name
				break
			}
			var item api.Oauth2CredentialProviderItem
			var created, updated int64
			if err := rows.Scan(&item.Name, &item.CredentialProviderVendor, &created, &updated); err != nil {
				return err
			}
			item.CredentialProviderArn = api.Oauth2CredentialProviderARN(b.options.Region, caller.Account, item.Name)
			item.CreatedTime, item.LastUpdatedTime = api.Epoch(store.Time(created)), api.Epoch(store.Time(updated))
			page.CredentialProviders = append(page.CredentialProviders, item)
		}
		return errors.Join(rows.Err(), rows.Close())
	})
	return page, fault.Wrap(err, "listing credential providers")
}
