package broker

import (
	"context"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// poll answers for one session: never with an older grant, so that an agent
// that forced the question gets its answer. A session that cannot succeed any
// more is an error, because the SDKs' pollers stop at nothing else.
func (b *Broker) poll(ctx context.Context, caller principal.Caller, r TokenRequest, q question) (*TokenResult, error) {
	r.SessionURI, _ = splitSessionID(r.SessionURI)
	var s *session
	var grant *vault.Grant
	var now time.Time
	err := b.db.View(ctx, func(tx *store.Tx) (err error) {
		now, grant = tx.Now, nil
		if s, err = b.sessionByURI(tx, r.SessionURI); err != nil {
			return err
		}
		// The provider too: the guard has decided about the one that the request names.
		provider, err := b.resolveProvider(tx, caller.Account, r)
		if err != nil {
			return err
		}
		if s.key.Account != caller.Account || s.key.WorkloadID != caller.Workload.ID || s.key.User != caller.User || s.key.ProviderID != provider {
			return errSession
		}
		if s.stored == done {
			grant, err = b.vault.Get(tx, caller.Account, s.grantID)
		}
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, "polling an authorization session")
	}
	gate.Detail(ctx, "session", s.tag())
	if !s.scopes.Cover(q.scopes) {
		return nil, fault.InvalidField("sessionUri", "The session was opened for fewer scopes. Call GetResourceOauth2Token without sessionUri to ask for these.")
	}
	switch s.status(now) {
	case expired:
		return nil, errSession
	case failed:
		return nil, sessionFault("%s Call GetResourceOauth2Token without sessionUri to ask the user again.", s.reason())
	case done:
		token, err := secret.Text{}, errNeedsConsent
		if grant != nil && grant.State == vault.Active && grant.Covers(q.scopes) {
			token, err = b.use(ctx, caller, grant, now)
		}
		if errors.Is(err, errNeedsConsent) {
			return nil, sessionFault("what it granted is not valid any more. Call GetResourceOauth2Token without sessionUri to ask the user again.")
		}
		if err != nil {
			return nil, err
		}
		return &TokenResult{Access: token}, nil
	}
	return &TokenResult{AuthorizationURL: b.authorizationURL(r.SessionURI), SessionURI: r.SessionURI, Status: StatusInProgress}, nil
}
