package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Token is a token endpoint's answer.
type Token struct {
	Access  secret.Text
	Refresh secret.Text // empty after Refresh: the old one stays valid, keep it
	ID      secret.Text // OpenID Connect's ID token, not verified
	Type    string      // usually Bearer
	Expiry  time.Time   // counted from before the request; zero: unknown
	Scopes  []string    // as granted; nil: as asked
}

// Exchange redeems a code for tokens, with one request: whatever happens, the
// code is not sent again. Of the authorization, Resources count. Once called, the
// code must be considered spent.
func (c *Client) Exchange(ctx context.Context, s Server, code, verifier secret.Text, a Authorization) (Token, error) {
	form := url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code.Reveal()},
		"code_verifier": {verifier.Reveal()},
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
	form := url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh.Reveal()},
	}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " ")) // RFC 6749 section 6: spaces, whatever the vendor's authorize page wants
	}
	addAll(form, "resource", resources)
	return c.redeem(ctx, s, form, refresh)
}

// redeem posts a form to the token endpoint under the client's authentication.
func (c *Client) redeem(ctx context.Context, s Server, form url.Values, secrets ...secret.Text) (Token, error) {
	endpoint, err := url.Parse(s.Metadata.TokenEndpoint)
	if err != nil || endpoint.Host == "" {
		return Token{}, fault.New(fault.Invalid, "The provider has no token endpoint that can be reached.")
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	header := http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		"Accept":       {"application/json"},
		"User-Agent":   {"onbehalf"},
	}
	if err := authenticate(s, form, header); err != nil {
		return Token{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return Token{}, fault.New(fault.Invalid, "The provider has no token endpoint that can be reached.")
	}
	req.Header = header
	req.GetBody = nil // without it net/http cannot send the body again

	started := c.now()
	resp, err := c.egress.Do(req)
	if err != nil {
		return Token{}, withoutAnswer(err)
	}
	body, err := egress.ReadAll(resp, bodyLimit)
	if err != nil {
		return Token{}, withoutAnswer(err)
	}
	sent := spellings(s.ClientSecret.Reveal(), basic(s))
	for _, value := range secrets {
		sent = append(sent, spellings(value.Reveal())...)
	}
	token, problem := readAnswer(resp.StatusCode, resp.Header, body, sent, started)
	if problem != nil {
		return Token{}, refusal(endpoint.Host, problem)
	}
	return token, nil
}

// authenticate puts the client's proof where its method wants it.
func authenticate(s Server, form url.Values, header http.Header) error {
	method, err := s.authMethod()
	if err != nil {
		return err
	}
	switch method {
	case AuthSecretBasic:
		request := http.Request{Header: header}
		request.SetBasicAuth(url.QueryEscape(s.ClientID), url.QueryEscape(s.ClientSecret.Reveal())) // RFC 6749 section 2.3.1
	case AuthSecretPost:
		form.Set("client_id", s.ClientID)
		form.Set("client_secret", s.ClientSecret.Reveal())
	case AuthNone:
		form.Set("client_id", s.ClientID)
	default:
		return fault.New(fault.NotBuilt, "Client authentication by %s is not supported yet.", method)
	}
	return nil
}

// basic is the credential of the Authorization header before base64.
func basic(s Server) string {
	if s.ClientSecret.Empty() {
		return ""
	}
	return url.QueryEscape(s.ClientID) + ":" + url.QueryEscape(s.ClientSecret.Reveal())
}

// authMethod is decided by configuration and metadata, never by trying: a
// method that fails may have spent the code.
func (s Server) authMethod() (AuthMethod, error) {
	if s.AuthMethod != "" {
		return s.AuthMethod, nil
	}
	vendor, err := s.vendor()
	if err != nil || vendor.AuthMethod != "" {
		return vendor.AuthMethod, err
	}
	offered := s.Metadata.TokenEndpointAuthMethods
	if !slices.Contains(offered, string(AuthSecretBasic)) && slices.Contains(offered, string(AuthSecretPost)) {
		return AuthSecretPost, nil
	}
	return AuthSecretBasic, nil // the default of RFC 8414, and of AWS
}

// readAnswer makes a token of an answer, or says what is wrong with it. Answers
// come as JSON objects; error pages of proxies as anything.
func readAnswer(status int, header http.Header, body []byte, sent []string, started time.Time) (Token, *Error) {
	var fields map[string]json.RawMessage
	unreadable := json.Unmarshal(body, &fields) != nil || fields == nil
	code, _ := text(fields["error"])
	words, _ := text(fields["error_description"])
	problem := failure(status, header, code, words, sent, started)
	if status < 200 || status > 299 {
		return Token{}, problem
	}
	if unreadable {
		problem.Transient = true // a success that is a page: something between us and the provider answered
		return Token{}, problem
	}
	access, ok := text(fields["access_token"])
	if !ok || !isTokenText(access) {
		return Token{}, problem
	}
	t := Token{Access: secret.New(access), Expiry: expiry(fields["expires_in"], started), Scopes: scopeList(fields["scope"])}
	if refresh, ok := text(fields["refresh_token"]); ok {
		t.Refresh = secret.New(refresh)
	}
	if id, ok := text(fields["id_token"]); ok {
		t.ID = secret.New(id)
	}
	t.Type = "Bearer"
	if kind, ok := text(fields["token_type"]); ok && kind != "" {
		t.Type = kind
	}
	return t, nil
}

// text reads a JSON string; anything else, null included, is none.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// isTokenText reports whether an access token can be sent in a header (RFC 6749's VSCHAR).
func isTokenText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// expiry reads a lifetime in seconds, which servers send as a number, a string
// or a fraction. None, zero and nonsense are unknown. Ten years is for ever.
func expiry(raw json.RawMessage, from time.Time) time.Time {
	number := string(bytes.TrimSpace(raw))
	if s, ok := text(raw); ok {
		number = strings.TrimSpace(s)
	}
	seconds, err := strconv.ParseFloat(number, 64)
	if err != nil && !math.IsInf(seconds, 1) || math.IsNaN(seconds) || seconds <= 0 {
		return time.Time{}
	}
	const forever = 10 * 365 * 24 * 3600
	return from.Add(time.Duration(math.Min(seconds, forever) * float64(time.Second)))
}

// scopeList reads scopes: a string with spaces between, or a list of strings.
func scopeList(raw json.RawMessage) []string {
	if s, ok := text(raw); ok {
		if list := strings.Fields(s); len(list) > 0 {
			return list
		}
		return nil
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return nil
	}
	return list
}
