package broker

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// actionRevoke is what an intent calls a request that takes tokens back (RFC 7009).
const actionRevoke = "onbehalf:RevokeAtProvider"

const (
	// revokePatience bounds what is tried at a provider for one grant: whoever
	// revokes waits for it, and the grant is gone already.
	revokePatience = 10 * time.Second
	// revokeAtOnce bounds the grants that one RevokeUserGrants takes, and revokeBeside
	// how many of their providers are asked at the same time.
	revokeAtOnce = 100
	revokeBeside = 10
	// revokeAllPatience bounds all of them together: SDKs wait for a minute.
	revokeAllPatience = 30 * time.Second
)

// RevokeGrant deletes a grant and what is under way for it, and then tells the
// provider. In this order: from the moment of the answer, or of a crash before
// it, nobody gets the token from here, whatever the provider says or does not.
func (b *Broker) RevokeGrant(ctx context.Context, caller principal.Caller, r *api.RevokeGrantRequest) (*api.RevokeGrantResponse, error) {
	if err := b.gate.Intent(ctx, caller, gate.Check{Action: api.RevokeGrant.Action(), Resource: gate.Any}, map[string]string{"grant": r.GrantId}); err != nil {
		return nil, err
	}
	var gone *vault.Withdrawn
	var p *Provider
	err := b.db.Update(ctx, func(tx *store.Tx) (err error) {
		if gone, err = b.vault.Delete(tx, caller.Account, r.GrantId); err != nil {
			return err
		}
		if gone == nil {
			return noGrant(r.GrantId)
		}
		if p, err = b.providerByID(tx, gone.Account, gone.ProviderID); err != nil {
			return err
		}
		return b.endSessions(tx, gone.Key)
	})
	if err != nil {
		return nil, fault.Wrap(err, "deleting a grant")
	}
	b.scrub(ctx)
	gate.Detail(ctx, "grant", gone.ID)
	gate.Detail(ctx, "grant_user", gone.User.String())
	outcome := b.withdraw(context.WithoutCancel(ctx), caller, p, gone) // also for a caller who has left
	gate.Detail(ctx, "provider_revocation", string(outcome))
	return &api.RevokeGrantResponse{ProviderRevocation: outcome}, nil
}

// RevokeUserGrants deletes all that a user has granted, in one transaction with
// the tokens that were traded for the user and the links that wait; the providers
// are told afterwards, several at a time.
func (b *Broker) RevokeUserGrants(ctx context.Context, caller principal.Caller, r *api.RevokeUserGrantsRequest) (*api.RevokeUserGrantsResponse, error) {
	filter, _, err := b.grantFilter(ctx, caller.Account, r.User, r.WorkloadName, r.ProviderName)
	if err != nil {
		return nil, err
	}
	gate.Detail(ctx, "grant_user", filter.User.String())
	allowed, err := b.mayRevoke(ctx, caller, filter)
	if err != nil {
		return nil, err
	}
	if err := b.gate.Intent(ctx, caller, gate.Check{Action: api.RevokeUserGrants.Action(), Resource: gate.Any}, map[string]string{"grant_user": filter.User.String()}); err != nil {
		return nil, err
	}
	gone, response, err := b.deleteGrants(ctx, filter, allowed)
	if err != nil {
		return nil, fault.Wrap(err, "deleting a user's grants")
	}
	b.scrub(ctx)
	gate.Detail(ctx, "grants", strconv.Itoa(len(gone)))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeAllPatience)
	defer cancel()
	turns := make(chan struct{}, revokeBeside)
	var asking sync.WaitGroup
	for i, w := range gone {
		turns <- struct{}{}
		asking.Go(func() {
			defer func() { <-turns }()
			response.RevokedGrants[i].ProviderRevocation = b.withdrawContained(ctx, caller, w)
		})
	}
	asking.Wait()
	return response, nil
}

// mayRevoke asks about each workload and provider that a user's grants, traded
// tokens and questions under way touch, before any is deleted: what is denied for
// one of them denies the whole, also where that one would be left for a later
// call. What it answers may be deleted.
func (b *Broker) mayRevoke(ctx context.Context, caller principal.Caller, f vault.Filter) (map[[2]string][]gate.Check, error) {
	touched := map[[2]string][]gate.Check{}
	err := b.db.View(ctx, func(tx *store.Tx) error {
		clear(touched)
		names := newNames(b, tx)
		keys, err := b.underWay(tx, f)
		if err != nil {
			return err
		}
		held, err := b.vault.HeldOf(tx, f)
		if err != nil {
			return err
		}
		for _, k := range append(keys, held...) {
			if touched[[2]string{k.WorkloadID, k.ProviderID}], err = names.checks(k, api.RevokeUserGrants.Action()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(err, "looking up a user's grants")
	}
	for _, checks := range touched {
		if err := b.gate.May(ctx, caller, checks...); err != nil {
			return nil, err
		}
	}
	return touched, nil
}

// scrub makes the sealed tokens vanish from the database's files, too.
func (b *Broker) scrub(ctx context.Context) {
	if err := b.db.Scrub(ctx); err != nil { // the server does so every few minutes anyway
		slog.InfoContext(ctx, "revoked grants are deleted, and not yet overwritten", "error", err)
	}
}

type withdrawn struct {
	*vault.Withdrawn
	provider *Provider
}

func (b *Broker) deleteGrants(ctx context.Context, f vault.Filter, allowed map[[2]string][]gate.Check) (gone []withdrawn, response *api.RevokeUserGrantsResponse, err error) {
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		gone, response = nil, &api.RevokeUserGrantsResponse{RevokedGrants: []api.RevokedGrant{}}
		names := newNames(b, tx)
		list, err := b.vault.List(tx, f, vault.Place{}, revokeAtOnce+1)
		if err != nil {
			return err
		}
		if response.Remaining = len(list) > revokeAtOnce; response.Remaining {
			list = list[:revokeAtOnce]
		}
		providers := map[string]*Provider{}
		for _, g := range list {
			if allowed[[2]string{g.WorkloadID, g.ProviderID}] == nil { // granted since that was asked
				response.Remaining = true
				continue
			}
			workload, provider, err := names.of(g.Key)
			if err != nil {
				return err
			}
			if providers[g.ProviderID] == nil {
				if providers[g.ProviderID], err = b.providerByID(tx, g.Account, g.ProviderID); err != nil {
					return err
				}
			}
			w, err := b.vault.Delete(tx, g.Account, g.ID)
			if err != nil {
				return err
			}
			gone = append(gone, withdrawn{w, providers[g.ProviderID]})
			shown := api.RevokedGrant{GrantId: g.ID, WorkloadName: workload.Name, ProviderName: provider}
			if g.Label != "" {
				shown.AccountLabel = &g.Label
			}
			response.RevokedGrants = append(response.RevokedGrants, shown)
		}
		if _, err := b.vault.DropCachedOf(tx, f); err != nil {
			return err
		}
		return b.endSessionsOf(tx, f)
	})
	return gone, response, err
}

// withdrawContained is withdraw in a goroutine of its own. The grant is gone in any
// case: what breaks on the way to one provider is that grant's FAILED.
func (b *Broker) withdrawContained(ctx context.Context, caller principal.Caller, w withdrawn) (outcome api.ProviderRevocation) {
	err := fault.Contain("taking a grant's tokens back", func() error {
		outcome = b.withdraw(ctx, caller, w.provider, w.Withdrawn)
		return nil
	})
	if err != nil {
		slog.ErrorContext(ctx, "tokens of a revoked grant could not be taken back", "grant", w.ID, "error", err)
		return api.ProviderRevocationFailed
	}
	return outcome
}

// withdraw takes the tokens of a grant that is gone back at its provider, as well
// as that can be done: the refresh token, which at most providers ends the rest,
// and the access token, which some revoke alone.
func (b *Broker) withdraw(ctx context.Context, caller principal.Caller, p *Provider, w *vault.Withdrawn) api.ProviderRevocation {
	if p.Origin() != w.Origin { // its tokens are no business of the provider that has this name now
		return api.ProviderRevocationFailed
	}
	if !b.server(p).Revokes() {
		return api.ProviderRevocationUnsupported
	}
	if err := b.gate.Intent(ctx, caller, gate.Check{Action: actionRevoke, Resource: p.ARN}, map[string]string{"grant": w.ID}); err != nil {
		return api.ProviderRevocationFailed
	}
	refresh, access, err := b.vault.OpenWithdrawn(ctx, w)
	if err != nil {
		slog.WarnContext(ctx, "tokens of a revoked grant could not be opened to be taken back", "grant", w.ID, "error", err)
		return api.ProviderRevocationFailed
	}
	return b.takeBack(ctx, p, refresh, access)
}

// takeBack sends what it has to the provider's revocation endpoint. The act
// around it has been recorded.
func (b *Broker) takeBack(ctx context.Context, p *Provider, refresh, access secret.Text) api.ProviderRevocation {
	ctx, cancel := context.WithTimeout(ctx, revokePatience)
	defer cancel()
	server, err := b.client(ctx, p)
	if err != nil {
		slog.WarnContext(ctx, "tokens could not be taken back at their provider", "provider", p.ARN, "error", err)
		return api.ProviderRevocationFailed
	}
	outcome := api.ProviderRevocationUnsupported
	for _, token := range []struct {
		secret.Text
		hint string
	}{{refresh, oauth.HintRefreshToken}, {access, oauth.HintAccessToken}} {
		if token.Empty() {
			continue
		}
		switch err := b.oauth.Revoke(ctx, server, token.Text, token.hint); {
		case err == nil:
			outcome = api.ProviderRevocationRevoked
		case errors.Is(err, oauth.ErrNoRevocation):
		default:
			slog.WarnContext(ctx, "a token could not be taken back at its provider", "provider", p.ARN, "kind", token.hint, "error", err)
			if token.hint == oauth.HintRefreshToken {
				return api.ProviderRevocationFailed // what is left renews the other
			}
			if outcome != api.ProviderRevocationRevoked {
				outcome = api.ProviderRevocationFailed
			}
		}
	}
	return outcome
}

// endSessions ends the questions to a user that would make a revoked grant
// again: links, codes that wait, and a redemption under way, which then stores nothing.
func (b *Broker) endSessions(tx *store.Tx, k vault.Key) error {
	return b.endMatching(tx, ` AND workload_id = $7 AND provider_id = $8 AND label = $9`, k.Account, k.User, k.WorkloadID, k.ProviderID, k.Label)
}

func (b *Broker) endSessionsOf(tx *store.Tx, f vault.Filter) error {
	return b.endMatching(tx, ` AND ($7 = '' OR workload_id = $7) AND ($8 = '' OR provider_id = $8)`, f.Account, f.User, f.WorkloadID, f.ProviderID)
}

// underWay are the workloads and providers of what goes with a user's grants.
func (b *Broker) underWay(tx *store.Tx, f vault.Filter) ([]vault.Key, error) {
	keys, err := b.vault.CachedOf(tx, f)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(`SELECT DISTINCT workload_id, provider_id FROM authorization_sessions
		WHERE account = $1 AND user_issuer = $2 AND user_subject = $3 AND user_id = $4 AND ($5 = '' OR workload_id = $5) AND ($6 = '' OR provider_id = $6) AND state NOT IN ($7, $8)`,
		f.Account, f.User.Issuer, f.User.Subject, f.User.ID, f.WorkloadID, f.ProviderID, done, failed)
	if err != nil {
		return nil, fault.Wrap(err, "looking up authorization sessions")
	}
	defer rows.Close()
	for rows.Next() {
		k := vault.Key{Account: f.Account, User: f.User}
		if err := rows.Scan(&k.WorkloadID, &k.ProviderID); err != nil {
			return nil, fault.Wrap(err, "looking up authorization sessions")
		}
		keys = append(keys, k)
	}
	return keys, fault.Wrap(errors.Join(rows.Err(), rows.Close()), "looking up authorization sessions")
}

func (b *Broker) endMatching(tx *store.Tx, more string, account string, u principal.User, args ...any) error {
	const why = "The access was revoked."
	rows, err := tx.Query(`UPDATE authorization_sessions SET state = $1, failure = $2, attempt_id = ''
		WHERE account = $3 AND user_issuer = $4 AND user_subject = $5 AND user_id = $6 AND state NOT IN ('`+string(done)+`', '`+string(failed)+`')`+more+` RETURNING id`,
		append([]any{failed, why, account, u.Issuer, u.Subject, u.ID}, args...)...)
	if err != nil {
		return fault.Wrap(err, "ending authorization sessions")
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return fault.Wrap(err, "ending authorization sessions")
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fault.Wrap(err, "ending authorization sessions")
	}
	for _, id := range ids {
		if _, err := tx.Exec(`DELETE FROM authorization_attempts WHERE session_id = $1`, id); err != nil {
			return fault.Wrap(err, "dropping attempts")
		}
	}
	return nil
}
