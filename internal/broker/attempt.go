package broker

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	// attemptLimit bounds the attempts of one session that have not come back:
	// beyond it the oldest makes room, so that a chat that previews its links
	// cannot fill the table, nor lock the person out.
	attemptLimit = 20
	// parkedLimit bounds those that have. A person's own code waits for seconds,
	// and whoever else has the link would have to come back this often in that time.
	parkedLimit = 50
)

// Attempt is one opening of a link: what the page shows, and how the browser goes on.
type Attempt struct {
	Account       string
	WorkloadName  string
	ProviderName  string
	ProviderTitle string // "Google"; the provider's name for custom ones
	ProviderHost  string // where the button leads
	Label         string // which of several accounts at the provider is meant, in the agent's words; empty: the only one
	Scopes        []string
	ReturnHost    string // where the browser ends up; the scheme, for an application's own
	SignInHost    string // of the hosted page: where the person signs in at the end
	Expires       time.Time
	Location      string // for the browser alone: the provider's authorize URL, or ours on the way to it (ContinuePath)
	CookieName    string // set it HttpOnly, SameSite=Lax, Secure where the public URL is https, until Expires
	CookieValue   string
	CookiePath    string
}

// cookieName tells the cookies of attempts apart that one browser has going at a time.
func cookieName(attemptID string) string { return "onbehalf-attempt-" + attemptID[:16] }

func cookiePath(p *Provider) string { return CallbackPath + p.CallbackID }

func attemptContext(account, column, row string) seal.Context {
	return sessionContext(account, "attempt."+column, row)
}

// Authorize begins an attempt of the session that requestURI (the value of
// request_uri) names. Each opening is an attempt of its own, with its own state,
// PKCE verifier and cookie, and uses nothing up: programs that preview links open them too.
//
// Errors are for people: fault.Denied when there is no such session or its time
// is over, fault.Conflict when somebody has been through with it already.
func (b *Broker) Authorize(ctx context.Context, caller principal.Caller, requestURI string) (*Attempt, error) {
	state, cookie, verifier := unguessable(), unguessable(), oauth.NewVerifier()
	var attempt *Attempt
	var s *session
	err := b.db.Update(ctx, func(tx *store.Tx) (err error) {
		if s, err = b.sessionByURI(tx, requestURI); err != nil {
			return err
		}
		if caller.Account != s.key.Account {
			return errSession
		}
		if err := linkUsable(s, tx.Now); err != nil {
			return err
		}
		workload, err := b.stillAllowedToReturn(tx, s)
		if err != nil {
			return err
		}
		p, err := b.providerByID(tx, s.key.Account, s.key.ProviderID)
		if err != nil {
			return err
		}
		location := b.continueURL(p, state)
		if !p.Metadata.RequirePushedAuthorizationRequests {
			asked, err := b.asked(ctx, s, state)
			if err != nil {
				return err
			}
			asked.Verifier = verifier
			if location, err = oauth.AuthorizationURL(b.server(p), asked); err != nil {
				return err
			}
		}
		id := hashed(state)
		attempt = &Attempt{
			Account: s.key.Account, WorkloadName: workload.Name, ProviderName: p.Name, ProviderTitle: p.Title(), ProviderHost: hostOf(p.Metadata.AuthorizationEndpoint),
			Label: s.key.Label, Scopes: s.scopes, ReturnHost: hostOf(s.returnURL), Expires: s.expires, Location: location,
			CookieName: cookieName(id), CookieValue: cookie, CookiePath: cookiePath(p),
		}
		if back, ours, _ := b.hosted(s.returnURL); ours {
			attempt.SignInHost, attempt.ReturnHost = hostOf(s.key.User.Issuer), hostOf(back)
		}
		return b.addAttempt(tx, s, id, verifier, cookie)
	})
	if s != nil {
		gate.Detail(ctx, "session", s.tag())
	}
	if err != nil {
		return nil, fault.Wrap(err, "beginning an attempt")
	}
	return attempt, nil
}

var (
	errLinkUsed = fault.New(fault.Conflict, "This link has been used. Go back to the application to finish there, or ask it again.").Because(ErrLinkUsed)
	errCameBack = fault.New(fault.Conflict, "This sign-in has come back already. Go back to the application to finish there, or ask it again.").Because(ErrLinkUsed)
)

// linkUsable says to people why their link leads nowhere.
func linkUsable(s *session, now time.Time) error {
	switch s.status(now) {
	case open:
		return nil
	case redeeming:
		return errLinkUsed
	case done:
		return fault.New(fault.Conflict, "This link has been used, and access was given. You can close this page.").Because(ErrLinkUsed)
	case failed:
		cause := ErrLinkFailed
		switch {
		case s.failure == denial("access_denied"):
			cause = ErrDeclined
		case strings.HasPrefix(s.failure, providerError):
			cause = ErrProvider
		}
		return sessionFault("%s Go back to the application and ask again.", s.reason()).Because(cause)
	default:
		return sessionFault("this link was good for 10 minutes. Go back to the application and ask again.").Because(ErrLinkExpired)
	}
}

func (b *Broker) addAttempt(tx *store.Tx, s *session, id string, verifier secret.Text, cookie string) error {
	sealed, err := b.keeper.SealText(tx.Context(), attemptContext(s.key.Account, "verifier", id), verifier)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM authorization_attempts WHERE id IN (
			SELECT id FROM authorization_attempts WHERE session_id = $1 AND parked = 0 ORDER BY created DESC, id LIMIT 1000 OFFSET $2)`,
		s.id, attemptLimit-1); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO authorization_attempts (id, account, session_id, verifier, cookie, created) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, s.key.Account, s.id, sealed, hashed(cookie), store.Micros(tx.Now))
	return err
}

// attempt is the stored half of an Attempt.
type attempt struct {
	id, sessionID, cookie string
	verifier, code        []byte // sealed
	parked                bool   // it has been back
}

var errAttempt = fault.New(fault.Denied, "This sign-in is unknown here or has been overtaken by another. Go back to the application and open its link again, in the browser that you sign in with.").Because(ErrAttempt)

func (b *Broker) attemptByID(tx *store.Tx, id string) (*attempt, error) {
	a := attempt{id: id}
	var parked int64
	err := tx.QueryRow(`SELECT session_id, cookie, verifier, code, parked FROM authorization_attempts WHERE id = $1`, id).Scan(&a.sessionID, &a.cookie, &a.verifier, &a.code, &parked)
	if errors.Is(err, store.ErrNoRows) {
		return nil, errAttempt
	}
	a.parked = parked != 0
	return &a, fault.Wrap(err, "reading an attempt")
}

// hostOf is what a person recognises an address by.
func hostOf(raw string) string {
	parsed, err := url.Parse(raw)
	if err != nil || raw == "" {
		return ""
	}
	if parsed.Host == "" {
		return parsed.Scheme
	}
	return parsed.Host
}
