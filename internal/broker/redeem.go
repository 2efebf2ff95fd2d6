package broker

import (
	"context"
	"errors"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// actionRedeem is what an intent calls a redemption.
const actionRedeem = "onbehalf:RedeemAuthorizationCode"

func (b *Broker) intendToRedeem(ctx context.Context, caller principal.Caller, s *session) error {
	var p *Provider
	err := b.db.View(ctx, func(tx *store.Tx) (err error) {
		p, err = b.providerByID(tx, s.key.Account, s.key.ProviderID)
		return err
	})
	if err != nil {
		return fault.Wrap(err, "reading a credential provider")
	}
	// A client whose secret lies elsewhere and cannot be read now must not cost the person the code.
	if _, err := b.client(ctx, p); err != nil {
		return err
	}
	return b.gate.Intent(ctx, caller, gate.Check{Action: actionRedeem, Resource: p.ARN}, map[string]string{"session": s.tag()})
}

// markRedeeming is the point of no return: a process that dies after it leaves
// a session that fails by itself, since nobody knows whether the code was sent.
// The provider is read with the mark: it is the one that the parked code came
// from, because an Update that makes it another one unparks codes. The attempt
// is nil when another process was first.
func (b *Broker) markRedeeming(ctx context.Context, s *session) (a *attempt, p *Provider, err error) {
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		a = nil
		found, err := b.attemptByID(tx, s.attemptID)
		if errors.Is(err, ErrAttempt) { // it was discarded meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		changed, err := tx.Exec(`UPDATE authorization_sessions SET state = $1, redeem_until = $2, attempt_id = $3 WHERE id = $4 AND state = $5`,
			redeeming, store.Micros(tx.Now.Add(leaseLifetime)), found.id, s.id, open)
		if err != nil || changed == 0 {
			return err
		}
		if p, err = b.providerByID(tx, s.key.Account, s.key.ProviderID); err == nil {
			a = found
		}
		return err
	})
	return a, p, fault.Wrap(err, "marking a session")
}

// redeem sends the code, once, and stores the grant.
func (b *Broker) redeem(ctx context.Context, s *session, a *attempt, provider *Provider) (string, error) {
	token, err := b.exchange(ctx, s, a, provider)
	if err != nil {
		known := fault.Of(err)
		why := "The authorization code could not be redeemed: " + known.Message
		if err := b.settle(ctx, s, why); err != nil {
			return "", err
		}
		kind := known.Kind
		if kind == fault.Unavailable {
			kind = fault.Upstream // trying this again helps nobody: the code may be spent
		}
		return "", fault.New(kind, "%s Call GetResourceOauth2Token to ask the user again.", why).Because(err)
	}
	tokens := vault.Tokens{Access: token.Access, Refresh: token.Refresh, Expiry: token.Expiry, Asked: s.scopes, Origin: provider.Origin()}
	if token.Scopes != nil {
		tokens.Granted = vault.ScopesOf(token.Scopes)
	}
	var grantID string
	changed := false // the provider has become another one meanwhile
	ended := false   // somebody has revoked what the user was about to grant
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		changed, ended = false, false
		current, err := b.providerByID(tx, s.key.Account, s.key.ProviderID)
		if err != nil {
			return err
		}
		if changed = current.Origin() != tokens.Origin; changed {
			return nil
		}
		if grantID, err = b.vault.Put(tx, s.key, tokens); err != nil {
			return err
		}
		ours, err := tx.Exec(`UPDATE authorization_sessions SET state = $1, grant_id = $2 WHERE id = $3 AND state = $4 AND attempt_id = $5`,
			done, grantID, s.id, redeeming, s.attemptID)
		if ended = err == nil && ours == 0; ended {
			return sessionFault("it ended while the code was redeemed. Call GetResourceOauth2Token to ask the user again.")
		}
		if err == nil {
			err = finished(tx, s.id, s.attemptID)
		}
		if err == nil {
			err = b.tell(tx, ConsentGiven, s.key, grantID)
		}
		return err
	})
	if ended { // nobody else will give back what the provider sent
		b.takeBack(context.WithoutCancel(ctx), provider, token.Refresh, token.Access)
	}
	if err == nil && changed {
		const why = "The credential provider was changed while the code was redeemed."
		if err := b.settle(ctx, s, why); err != nil {
			return "", err
		}
		return "", sessionFault("%s Call GetResourceOauth2Token to ask the user again.", why)
	}
	return grantID, fault.Wrap(err, "storing a grant")
}

// finished keeps of all attempts the one that went through, without what it
// carried: its browser may be shown how the session ended.
func finished(tx *store.Tx, sessionID, attemptID string) error {
	if _, err := tx.Exec(`DELETE FROM authorization_attempts WHERE session_id = $1 AND id <> $2`, sessionID, attemptID); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE authorization_attempts SET code = NULL, verifier = $1 WHERE id = $2`, []byte{}, attemptID)
	return err
}

// exchange opens what the token request carries, for that request alone.
func (b *Broker) exchange(ctx context.Context, s *session, a *attempt, p *Provider) (oauth.Token, error) {
	account := s.key.Account
	server, err := b.client(ctx, p)
	if err != nil {
		return oauth.Token{}, err
	}
	code, err := b.keeper.OpenText(ctx, attemptContext(account, "code", a.id), a.code)
	if err != nil {
		return oauth.Token{}, err
	}
	verifier, err := b.keeper.OpenText(ctx, attemptContext(account, "verifier", a.id), a.verifier)
	if err != nil {
		return oauth.Token{}, err
	}
	sending, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	return b.oauth.Exchange(sending, server, code, verifier, oauth.Authorization{Scopes: s.scopes, Resources: s.key.Resources, Audiences: s.key.Audiences})
}

// settle writes the failure down. The mark would fail the session anyway, later and without a reason.
func (b *Broker) settle(ctx context.Context, s *session, why string) error {
	err := b.db.Update(ctx, func(tx *store.Tx) error {
		_, err := b.fail(tx, s, redeeming, why)
		return err
	})
	return fault.Wrap(err, "failing an authorization session")
}
