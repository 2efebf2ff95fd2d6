package broker

import (
	"context"
	"errors"
	"net/url"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// ContinuePath follows CallbackPath and the provider's callback id: the button of
// a provider that requires pushed requests (RFC 9126) leads there, and from there
// to the provider. A pushed request lives for a minute or less, so it is pushed when the
// person leaves, not when a link is opened, which programs do too.
const ContinuePath = "/continue"

// pushLimit bounds the pushes of one attempt: somebody goes back and presses again.
const pushLimit = 10

var errPushedOut = fault.New(fault.Throttled, "This sign-in was begun too often. Open the application's link again.")

// continueURL is where the button leads. The state in it is of no use without the attempt's cookie.
func (b *Broker) continueURL(p *Provider, state string) string {
	return b.callbackURL(p) + ContinuePath + "?state=" + url.QueryEscape(state)
}

// Continue sends the browser of an attempt on to the provider, after telling the
// provider what is asked. Each call pushes anew, with the attempt's own state and verifier.
//
// Errors are for people, as Callback's; ErrPush is the cause where the provider
// did not take the request.
func (b *Broker) Continue(ctx context.Context, caller principal.Caller, callbackID, state string, cookie func(name string) string) (location string, err error) {
	var a *attempt
	var s *session
	var p *Provider
	err = b.db.Update(ctx, func(tx *store.Tx) (err error) {
		if a, err = b.attemptByID(tx, hashed(state)); err != nil {
			return err
		}
		if s, err = b.sessionByID(tx, a.sessionID); err != nil {
			return err
		}
		if p, err = b.providerByID(tx, s.key.Account, s.key.ProviderID); err != nil {
			return err
		}
		if err := checkAttempt(caller, callbackID, cookie, a, s, p); err != nil {
			return err
		}
		if err := linkUsable(s, tx.Now); err != nil {
			return err
		}
		pushed, err := tx.Exec(`UPDATE authorization_attempts SET pushes = pushes + 1 WHERE id = $1 AND pushes < $2`, a.id, pushLimit)
		if err == nil && pushed == 0 {
			return errPushedOut
		}
		return err
	})
	if s != nil {
		gate.Detail(ctx, "session", s.tag())
	}
	if err != nil {
		return "", fault.Wrap(err, "continuing an attempt")
	}
	server, err := b.client(ctx, p)
	if err != nil {
		return "", err
	}
	asked, err := b.asked(ctx, s, state)
	if err != nil {
		return "", err
	}
	if asked.Verifier, err = b.keeper.OpenText(ctx, attemptContext(s.key.Account, "verifier", a.id), a.verifier); err != nil {
		return "", err
	}
	pushing, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	location, _, err = b.oauth.Authorize(pushing, server, asked)
	if err != nil {
		gate.Detail(ctx, "session_outcome", "the provider did not take the pushed request")
		known := fault.Of(err)
		return "", fault.New(known.Kind, "%s", known.Message).Because(errors.Join(ErrPush, err))
	}
	gate.Detail(ctx, "session_outcome", "request pushed")
	return location, nil
}

// asked is what a session asks of its provider, but for the attempt's verifier.
func (b *Broker) asked(ctx context.Context, s *session, state string) (oauth.Authorization, error) {
	parameters, err := b.openParameters(ctx, s)
	return oauth.Authorization{State: state, Scopes: s.scopes, Resources: s.key.Resources, Audiences: s.key.Audiences, Parameters: parameters}, err
}
