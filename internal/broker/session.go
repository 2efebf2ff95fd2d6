package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// status of an authorization session. Stored, except expired.
type status string

const (
	open      status = "open"      // the link works; attempts come and go, and those that came back wait with their codes
	redeeming status = "redeeming" // the code of one of them is being, or has been, sent
	done      status = "done"      // there is a grant
	failed    status = "failed"    // said no, or broke; never comes back
	expired   status = "expired"   // open beyond its time
)

// session is one question to one user.
type session struct {
	id          string // hash of the sessionUri
	key         vault.Key
	authorizer  string
	scopes      vault.Scopes
	returnURL   string
	parameters  []byte // sealed
	customState []byte // sealed
	stored      status
	failure     string
	attemptID   string
	redeemUntil time.Time
	grantID     string
	turnedAway  bool // somebody else has come back
	expires     time.Time
}

// status is what the session is at this moment, the clock considered.
func (s *session) status(now time.Time) status {
	switch {
	case s.stored == redeeming && !now.Before(s.redeemUntil):
		return failed
	case s.stored == open && !now.Before(s.expires):
		return expired
	}
	return s.stored
}

// reason says why a failed session failed, for people.
func (s *session) reason() string {
	if s.failure == "" {
		return "The server was interrupted while it redeemed the authorization code."
	}
	return s.failure
}

// tag names a session in records: the beginning of its hash, which opens nothing.
func (s *session) tag() string { return s.id[:12] }

const sessionURIPrefix = "urn:ietf:params:oauth:request_uri:"

// What a page tells apart, as the cause (errors.Is) of what SubjectOfSession,
// Authorize and Callback return.
var (
	ErrSession      = errors.New("no such session")
	ErrLinkExpired  = errors.New("the link's time is over")
	ErrLinkFailed   = fmt.Errorf("%w: the session failed", ErrLinkExpired)
	ErrLinkUsed     = errors.New("the link has done its work")
	ErrAttempt      = errors.New("no such attempt")
	ErrOtherBrowser = errors.New("the cookie is not the attempt's")
	ErrIssuer       = errors.New("the answer is another provider's")

	ErrPush = errors.New("the provider did not take the pushed request") // of Continue

	// And of Connect and SignedIn.
	ErrDeclined    = fmt.Errorf("%w: the person said no", ErrLinkFailed)
	ErrProvider    = fmt.Errorf("%w: the provider answered with an error", ErrLinkFailed)
	ErrFinishing   = errors.New("another request is finishing the session")
	ErrSignIn      = errors.New("the sign-in failed")
	ErrOtherPerson = errors.New("somebody else than who was asked")
)

var errFinishing = fault.New(fault.Unavailable, "The session is being completed.").Because(ErrFinishing)

// errSession is AWS's text, with what can be done about it. One answer for a
// session that never was, is another account's, or is another workload's: a guess learns nothing.
var errSession = fault.New(fault.Denied, "Invalid or expired session. A session is valid for 10 minutes, and for the workload and the user it was opened for. Ask for a new one.").Because(ErrSession)

func sessionFault(format string, args ...any) *fault.Error {
	return fault.New(fault.Denied, "Invalid or expired session: "+format, args...)
}

const sessionColumns = `SELECT id, account, workload_id, provider_id, user_issuer, user_subject, user_id, authorizer, label, resources, audiences, scopes,
	return_url, parameters, custom_state, state, failure, attempt_id, redeem_until, grant_id, turned_away, expires FROM authorization_sessions `

// sessionByURI finds a session by what callers and browsers know of it, with or
// without a proof; errSession when there is none.
func (b *Broker) sessionByURI(tx *store.Tx, uri string) (*session, error) {
	if !strings.HasPrefix(uri, sessionURIPrefix) {
		return nil, errSession
	}
	uri, _ = splitSessionID(uri)
	return b.sessionByID(tx, hashed(uri))
}

func (b *Broker) sessionByID(tx *store.Tx, id string) (*session, error) {
	var s session
	var resources, audiences, scopes string
	var redeemUntil, turnedAway, expires int64
	k := &s.key
	err := tx.QueryRow(sessionColumns+`WHERE id = $1`, id).Scan(&s.id, &k.Account, &k.WorkloadID, &k.ProviderID, &k.User.Issuer, &k.User.Subject, &k.User.ID,
		&s.authorizer, &k.Label, &resources, &audiences, &scopes, &s.returnURL, &s.parameters, &s.customState,
		&s.stored, &s.failure, &s.attemptID, &redeemUntil, &s.grantID, &turnedAway, &expires)
	if errors.Is(err, store.ErrNoRows) {
		return nil, errSession
	}
	if err != nil {
		return nil, fault.Wrap(err, "reading an authorization session")
	}
	if err := errors.Join(json.Unmarshal([]byte(resources), &k.Resources), json.Unmarshal([]byte(audiences), &k.Audiences)); err != nil {
		return nil, fault.Wrap(err, "decoding an authorization session")
	}
	s.scopes, s.turnedAway = vault.ParseScopes(scopes), turnedAway != 0
	s.redeemUntil, s.expires = store.Time(redeemUntil), store.Time(expires)
	return &s, nil
}

// sessionContext binds a session's sealed columns to their row and column.
func sessionContext(account, column, row string) seal.Context {
	return seal.Context{Account: account, Purpose: seal.Sessions, Kind: "authorization." + column, Row: row}
}

func (b *Broker) openParameters(ctx context.Context, s *session) (map[string]string, error) {
	if s.parameters == nil {
		return nil, nil
	}
	plain, err := b.keeper.Open(ctx, sessionContext(s.key.Account, "parameters", s.id), s.parameters)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var parameters map[string]string
	return parameters, fault.Wrap(json.Unmarshal(plain, &parameters), "decoding parameters")
}

func (b *Broker) openState(ctx context.Context, s *session) (secret.Text, error) {
	if s.customState == nil {
		return secret.Text{}, nil
	}
	return b.keeper.OpenText(ctx, sessionContext(s.key.Account, "custom_state", s.id), s.customState)
}

func (b *Broker) authorizationURL(uri string) secret.Text {
	return secret.New(b.options.PublicURL + AuthorizePath + "?request_uri=" + url.QueryEscape(uri))
}

// fail ends a session for good, if it still is what it was.
func (b *Broker) fail(tx *store.Tx, s *session, was status, why string) (bool, error) {
	changed, err := tx.Exec(`UPDATE authorization_sessions SET state = $1, failure = $2, attempt_id = '' WHERE id = $3 AND state = $4`, failed, why, s.id, was)
	if err != nil || changed == 0 {
		return false, fault.Wrap(err, "failing an authorization session")
	}
	_, err = tx.Exec(`DELETE FROM authorization_attempts WHERE session_id = $1`, s.id)
	return true, fault.Wrap(err, "dropping attempts")
}

// dropAttempts forgets what is under way at a provider that has become another
// one: codes of the old are never sent to the new. The links stay good.
func (b *Broker) dropAttempts(tx *store.Tx, account, providerID string) error {
	_, err := tx.Exec(`DELETE FROM authorization_attempts WHERE session_id IN (SELECT id FROM authorization_sessions WHERE provider_id = $1 AND account = $2 AND state = $3)`,
		providerID, account, open)
	return fault.Wrap(err, "dropping attempts")
}

// Subject is whom a link, a session or a callback concerns: what a guard has to
// know before it lets the act happen.
type Subject struct {
	Account     string // compare it with the caller's, where the caller has one
	Workload    principal.Workload
	ProviderARN string
}

// SubjectOfSession looks a session up by its sessionUri (= request_uri =
// session_id); fault.Denied when there is none.
func (b *Broker) SubjectOfSession(ctx context.Context, sessionURI string) (subject Subject, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) error {
		s, err := b.sessionByURI(tx, sessionURI)
		if err != nil {
			return err
		}
		subject, err = b.subject(tx, s)
		return err
	})
	return subject, fault.Wrap(err, "looking up a session")
}

func (b *Broker) subject(tx *store.Tx, s *session) (Subject, error) {
	workload, err := b.identity.Get(tx, s.key.Account, s.key.WorkloadID)
	if err != nil {
		return Subject{}, err
	}
	p, err := b.providerByID(tx, s.key.Account, s.key.ProviderID)
	if err != nil {
		return Subject{}, err
	}
	return Subject{Account: s.key.Account, Workload: workload.Workload, ProviderARN: p.ARN}, nil
}

// KnowsState reports whether a callback's state is that of an attempt under way:
// errAttempt where it is not. A callback without one proves nothing about
// anybody, and is no act: a door asks before it begins one, so that whoever makes
// states up writes nothing.
func (b *Broker) KnowsState(ctx context.Context, state string) error {
	err := b.db.View(ctx, func(tx *store.Tx) error {
		_, err := b.attemptByID(tx, hashed(state))
		return err
	})
	return fault.Wrap(err, "looking up an attempt")
}

// SubjectOfCallback looks a provider up by the id in its callback path;
// fault.NotFound when there is none. It has no Workload: state tells that, and
// state is not believed yet.
func (b *Broker) SubjectOfCallback(ctx context.Context, callbackID string) (subject Subject, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) error {
		p, err := b.providerByCallback(tx, callbackID)
		if err == nil {
			subject = Subject{Account: p.Account, ProviderARN: api.Oauth2CredentialProviderARN(b.options.Region, p.Account, p.Name)}
		}
		return err
	})
	return subject, fault.Wrap(err, "looking up a callback")
}
