package broker

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/netip"
	"slices"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// signInLimit bounds the sign-ins under way of one attempt: reloads make new ones.
const signInLimit = 5

// Connection is where a browser stands on the hosted page: on its way to sign
// in (Location), or at the end.
type Connection struct {
	Location      string // the issuer's page, or the hosted page once more
	Workload      principal.Workload
	ProviderName  string
	ProviderTitle string
	ProviderHost  string
	Issuer        string // host of where the person signed in
	Scopes        []string
	Back          string // the address that the workload registered to go back to; empty: none
	BackHost      string
}

// SignInAnswer is what the issuer sent the browser back with.
type SignInAnswer struct {
	IssuerID string // of the path
	State    string
	Code     secret.Text
	Issuer   string // iss of RFC 9207
	Error    string
	Cookie   func(name string) string
}

// hostedSession is what a browser on the hosted page has proven to be its own.
type hostedSession struct {
	session  *session
	attempt  *attempt
	workload identity.Identity
	provider *Provider
	back     string
}

func (h *hostedSession) connection() *Connection {
	return &Connection{
		Workload: h.workload.Workload, ProviderName: h.provider.Name, ProviderTitle: h.provider.Title(), ProviderHost: hostOf(h.provider.Metadata.AuthorizationEndpoint),
		Issuer: hostOf(h.session.key.User.Issuer), Scopes: h.session.scopes, Back: h.back, BackHost: hostOf(h.back),
	}
}

// Connect is the hosted page: it sends the browser that went through the
// provider to sign in or, once the session is done, says so to the same browser.
// It may be reloaded at any time.
//
// Errors are for people, with the causes that Authorize has; ErrFinishing while
// another request is at it.
func (b *Broker) Connect(ctx context.Context, caller principal.Caller, sessionID string, cookie func(name string) string) (*Connection, error) {
	var h *hostedSession
	err := b.db.View(ctx, func(tx *store.Tx) error {
		s, err := b.sessionByURI(tx, sessionID)
		if err != nil {
			return err
		}
		gate.Detail(ctx, "session", s.tag())
		_, proof := splitSessionID(sessionID)
		attemptID := ""
		switch s.status(tx.Now) {
		case open:
			attemptID, err = b.provenAttempt(tx, s, proof)
		case done:
			var want string
			if want, err = b.proof(ctx, s.key.Account, s.id, s.attemptID); subtle.ConstantTimeCompare([]byte(want), []byte(proof)) == 1 {
				attemptID = s.attemptID
			}
		case redeeming:
			err = errFinishing
		default:
			err = linkUsable(s, tx.Now)
		}
		if err != nil {
			return err
		}
		h, err = b.hostedAt(tx, caller, s, attemptID, cookie)
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, "opening the hosted page")
	}
	if h.session.stored == done {
		return h.connection(), nil
	}
	return b.sendToSignIn(ctx, h)
}

// hostedAt puts together what the hosted page is about, for the attempt's own browser.
func (b *Broker) hostedAt(tx *store.Tx, caller principal.Caller, s *session, attemptID string, cookie func(name string) string) (*hostedSession, error) {
	back, ours, err := b.hosted(s.returnURL)
	if err != nil || !ours || caller.Account != s.key.Account {
		return nil, errSession
	}
	if attemptID == "" {
		return nil, errAttempt
	}
	h := &hostedSession{session: s, back: back}
	h.attempt, err = b.attemptByID(tx, attemptID)
	switch {
	case errors.Is(err, ErrAttempt) && s.stored == done: // and swept since
		return nil, linkUsable(s, tx.Now)
	case err != nil:
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(hashed(cookie(connectCookieName(attemptID)))), []byte(h.attempt.cookie)) != 1 {
		return nil, errOtherBrowser
	}
	if h.workload, err = b.stillAllowedToReturn(tx, s); err != nil {
		return nil, err
	}
	h.provider, err = b.providerByID(tx, s.key.Account, s.key.ProviderID)
	return h, err
}

// sendToSignIn begins a sign-in at the issuer of the user who was asked.
func (b *Broker) sendToSignIn(ctx context.Context, h *hostedSession) (*Connection, error) {
	client, err := b.signInAt(h.session.key.User.Issuer)
	if err != nil {
		return nil, fault.New(fault.Upstream, "%s", fault.Of(err).Message).Because(ErrSignIn)
	}
	metadata, err := b.oauth.Discover(ctx, signInDiscovery(client.Issuer))
	if err != nil {
		return nil, err
	}
	state, nonce, verifier := unguessable(), unguessable(), oauth.NewVerifier()
	asked := oauth.Authorization{State: state, Nonce: nonce, Verifier: verifier, Scopes: []string{"openid"}}
	if h.session.turnedAway { // whoever is signed in there is not the one
		asked.Parameters = map[string]string{"prompt": "login"}
	}
	location, _, err := b.oauth.Authorize(ctx, b.signInServer(client, metadata), asked)
	if err != nil {
		return nil, err
	}
	account, id := h.session.key.Account, hashed(state)
	sealed, err := b.keeper.SealText(ctx, signInContext(account, id), verifier)
	if err != nil {
		return nil, err
	}
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM sign_ins WHERE id IN (SELECT id FROM sign_ins WHERE attempt_id = $1 ORDER BY created DESC, id LIMIT 1000 OFFSET $2)`,
			h.attempt.id, signInLimit-1); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO sign_ins (id, account, attempt_id, issuer, verifier, nonce, created) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			id, account, h.attempt.id, client.Issuer, sealed, hashed(nonce), store.Micros(tx.Now))
		if store.IsForeignKey(err) {
			return errAttempt
		}
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, "beginning a sign-in")
	}
	gate.Detail(ctx, "session_outcome", "sent to sign in")
	there := h.connection()
	there.Location = location
	return there, nil
}

func signInContext(account, row string) seal.Context {
	return sessionContext(account, "sign_in.verifier", row)
}

// signIn is a stored sign-in under way.
type signIn struct {
	id, account, attemptID, issuer, nonce string
	verifier                              []byte // sealed
}

func (b *Broker) signInByState(tx *store.Tx, state string) (*signIn, error) {
	i := signIn{id: hashed(state)}
	err := tx.QueryRow(`SELECT account, attempt_id, issuer, verifier, nonce FROM sign_ins WHERE id = $1`, i.id).Scan(&i.account, &i.attemptID, &i.issuer, &i.verifier, &i.nonce)
	if errors.Is(err, store.ErrNoRows) {
		return nil, errAttempt
	}
	return &i, fault.Wrap(err, "reading a sign-in")
}

// ofSignIn is the attempt that a sign-in is to end, and its session.
func (b *Broker) ofSignIn(tx *store.Tx, i *signIn) (*attempt, *session, error) {
	a, err := b.attemptByID(tx, i.attemptID)
	if err != nil {
		return nil, nil, err
	}
	s, err := b.sessionByID(tx, a.sessionID)
	return a, s, err
}

// SubjectOfSignIn looks up whom the state of a sign-in concerns; errAttempt
// where nobody knows it. A door asks before it begins an act.
func (b *Broker) SubjectOfSignIn(ctx context.Context, state string) (subject Subject, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) error {
		i, err := b.signInByState(tx, state)
		if err != nil {
			return err
		}
		_, s, err := b.ofSignIn(tx, i)
		if err != nil {
			return err
		}
		subject, err = b.subject(tx, s)
		return err
	})
	return subject, fault.Wrap(err, "looking up a sign-in")
}

// SignedIn takes a browser back from the issuer and completes the session, if
// the person who signed in is the one who was asked. Whoever else did loses the
// code of this browser. A failed sign-in spoils nothing: with the error comes
// where to try again (Location), where that makes sense.
func (b *Broker) SignedIn(ctx context.Context, caller principal.Caller, answer SignInAnswer) (*Connection, error) {
	h, i, err := b.takeSignIn(ctx, caller, answer)
	if err != nil {
		return nil, err
	}
	proof, err := b.proof(ctx, h.session.key.Account, h.session.id, h.attempt.id)
	if err != nil {
		return nil, err
	}
	there := h.connection()
	if there.Location, err = b.hostedURL(ctx, h.session, proof); err != nil {
		return nil, err
	}
	user, err := b.whoSignedIn(ctx, h, i, answer)
	if err != nil {
		gate.Detail(ctx, "session_outcome", "the sign-in failed")
		return there, err
	}
	if user != h.session.key.User {
		return nil, b.turnAway(ctx, h.session, user, proof)
	}
	gate.Detail(ctx, "completed_on", "hosted page")
	return there, b.completeFor(ctx, caller, h.session, h.workload, proof)
}

// takeSignIn checks that the answer belongs to a sign-in of this browser, and
// uses that sign-in up. What fails a check changes nothing.
func (b *Broker) takeSignIn(ctx context.Context, caller principal.Caller, answer SignInAnswer) (h *hostedSession, i *signIn, err error) {
	read := func(tx *store.Tx) error {
		if i, err = b.signInByState(tx, answer.State); err != nil {
			return err
		}
		if issuerID(i.issuer) != answer.IssuerID {
			return errAttempt
		}
		a, s, err := b.ofSignIn(tx, i)
		if err != nil {
			return err
		}
		gate.Detail(ctx, "session", s.tag())
		if h, err = b.hostedAt(tx, caller, s, a.id, answer.Cookie); err != nil {
			return err
		}
		gate.Detail(ctx, "session_workload", h.workload.Name)
		return linkUsable(s, tx.Now)
	}
	if err := b.db.View(ctx, read); err != nil {
		return nil, nil, fault.Wrap(err, "taking a sign-in")
	}
	metadata, err := b.oauth.Discover(ctx, signInDiscovery(i.issuer))
	if err != nil {
		return nil, nil, err
	}
	if err := oauth.CheckResponseIssuer(metadata, answer.Issuer); err != nil {
		return nil, nil, fault.New(fault.Denied, "The answer does not come from the issuer that was asked.").Because(errors.Join(ErrIssuer, err))
	}
	err = b.db.Update(ctx, func(tx *store.Tx) error {
		if err := read(tx); err != nil {
			return err
		}
		taken, err := tx.Exec(`DELETE FROM sign_ins WHERE id = $1`, i.id)
		if err == nil && taken == 0 {
			return errAttempt
		}
		return err
	})
	return h, i, fault.Wrap(err, "taking a sign-in")
}

// whoSignedIn redeems the issuer's code and reads who that is out of its ID
// token: signed by the issuer, for the platform's client, in answer to this sign-in.
func (b *Broker) whoSignedIn(ctx context.Context, h *hostedSession, i *signIn, answer SignInAnswer) (principal.User, error) {
	failed := func(kind fault.Kind, why string, cause error) error {
		return fault.New(kind, "The sign-in did not succeed. %s", why).Because(errors.Join(ErrSignIn, cause))
	}
	if answer.Error != "" {
		return principal.User{}, failed(fault.Denied, "The issuer answered with an error ("+safeCode(answer.Error)+").", nil)
	}
	client, err := b.signInAt(i.issuer)
	if err == nil && h.session.authorizer == "" {
		err = b.stillTrusts(ctx, h.session.key)
	}
	if err != nil {
		return principal.User{}, failed(fault.Upstream, fault.Of(err).Message, nil)
	}
	metadata, err := b.oauth.Discover(ctx, signInDiscovery(i.issuer))
	if err != nil {
		return principal.User{}, failed(fault.KindOf(err), fault.Of(err).Message, err)
	}
	verifier, err := b.keeper.OpenText(ctx, signInContext(i.account, i.id), i.verifier)
	if err != nil {
		return principal.User{}, err
	}
	sending, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	token, err := b.oauth.Exchange(sending, b.signInServer(client, metadata), answer.Code, verifier, oauth.Authorization{})
	if err != nil {
		return principal.User{}, failed(fault.KindOf(err), fault.Of(err).Message, err)
	}
	if token.ID.Empty() {
		return principal.User{}, failed(fault.Upstream, "The issuer gave no ID token.", nil)
	}
	claims, err := b.oauth.VerifyIssuer(ctx, i.issuer, token.ID)
	if err != nil {
		return principal.User{}, failed(fault.KindOf(err), fault.Of(err).Message, err)
	}
	nonce, _ := claims.Raw["nonce"].(string)
	party, named := claims.Raw["azp"].(string)
	switch {
	case claims.Issuer != i.issuer:
		err = errors.New("the ID token is another issuer's")
	case !slices.Contains(claims.Audience, client.ClientID), len(claims.Audience) > 1 && !named, named && party != client.ClientID:
		err = errors.New("the ID token is for another client")
	case subtle.ConstantTimeCompare([]byte(hashed(nonce)), []byte(i.nonce)) != 1:
		err = errors.New("the ID token answers another sign-in: its nonce is not ours")
	case claims.Subject == "" || claims.Subject == client.ClientID:
		err = errors.New("the ID token names nobody")
	}
	if err != nil {
		return principal.User{}, failed(fault.Denied, "The issuer's answer does not fit: "+err.Error()+".", err)
	}
	return principal.User{Issuer: claims.Issuer, Subject: claims.Subject}, nil
}

// stillTrusts asks again what was asked when the workload access token was made.
func (b *Broker) stillTrusts(ctx context.Context, key vault.Key) error {
	trusted, err := b.identity.Trusts(ctx, key.Account, key.WorkloadID, key.User.Issuer)
	if err == nil && !trusted {
		err = fault.New(fault.Denied, "The issuer is not trusted for this workload identity any more.")
	}
	return err
}

// hostedURL is the hosted page of this session for the browser with the proof.
func (b *Broker) hostedURL(ctx context.Context, s *session, proof string) (location string, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) error {
		uri, err := b.openURI(tx, s)
		location = withQuery(s.returnURL, "session_id", uri.Reveal()+proofSeparator+proof)
		return err
	})
	return location, fault.Wrap(err, "reading an authorization session")
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}
