package broker

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// actionClientToken is what an intent calls a request of client credentials.
const actionClientToken = "onbehalf:RequestClientToken"

// ClientToken answers a token of the provider's client itself (M2M): for the
// Caller's Workload, whoever its User is, since nobody is acted for. It is cached
// until shortly before its end, for exactly these scopes, resources, audiences and parameters.
func (b *Broker) ClientToken(ctx context.Context, caller principal.Caller, r TokenRequest) (secret.Text, error) {
	if caller.Workload.IsZero() {
		return secret.Text{}, fault.New(fault.Invalid, "A token is given to a workload identity, and the caller has none.")
	}
	q, err := clientQuestion(caller, r)
	if err != nil {
		return secret.Text{}, err
	}
	return b.obtain(ctx, caller, r, q, obtaining{
		kind: kindClient, action: actionClientToken,
		check: func(p *Provider) error {
			switch {
			case p.ClientID == "":
				return fault.New(fault.Invalid, "The credential provider %s has no client of its own.", p.Name)
			case p.settings.Public:
				return fault.New(fault.Invalid, "The client of the credential provider %s is public: it has nothing to prove itself by, and no tokens of its own.", p.Name)
			}
			return nil
		},
		send: func(ctx context.Context, _ *Provider, s oauth.Server) (oauth.Token, error) {
			return b.oauth.ClientCredentials(ctx, s, q.scopes, q.key.Resources, q.key.Audiences, q.parameters)
		},
	})
}

// kindClient is what M2M tokens are called in lookups and records.
const kindClient = "client-credentials"

// clientQuestion is the same whoever the user is.
func clientQuestion(caller principal.Caller, r TokenRequest) (question, error) {
	q, err := newQuestion(caller, r)
	q.key.User, q.authorizer = principal.User{}, ""
	return q, err
}
