package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// The callback server's own sign-in: who sits at this browser?
//
//	/oauth2/callback ─ nobody signed in ─▶ provider ─▶ /oauth2/signin ─ cookie ─▶ /oauth2/callback
const (
	cookieBrowser = "sayhello_person" // a signed-in browser
	cookieSignIn  = "sayhello_signin" // a browser on its way to the provider and back
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

// NewSignIn reads the provider's discovery document.
func NewSignIn(ctx context.Context, discoveryURL, clientID, clientSecret string) (*SignIn, error) {
	issuer := strings.TrimSuffix(discoveryURL, "/.well-known/openid-configuration")
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, &ConfigurationError{Problem{What: "the sign-in provider does not answer as an OpenID provider", Cause: err, Hint: "INBOUND_DISCOVERY_URL ends in /.well-known/openid-configuration and can be opened in a browser."}}
	}
	return &SignIn{Provider: provider, Issuer: issuer, ClientID: clientID, ClientSecret: clientSecret}, nil
}

func (s *SignIn) config(redirectURL string) *oauth2.Config {
	endpoint := s.Provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams // never try twice: a code is good for one request
	if s.ClientSecret != "" {
		endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return &oauth2.Config{ClientID: s.ClientID, ClientSecret: s.ClientSecret, Endpoint: endpoint, RedirectURL: redirectURL, Scopes: []string{oidc.ScopeOpenID, "profile"}}
}

// personAt is the person whom this browser's cookie belongs to, nil if nobody is signed in.
func (s *OAuth2CallbackServer) personAt(r *http.Request) *signedInPerson {
	cookie, err := r.Cookie(cookieBrowser)
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
	if cookie, err := r.Cookie(cookieBrowser); err == nil {
		s.mu.Lock()
		delete(s.browsers, cookie.Value)
		s.mu.Unlock()
	}
}

// beginSignIn sends the browser to the provider, remembering where it wanted to go.
func (s *OAuth2CallbackServer) beginSignIn(w http.ResponseWriter, r *http.Request, session, customState string) {
	s.mu.Lock()
	signIn := s.signIn
	s.mu.Unlock()
	if signIn == nil {
		s.page(w, http.StatusServiceUnavailable, page{Title: "Nobody can sign in yet", Text: "The agent is still starting. Open the link again in a moment.", Bad: true})
		return
	}
	state := rand.Text()
	p := &pendingSignIn{browser: rand.Text(), nonce: rand.Text(), verifier: oauth2.GenerateVerifier(), session: session, customState: customState, until: time.Now().Add(signInTime)}
	s.mu.Lock()
	for key, old := range s.pending {
		if time.Now().After(old.until) || len(s.pending) >= mostBrowsers {
			delete(s.pending, key)
		}
	}
	s.pending[state] = p
	s.mu.Unlock()
	http.SetCookie(w, s.cookie(cookieSignIn, p.browser))
	http.Redirect(w, r, signIn.config(s.SignInURL()).AuthCodeURL(state, oidc.Nonce(p.nonce), oauth2.S256ChallengeOption(p.verifier)), http.StatusFound)
}

// signInStep is both ends of a sign-in: without a code it begins one, with a
// code it finishes the one that this very browser began.
func (s *OAuth2CallbackServer) signInStep(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Get("state") == "" {
		s.beginSignIn(w, r, "", "")
		return
	}
	s.mu.Lock()
	p := s.pending[query.Get("state")]
	delete(s.pending, query.Get("state"))
	signIn := s.signIn
	s.mu.Unlock()
	cookie, err := r.Cookie(cookieSignIn)
	if p == nil || time.Now().After(p.until) || err != nil || subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(p.browser)) != 1 {
		s.page(w, http.StatusBadRequest, page{Title: "This sign-in did not start here", Text: "Open the agent's link again, in one and the same browser.", Bad: true})
		return
	}
	if query.Get("error") != "" {
		s.page(w, http.StatusForbidden, page{Title: "You are not signed in", Text: "The provider answered “" + redact(query.Get("error")) + "”. Open the agent's link again to try once more.", Bad: true})
		return
	}
	person, err := signIn.redeem(r.Context(), s.SignInURL(), query.Get("code"), p)
	if err != nil {
		s.page(w, http.StatusBadGateway, page{Title: "The sign-in failed", Text: "The provider's answer could not be verified. Open the agent's link again to try once more.", Bad: true})
		return
	}
	value := rand.Text()
	s.mu.Lock()
	if len(s.browsers) >= mostBrowsers {
		clear(s.browsers)
	}
	s.browsers[value] = person
	s.mu.Unlock()
	http.SetCookie(w, s.cookie(cookieBrowser, value))
	if p.session != "" {
		target := s.CallbackURL() + "?session_id=" + queryEscape(p.session)
		if p.customState != "" {
			target += "&state=" + queryEscape(p.customState)
		}
		http.Redirect(w, r, target, http.StatusFound)
		return
	}
	select {
	case s.arrived <- person:
	default:
	}
	s.page(w, http.StatusOK, page{Title: "You are signed in", Text: "You can close this window and go back to your terminal.", Note: "Signed in as " + person.name + "."})
}

// WaitForSignIn waits for somebody to sign in at SignInURL and returns the ID token.
func (s *OAuth2CallbackServer) WaitForSignIn(ctx context.Context) (string, error) {
	select {
	case person := <-s.arrived:
		return person.idToken, nil
	case <-ctx.Done():
		return "", interrupted(ctx, signInTime)
	}
}

// redeem exchanges the code for an ID token and verifies that it answers this sign-in.
func (s *SignIn) redeem(ctx context.Context, redirectURL, code string, p *pendingSignIn) (*signedInPerson, error) {
	token, err := s.config(redirectURL).Exchange(ctx, code, oauth2.VerifierOption(p.verifier))
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := s.Provider.Verifier(&oidc.Config{ClientID: s.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(p.nonce)) != 1 {
		return nil, &IdentityError{Problem{What: "the ID token answers another sign-in"}}
	}
	var claims struct {
		Name  string `json:"name"`
		Email string `json:"email"`
	}
	if err := verified.Claims(&claims); err != nil {
		return nil, err
	}
	until := verified.Expiry
	if limit := time.Now().Add(time.Hour); until.After(limit) {
		until = limit
	}
	return &signedInPerson{subject: verified.Subject, name: or(or(claims.Name, claims.Email), verified.Subject), idToken: raw, until: until}, nil
}

func (s *OAuth2CallbackServer) cookie(name, value string) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/oauth2/", MaxAge: int(signInTime.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(s.baseURL, "https:")}
}
