package broker

import (
	"context"
	"errors"
	"strconv"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// actionRefresh is what an intent calls a refresh.
const actionRefresh = "onbehalf:RefreshGrant"

// refresh renews a grant's access token, once: callers of this process share
// one flight, and other processes' wait for its lease.
func (b *Broker) refresh(ctx context.Context, caller principal.Caller, grant *vault.Grant) (*vault.Grant, error) {
	return shared(ctx, &b.refreshes, grant.ID+"/"+strconv.FormatInt(grant.Version, 10), func(ctx context.Context) (*vault.Grant, error) {
		return b.refreshOnce(ctx, caller, grant)
	})
}

// refreshOnce takes the lease, or waits for who has it.
func (b *Broker) refreshOnce(ctx context.Context, caller principal.Caller, grant *vault.Grant) (*vault.Grant, error) {
	for {
		turn, err := b.leaseRefresh(ctx, grant)
		switch {
		case err != nil:
			return nil, err
		case turn.done != nil:
			return turn.done, nil
		case turn.provider != nil:
			unhurried, cancel := unhurried(ctx) // it may have waited for most of the flight's time
			defer cancel()
			return b.redeemRefresh(unhurried, caller, grant, turn)
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// turn is the outcome of trying for a lease: done (somebody else has refreshed),
// or provider and fence (it is ours), or neither (somebody else is at it).
type turn struct {
	done     *vault.Grant
	provider *Provider
	fence    int64
}

func (b *Broker) leaseRefresh(ctx context.Context, grant *vault.Grant) (t turn, err error) {
	needsConsent := false
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		t, needsConsent = turn{}, false
		current, err := b.vault.Get(tx, grant.Account, grant.ID)
		if err != nil {
			return err
		}
		if current == nil || current.State != vault.Active {
			needsConsent = true
			return nil
		}
		if current.Version != grant.Version {
			t.done = current
			return nil
		}
		p, err := b.providerByID(tx, grant.Account, grant.ProviderID)
		if err != nil {
			return err
		}
		if p.Origin() != current.Origin { // an Update marks them; nothing must depend on it
			needsConsent = true
			return b.vault.MarkNeedsConsent(tx, grant.Account, grant.ID, grant.Version)
		}
		fence, leased, err := b.vault.Lease(tx, current, b.holder, leaseLifetime)
		if leased {
			t.provider, t.fence = p, fence
		}
		return err
	})
	if err == nil && needsConsent {
		err = errNeedsConsent
	}
	return t, err
}

// redeemRefresh sends the refresh token and stores what comes back.
func (b *Broker) redeemRefresh(ctx context.Context, caller principal.Caller, grant *vault.Grant, t turn) (*vault.Grant, error) {
	token, err := b.sendRefresh(ctx, caller, grant, t.provider)
	var refused *oauth.Error
	if errors.As(err, &refused) && refused.Code == "invalid_grant" {
		// The person, or the provider, has withdrawn it. Kept, marked, and asked for again.
		if err := b.db.Update(ctx, func(tx *store.Tx) error {
			return b.vault.MarkNeedsConsent(tx, grant.Account, grant.ID, grant.Version)
		}); err != nil {
			return nil, fault.Wrap(err, "marking a grant")
		}
		return nil, errNeedsConsent
	}
	if err != nil {
		// Where releasing fails too, the lease ends by itself.
		_ = b.db.Update(ctx, func(tx *store.Tx) error { return b.vault.Release(tx, grant, t.fence) })
		return nil, refreshFault(t.provider, err)
	}
	var current *vault.Grant
	stored := false
	err = b.db.Update(ctx, func(tx *store.Tx) (err error) {
		tokens := vault.Tokens{Access: token.Access, Refresh: token.Refresh, ID: token.ID, Expiry: token.Expiry}
		if token.Scopes != nil {
			tokens.Granted = vault.ScopesOf(token.Scopes)
		}
		if stored, err = b.vault.PutRefreshed(tx, grant, t.fence, tokens); err != nil {
			return err
		}
		current, err = b.vault.Get(tx, grant.Account, grant.ID)
		return err
	})
	switch {
	case err != nil:
		return nil, fault.Wrap(err, "storing refreshed tokens")
	case current == nil || current.State != vault.Active:
		return nil, errNeedsConsent // deleted, or marked, while the provider answered
	case !stored && current.Version == grant.Version:
		return nil, fault.New(fault.Unavailable, "Another process is renewing the user's token. Try again.") // our lease had run out
	}
	return current, nil
}

func (b *Broker) sendRefresh(ctx context.Context, caller principal.Caller, grant *vault.Grant, p *Provider) (oauth.Token, error) {
	if err := b.gate.Intent(ctx, caller, gate.Check{Action: actionRefresh, Resource: p.ARN}, map[string]string{"grant": grant.ID}); err != nil {
		return oauth.Token{}, err
	}
	server, err := b.client(ctx, p)
	if err != nil {
		return oauth.Token{}, err
	}
	var refresh secret.Text
	err = b.db.View(ctx, func(tx *store.Tx) (err error) {
		refresh, err = b.vault.OpenRefresh(tx, grant)
		return err
	})
	if err != nil {
		return oauth.Token{}, fault.Wrap(err, "opening a refresh token")
	}
	if refresh.Empty() {
		return oauth.Token{}, fault.New(fault.Unavailable, "The grant changed underneath. Try again.")
	}
	sending, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	return b.oauth.Refresh(sending, server, refresh, nil, grant.Resources)
}

// refreshFault says whether to try again or to mend something. Either way the grant is kept.
func refreshFault(p *Provider, err error) error {
	known := fault.Of(err)
	told := fault.New(known.Kind, "The user's token of the provider %s could not be renewed, and nothing is lost. %s", p.Name, known.Message).Because(err)
	told.RetryAfter = known.RetryAfter
	return told
}
