package broker

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Callback is what the provider sent the browser back with.
type Callback struct {
	ProviderCallbackID string // of the path
	State              string
	Code               secret.Text
	Issuer             string                   // iss of RFC 9207
	Error              string                   // its description is not asked for: the provider's words are not ours to repeat
	Cookie             func(name string) string // value of the request's cookie; "" when there is none
}

// Landing is where the browser goes next.
type Landing struct {
	ReturnURL  string // the application's, with session_id, state and, where it was denied, error
	Denied     bool   // the person, or the provider, said no: the session has failed
	CookieName string // of the attempt, to be cleared
	CookiePath string

	// Where the return URL is the hosted page: the cookie that it asks for, at
	// ConnectPath, until Expires.
	ConnectCookieName  string
	ConnectCookieValue string
	Expires            time.Time
}

// Callback takes a browser back from the provider. An attempt that passes all
// checks parks its code, and spoils no other's; nothing is redeemed before the
// application has said who is sitting there. A callback that fails a check
// changes nothing, whoever sent it.
//
// Errors are for people: fault.Denied for what does not belong together,
// fault.Conflict when this attempt has been back, or the session is over.
func (b *Broker) Callback(ctx context.Context, caller principal.Caller, c Callback) (*Landing, error) {
	var landing *Landing
	var s *session
	outcome := ""
	err := b.db.Update(ctx, func(tx *store.Tx) error {
		s, landing, outcome = nil, nil, ""
		if c.State == "" || c.Cookie == nil {
			return errAttempt
		}
		a, err := b.attemptByID(tx, hashed(c.State))
		if err != nil {
			return err
		}
		if s, err = b.sessionByID(tx, a.sessionID); err != nil {
			return err
		}
		p, err := b.providerByID(tx, s.key.Account, s.key.ProviderID)
		if err != nil {
			return err
		}
		if err := checkCallback(caller, c, a, s, p); err != nil {
			return err
		}
		if err := linkUsable(s, tx.Now); err != nil {
			return err
		}
		if _, err := b.stillAllowedToReturn(tx, s); err != nil {
			return err
		}
		if landing, err = b.landing(tx, c, s, a, p); err != nil {
			return err
		}
		if landing.Denied {
			outcome, err = b.denied(tx, s, a, c.Error)
			return err
		}
		outcome = "code parked"
		return b.park(tx, s, a, c.Code)
	})
	if s != nil {
		gate.Detail(ctx, "session", s.tag())
	}
	if err != nil {
		return nil, fault.Wrap(err, "taking a callback")
	}
	gate.Detail(ctx, "session_outcome", outcome)
	return landing, nil
}

var errOtherBrowser = fault.New(fault.Denied, "This browser did not begin the sign-in that it comes back from. Open the application's link again and stay in one browser.").Because(ErrOtherBrowser)

// checkCallback asks whether the callback is this attempt's, from the provider
// that the attempt went to, in the browser that began it.
func checkCallback(caller principal.Caller, c Callback, a *attempt, s *session, p *Provider) error {
	if err := checkAttempt(caller, c.ProviderCallbackID, c.Cookie, a, s, p); err != nil {
		return err
	}
	if err := oauth.CheckResponseIssuer(p.Metadata, c.Issuer); err != nil {
		return fault.New(fault.Denied, "The answer does not come from the provider that was asked.").Because(errors.Join(ErrIssuer, err))
	}
	if c.Error == "" && c.Code.Empty() {
		return fault.New(fault.Invalid, "The provider sent neither a code nor an error.")
	}
	return nil
}

// checkAttempt is what a browser that names an attempt has to prove in any case.
func checkAttempt(caller principal.Caller, callbackID string, cookie func(name string) string, a *attempt, s *session, p *Provider) error {
	if caller.Account != s.key.Account || callbackID != p.CallbackID {
		return errAttempt
	}
	if a.parked { // the browser's Back button, or its reload
		return errCameBack
	}
	if subtle.ConstantTimeCompare([]byte(hashed(cookie(cookieName(a.id)))), []byte(a.cookie)) != 1 {
		return errOtherBrowser
	}
	return nil
}

// denied ends the session, so that pollers stop. Where another browser has come
// back with a code, it ends this attempt alone: somebody who was sent the link,
// too, and declines, does not undo what the person has allowed.
func (b *Broker) denied(tx *store.Tx, s *session, a *attempt, code string) (outcome string, err error) {
	var others int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM authorization_attempts WHERE session_id = $1 AND code IS NOT NULL`, s.id).Scan(&others); err != nil {
		return "", err
	}
	if others > 0 {
		_, err = tx.Exec(`DELETE FROM authorization_attempts WHERE id = $1`, a.id)
		return "denied at the provider by one of several browsers", err
	}
	if _, err = b.fail(tx, s, open, denial(code)); err == nil {
		err = b.tell(tx, ConsentDenied, s.key, "")
	}
	return "denied at the provider", err
}

// denial is the reason that a failed session shows.
func denial(code string) string {
	switch known := safeCode(code); known {
	case "access_denied":
		return "The user did not allow it at the provider (access_denied)."
	case "":
		return providerError + "."
	default:
		return providerError + " (" + known + ")."
	}
}

const providerError = "The provider answered with an error"

// safeCode lets through what looks like an OAuth error code, so that nothing a
// provider made up reaches a message, a record or a URL.
func safeCode(text string) string {
	if len(text) > 64 {
		return ""
	}
	for _, r := range text {
		if (r < 'a' || r > 'z') && r != '_' {
			return ""
		}
	}
	return text
}

// landing makes the URL that the browser goes to.
func (b *Broker) landing(tx *store.Tx, c Callback, s *session, a *attempt, p *Provider) (*Landing, error) {
	state, err := b.openState(tx.Context(), s)
	if err != nil {
		return nil, err
	}
	uri, err := b.openURI(tx, s)
	if err != nil {
		return nil, err
	}
	session := uri.Reveal()
	if c.Error == "" { // there is something to complete, by who sits at this browser
		proof, err := b.proof(tx.Context(), s.key.Account, s.id, a.id)
		if err != nil {
			return nil, err
		}
		session += proofSeparator + proof
	}
	parameters := []string{"session_id", session}
	if !state.Empty() {
		parameters = append(parameters, "state", state.Reveal())
	}
	if c.Error != "" {
		code := safeCode(c.Error)
		if code == "" {
			code = "server_error"
		}
		parameters = append(parameters, "error", code)
	}
	landing := &Landing{
		ReturnURL: withQuery(s.returnURL, parameters...), Denied: c.Error != "",
		CookieName: cookieName(a.id), CookiePath: cookiePath(p),
	}
	if _, ours, _ := b.hosted(s.returnURL); ours && !landing.Denied {
		landing.ConnectCookieName, landing.ConnectCookieValue, landing.Expires = connectCookieName(a.id), c.Cookie(cookieName(a.id)), s.expires
	}
	return landing, nil
}

// openURI opens the sessionUri for the return URL. It is kept in the row, sealed, as the key of nothing.
func (b *Broker) openURI(tx *store.Tx, s *session) (secret.Text, error) {
	var sealed []byte
	if err := tx.QueryRow(`SELECT uri FROM authorization_sessions WHERE id = $1`, s.id).Scan(&sealed); err != nil {
		return secret.Text{}, fault.Wrap(err, "reading an authorization session")
	}
	return b.keeper.OpenText(tx.Context(), sessionContext(s.key.Account, "uri", s.id), sealed)
}

// park keeps the code, sealed, in the row of its own attempt, beside its own verifier.
func (b *Broker) park(tx *store.Tx, s *session, a *attempt, code secret.Text) error {
	sealed, err := b.keeper.SealText(tx.Context(), attemptContext(s.key.Account, "code", a.id), code)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM authorization_attempts WHERE id IN (
			SELECT id FROM authorization_attempts WHERE session_id = $1 AND parked <> 0 ORDER BY parked DESC, id LIMIT 1000 OFFSET $2)`,
		s.id, parkedLimit-1); err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE authorization_attempts SET code = $1, parked = $2 WHERE id = $3`, sealed, store.Micros(tx.Now), a.id)
	return err
}

// withQuery adds parameters to a URL and leaves what it has as it is, byte for
// byte: an application may have signed its query, and a fragment stays behind it.
func withQuery(address string, namesAndValues ...string) string {
	address, fragment, hasFragment := strings.Cut(address, "#")
	separator := "?"
	if _, query, hasQuery := strings.Cut(address, "?"); query == "" && hasQuery || strings.HasSuffix(query, "&") {
		separator = ""
	} else if hasQuery {
		separator = "&"
	}
	var out strings.Builder
	out.WriteString(address)
	for i := 0; i < len(namesAndValues); i += 2 {
		out.WriteString(separator + namesAndValues[i] + "=" + url.QueryEscape(namesAndValues[i+1]))
		separator = "&"
	}
	if hasFragment {
		out.WriteString("#" + fragment)
	}
	return out.String()
}
