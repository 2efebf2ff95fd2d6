package broker

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// GetResourceTokenState says what GetResourceOauth2Token would find, and does
// nothing else: no refresh, no question to the user, no last-used time. Workload
// and User are the Caller's, as there.
func (b *Broker) GetResourceTokenState(ctx context.Context, caller principal.Caller, r *api.GetResourceTokenStateRequest) (*api.GetResourceTokenStateResponse, error) {
	request := TokenRequest{ProviderName: r.ProviderName, Scopes: r.Scopes, Resources: r.Resources, Audiences: r.Audiences}
	if r.AccountLabel != nil {
		request.Parameters = map[string]string{parameterAccount: *r.AccountLabel}
	}
	gate.Detail(ctx, "flow", string(r.Oauth2Flow))
	switch r.Oauth2Flow {
	case api.Oauth2FlowTypeM2m:
		q, err := clientQuestion(caller, request)
		if err != nil {
			return nil, err
		}
		return b.cachedState(ctx, caller, request, q, obtaining{kind: kindClient})
	case api.Oauth2FlowTypeOnBehalfOfTokenExchange:
		q, err := newQuestion(caller, request)
		if err != nil {
			return nil, err
		}
		return b.cachedState(ctx, caller, request, q, obtaining{kind: kindExchanged, subject: subjectOf(caller), user: caller.User})
	}
	if caller.User.IsZero() {
		return nil, errNoUser
	}
	q, err := newQuestion(caller, request)
	if err != nil {
		return nil, err
	}
	looked, err := b.find(ctx, caller, request, q)
	if err != nil {
		return nil, err
	}
	return b.grantTokenState(looked.grant, q.scopes), nil
}

func (b *Broker) grantTokenState(g *vault.Grant, wanted vault.Scopes) *api.GetResourceTokenStateResponse {
	if g == nil {
		return &api.GetResourceTokenStateResponse{State: api.ResourceTokenStateNone, MissingScopes: wanted}
	}
	answer := &api.GetResourceTokenStateResponse{
		State: api.ResourceTokenState(grantState(g, b.db.Now())), Refreshable: &g.HasRefresh, ExpiresAt: api.ISO(g.Expiry), GrantedScopes: g.Granted,
	}
	if g.Granted == nil {
		answer.GrantedScopes = g.Asked
	}
	if !g.Covers(wanted) {
		answer.State, answer.MissingScopes = api.ResourceTokenStateNeedsConsent, g.Lacks(wanted)
	}
	return answer
}

func (b *Broker) cachedState(ctx context.Context, caller principal.Caller, r TokenRequest, q question, o obtaining) (*api.GetResourceTokenStateResponse, error) {
	looked, err := b.lookUp(ctx, caller, r, q, o)
	if err != nil {
		return nil, err
	}
	if looked.token == nil {
		return &api.GetResourceTokenStateResponse{State: api.ResourceTokenStateNone}, nil
	}
	state := api.ResourceTokenStateActive
	if looked.token.Expired(b.db.Now()) {
		state = api.ResourceTokenStateExpired
	}
	return &api.GetResourceTokenStateResponse{State: state, ExpiresAt: api.ISO(looked.token.Expiry)}, nil
}

var errNoUser = fault.New(fault.Invalid, "USER_FEDERATION acts for a user, and the workload access token names none. Get it with GetWorkloadAccessTokenForJWT or GetWorkloadAccessTokenForUserId.")
