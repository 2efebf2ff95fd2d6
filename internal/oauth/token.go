package oauth

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Token is a token endpoint's answer.
type Token struct {
	Access     secret.Text
	Refresh    secret.Text // empty after Refresh: the old one stays valid, keep it
	ID         secret.Text // OpenID Connect's ID token, not verified
	Type       string      // usually Bearer
	IssuedType string      // of ExchangeToken: one of RFC 8693's token types; usually TypeAccessToken
	Expiry     time.Time   // counted from before the request; zero: unknown
	Scopes     []string    // as granted; nil: as asked
}

// Exchange redeems a code for tokens, with one request: whatever happens, the
// code is not sent again. Of the authorization, Resources count. Once called, the
// code must be considered spent.
func (c *Client) Exchange(ctx context.Context, s Server, code, verifier secret.Text, a Authorization) (Token, error) {
	vendor, err := s.vendor()
	if err != nil {
		return Token{}, err
	}
	form := url.Values{
		"grant_type": {"authorization_code"},
		"code":       {code.Reveal()},
	}
	if s.pkce(vendor) {
		form.Set("code_verifier", verifier.Reveal())
	}
	if s.RedirectURL != "" {
		form.Set("redirect_uri", s.RedirectURL)
	}
	addAll(form, "resource", a.Resources)
	return c.redeem(ctx, s, form, code, verifier)
}

// Refresh redeems a refresh token, with one request that is not repeated: a
// server that rotates takes a second one for theft. A cancelled context may lose
// the rotated token, so call it with one that outlives the impatient. No scopes
// means those of the grant.
func (c *Client) Refresh(ctx context.Context, s Server, refresh secret.Text, scopes, resources []string) (Token, error) {
	vendor, err := s.vendor()
	if err != nil {
		return Token{}, err
	}
	if vendor.Quirks.WithoutRefresh {
		return Token{}, fault.New(fault.Invalid, "%s gives no refresh tokens: the user has to consent again.", vendor.Title)
	}
	form := url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh.Reveal()},
	}
	setScopes(form, scopes)
	addAll(form, "resource", resources)
	return c.redeem(ctx, s, form, refresh)
}

// redeem posts a form to the token endpoint and reads the token of its answer.
func (c *Client) redeem(ctx context.Context, s Server, form url.Values, secrets ...secret.Text) (_ Token, err error) {
	defer c.told(s, form.Get("grant_type"), time.Now(), &err)
	got, err := c.post(ctx, request{server: s, endpoint: tokenEndpoint, address: s.Metadata.TokenEndpoint, form: form, secrets: secrets})
	if err != nil {
		return Token{}, err
	}
	token, problem := got.token()
	if problem != nil {
		return Token{}, refusal(got.host, problem)
	}
	return token, nil
}

// setScopes puts spaces between, as RFC 6749 has it in token requests, whatever
// the vendor's authorization endpoint wants.
func setScopes(form url.Values, scopes []string) {
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
}

func addAll(form url.Values, name string, values []string) {
	for _, value := range values {
		form.Add(name, value)
	}
}
