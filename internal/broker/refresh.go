package broker

import (
	"context"
	"errors"
	"strconv"
	"time"

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
			return b.redeemRefresh(unhurried, caller, turn.grant, turn)
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// turn is the outcome of trying for a lease: done (somebody else has refreshed),
// or grant, provider and fence (it is ours), or neither (somebody else is at it).
type turn struct {
	done     *vault.Grant
	grant    *vault.Grant
	provider *Provider
	fence    int64
}

func (b *Broker) leaseRefresh(ctx context.Context, grant *vault.Grant) (t turn, err error) {
	if err := b.backingOff(ctx, grant); err != nil {
		return t, err
	}
	needsConsent := false
	var wait error
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		t, needsConsent, wait = turn{}, false, nil
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
		origin, err := b.vault.OriginOf(tx, current)
		if err != nil {
			return err
		}
		if p.Origin() != origin { // an Update marks them; nothing must depend on it
			needsConsent = true
			return b.vault.MarkNeedsConsent(tx, grant.Account, grant.ID, grant.Version)
		}
		if wait = backOff(current, p, tx.Now); wait != nil {
			return nil
		}
		fence, leased, err := b.vault.Lease(tx, current, b.holder, b.holding.life)
		if leased {
			t.grant, t.provider, t.fence = current, p, fence
		}
		return err
	})
	switch {
	case err == nil && needsConsent:
		err = errNeedsConsent
	case err == nil:
		err = wait
	}
	return t, err
}

// backingOff answers at once, and without a write, while a provider that failed
// is left alone.
func (b *Broker) backingOff(ctx context.Context, grant *vault.Grant) error {
	if !b.db.Now().Before(grant.NextRefresh) {
		return nil
	}
	var wait error
	err := b.db.View(ctx, func(tx *store.Tx) error {
		p, err := b.providerByID(tx, grant.Account, grant.ProviderID)
		if err == nil {
			wait = backOff(grant, p, tx.Now)
		}
		return err
	})
	if err != nil {
		return fault.Wrap(err, "reading a credential provider")
	}
	return wait
}

// backOff is the error of a grant whose next refresh is not due yet. It ends when
// the operator changes the credential provider: a new secret is tried at once.
func backOff(grant *vault.Grant, p *Provider, now time.Time) error {
	left := grant.NextRefresh.Sub(now)
	if left <= 0 || p.Updated.After(grant.FailedAt) {
		return nil
	}
	failed := fault.New(fault.Unavailable, "The user's token of the provider %s cannot be renewed at the moment: that failed %d times in a row, and the provider is asked again in %s. The user's consent is kept.",
		p.Name, grant.Failures, left.Round(time.Second).String())
	failed.RetryAfter = left
	return failed
}

// redeemRefresh sends the refresh token and stores what comes back.
func (b *Broker) redeemRefresh(ctx context.Context, caller principal.Caller, grant *vault.Grant, t turn) (*vault.Grant, error) {
	token, err := held(ctx, b, func(tx *store.Tx) (bool, error) { return b.vault.Renew(tx, grant, t.fence, b.holding.life) },
		func(ctx context.Context) (oauth.Token, error) {
			return b.sendRefresh(ctx, caller, grant, t.provider, t.fence)
		})
	var refused *oauth.Error
	if errors.As(err, &refused) && refused.Code == "invalid_grant" {
		// The person, or the provider, has withdrawn it. Kept, marked, and asked for again.
		if err := b.withdrawn(ctx, grant); err != nil {
			return nil, fault.Wrap(err, "marking a grant")
		}
		return nil, errNeedsConsent
	}
	if err != nil {
		// Where writing that down fails too, the lease ends by itself.
		_ = b.db.Update(ctx, func(tx *store.Tx) error { return b.vault.Failed(tx, grant, t.fence, fault.Of(err).RetryAfter) })
		return nil, refreshFault(t.provider, err)
	}
	var current *vault.Grant
	stored := false
	err = b.db.Update(ctx, func(tx *store.Tx) (err error) {
		tokens := vault.Tokens{Access: token.Access, Refresh: token.Refresh, Expiry: token.Expiry}
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
	case current == nil: // revoked while the provider answered: nobody else will give back what it sent
		b.takeBack(context.WithoutCancel(ctx), t.provider, token.Refresh, token.Access)
		return nil, errNeedsConsent
	case current.State != vault.Active:
		return nil, errNeedsConsent // marked while the provider answered
	case !stored && current.Version == grant.Version:
		return nil, fault.New(fault.Unavailable, "Another process is renewing the user's token. Try again.") // our lease had run out
	}
	return current, nil
}

func (b *Broker) sendRefresh(ctx context.Context, caller principal.Caller, grant *vault.Grant, p *Provider, fence int64) (oauth.Token, error) {
	if err := b.gate.Intent(ctx, caller, gate.Check{Action: actionRefresh, Resource: p.ARN}, map[string]string{"grant": grant.ID}); err != nil {
		return oauth.Token{}, err
	}
	server, err := b.client(ctx, p)
	if err != nil {
		return oauth.Token{}, err
	}
	var refresh secret.Text
	err = b.db.View(ctx, func(tx *store.Tx) (err error) {
		refresh, err = b.vault.OpenRefresh(tx, grant, fence)
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
