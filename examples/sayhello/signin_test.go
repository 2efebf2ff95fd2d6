package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// A sign-in ends in the browser that it began in, once, with an answer of the
// provider that was asked.
func TestSignInBelongsToItsBrowser(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	// begin sends a browser to the provider and gives the URL that it comes back to.
	begin := func(b *browser) string {
		_, response := look(t, b.HTTP, g.callback.SignInLink())
		if response.StatusCode != http.StatusFound {
			t.Fatalf("status %d", response.StatusCode)
		}
		arrival, err := b.Visit(t.Context(), response.Header.Get("Location"), "allow")
		if err != nil {
			t.Fatal(err)
		}
		return arrival
	}
	refused := func(what string, b *browser, at string, status int, title string) {
		t.Helper()
		if page, response := look(t, b.HTTP, at); response.StatusCode != status || !strings.Contains(page, title) {
			t.Errorf("%s: %d %s", what, response.StatusCode, page)
		}
		for _, c := range b.HTTP.Jar.Cookies(g.callback.base.JoinPath(pathCallback)) {
			if strings.HasPrefix(c.Name, cookieBrowser) {
				t.Errorf("%s: the browser is signed in", what)
			}
		}
	}
	with := func(at, name, value string) string {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		query.Set(name, value)
		if value == "" {
			query.Del(name)
		}
		u.RawQuery = query.Encode()
		return u.String()
	}
	ada, grace := newBrowser(t, g.Platform, demoidp.Ada), newBrowser(t, g.Platform, demoidp.Grace)
	stolen := begin(grace)
	refused("somebody else's answer", ada, stolen, http.StatusBadRequest, "did not start here")
	if page, status := grace.arrive(stolen); status != http.StatusOK || !strings.Contains(page, "Signed in as Grace Hopper.") {
		t.Errorf("the other's attempt spoilt it: %d %s", status, page)
	}
	if page, response := look(t, grace.HTTP, stolen); response.StatusCode != http.StatusBadRequest {
		t.Errorf("twice: %d %s", response.StatusCode, page)
	}
	refused("without the link", ada, g.callback.SignInURL(), http.StatusBadRequest, pageUnknown.Title)
	refused("with another link", ada, g.callback.SignInURL()+"?begin="+strings.ToLower(g.callback.begin), http.StatusBadRequest, pageUnknown.Title)
	refused("an unknown state", ada, g.callback.SignInURL()+"?state=x&code=y", http.StatusBadRequest, "did not start here")
	refused("another issuer", ada, with(begin(ada), "iss", "https://evil.example"), http.StatusBadRequest, "came from elsewhere")
	refused("another code", ada, with(begin(ada), "code", "forged"), http.StatusBadGateway, "sign-in failed")
	refused("no code", ada, with(begin(ada), "code", ""), http.StatusBadGateway, "sign-in failed")
	refused("a refusal", ada, with(begin(ada), "error", "access_denied"), http.StatusForbidden, "access_denied")
	refused("a strange refusal", ada, with(begin(ada), "error", "Call 555"), http.StatusForbidden, "unknown_error")

	// Two tabs: the second sign-in does not spoil the first.
	first, second := begin(ada), begin(ada)
	for _, at := range []string{first, second} {
		if page, status := ada.arrive(at); status != http.StatusOK {
			t.Errorf("%d %s", status, page)
		}
	}
	if strings.Contains(g.log.String(), "code=") || strings.Contains(g.log.String(), "state=") {
		t.Error("the log has what it must not have")
	}
}

// Nobody is signed in for longer than their token says, or than an hour.
func TestSignInEnds(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	ada := g.signedIn(demoidp.Ada)
	g.callback.mu.Lock()
	for _, person := range g.callback.browsers {
		if left := time.Until(person.until); left <= 0 || left > time.Hour {
			t.Errorf("signed in for %s", left)
		}
		person.until = time.Now().Add(-time.Second)
	}
	g.callback.mu.Unlock()
	_, session, c := g.expect()
	if _, response := look(t, ada.HTTP, g.returned(session)); response.StatusCode != http.StatusFound {
		t.Errorf("status %d: nobody is asked who they are", response.StatusCode)
	}
	stillWaits(t, c)
}

func TestSignInCookies(t *testing.T) {
	t.Parallel()
	g := newConsentRig(t, servertest.Start(t), CallbackOptions{})
	_, response := look(t, newBrowser(t, g.Platform, demoidp.Ada).HTTP, g.callback.SignInLink())
	if len(response.Cookies()) != 1 {
		t.Fatalf("%d cookies", len(response.Cookies()))
	}
	c := response.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/oauth2/" || c.MaxAge <= 0 || c.Secure {
		t.Errorf("the cookie is %s", c)
	}
	location, err := url.Parse(response.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if location.Query().Get(name) == "" {
			t.Errorf("the request has no %s", name)
		}
	}
	if location.Query().Get("code_challenge_method") != "S256" || location.Query().Get("redirect_uri") != g.callback.SignInURL() {
		t.Errorf("the request is %v", location.Query())
	}
}

// The number of browsers that are remembered is bounded.
func TestSignInsAreBounded(t *testing.T) {
	t.Parallel()
	s := bare(t, CallbackOptions{})
	for range mostBrowsers + 10 {
		s.remember(&signedInPerson{})
	}
	if n := len(s.browsers); n > mostBrowsers {
		t.Errorf("%d browsers", n)
	}
}

func TestWaitForSignIn(t *testing.T) {
	t.Parallel()
	s := bare(t, CallbackOptions{})
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := s.WaitForSignIn(short)
	wants[*OAuthError](t, err, "nobody signed in in time", s.SignInURL())
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.WaitForSignIn(over); !errors.Is(err, errCancelled) {
		t.Errorf("got %v", err)
	}
}
