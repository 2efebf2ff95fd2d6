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
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// unknownLifetime is how long a token is kept whose provider does not say how long it lives.
const unknownLifetime = 5 * time.Minute

// obtaining is a token for which nobody has to be asked, and how to get it.
type obtaining struct {
	kind    string         // part of the lookup, and of records: no two kinds share a token
	action  string         // of the intent
	subject []byte         // hash of the token that is traded; nil where there is none
	user    principal.User // whose token is traded
	until   time.Time
	check   func(*Provider) error // whether the provider can be asked so
	send    func(context.Context, *Provider, oauth.Server) (oauth.Token, error)
}

// obtained is what a request finds without asking a provider.
type obtained struct {
	key   vault.CachedKey
	token *vault.Cached // nil: none
}

// obtainable is what decides which token that is.
type obtainable struct{ account, providerName, providerARN, lookup string }

// obtain answers a cached token, or fetches one: callers of this process share
// one flight, and other processes wait for its lease. A fetch that fails while the
// old token still lives costs nobody anything. Force asks the provider, whatever there is.
func (b *Broker) obtain(ctx context.Context, caller principal.Caller, r TokenRequest, q question, o obtaining) (secret.Text, error) {
	looked, err := b.lookUp(ctx, caller, r, q, o)
	if err != nil {
		return secret.Text{}, err
	}
	token, now, version := looked.token, b.db.Now(), int64(0)
	if token != nil {
		if token.Fresh(now) && !r.Force {
			return b.vault.OpenCached(ctx, token)
		}
		version = token.Version
	}
	fetched, err := shared(ctx, &b.obtains, looked.key.Lookup+"/"+strconv.FormatInt(version, 10), func(ctx context.Context) (*vault.Cached, error) {
		return b.obtainOnce(ctx, caller, looked.key, version, o)
	})
	switch {
	case err == nil:
		gate.Detail(ctx, "fetched", o.kind)
		return b.vault.OpenCached(ctx, fetched)
	case token != nil && !r.Force && !token.Expired(now):
		gate.Detail(ctx, "fetched", "failed")
		return b.vault.OpenCached(ctx, token)
	}
	return secret.Text{}, err
}

// lookUp finds the cached token that a question has, if any.
func (b *Broker) lookUp(ctx context.Context, caller principal.Caller, r TokenRequest, q question, o obtaining) (obtained, error) {
	macKey, err := b.keeper.Derive(ctx, caller.Account, seal.Vault, "cached token lookup")
	if err != nil {
		return obtained{}, err
	}
	wanted, asked := obtainable{caller.Account, r.ProviderName, r.ProviderARN, q.lookup(macKey, o)}, q
	keyed := func(providerID string) vault.CachedKey {
		asked.key.ProviderID = providerID
		return vault.CachedKey{Account: caller.Account, WorkloadID: caller.Workload.ID, ProviderID: providerID, Lookup: asked.lookup(macKey, o), User: o.user}
	}
	looked, err := b.cached.Look(ctx, wanted, func(tx *store.Tx) (looked obtained, err error) {
		name, id, err := b.hinted(caller.Account, r)
		if err != nil {
			return looked, err
		}
		looked.key = keyed(id)
		if looked.token, err = b.vault.FindCachedNamed(tx, looked.key, name); err == nil && looked.token == nil {
			err = errNoHint
		}
		return looked, err
	})
	if errors.Is(err, errNoHint) {
		looked, err = b.cached.Read(ctx, wanted, func(tx *store.Tx) (looked obtained, err error) {
			id, err := b.resolveProvider(tx, caller.Account, r)
			if err != nil {
				return looked, err
			}
			looked.key = keyed(id)
			looked.token, err = b.vault.FindCached(tx, caller.Account, looked.key.Lookup)
			return looked, err
		})
	}
	return looked, fault.Wrap(err, "looking for a cached token")
}

// obtainOnce takes the lease, or waits for who has it.
func (b *Broker) obtainOnce(ctx context.Context, caller principal.Caller, key vault.CachedKey, version int64, o obtaining) (*vault.Cached, error) {
	for {
		var done *vault.Cached
		var p *Provider
		var lease vault.CachedLease
		err := b.db.Update(ctx, func(tx *store.Tx) (err error) {
			done, p = nil, nil
			found, err := b.vault.FindCached(tx, key.Account, key.Lookup)
			if err != nil {
				return err
			}
			current := int64(0)
			if found != nil {
				if current = found.Version; current != version && found.Fresh(tx.Now) {
					done = found
					return nil
				}
			}
			provider, err := b.providerByID(tx, key.Account, key.ProviderID)
			if err != nil {
				return err
			}
			leased := false
			if lease, leased, err = b.vault.LeaseCached(tx, key, current, b.holder, b.holding.life); leased {
				p = provider
			}
			return err
		})
		switch {
		case err != nil:
			return nil, fault.Wrap(err, "leasing a cached token")
		case done != nil:
			return done, nil
		case p != nil:
			fetched, err := b.fetch(ctx, caller, p, lease, o)
			if fetched != nil || err != nil {
				return fetched, err
			}
			// The provider has become another one, or was deleted, while the old one answered: what it said is not for anybody.
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// fetch sends the request and stores what comes back; nil when the lease was lost meanwhile.
func (b *Broker) fetch(ctx context.Context, caller principal.Caller, p *Provider, lease vault.CachedLease, o obtaining) (*vault.Cached, error) {
	ctx, cancel := unhurried(ctx) // it may have waited for most of the flight's time
	defer cancel()
	token, err := held(ctx, b, func(tx *store.Tx) (bool, error) { return b.vault.RenewCached(tx, lease, b.holding.life) },
		func(ctx context.Context) (oauth.Token, error) { return b.request(ctx, caller, p, o) })
	if err != nil {
		// Where releasing fails too, the lease ends by itself.
		_ = b.db.Update(ctx, func(tx *store.Tx) error { return b.vault.ReleaseCached(tx, lease) })
		return nil, err
	}
	var stored *vault.Cached
	err = b.db.Update(ctx, func(tx *store.Tx) (err error) {
		expiry := token.Expiry
		if expiry.IsZero() {
			expiry = tx.Now.Add(unknownLifetime)
		}
		if !o.until.IsZero() && o.until.Before(expiry) {
			expiry = o.until
		}
		stored, err = b.vault.PutCached(tx, lease, token.Access, expiry)
		return err
	})
	return stored, fault.Wrap(err, "storing a cached token")
}

// request writes down that the provider is about to be asked, and asks it.
func (b *Broker) request(ctx context.Context, caller principal.Caller, p *Provider, o obtaining) (oauth.Token, error) {
	if err := o.check(p); err != nil {
		return oauth.Token{}, err
	}
	if err := b.gate.Intent(ctx, caller, gate.Check{Action: o.action, Resource: p.ARN}, map[string]string{"flow": o.kind}); err != nil {
		return oauth.Token{}, err
	}
	server, err := b.client(ctx, p)
	if err != nil {
		return oauth.Token{}, err
	}
	sending, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	token, err := o.send(sending, p, server)
	if err != nil {
		return oauth.Token{}, obtainFault(p, err)
	}
	return token, nil
}

// obtainFault says whether to try again or to mend something.
func obtainFault(p *Provider, err error) error {
	var known *fault.Error
	if !errors.As(err, &known) {
		return fault.Wrap(err, "asking a provider for a token")
	}
	told := fault.New(known.Kind, "The provider %s gave no token. %s", p.Name, known.Message).Because(err)
	told.RetryAfter = known.RetryAfter
	return told
}
