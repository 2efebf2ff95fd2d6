package demoidp

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// SignInClientID is the built-in public client that people sign in to the demo
// with, from any http address on loopback. It is also the audience of its tokens,
// which is what `onbehalf serve --dev` trusts.
const SignInClientID = "onbehalf-demo"

// Defaults of Options.
const (
	DefaultTokenLifetime   = time.Hour
	DefaultRefreshLifetime = 90 * 24 * time.Hour
)

const (
	codeLifetime    = time.Minute
	codeMemory      = 10 * time.Minute // how long a used code is remembered, so that its replay is seen
	requestLifetime = 15 * time.Minute
	sessionLifetime = 12 * time.Hour
	formLimit       = 64 << 10 // bytes of a form or JSON body

	// What one process keeps. The oldest go first: a demo forgets, it does not fill up.
	maxClients  = 1000
	maxFamilies = 1000
	maxPending  = 10_000
)

// Options of a provider. The zero value needs an Issuer or an Address.
type Options struct {
	Issuer  string   // base URL without a path; http is for loopback only
	Address net.Addr // where the listener is, when there is no Issuer: the issuer becomes http://Address
	Clients []Client
	People  []Person          // nil means Ada Lovelace and Grace Hopper
	Scopes  map[string]string // beyond openid, profile, email, offline_access: scope to what the consent page calls it

	TokenLifetime   time.Duration // of access and ID tokens
	RefreshLifetime time.Duration // of a refresh token that nobody uses
	ReuseGrace      time.Duration // how long a rotated refresh token may come back before that counts as theft

	RequirePush bool // authorization requests have to be pushed beforehand (RFC 9126)

	KeyFile   string // holds the signing key; made when missing. Empty: the state file, else a new key per start
	StateFile string // keeps key, clients and refresh tokens over restarts. Empty: memory

	Now func() time.Time // nil means time.Now
}

// Provider is the demo's OpenID provider, an http.Handler for its whole listener.
type Provider struct {
	issuer      string
	host        string
	secure      bool
	cookies     string // prefix of cookie names, told apart by port because cookies are not
	people      []Person
	scopes      map[string]string
	grace       time.Duration
	refreshFor  time.Duration
	stateFile   string
	stateHasKey bool // the key is kept in the state file, there being no key file
	now         func() time.Time
	requirePush bool
	signing     signingKey
	mux         *http.ServeMux
	crossSite   *http.CrossOriginProtection

	mu       sync.Mutex // guards all below; held only over memory and the state file
	clients  map[string]registered
	families map[string]*family
	revoked  *shelf[struct{}] // families whose access tokens are refused while they would still live
	requests *shelf[*request]
	sessions *shelf[session]
	codes    *shelf[*code]
	pushed   *shelf[pushed]
	levers   levers
}

// New makes a provider. It fails when the issuer is not usable, a client is
// malformed, or the key or state file can be neither read nor made.
func New(o Options) (*Provider, error) {
	issuer, err := issuerOf(o)
	if err != nil {
		return nil, err
	}
	p := &Provider{
		issuer: issuer.String(), host: issuer.Host, secure: issuer.Scheme == "https",
		people: o.People, scopes: map[string]string{}, grace: o.ReuseGrace,
		refreshFor: o.RefreshLifetime, stateFile: o.StateFile, now: o.Now,
		crossSite: http.NewCrossOriginProtection(), requirePush: o.RequirePush, pushed: newShelf[pushed](maxPending),
		clients: map[string]registered{}, families: map[string]*family{},
		revoked: newShelf[struct{}](maxFamilies), requests: newShelf[*request](maxPending),
		sessions: newShelf[session](maxPending), codes: newShelf[*code](maxPending),
	}
	p.levers = levers{lifetime: o.TokenLifetime, requests: map[string]int{}}
	if p.levers.lifetime == 0 {
		p.levers.lifetime = DefaultTokenLifetime
	}
	if p.refreshFor == 0 {
		p.refreshFor = DefaultRefreshLifetime
	}
	if p.people == nil {
		p.people = People()
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.cookies = "demoidp_" + issuer.Port() + "_"
	if p.secure {
		p.cookies = "__Host-" + p.cookies
	}
	for scope, meaning := range standardScopes {
		p.scopes[scope] = meaning
	}
	for scope, meaning := range o.Scopes {
		p.scopes[scope] = meaning
	}
	if err := p.load(o.KeyFile); err != nil {
		return nil, err
	}
	builtIn := Client{ID: SignInClientID, Name: "the Onbehalf demo", Audience: SignInClientID, AnyLoopback: true, SignIn: true}
	for _, c := range append([]Client{builtIn}, o.Clients...) {
		if err := p.Register(c); err != nil {
			return nil, err
		}
	}
	p.mux = p.routes()
	return p, nil
}

// Issuer is the base URL: what discovery documents and tokens say.
func (p *Provider) Issuer() string { return p.issuer }

// DiscoveryURL is where a relying party starts.
func (p *Provider) DiscoveryURL() string { return p.issuer + "/.well-known/openid-configuration" }

func issuerOf(o Options) (*url.URL, error) {
	raw := o.Issuer
	if raw == "" {
		if o.Address == nil {
			return nil, errors.New("demoidp: neither an issuer nor an address is given")
		}
		raw = "http://" + o.Address.String()
	}
	u, err := url.Parse(strings.TrimSuffix(raw, "/"))
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("demoidp: the issuer %q is not a base URL", raw)
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	default:
		return nil, fmt.Errorf("demoidp: the issuer %q is neither https nor on loopback; a demo provider belongs on this machine", raw)
	}
	return u, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (p *Provider) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.home)
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", p.discovery)
	mux.HandleFunc("GET /jwks", p.jwks)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("GET /signin", p.signInPage)
	mux.HandleFunc("POST /signin", p.signIn)
	mux.HandleFunc("GET /consent", p.consentPage)
	mux.HandleFunc("POST /consent", p.consent)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /par", p.push)
	mux.HandleFunc("POST /revoke", p.revoke)
	mux.HandleFunc("GET /userinfo", p.userInfo)
	mux.HandleFunc("POST /userinfo", p.userInfo)
	mux.HandleFunc("GET /v1/people/me", p.peopleAPI)
	mux.HandleFunc("GET /style.css", asset("style.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /icon.svg", asset("icon.svg", "image/svg+xml"))
	mux.HandleFunc("POST /register", p.register)
	return mux
}

// ServeHTTP answers for the issuer's own host name only, so that a page
// elsewhere cannot reach a provider on loopback by a name that it controls.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if r.Host != p.host {
		http.Error(w, "This provider is "+p.issuer, http.StatusMisdirectedRequest)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, formLimit)
	p.mux.ServeHTTP(w, r)
}

// discovery is OpenID Connect Discovery and RFC 8414 in one document.
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         p.issuer,
		"authorization_endpoint":                         p.issuer + "/authorize",
		"token_endpoint":                                 p.issuer + "/token",
		"jwks_uri":                                       p.issuer + "/jwks",
		"userinfo_endpoint":                              p.issuer + "/userinfo",
		"registration_endpoint":                          p.issuer + "/register",
		"pushed_authorization_request_endpoint":          p.issuer + "/par",
		"require_pushed_authorization_requests":          p.requirePush,
		"revocation_endpoint":                            p.issuer + "/revoke",
		"scopes_supported":                               p.scopeNames(),
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token", "client_credentials"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"RS256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "client_secret_post", "none"},
		"revocation_endpoint_auth_methods_supported":     []string{"client_secret_basic", "client_secret_post", "none"},
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": true,
		"request_uri_parameter_supported":                false,
		"prompt_values_supported":                        []string{"none", "login", "consent", "select_account"},
		"claims_supported":                               []string{"sub", "name", "given_name", "family_name", "email", "email_verified", "auth_time", "nonce"},
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone, nothing to be done
}

// random is 160 bits that nobody guesses, in letters fit for URLs and cookies.
func random() string { return rand.Text() + rand.Text()[:6] }
