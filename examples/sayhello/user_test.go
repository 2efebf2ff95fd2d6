package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// ownSignIn is the environment of somebody whose sign-in is at another provider:
// the demo provider of a platform, as if it were theirs.
func ownSignIn(p *servertest.Platform) map[string]string {
	return map[string]string{"INBOUND_DISCOVERY_URL": p.DemoURL() + discoveryPath, "INBOUND_CLIENT_ID": demoSignInName}
}

// A person signs in at their own provider, consents at the other, and is greeted.
func TestOwnSignIn(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	s.env = ownSignIn(p)
	r := s.play(t, append(args, "--auto-consent=false")...)
	ada := newBrowser(t, p, demoidp.Ada)
	if page, status := ada.arrive(r.await(`Sign in first: (http\S+)\n`)); status != http.StatusOK || !strings.Contains(page, "Signed in as Ada Lovelace.") {
		t.Fatalf("%d %s", status, page)
	}
	if page, status := ada.open(r.link()); status != http.StatusOK || !strings.Contains(page, pageCompleted.Title) {
		t.Fatalf("%d %s", status, page)
	}
	r.greets("Ada Lovelace")
	if !strings.Contains(r.out.String(), "… signed in\n") || !strings.Contains(r.out.String(), "cannot use this consent") {
		t.Error("a line is missing")
	}
	nothingLeft(t, p)
	for i := range 2 { // both links were to be opened
		select {
		case <-r.browsed:
		default:
			t.Errorf("link %d was not opened on the display", i+1)
		}
	}

	s.play(t, args...).greets("Ada Lovelace") // their provider is the demo provider, so its person can do it alone
}

// The same with a platform in the process, which is told to trust that provider.
func TestOwnSignInEmbedded(t *testing.T) {
	t.Parallel()
	theirs, data := servertest.Start(t), filepath.Join(t.TempDir(), "data")
	r := situation{env: ownSignIn(theirs)}.play(t, "--data", data)
	grace := newBrowser(t, theirs, demoidp.Grace)
	grace.arrive(r.await(`Sign in first: (http\S+)\n`))
	link := r.link()
	arrival, err := servertest.NewPerson(demoOf(t, data), demoidp.Ada).Visit(t.Context(), link, "allow") // she has another account there
	if err != nil {
		t.Fatal(err)
	}
	if page, status := grace.arrive(arrival); status != http.StatusOK || !strings.Contains(page, "Signed in as Grace Hopper.") {
		t.Fatalf("%d %s", status, page)
	}
	r.greets("Ada Lovelace")
}

// demoOf is the demo provider beside an embedded platform.
func demoOf(t *testing.T, data string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(data, "endpoint.json"))
	if err != nil {
		t.Fatal(err)
	}
	var endpoint struct{ DemoURL string }
	if err := json.Unmarshal(content, &endpoint); err != nil || endpoint.DemoURL == "" {
		t.Fatalf("no demo provider in %s", content)
	}
	return endpoint.DemoURL
}

func TestNobodySignsIn(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	s.env = ownSignIn(p)
	s.play(t, append(args, "--auto-consent=false", "--timeout", "200ms")...).fails(exitFailed, "nobody signed in in time", "redirect URI")
	nothingLeft(t, p)
}

// A token that the person has already, with nobody asked at the browser.
func TestUserToken(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	s.env = map[string]string{"USER_TOKEN": p.UserToken(t, demoidp.Grace)}
	s.play(t, args...).greets("Ada Lovelace") // Grace asked; the account is the one that the demo person chose
	nothingLeft(t, p)
	situation{env: s.env}.play(t).greets("Ada Lovelace") // embedded
}

// With a sign-in beside it, the token opens the session and the browser is asked.
func TestUserTokenWithSignIn(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	s.env = ownSignIn(p)
	s.env["USER_TOKEN"] = p.UserToken(t, demoidp.Grace)
	r := s.play(t, append(args, "--auto-consent=false")...)
	link := r.link()
	if _, status := newBrowser(t, p, demoidp.Ada).open(link); status != http.StatusForbidden {
		t.Errorf("Ada: %d", status)
	}
	if _, status := newBrowser(t, p, demoidp.Grace).open(link); status != http.StatusOK {
		t.Errorf("Grace: %d", status)
	}
	r.greets("Grace Hopper")
}

func TestUserTokenIsVerifiedFirst(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	token := p.UserToken(t, demoidp.Ada)
	parts := strings.Split(token, ".")
	for what, test := range map[string]struct {
		token, message, hint string
		code                 int
	}{
		"no token":              {"nonsense", "USER_TOKEN is not an ID token", hintNoIdentifier, exitFailed},
		"no JSON":               {"a.b.c", "USER_TOKEN is not an ID token", hintNoIdentifier, exitFailed},
		"another's signature":   {parts[0] + "." + parts[1] + ".AAAA", "not valid", "ID token of " + p.DemoURL(), exitFailed},
		"a provider that is no": {strings.Join([]string{parts[0], encoded(t, map[string]any{"iss": p.URL(), "aud": []string{"x"}}), parts[2]}, "."), "does not answer as an OpenID provider", discoveryPath, exitMisuse},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := s
			s.env = map[string]string{"USER_TOKEN": test.token}
			r := s.play(t, args...)
			r.fails(test.code, test.message, test.hint)
			if strings.Contains(r.errOut.String(), test.token) {
				t.Error("the token is printed")
			}
		})
	}
	wants[*IdentityError](t, expired(t, p), "has expired", "USER_TOKEN")
}

// expired is what becomes of a token whose time was over when it was issued.
func expired(t *testing.T, p *servertest.Platform) error {
	t.Helper()
	signIn, err := NewSignIn(t.Context(), p.DemoURL()+discoveryPath, demoSignInName, "")
	if err != nil {
		t.Fatal(err)
	}
	p.Demo().SetLifetime(-time.Minute)
	defer p.Demo().SetLifetime(time.Hour)
	token := p.UserToken(t, demoidp.Ada)
	_, err = signIn.UserTokenIdentifierOf(t.Context(), token)
	return err
}

func TestUserTokenIdentifierOf(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	signIn, err := NewSignIn(t.Context(), p.DemoURL()+discoveryPath, demoSignInName, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := signIn.UserTokenIdentifierOf(t.Context(), p.UserToken(t, demoidp.Grace)); err != nil || got != demoidp.Grace {
		t.Errorf("got %q, %v", got, err)
	}
	_, err = signIn.UserTokenIdentifierOf(t.Context(), "")
	wants[*IdentityError](t, err, "no user token", hintNoIdentifier)
	other, err := NewSignIn(t.Context(), p.DemoURL()+discoveryPath, "another-application", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.UserTokenIdentifierOf(t.Context(), p.UserToken(t, demoidp.Grace))
	wants[*IdentityError](t, err, "not valid", "another-application")
	_, err = NewSignIn(t.Context(), p.URL()+discoveryPath, demoSignInName, "")
	wants[*ConfigurationError](t, err, "OpenID provider", discoveryPath)
}

func TestClaimed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		payload          any
		issuer, audience string
	}{
		{map[string]any{"iss": "https://a", "aud": "b"}, "https://a", "b"},
		{map[string]any{"iss": "https://a", "aud": []string{"b", "c"}}, "https://a", "b"},
		{map[string]any{"iss": "https://a", "aud": []string{}}, "https://a", ""},
		{map[string]any{"iss": "https://a"}, "https://a", ""},
		{"text", "", ""},
	} {
		if issuer, audience := claimed("h." + encoded(t, test.payload) + ".s"); issuer != test.issuer || audience != test.audience {
			t.Errorf("%v: %q, %q", test.payload, issuer, audience)
		}
	}
}

// encoded is a part of a JWT.
func encoded(t testing.TB, payload any) string {
	t.Helper()
	raw, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}
