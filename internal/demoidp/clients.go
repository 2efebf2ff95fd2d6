package demoidp

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Client is an application that people sign in to, or allow to act for them.
type Client struct {
	ID           string
	Secret       string   // empty makes it a public client, which PKCE alone protects
	Name         string   // what the consent page calls it; empty means ID
	RedirectURIs []string // matched character by character
	AnyLoopback  bool     // any http redirect URI on loopback will do too, whatever its port (RFC 8252, 7.3) and path
	Audience     string   // of its access tokens; empty means the People API
	SignIn       bool     // people sign in to it and nothing more: no consent page unless prompt=consent
}

// registered is a Client as it is kept: of the secret there is only a hash.
type registered struct {
	ID           string   `json:"client_id"`
	SecretHash   []byte   `json:"secret_sha256,omitempty"`
	Name         string   `json:"name"`
	RedirectURIs []string `json:"redirect_uris"`
	AnyLoopback  bool     `json:"any_loopback,omitempty"`
	Audience     string   `json:"audience,omitempty"`
	SignIn       bool     `json:"sign_in,omitempty"`

	SelfMade time.Time `json:"self_made,omitzero"` // when it registered itself over HTTP
}

func (c registered) public() bool { return len(c.SecretHash) == 0 }

// returnsTo reports whether people may be sent to the URI with a code for the client.
func (c registered) returnsTo(uri string) bool {
	if slices.Contains(c.RedirectURIs, uri) {
		return true
	}
	u, err := url.Parse(uri)
	return c.AnyLoopback && err == nil && u.Scheme == "http" && u.User == nil && u.Fragment == "" && isLoopback(u.Hostname())
}

// Register adds a client or replaces the one with the same ID. Grants of a
// replaced client stay, as a new secret or redirect URI does not undo a consent.
func (p *Provider) Register(c Client) error { return p.add(c, time.Time{}) }

func (p *Provider) add(c Client, selfMade time.Time) error {
	if c.ID == "" {
		return errors.New("demoidp: a client needs an ID")
	}
	for _, raw := range c.RedirectURIs {
		if err := checkRedirectURI(raw); err != nil {
			return err
		}
	}
	kept := registered{ID: c.ID, Name: c.Name, RedirectURIs: slices.Clone(c.RedirectURIs), AnyLoopback: c.AnyLoopback, Audience: c.Audience, SignIn: c.SignIn, SelfMade: selfMade}
	if kept.Name == "" {
		kept.Name = c.ID
	}
	if c.Secret != "" {
		hash := sha256.Sum256([]byte(c.Secret))
		kept.SecretHash = hash[:]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.clients[c.ID]; !known && len(p.clients) >= maxClients && !p.dropSelfMade() {
		return errors.New("demoidp: too many clients")
	}
	p.clients[c.ID] = kept
	return p.save()
}

// dropSelfMade makes room: the client goes that registered itself longest ago. Caller holds p.mu.
func (p *Provider) dropSelfMade() bool {
	var oldest registered
	for _, c := range p.clients {
		if !c.SelfMade.IsZero() && (oldest.ID == "" || c.SelfMade.Before(oldest.SelfMade)) {
			oldest = c
		}
	}
	delete(p.clients, oldest.ID)
	return oldest.ID != ""
}

// checkRedirectURI refuses what could not be redirected to, and schemes that a browser would run.
func checkRedirectURI(raw string) error {
	u, err := url.Parse(raw)
	if err == nil && u.IsAbs() && u.Fragment == "" && (u.Host != "" || u.Scheme != "http" && u.Scheme != "https") {
		switch u.Scheme {
		case "javascript", "data", "vbscript", "blob", "file":
		default:
			return nil
		}
	}
	return fmt.Errorf("demoidp: the redirect URI %q is not an absolute URI without fragment", raw)
}

// AddRedirectURI adds one more redirect URI to a client: what a person does at
// Google once a credential provider's callback URL is known.
func (p *Provider) AddRedirectURI(clientID, uri string) error {
	if err := checkRedirectURI(uri); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.clients[clientID]
	if !ok {
		return fmt.Errorf("demoidp: there is no client %s", clientID)
	}
	if slices.Contains(c.RedirectURIs, uri) {
		return nil
	}
	c.RedirectURIs = append(slices.Clone(c.RedirectURIs), uri)
	p.clients[clientID] = c
	return p.save()
}

// authenticate finds who calls the token or revocation endpoint. Whoever cannot
// prove it gets an invalid_client.
func (p *Provider) authenticate(r *http.Request) (registered, *oauthError) {
	id, secret, basic := r.BasicAuth()
	if basic {
		if r.PostForm.Has("client_secret") {
			return registered{}, badRequest("invalid_request", "The client authenticates in two ways at once.")
		}
		// RFC 6749, 2.3.1: both halves are form-encoded before they are joined.
		var errs [2]error
		id, errs[0] = url.QueryUnescape(id)
		secret, errs[1] = url.QueryUnescape(secret)
		if errs[0] != nil || errs[1] != nil {
			return registered{}, badClient(true)
		}
		if named := r.PostForm.Get("client_id"); named != "" && named != id {
			return registered{}, badRequest("invalid_request", "client_id is not the client that authenticates.")
		}
	} else {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	p.mu.Lock()
	c, ok := p.clients[id]
	p.mu.Unlock()
	if !ok {
		return registered{}, badClient(basic)
	}
	if c.public() {
		if secret != "" {
			return registered{}, badClient(basic)
		}
		return c, nil
	}
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], c.SecretHash) != 1 {
		return registered{}, badClient(basic)
	}
	return c, nil
}

// oauthError is an error answer of the token endpoint, RFC 6749, 5.2.
type oauthError struct {
	status      int
	code        string
	description string
	basic       bool // the client tried HTTP Basic and is told so
}

func badRequest(code, description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: code, description: description}
}

func badClient(basic bool) *oauthError {
	return &oauthError{http.StatusUnauthorized, "invalid_client", "The client is unknown, or did not prove who it is.", basic}
}

func (e *oauthError) write(w http.ResponseWriter) {
	if e.basic {
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
	}
	writeJSON(w, e.status, map[string]string{"error": e.code, "error_description": e.description})
}
