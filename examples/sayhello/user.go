package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
)

// source is where the name comes from: Google, or the demo provider in its place.
func (s *story) source() (*ProfileSource, error) {
	if s.Google.ClientID != "" {
		return &ProfileSource{Title: "Google", PeopleURL: googlePeople, ClientID: s.Google.ClientID, ClientSecret: s.Google.ClientSecret}, nil
	}
	demo := strings.TrimSuffix(s.backend.DemoURL, "/")
	return &ProfileSource{
		Title: "demo provider in place of Google", PeopleURL: demo, DiscoveryURL: demo + discoveryPath,
		Register: registerDemoClient(demo, "Say hello"),
	}, nil
}

const (
	discoveryPath  = "/.well-known/openid-configuration"
	demoSignInName = "onbehalf-demo" // the demo provider's client for sign-ins, and their audience
)

// signInUser yields the token of the person who asks: what the gateway checks,
// and what the consent is bound to. It tells the callback server whom to wait for.
func (s *story) signInUser(ctx context.Context) (token, discoveryURL string, err error) {
	if s.backend.DemoURL != "" && (s.usesDemo() || s.demoSignIn()) {
		if s.person, err = newDemoPerson(s.backend.DemoURL); err != nil {
			return "", "", err
		}
	}
	clientID := s.Inbound.ClientID
	switch {
	case s.demoSignIn():
		discoveryURL, clientID = strings.TrimSuffix(s.backend.DemoURL, "/")+discoveryPath, demoSignInName
	case s.Inbound.DiscoveryURL != "":
		discoveryURL = s.Inbound.DiscoveryURL
	default:
		issuer, audience := s.inboundTrust()
		if issuer == "" {
			return "", "", &IdentityError{Problem{What: "USER_TOKEN is not an ID token", Hint: hintNoIdentifier}}
		}
		discoveryURL, clientID = strings.TrimSuffix(issuer, "/")+discoveryPath, audience
	}
	if s.signIn, err = NewSignIn(ctx, discoveryURL, clientID, s.Inbound.ClientSecret); err != nil {
		return "", "", err
	}
	s.callback.UseSignIn(s.signIn)
	switch {
	case s.UserToken != "":
		token = s.UserToken
	case s.demoSignIn():
		if err := s.person.visit(ctx, s.callback.SignInURL()); err != nil {
			return "", "", err
		}
		token, err = s.callback.WaitForSignIn(ctx)
	default:
		s.more("Sign in first: %s", s.callback.SignInURL())
		openBrowser(s.callback.SignInURL())
		waiting, cancel := context.WithTimeout(ctx, s.Timeout)
		defer cancel()
		token, err = s.callback.WaitForSignIn(waiting)
	}
	if err != nil {
		return "", "", err
	}
	identifier, err := s.signIn.UserTokenIdentifierOf(ctx, token)
	if err != nil {
		return "", "", err
	}
	s.callback.UseToken(token)
	return token, discoveryURL, StoreTokenInCallbackServer(ctx, s.callback.Client(), identifier)
}

// inboundTrust is the issuer and audience of the user's own sign-in, which an
// embedded platform is told to trust. USER_TOKEN's are read, not yet verified.
func (s *Settings) inboundTrust() (issuer, audience string) {
	if s.Inbound.DiscoveryURL != "" {
		return strings.TrimSuffix(s.Inbound.DiscoveryURL, discoveryPath), s.Inbound.ClientID
	}
	parts := strings.Split(s.UserToken, ".")
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
	switch audience := claims.Audience.(type) {
	case string:
		return claims.Issuer, audience
	case []any:
		if len(audience) > 0 {
			first, _ := audience[0].(string)
			return claims.Issuer, first
		}
	}
	return "", ""
}

// sessionOf is the session URI in a consent link.
func sessionOf(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	return u.Query().Get("request_uri")
}
