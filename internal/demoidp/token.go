package demoidp

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

// code is an authorization code that waits for its client.
type code struct {
	clientID  string
	redirect  string
	challenge string // PKCE S256
	family    *family
	offline   bool // a refresh token was asked for
	expires   time.Time
	used      bool
}

// token is the token endpoint, RFC 6749 with RFC 7636 and OAuth 2.1's rotation.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !parseForm(w, r) {
		return
	}
	grantType := r.PostForm.Get("grant_type")
	p.mu.Lock()
	fail := p.levers.failTokens
	switch grantType {
	case "authorization_code", "refresh_token", "client_credentials":
		p.levers.requests[grantType]++ // only these, so that strangers cannot fill the map
	}
	p.mu.Unlock()
	if fail != 0 {
		p.fail(w, fail)
		return
	}
	client, problem := p.authenticate(r)
	if problem != nil {
		problem.write(w)
		return
	}
	var tokens Tokens
	switch grantType {
	case "authorization_code":
		tokens, problem = p.redeem(r, client)
	case "refresh_token":
		tokens, problem = p.refresh(r, client)
	case "client_credentials":
		tokens, problem = p.clientCredentials(r, client)
	default:
		problem = badRequest("unsupported_grant_type", "This grant type is not supported.")
	}
	if problem != nil {
		problem.write(w)
		return
	}
	writeJSON(w, http.StatusOK, tokens)
}

// redeem turns a code into tokens, once. Whatever is wrong with a second try,
// the first one's tokens are revoked: somebody else has seen the code.
func (p *Provider) redeem(r *http.Request, client registered) (Tokens, *oauthError) {
	refused := badRequest("invalid_grant", "The code is expired, used, or was not issued for this request.")
	verifier, redirect := r.PostForm.Get("code_verifier"), r.PostForm.Get("redirect_uri")
	now := p.now()

	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.codes.get(r.PostForm.Get("code"), now)
	if !ok || c.clientID != client.ID {
		return Tokens{}, refused
	}
	if c.used {
		p.end(c.family, now)
		if err := p.save(); err != nil {
			return Tokens{}, broken()
		}
		return Tokens{}, refused
	}
	c.used = true // also when what follows fails: a code with a wrong verifier is a stolen one
	if !now.Before(c.expires) || c.redirect != redirect || !proves(verifier, c.challenge) {
		return Tokens{}, refused
	}
	refresh := ""
	p.keep(c.family, now)
	if c.offline {
		refresh = p.addRefresh(c.family, now)
	}
	if err := p.save(); err != nil {
		return Tokens{}, broken()
	}
	tokens, err := p.mintLocked(client, c.family, c.family.Scopes, refresh, now)
	if err != nil {
		return Tokens{}, broken()
	}
	return tokens, nil
}

// proves is PKCE: whoever redeems the code is who asked for it.
func proves(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 {
		return false
	}
	hash := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(hash[:])), []byte(challenge)) == 1
}

func (p *Provider) refresh(r *http.Request, client registered) (Tokens, *oauthError) {
	wanted := strings.Fields(r.PostForm.Get("scope"))
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	token := r.PostForm.Get("refresh_token")
	if f := p.familyOf(token); f != nil && f.ClientID == client.ID && !covers(f.Scopes, wanted) {
		return Tokens{}, badRequest("invalid_scope", "More is asked for than was allowed.")
	}
	f, next, problem := p.rotate(token, client.ID, now)
	if err := p.save(); err != nil {
		return Tokens{}, broken()
	}
	if problem != nil {
		return Tokens{}, problem
	}
	if len(wanted) == 0 {
		wanted = f.Scopes
	}
	tokens, err := p.mintLocked(client, f, wanted, next, now)
	if err != nil {
		return Tokens{}, broken()
	}
	return tokens, nil
}

func (p *Provider) clientCredentials(r *http.Request, client registered) (Tokens, *oauthError) {
	if client.public() {
		return Tokens{}, badRequest("unauthorized_client", "A public client cannot act for itself.")
	}
	scopes := strings.Fields(r.PostForm.Get("scope"))
	for _, scope := range scopes {
		if _, known := p.scopes[scope]; !known || scope == "openid" || scope == "offline_access" {
			return Tokens{}, badRequest("invalid_scope", "This scope is unknown or needs a person.")
		}
	}
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	tokens, err := p.mintLocked(client, &family{ID: random(), ClientID: client.ID}, scopes, "", now)
	if err != nil {
		return Tokens{}, broken()
	}
	return tokens, nil
}

// revoke is RFC 7009: the token's whole family goes, and nobody learns whether it existed.
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !parseForm(w, r) {
		return
	}
	client, problem := p.authenticate(r)
	if problem != nil {
		problem.write(w)
		return
	}
	raw := r.PostForm.Get("token")
	claims, _ := p.openAccess(raw)
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.familyOf(raw); f != nil && f.ClientID == client.ID {
		p.end(f, now)
	} else if claims != nil && claims.ClientID == client.ID {
		delete(p.families, claims.Family)
		p.forbid(claims.Family, now)
	}
	if p.save() != nil {
		broken().write(w)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func covers(have, want []string) bool {
	return !slices.ContainsFunc(want, func(scope string) bool { return !slices.Contains(have, scope) })
}

func broken() *oauthError {
	return &oauthError{status: http.StatusInternalServerError, code: "server_error", description: "The provider could not store or sign."}
}

// parseForm reads a form body in which nothing is said twice.
func parseForm(w http.ResponseWriter, r *http.Request) bool {
	if err := r.ParseForm(); err != nil {
		badRequest("invalid_request", "The body is not a form.").write(w)
		return false
	}
	if name := repeated(r.PostForm); name != "" {
		badRequest("invalid_request", "A parameter is given more than once.").write(w)
		return false
	}
	return true
}

// repeated finds a parameter that is given twice, which RFC 6749, 3.1 forbids;
// RFC 8707 and RFC 8693 let these two repeat.
func repeated(form map[string][]string) string {
	for name, values := range form {
		if len(values) > 1 && name != "resource" && name != "audience" {
			return name
		}
	}
	return ""
}
