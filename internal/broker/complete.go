package broker

import (
	"context"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// CompleteResourceTokenAuth is the application saying who came back. If that is
// the user who was asked, the parked code is redeemed and there is a grant; if
// it is anybody else, the code is thrown away unseen, and the link is free for
// the right person until its time is over.
//
// The same user may call again within the session's time and gets the same
// answer: SDKs try again on a lost connection. Refusals are fault.Denied with AWS's text.
func (b *Broker) CompleteResourceTokenAuth(ctx context.Context, caller principal.Caller, r *api.CompleteResourceTokenAuthRequest) (*api.CompleteResourceTokenAuthResponse, error) {
	s, workload, err := b.sessionToComplete(ctx, caller, r.SessionUri)
	if err != nil {
		return nil, err
	}
	gate.Detail(ctx, "session", s.tag())
	gate.Detail(ctx, "session_workload", workload.Name)
	if _, hosted, _ := b.hosted(s.returnURL); hosted {
		return nil, sessionFault("it ends on the platform's own page, which signs the user in: there is nothing to complete.")
	}
	user, err := b.whoCameBack(ctx, s, r.UserIdentifier)
	if err != nil {
		return nil, err
	}
	_, proof := splitSessionID(r.SessionUri)
	if user != s.key.User {
		return nil, b.turnAway(ctx, s, user, proof)
	}
	if err := b.completeFor(ctx, caller, s, workload, proof); err != nil {
		return nil, err
	}
	return &api.CompleteResourceTokenAuthResponse{}, nil
}

// completeFor completes the session for its own user, who is known to have come back.
func (b *Broker) completeFor(ctx context.Context, caller principal.Caller, s *session, workload identity.Identity, proof string) error {
	caller.Workload, caller.User, caller.Authorizer = workload.Workload, s.key.User, s.authorizer
	// Calls that overlap in this process share one answer; those of other processes wait for the session's mark.
	grantID, err := shared(ctx, &b.completing, s.id+proofSeparator+proof, func(ctx context.Context) (string, error) { return b.complete(ctx, caller, s, proof) })
	if err != nil {
		return err
	}
	gate.Detail(ctx, "session_outcome", "completed")
	gate.Detail(ctx, "session_user", s.key.User.String())
	gate.Detail(ctx, "grant", grantID)
	return nil
}

func (b *Broker) sessionToComplete(ctx context.Context, caller principal.Caller, uri string) (s *session, workload identity.Identity, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) (err error) {
		if s, err = b.sessionByURI(tx, uri); err != nil {
			return err
		}
		if s.key.Account != caller.Account {
			return errSession
		}
		if workload, err = b.identity.Get(tx, s.key.Account, s.key.WorkloadID); err != nil {
			return err
		}
		if s.status(tx.Now) == expired || s.stored == done && !tx.Now.Before(s.expires) {
			return errSession
		}
		return nil
	})
	return s, workload, fault.Wrap(err, "reading the session to complete")
}

// whoCameBack believes a user token under the authorizer that the session was
// opened under, or by the issuers that the workload trusts, and a user id
// because the application vouches for it.
func (b *Broker) whoCameBack(ctx context.Context, s *session, who *api.UserIdentifier) (principal.User, error) {
	if who.UserToken != nil {
		user, _, err := b.identity.VerifyUser(ctx, s.key.Account, s.key.WorkloadID, s.authorizer, *who.UserToken)
		return user, err
	}
	if who.UserId == nil {
		return principal.User{}, fault.InvalidField("userIdentifier", "userIdentifier needs a userToken or a userId.")
	}
	return principal.User{ID: *who.UserId}, nil
}

// turnAway is for a person who is not the one who was asked. What they brought
// back is discarded, never to be redeemed for anybody; what another browser has
// brought back since is not theirs to spoil.
func (b *Broker) turnAway(ctx context.Context, s *session, cameBack principal.User, proof string) error {
	discarded := false
	err := b.db.Update(ctx, func(tx *store.Tx) error {
		discarded = false
		current, err := b.sessionByID(tx, s.id)
		if err != nil {
			return err
		}
		if current.stored != open {
			return nil
		}
		theirs, err := b.provenAttempt(tx, current, proof)
		if err != nil || theirs == "" {
			return err
		}
		discarded = true
		if _, err = tx.Exec(`DELETE FROM authorization_attempts WHERE id = $1`, theirs); err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE authorization_sessions SET turned_away = 1 WHERE id = $1`, s.id)
		return err
	})
	if err != nil {
		return fault.Wrap(err, "discarding a code")
	}
	gate.Detail(ctx, "session_outcome", map[bool]string{true: "another user came back; the code was discarded", false: "another user came back"}[discarded])
	gate.Detail(ctx, "session_user", s.key.User.String())
	gate.Detail(ctx, "came_back", cameBack.String())
	switch {
	case (cameBack.ID == "") != (s.key.User.ID == ""):
		return sessionFault("it was opened with a user id and completed with a user token, or the other way round. Complete it with what the workload access token was made from.")
	case discarded:
		return sessionFault("it was opened for another user than the one who came back. Nothing was stored; the user who was asked can still open the link.").Because(ErrOtherPerson)
	}
	return sessionFault("it was opened for another user than the one who came back.").Because(ErrOtherPerson)
}

// complete brings the session to its end and answers the grant's id. Of the
// codes that wait, the proof's own is redeemed.
func (b *Broker) complete(ctx context.Context, caller principal.Caller, s *session, proof string) (grantID string, err error) {
	for {
		now, current, err := b.reread(ctx, s.id)
		if err != nil {
			return "", err
		}
		switch current.status(now) {
		case done:
			return current.grantID, nil
		case expired:
			return "", errSession
		case failed:
			return "", sessionFault("%s"+askAgain, current.reason()).Because(ErrLinkFailed)
		case open:
			attemptID, waiting, err := b.cameBack(ctx, current, proof)
			if err != nil {
				return "", err
			}
			if attemptID == "" && !waiting {
				return "", sessionFault("the user has not come back from the provider yet. The link is still good.")
			}
			if attemptID == "" {
				return "", sessionFault("complete it with the session_id that the browser brought to the return URL, whole. The sessionUri alone does not say which browser went through.")
			}
			r, err := b.intendToRedeem(ctx, caller, current)
			if err != nil {
				return "", err
			}
			current.attemptID = attemptID
			marked, err := b.markRedeeming(ctx, current, &r)
			if err != nil {
				return "", err
			}
			if marked {
				unhurried, cancel := unhurried(ctx) // it may have waited for most of the flight's time
				defer cancel()
				return b.redeem(unhurried, current, r)
			}
		default: // another process is redeeming
			if err := pause(ctx); err != nil {
				return "", err
			}
		}
	}
}

func (b *Broker) reread(ctx context.Context, id string) (now time.Time, s *session, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) (err error) {
		now = tx.Now
		s, err = b.sessionByID(tx, id)
		return err
	})
	return now, s, fault.Wrap(err, "reading an authorization session")
}

// cameBack says which attempt's code the proof is for, and whether codes wait at all.
func (b *Broker) cameBack(ctx context.Context, s *session, proof string) (attemptID string, waiting bool, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) (err error) {
		if attemptID, err = b.provenAttempt(tx, s, proof); err != nil {
			return err
		}
		parked, err := parkedAttempts(tx, s.id)
		waiting = len(parked) > 0
		return err
	})
	return attemptID, waiting, fault.Wrap(err, "reading attempts")
}
