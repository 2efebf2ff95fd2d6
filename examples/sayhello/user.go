package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
)

const (
	discoveryPath  = "/.well-known/openid-configuration"
	demoSignInName = "onbehalf-demo" // the demo provider's client for sign-ins, and their audience
)

// findOwnSignIn finds the provider at which the person signs in to this
// application, if it is not the demo provider, and refuses a USER_TOKEN that is
// no good before anything is made.
func (s *story) findOwnSignIn(ctx context.Context) (err error) {
	discoveryURL, clientID := s.Inbound.DiscoveryURL, s.Inbound.ClientID
	switch {
	case s.demoSignIn():
		return nil
	case discoveryURL == "":
		issuer, audience := claimed(s.UserToken)
		if issuer == "" || audience == "" {
			return &IdentityError{Problem{What: "USER_TOKEN is not an ID token", Hint: hintNoIdentifier}}
		}
		discoveryURL, clientID = strings.TrimSuffix(issuer, "/")+discoveryPath, audience
	}
	if s.signIn, err = NewSignIn(ctx, discoveryURL, clientID, s.Inbound.ClientSecret); err != nil {
		return err
	}
	if s.UserToken != "" {
		_, err = s.signIn.UserTokenIdentifierOf(ctx, s.UserToken)
	}
	return err
}

// claimed is what a token says of its issuer and audience, not yet verified.
func claimed(token string) (issuer, audience string) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", ""
	}
	var claims struct {
		Issuer   string `json:"iss"`
		Audience any    `json:"aud"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return "", ""
	}
	switch several := claims.Audience.(type) {
	case string:
		audience = several
	case []any:
		if len(several) > 0 {
			audience, _ = several[0].(string)
		}
	}
	return claims.Issuer, audience
}

// source is where the name comes from: Google, or the demo provider in its
// place. The demo provider's person is made here as well, and its sign-in is
// used where there is no other.
func (s *story) source(ctx context.Context) (source *ProfileSource, err error) {
	demo := s.backend.DemoURL
	if demo != "" {
		if s.person, err = newDemoPerson(demo); err != nil {
			return nil, err
		}
	}
	if s.demoSignIn() {
		if s.signIn, err = NewSignIn(ctx, demo+discoveryPath, demoSignInName, ""); err != nil {
			return nil, err
		}
	}
	if s.Google.ClientID != "" {
		return &ProfileSource{Title: "Google", PeopleURL: googlePeople, ClientID: s.Google.ClientID, ClientSecret: s.Google.ClientSecret}, nil
	}
	return &ProfileSource{
		Title: "demo provider in place of Google", PeopleURL: demo, DiscoveryURL: demo + discoveryPath,
		Register: registerDemoClient(demo, "Say hello"),
	}, nil
}

// signInUser yields the token of the person who asks: what the gateway checks,
// and what the consent is bound to. It tells the callback server whom to wait for.
func (s *story) signInUser(ctx context.Context) (token string, err error) {
	waiting, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	link := s.callback.SignInLink()
	switch {
	case s.UserToken != "":
		token = s.UserToken
	case s.demoSignIn() || (s.AutoConsent && s.playable()):
		if err := s.person.visit(waiting, link); err != nil {
			return "", err
		}
		token, err = s.callback.WaitForSignIn(waiting)
	default:
		s.more("Sign in first: %s", link)
		s.process.browse(link)
		s.begin("waiting for you (%s) …", minutes(s.Timeout))
		if token, err = s.callback.WaitForSignIn(waiting); err != nil {
			s.finish("not signed in")
		} else {
			s.finish("signed in")
		}
	}
	if err != nil {
		return "", err
	}
	identifier, err := s.signIn.UserTokenIdentifierOf(ctx, token)
	if err != nil {
		return "", err
	}
	s.callback.UseToken(token)
	return token, StoreTokenInCallbackServer(ctx, s.callback.Client(), identifier)
}
