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

// redemption is a token request that is ready but for the code.
type redemption struct {
	attempt  *attempt
	provider *Provider
	server   oauth.Server // with the client's proof
}

// intendToRedeem makes ready what may fail: a client whose secret lies elsewhere
// and cannot be read now must not cost the person the code.
func (b *Broker) intendToRedeem(ctx context.Context, caller principal.Caller, s *session) (r redemption, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) (err error) {
		r.provider, err = b.providerByID(tx, s.key.Account, s.key.ProviderID)
		return err
	})
	if err != nil {
		return r, fault.Wrap(err, "reading a credential provider")
	}
	if r.server, err = b.client(ctx, r.provider); err != nil {
		return r, err
	}
	return r, b.gate.Intent(ctx, caller, gate.Check{Action: actionRedeem, Resource: r.provider.ARN}, map[string]string{"session": s.tag()})
}

// markRedeeming is the point of no return: a process that dies after it leaves
// a session that fails by itself, since nobody knows whether the code was sent.
// The provider is compared with the mark: it is the one that the parked code came
// from, because an Update that makes it another one unparks codes. It answers
// false when another process was first, or the provider was changed meanwhile: look again then.
func (b *Broker) markRedeeming(ctx context.Context, s *session, r *redemption) (marked bool, err error) {
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		marked = false
		found, err := b.attemptByID(tx, s.attemptID)
		if errors.Is(err, ErrAttempt) { // it was discarded meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		p, err := b.providerByID(tx, s.key.Account, s.key.ProviderID)
		if err != nil || !p.Updated.Equal(r.provider.Updated) {
			return err
		}
		changed, err := tx.Exec(`UPDATE authorization_sessions SET state = $1, redeem_until = $2, attempt_id = $3 WHERE id = $4 AND state = $5`,
			redeeming, store.Micros(tx.Now.Add(leaseLifetime)), found.id, s.id, open)
		marked, r.attempt = changed == 1, found
		return err
	})
	return marked, fault.Wrap(err, "marking a session")
}

// redeem sends the code, once, and stores the grant.
func (b *Broker) redeem(ctx context.Context, s *session, r redemption) (string, error) {
	token, err := b.exchange(ctx, s, r)
	if err != nil {
		return "", b.notRedeemed(ctx, s, err)
	}
	grantID, err := b.storeGrant(ctx, s, r.provider, token)
	if errors.Is(err, errOvertaken) {
		b.takeBack(context.WithoutCancel(ctx), r.provider, token.Refresh, token.Access) // nobody else will
		if err := b.settle(ctx, s, providerChanged); err != nil {
			return "", err
		}
	}
	return grantID, fault.Wrap(err, "storing a grant")
}

const (
	askAgain        = " Call GetResourceOauth2Token to ask the user again."
	providerChanged = "The credential provider was changed while the code was redeemed."
)

// errOvertaken is the cause where nobody wants the grant any more that the provider gave.
var errOvertaken = errors.New("overtaken while the code was redeemed")

func (b *Broker) storeGrant(ctx context.Context, s *session, p *Provider, token oauth.Token) (grantID string, err error) {
	tokens := vault.Tokens{Access: token.Access, Refresh: token.Refresh, Expiry: token.Expiry, Asked: s.scopes, Origin: p.Origin()}
	if token.Scopes != nil {
		tokens.Granted = vault.ScopesOf(token.Scopes)
	}
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		current, err := b.providerByID(tx, s.key.Account, s.key.ProviderID)
		switch {
		case err != nil:
			return err
		case current.Origin() != tokens.Origin:
			return sessionFault(providerChanged + askAgain).Because(errors.Join(ErrLinkFailed, errOvertaken))
		}
		if grantID, err = b.vault.Put(tx, s.key, tokens); err != nil {
			return err
		}
		ours, err := tx.Exec(`UPDATE authorization_sessions SET state = $1, grant_id = $2 WHERE id = $3 AND state = $4 AND attempt_id = $5`,
			done, grantID, s.id, redeeming, s.attemptID)
		switch {
		case err != nil:
			return err
		case ours == 0: // somebody has revoked what the user was about to grant
			return sessionFault("it ended while the code was redeemed." + askAgain).Because(errors.Join(ErrLinkFailed, errOvertaken))
		}
		if err := finished(tx, s.id, s.attemptID); err != nil {
			return err
		}
		return b.tell(tx, ConsentGiven, s.key, grantID)
	})
	return grantID, err
}

// notRedeemed fails the session and says why.
func (b *Broker) notRedeemed(ctx context.Context, s *session, err error) error {
	known := fault.Of(err)
	why := "The authorization code could not be redeemed: " + known.Message
	if err := b.settle(ctx, s, why); err != nil {
		return err
	}
	kind := known.Kind
	if kind == fault.Unavailable {
		kind = fault.Upstream // trying this again helps nobody: the code may be spent
	}
	return fault.New(kind, "%s"+askAgain, why).Because(err)
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
func (b *Broker) exchange(ctx context.Context, s *session, r redemption) (oauth.Token, error) {
	account, a := s.key.Account, r.attempt
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
	return b.oauth.Exchange(sending, r.server, code, verifier, oauth.Authorization{Scopes: s.scopes, Resources: s.key.Resources, Audiences: s.key.Audiences})
}

// settle writes the failure down. The mark would fail the session anyway, later and without a reason.
func (b *Broker) settle(ctx context.Context, s *session, why string) error {
	err := b.db.Update(ctx, func(tx *store.Tx) error {
		_, err := b.fail(tx, s, redeeming, why)
		return err
	})
	return fault.Wrap(err, "failing an authorization session")
}
