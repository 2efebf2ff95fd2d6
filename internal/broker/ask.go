package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// reuseMargin is the life that a link must have left to be handed out again.
const reuseMargin = time.Minute

// ask opens an authorization session, or finds the open one of an equal
// question: a poller without sessionUri, or a tool that is tried again, gets the link that it has shown already.
func (b *Broker) ask(ctx context.Context, caller principal.Caller, q question) (*TokenResult, error) {
	if err := b.checkHosted(q); err != nil {
		return nil, err
	}
	macKey, err := b.fingerprintKey(ctx, q.key.Account)
	if err != nil {
		return nil, err
	}
	uri, opened := sessionURIPrefix+unguessable(), false
	var found string
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		found, opened = "", false
		if _, err := b.allowedToReturn(tx, q.key.Account, q.key.WorkloadID, q.returnURL); err != nil {
			return err
		}
		asked := q
		grant, err := b.vault.Find(tx, q.key)
		if err != nil {
			return err
		}
		if grant != nil {
			if asked.scopes, err = b.union(tx, grant, q.scopes); err != nil {
				return err
			}
			if q.force { // nobody gets the old token while, or after, the person is asked
				if err := b.vault.MarkNeedsConsent(tx, q.key.Account, grant.ID, grant.Version); err != nil {
					return err
				}
			}
		}
		fingerprint := asked.fingerprint(macKey)
		if found, err = b.reusable(tx, q.key.Account, fingerprint); err != nil || found != "" {
			return err
		}
		opened = true
		return b.openSession(tx, uri, fingerprint, asked)
	})
	if err != nil {
		return nil, fault.Wrap(err, "opening an authorization session")
	}
	if found != "" {
		uri = found
	}
	gate.Detail(ctx, "session", hashed(uri)[:12])
	gate.Detail(ctx, "session_outcome", map[bool]string{true: "opened", false: "reused"}[opened])
	return &TokenResult{AuthorizationURL: b.authorizationURL(uri), SessionURI: uri, Status: StatusInProgress}, nil
}

// union is what to ask the person for: a new consent replaces the old one, so it
// has to be as wide. Scopes of a provider that is another one by now mean nothing there.
func (b *Broker) union(tx *store.Tx, grant *vault.Grant, wanted vault.Scopes) (vault.Scopes, error) {
	p, err := b.providerByID(tx, grant.Account, grant.ProviderID)
	if err != nil {
		return wanted, err
	}
	origin, err := b.vault.OriginOf(tx, grant)
	if err != nil || p.Origin() != origin {
		return wanted, err
	}
	return grant.Asked.Union(wanted), nil
}

// errNoReturnURL is AWS's text.
var errNoReturnURL = fault.New(fault.Invalid, "You must register and use at least one ResourceOauth2ReturnUrl on your workload identity to use this flow")

// allowedToReturn reads the workload, if the return URL is on its list. It
// compares byte for byte: whatever is sent to that URL decides who the person is.
func (b *Broker) allowedToReturn(tx *store.Tx, account, workloadID, returnURL string) (identity.Identity, error) {
	workload, err := b.identity.Get(tx, account, workloadID)
	switch {
	case err != nil:
		return identity.Identity{}, err
	case returnURL == "" || len(workload.ReturnURLs) == 0:
		return identity.Identity{}, errNoReturnURL
	case !slices.Contains(workload.ReturnURLs, returnURL):
		return identity.Identity{}, fault.InvalidField("resourceOauth2ReturnUrl", "The resourceOauth2ReturnUrl is not one of the allowedResourceOauth2ReturnUrls of the workload identity %s: they are compared character by character.", workload.Name)
	}
	return workload, nil
}

// stillAllowedToReturn asks again on the front channel, minutes later.
func (b *Broker) stillAllowedToReturn(tx *store.Tx, s *session) (identity.Identity, error) {
	workload, err := b.allowedToReturn(tx, s.key.Account, s.key.WorkloadID, s.returnURL)
	if fault.Is(err, fault.Invalid) {
		err = sessionFault("the application's return URL is not allowed any more. Ask the application again.").Because(ErrLinkFailed)
	}
	return workload, err
}

func (b *Broker) reusable(tx *store.Tx, account, fingerprint string) (string, error) {
	var id string
	var sealed []byte
	err := tx.QueryRow(`SELECT id, uri FROM authorization_sessions WHERE fingerprint = $1 AND account = $2 AND state = $3 AND expires > $4 ORDER BY expires DESC LIMIT 1`,
		fingerprint, account, open, store.Micros(tx.Now.Add(reuseMargin))).Scan(&id, &sealed)
	if errors.Is(err, store.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	uri, err := b.keeper.OpenText(tx.Context(), sessionContext(account, "uri", id), sealed)
	return uri.Reveal(), err
}

func (b *Broker) openSession(tx *store.Tx, uri, fingerprint string, q question) error {
	if err := b.makeRoom(tx, q.key.WorkloadID, q.key.User); err != nil {
		return err
	}
	ctx, account, id := tx.Context(), q.key.Account, hashed(uri)
	sealedURI, err := b.keeper.Seal(ctx, sessionContext(account, "uri", id), []byte(uri))
	if err != nil {
		return err
	}
	var parameters, customState []byte
	if len(q.parameters) > 0 {
		plain, err := json.Marshal(q.parameters)
		if err != nil {
			return err
		}
		defer clear(plain)
		if parameters, err = b.keeper.Seal(ctx, sessionContext(account, "parameters", id), plain); err != nil {
			return err
		}
	}
	if !q.state.Empty() {
		if customState, err = b.keeper.SealText(ctx, sessionContext(account, "custom_state", id), q.state); err != nil {
			return err
		}
	}
	resources, err := json.Marshal(q.key.Resources)
	if err != nil {
		return err
	}
	audiences, err := json.Marshal(q.key.Audiences)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO authorization_sessions (id, account, workload_id, provider_id, user_issuer, user_subject, user_id, authorizer, label,
			resources, audiences, scopes, return_url, uri, parameters, custom_state, fingerprint, state, failure, attempt_id, redeem_until, grant_id, created, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, '', '', 0, '', $19, $20)`,
		id, account, q.key.WorkloadID, q.key.ProviderID, q.key.User.Issuer, q.key.User.Subject, q.key.User.ID, q.authorizer, q.key.Label,
		string(resources), string(audiences), q.scopes.String(), q.returnURL, sealedURI, parameters, customState, fingerprint, open,
		store.Micros(tx.Now), store.Micros(tx.Now.Add(sessionLifetime)))
	if store.IsForeignKey(err) {
		return fault.New(fault.NotFound, "The credential provider was deleted meanwhile.")
	}
	return err
}
