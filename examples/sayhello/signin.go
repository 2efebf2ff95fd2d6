package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// The callback server's own sign-in: who sits at this browser?
//
//	/oauth2/callback ─ nobody signed in ─▶ provider ─▶ /oauth2/signin ─ cookie ─▶ /oauth2/callback
const (
	cookieBrowser = "sayhello_person_" // a signed-in browser
	cookieSignIn  = "sayhello_signin_" // a browser on its way to the provider and back
	signInTime    = 10 * time.Minute
	mostBrowsers  = 1000
)

// signedInPerson is who a browser belongs to.
type signedInPerson struct {
	subject, name, idToken string
	until                  time.Time
}

// pendingSignIn is a browser that was sent to the provider.
type pendingSignIn struct {
	browser, nonce, verifier string
	session, customState     string // the consent to go on with; empty for a sign-in of its own
	until                    time.Time
}

// personAt is the person whom this browser's cookie belongs to, nil if nobody is signed in.
func (s *OAuth2CallbackServer) personAt(r *http.Request) *signedInPerson {
	cookie, err := r.Cookie(cookieBrowser + s.run)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	person := s.browsers[cookie.Value]
	if person == nil || time.Now().After(person.until) {
		return nil
	}
	return person
}

// forget signs the browser out here, so that the next person at it is asked again.
func (s *OAuth2CallbackServer) forget(r *http.Request) {
	if cookie, err := r.Cookie(cookieBrowser + s.run); err == nil {
		s.mu.Lock()
		delete(s.browsers, cookie.Value)
		s.mu.Unlock()
	}
}

// beginSignIn sends the browser to the provider, remembering where it wanted to go.
func (s *OAuth2CallbackServer) beginSignIn(w http.ResponseWriter, r *http.Request, session, customState string) {
	now, state := time.Now(), rand.Text()
	p := &pendingSignIn{browser: rand.Text(), nonce: rand.Text(), verifier: oauth2.GenerateVerifier(), session: session, customState: customState, until: now.Add(signInTime)}
	s.mu.Lock()
	signIn := s.signIn
	if signIn != nil {
		cookie, err := r.Cookie(cookieSignIn + s.run)
		for key, old := range s.pending {
			switch {
			case now.After(old.until) || len(s.pending) >= mostBrowsers:
				delete(s.pending, key)
			case err == nil && cookie.Value == old.browser:
				p.browser = old.browser // a second tab must not spoil the first one's sign-in
			}
		}
		s.pending[state] = p
	}
	s.mu.Unlock()
	if signIn == nil {
		s.page(w, http.StatusServiceUnavailable, page{Title: "Nobody can sign in yet", Text: "The agent is still starting. Open the link again in a moment.", Bad: true})
		return
	}
	http.SetCookie(w, s.cookie(cookieSignIn, p.browser))
	options := []oauth2.AuthCodeOption{oidc.Nonce(p.nonce), oauth2.S256ChallengeOption(p.verifier)}
	if _, err := r.Cookie(cookieBrowser + s.run); err == nil {
		// This browser was signed in, and turned away: its provider must not sign the same person in again unasked.
		options = append(options, oauth2.SetAuthURLParam("prompt", "select_account"))
	}
	http.Redirect(w, r, signIn.config(s.SignInURL()).AuthCodeURL(state, options...), http.StatusFound)
}

// SignInLink begins the sign-in of the person who asks. Only who was given the
// link can become that person: with a name that others can reach, anybody might.
func (s *OAuth2CallbackServer) SignInLink() string { return s.SignInURL() + "?begin=" + s.begin }

// signInStep is both ends of a sign-in: without a state it begins the one of the
// person who asks, with a state it finishes the one that this very browser began.
func (s *OAuth2CallbackServer) signInStep(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !query.Has("state") {
		if subtle.ConstantTimeCompare([]byte(query.Get("begin")), []byte(s.begin)) != 1 {
			s.page(w, http.StatusBadRequest, pageUnknown)
			return
		}
		s.beginSignIn(w, r, "", "")
		return
	}
	cookie, err := r.Cookie(cookieSignIn + s.run)
	s.mu.Lock()
	p, signIn := s.pending[query.Get("state")], s.signIn
	began := p != nil && err == nil && time.Now().Before(p.until) && subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(p.browser)) == 1
	if began { // another browser that has got hold of the state does not end this one's sign-in
		delete(s.pending, query.Get("state"))
	}
	s.mu.Unlock()
	iss, code := query.Get("iss"), query.Get("error")
	switch {
	case !began:
		s.page(w, http.StatusBadRequest, page{Title: "This sign-in did not start here", Text: "Open the agent's link again, in one and the same browser.", Bad: true})
		return
	case iss != "" && iss != signIn.Issuer: // RFC 9207: the answer of another provider
		s.page(w, http.StatusBadRequest, page{Title: "This sign-in came from elsewhere", Text: "The answer is not from the provider that was asked. Open the agent's link again.", Bad: true})
		return
	case code != "":
		if !errorCode.MatchString(code) {
			code = "unknown_error"
		}
		s.page(w, http.StatusForbidden, page{Title: "You are not signed in", Text: "The provider answered “" + code + "”. Open the agent's link again to try once more.", Bad: true})
		return
	}
	person, err := signIn.redeem(r.Context(), s.SignInURL(), query.Get("code"), p)
	if err != nil {
		if r.Context().Err() == nil { // else the browser has left, or the run ends
			s.options.Log.Warn("a sign-in failed", "error", err)
		}
		s.page(w, http.StatusBadGateway, page{Title: "The sign-in failed", Text: "The provider's answer could not be verified. Open the agent's link again to try once more.", Bad: true})
		return
	}
	http.SetCookie(w, s.cookie(cookieBrowser, s.remember(person)))
	if p.session != "" {
		onward := url.Values{"session_id": {p.session}}
		if p.customState != "" {
			onward.Set("state", p.customState)
		}
		http.Redirect(w, r, s.CallbackURL()+"?"+onward.Encode(), http.StatusFound)
		return
	}
	select {
	case s.arrived <- person:
	default: // nobody waits for a second one
	}
	s.page(w, http.StatusOK, page{Title: "You are signed in", Text: "You can close this window and go back to your terminal.", Note: "Signed in as " + person.name + "."})
}

// remember makes the cookie value of a signed-in browser.
func (s *OAuth2CallbackServer) remember(person *signedInPerson) string {
	value := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.browsers) >= mostBrowsers {
		clear(s.browsers)
	}
	s.browsers[value] = person
	return value
}

// WaitForSignIn waits for the person who has SignInLink, and returns their ID token.
func (s *OAuth2CallbackServer) WaitForSignIn(ctx context.Context) (string, error) {
	select {
	case person := <-s.arrived:
		return person.idToken, nil
	case <-ctx.Done():
		if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return "", stopped()
		}
		return "", &OAuthError{Problem{What: "nobody signed in in time", Cause: errTimedOut, Hint: "Open the printed link on this machine. Is its redirect URI, " + s.SignInURL() + ", registered at your sign-in provider?"}}
	}
}

// cookie is one of the two. Its name is this run's, because a browser sends the
// cookies of localhost to each port; its path is the callback server's own, also
// behind a proxy's prefix.
func (s *OAuth2CallbackServer) cookie(name, value string) *http.Cookie {
	return &http.Cookie{Name: name + s.run, Value: value, Path: s.base.Path + "/oauth2/", MaxAge: int(signInTime.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.base.Scheme == "https"}
}
