package broker

import (
	"context"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// TokenRequest is what GetResourceOauth2Token and the gateway ask for the
// Workload and the User of a caller.
type TokenRequest struct {
	ProviderName string // or ProviderARN, which must be of the caller's account
	ProviderARN  string
	Scopes       []string
	ReturnURL    string            // needed when consent is: one of the workload's own
	SessionURI   string            // a poll: answered for that session alone
	Force        bool              // ask the person, whatever there is; a poll disregards it
	Parameters   map[string]string // of the authorization request; the protocol's own names have no effect
	State        secret.Text       // given back at ReturnURL
	Resources    []string
	Audiences    []string
}

// StatusInProgress is the status of a session that a person has not gone through with yet.
const StatusInProgress = string(api.SessionStatusInProgress)

// TokenResult is the access token, or the other three: a link to show to the user.
type TokenResult struct {
	Access           secret.Text
	AuthorizationURL secret.Text
	SessionURI       string
	Status           string // StatusInProgress
}

// GetResourceOauth2Token answers an access token, or a link where the user can
// give one; a link comes of USER_FEDERATION alone. Workload and User are the Caller's: the operation's scope
// has opened the workload access token (identity.Open), and policy has decided on what was in it.
func (b *Broker) GetResourceOauth2Token(ctx context.Context, caller principal.Caller, r *api.GetResourceOauth2TokenRequest) (*api.GetResourceOauth2TokenResponse, error) {
	request := TokenRequest{ProviderName: r.ResourceCredentialProviderName, Scopes: r.Scopes, Resources: r.Resources, Audiences: r.Audiences}
	if r.ResourceOauth2ReturnUrl != nil {
		request.ReturnURL = *r.ResourceOauth2ReturnUrl
	}
	if r.SessionUri != nil {
		request.SessionURI = *r.SessionUri
	}
	if r.ForceAuthentication != nil {
		request.Force = *r.ForceAuthentication
	}
	if r.CustomState != nil {
		request.State = *r.CustomState
	}
	if len(r.CustomParameters) > 0 {
		request.Parameters = make(map[string]string, len(r.CustomParameters))
		for name, value := range r.CustomParameters {
			request.Parameters[name] = value.Reveal()
		}
	}
	gate.Detail(ctx, "flow", string(r.Oauth2Flow))
	switch r.Oauth2Flow {
	case api.Oauth2FlowTypeUserFederation:
	case api.Oauth2FlowTypeM2m:
		token, err := b.ClientToken(ctx, caller, request)
		if err != nil {
			return nil, err
		}
		return &api.GetResourceOauth2TokenResponse{AccessToken: &token}, nil
	case api.Oauth2FlowTypeOnBehalfOfTokenExchange:
		token, err := b.ExchangedToken(ctx, caller, request)
		if err != nil {
			return nil, err
		}
		return &api.GetResourceOauth2TokenResponse{AccessToken: &token}, nil
	default:
		return nil, notBuilt("oauth2Flow "+string(r.Oauth2Flow), "USER_FEDERATION, M2M and ON_BEHALF_OF_TOKEN_EXCHANGE are.")
	}
	result, err := b.UserToken(ctx, caller, request)
	if err != nil {
		return nil, err
	}
	if !result.Access.Empty() {
		return &api.GetResourceOauth2TokenResponse{AccessToken: &result.Access}, nil
	}
	return &api.GetResourceOauth2TokenResponse{
		AuthorizationUrl: &result.AuthorizationURL,
		SessionUri:       &result.SessionURI,
		SessionStatus:    api.SessionStatus(result.Status),
	}, nil
}

// errNeedsConsent says that no token can be had without asking the person. It stays inside this room.
var errNeedsConsent = errors.New("consent is needed")

// UserToken answers for the Caller's Workload and User: with the access token of
// a grant that covers the request, refreshed where it has expired; else with a
// link. With SessionURI it answers for that session and nothing else.
//
// The way of a valid grant writes nothing, and reads nothing where no write came
// between this call and the last one like it.
func (b *Broker) UserToken(ctx context.Context, caller principal.Caller, r TokenRequest) (*TokenResult, error) {
	if caller.Workload.IsZero() {
		return nil, fault.New(fault.Invalid, "A token is given to a workload identity, and the caller has none.")
	}
	if caller.User.IsZero() {
		return nil, errNoUser
	}
	q, err := newQuestion(caller, r)
	if err != nil {
		return nil, err
	}
	if r.SessionURI != "" {
		return b.poll(ctx, caller, r, q)
	}
	looked, err := b.find(ctx, caller, r, q)
	if err != nil {
		return nil, err
	}
	q.key.ProviderID = looked.providerID
	grant, now := looked.grant, b.db.Now()
	if grant != nil && grant.State == vault.Active && !r.Force && grant.Covers(q.scopes) {
		token, err := b.use(ctx, caller, grant, now)
		if err == nil {
			return &TokenResult{Access: token}, nil
		}
		if !errors.Is(err, errNeedsConsent) {
			return nil, err
		}
	}
	return b.ask(ctx, caller, q)
}

// find reads the grant that a question has, if any.
func (b *Broker) find(ctx context.Context, caller principal.Caller, r TokenRequest, q question) (found, error) {
	wanted, key := finding{caller.Account, r.ProviderName, r.ProviderARN, q.key.Lookup()}, q.key
	looked, err := b.found.Look(ctx, wanted, func(tx *store.Tx) (looked found, err error) {
		name, id, err := b.hinted(caller.Account, r)
		if err != nil {
			return looked, err
		}
		key.ProviderID = id
		looked.providerID = id
		if looked.grant, err = b.vault.FindNamed(tx, key, name); err == nil && looked.grant == nil {
			err = errNoHint
		}
		return looked, err
	})
	if errors.Is(err, errNoHint) {
		looked, err = b.found.Read(ctx, wanted, func(tx *store.Tx) (looked found, err error) {
			if key.ProviderID, err = b.resolveProvider(tx, caller.Account, r); err != nil {
				return looked, err
			}
			looked.providerID = key.ProviderID
			looked.grant, err = b.vault.Find(tx, key)
			return looked, err
		})
	}
	return looked, fault.Wrap(err, "looking for a grant")
}

// finding is what decides which grant a request finds; found is that grant, nil
// where there is none, and shared: nobody changes it.
type (
	finding struct{ account, providerName, providerARN, key string }
	found   struct {
		providerID string
		grant      *vault.Grant
	}
)

// mostFound bounds the grants that are remembered, sealed, between requests: about 3 KB each.
const mostFound = 4096

// use answers the grant's access token, refreshed where that is due. A refresh
// that fails while the old token still lives costs nobody anything.
func (b *Broker) use(ctx context.Context, caller principal.Caller, grant *vault.Grant, now time.Time) (secret.Text, error) {
	gate.Detail(ctx, "grant", grant.ID)
	if grant.Fresh(now) {
		if grant.Aging(now) {
			b.refreshAhead(grant)
		}
		return b.vault.OpenAccess(ctx, grant, now)
	}
	if !grant.HasRefresh {
		if grant.Expired(now) {
			return secret.Text{}, errNeedsConsent
		}
		return b.vault.OpenAccess(ctx, grant, now)
	}
	refreshed, err := b.refresh(ctx, caller, grant)
	switch {
	case err == nil:
		gate.Detail(ctx, "refreshed", "true")
		return b.vault.OpenAccess(ctx, refreshed, now)
	case errors.Is(err, errNeedsConsent) || grant.Expired(now):
		return secret.Text{}, err
	}
	gate.Detail(ctx, "refreshed", "failed")
	return b.vault.OpenAccess(ctx, grant, now)
}
