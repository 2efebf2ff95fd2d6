package oauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What must never be seen outside a request's body or Authorization header.
const (
	canarySecret  = "canary-client-secret+/%&"
	canaryCode    = "canarycode"
	canaryRefresh = "canary-refresh-token"
	canaryAccess  = "canary-access-token"
)

// provider is an authorization server on TLS: discovery, keys, and a token
// endpoint that checks the client and proves PKCE by itself.
type provider struct {
	*httptest.Server
	t *testing.T

	mu         sync.Mutex
	challenges map[string]string // by code
	keys       []any             // of the JWKS
	document   func(map[string]any)
	answer     func(w http.ResponseWriter, r *http.Request) bool // of the token endpoint, instead of its own
	broken     atomic.Int32                                      // status of discovery and keys, if not 0

	discoveries, keyFetches, tokenPosts atomic.Int32
}

func newProvider(t *testing.T) *provider {
	p := &provider{t: t, challenges: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", p.discovery(""))
	mux.HandleFunc("/.well-known/oauth-authorization-server", p.discovery(""))
	mux.HandleFunc("/tenant/.well-known/openid-configuration", p.discovery("/tenant"))
	mux.HandleFunc("/.well-known/oauth-authorization-server/tenant", p.discovery("/tenant"))
	mux.HandleFunc("/keys", p.serveKeys)
	mux.HandleFunc("/token", p.token)
	mux.HandleFunc("/push", p.token) // with an answer of the test's
	mux.HandleFunc("/revoke", p.token)
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, canary := range []string{canarySecret, canaryCode, canaryRefresh, canaryAccess, "canary"} {
			if strings.Contains(r.URL.String(), canary) || strings.Contains(r.Header.Get("Referer"), canary) {
				t.Errorf("a secret is in the URL %s", r.URL)
			}
		}
		mux.ServeHTTP(w, r)
	}))
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func (p *provider) client(o ...func(*egress.Options)) *Client {
	p.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	options := egress.Options{Allow: []string{p.Listener.Addr().String()}, Roots: roots, Timeout: 20 * time.Second}
	for _, change := range o {
		change(&options)
	}
	e, err := egress.New(options)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(e.Close)
	return New(e)
}

func (p *provider) port() string {
	_, port, _ := net.SplitHostPort(p.Listener.Addr().String())
	return port
}

func (p *provider) discoveryURL() string { return p.URL + "/.well-known/openid-configuration" }

func (p *provider) server(method AuthMethod) Server {
	return Server{
		Metadata:     Metadata{Issuer: p.URL, AuthorizationEndpoint: p.URL + "/authorize?keep=1", TokenEndpoint: p.URL + "/token"},
		ClientID:     "client:1",
		ClientSecret: secret.New(canarySecret),
		AuthMethod:   method,
		RedirectURL:  "https://onbehalf.example/callback",
	}
}

func (p *provider) discovery(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.discoveries.Add(1)
		if status := p.broken.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		document := map[string]any{
			"issuer": p.URL + path, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
			"jwks_uri": p.URL + "/keys", "scopes_supported": []string{"openid"}, "authorization_response_iss_parameter_supported": true,
		}
		p.mu.Lock()
		if p.document != nil {
			p.document(document)
		}
		p.mu.Unlock()
		json.NewEncoder(w).Encode(document)
	}
}

func (p *provider) setDocument(change func(map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.document = change
}

func (p *provider) publish(keys ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func (p *provider) serveKeys(w http.ResponseWriter, _ *http.Request) {
	p.keyFetches.Add(1)
	if status := p.broken.Load(); status != 0 {
		w.WriteHeader(int(status))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	json.NewEncoder(w).Encode(map[string]any{"keys": p.keys})
}

// authorize plays the authorization endpoint and the person: it reads the URL and makes a code.
func (p *provider) authorize(link, code string) {
	p.t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		p.t.Fatal(err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" || q.Get("state") == "" {
		p.t.Errorf("authorization URL %s", link)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.challenges[code] = q.Get("code_challenge")
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.tokenPosts.Add(1)
	if r.Method != http.MethodPost || r.URL.RawQuery != "" {
		p.t.Errorf("%s %s; want a POST without a query", r.Method, r.URL)
	}
	if p.answer != nil && p.answer(w, r) {
		return
	}
	refuse := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":%q,"error_description":"no"}`, code)
	}
	id, password, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		password, _ = url.QueryUnescape(password)
		if r.FormValue("client_id") != "" || r.FormValue("client_secret") != "" {
			p.t.Error("two client authentications")
		}
	} else {
		id, password = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	if id != "client:1" || password != canarySecret && password != "" {
		refuse(401, "invalid_client")
		return
	}
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		p.mu.Lock()
		challenge, ok := p.challenges[r.PostFormValue("code")]
		delete(p.challenges, r.PostFormValue("code"))
		p.mu.Unlock()
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !ok || challenge != base64.RawURLEncoding.EncodeToString(sum[:]) || r.PostFormValue("redirect_uri") != "https://onbehalf.example/callback" {
			refuse(400, "invalid_grant")
			return
		}
	case "refresh_token":
		if r.PostFormValue("refresh_token") != canaryRefresh {
			refuse(400, "invalid_grant")
			return
		}
	}
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"bearer","refresh_token":%q,"expires_in":3600,"scope":"a b"}`, canaryAccess, canaryRefresh)
}

// noSecrets looks at an error in every way a log or a page could show it.
func noSecrets(t *testing.T, err error) {
	t.Helper()
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Error("x", "err", err)
	shown := fmt.Sprintf("%v|%+v|%#v|%s|%s", err, err, fault.Of(err), logged.String(), fault.Of(err).Message)
	escaped := url.QueryEscape(canarySecret)
	for _, canary := range []string{"canary", canarySecret, escaped, base64.StdEncoding.EncodeToString([]byte("client%3A1:" + escaped)), "eyJ"} {
		if strings.Contains(shown, canary) {
			t.Errorf("a secret (%q) is in the error: %s", canary, shown)
		}
	}
}

func wantFault(t *testing.T, err error, kind fault.Kind, message string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(fault.Of(err).Message, message) {
		t.Errorf("error = %v; want kind %v with %q", err, kind, message)
	}
	if err != nil {
		noSecrets(t, err)
	}
}

// signer is one key of an issuer.
type signer struct {
	id  string
	alg jose.SignatureAlgorithm
	key any // private
}

func (s signer) public() any {
	key := jose.JSONWebKey{Key: s.key, KeyID: s.id, Algorithm: string(s.alg), Use: "sig"}
	return key.Public()
}

func (s signer) sign(t testing.TB, claims map[string]any, header ...any) secret.Text {
	t.Helper()
	options := &jose.SignerOptions{}
	options = options.WithType("JWT")
	for i := 0; i+1 < len(header); i += 2 {
		options = options.WithHeader(jose.HeaderKey(header[i].(string)), header[i+1])
	}
	if s.id != "" {
		options = options.WithHeader("kid", s.id)
	}
	js, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: s.key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(claims)
	signed, err := js.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := signed.CompactSerialize()
	return secret.New(text)
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	return key
})

func newSigner(id string, alg jose.SignatureAlgorithm) signer {
	s := signer{id: id, alg: alg}
	switch alg {
	case jose.ES256:
		s.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		s.key, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		s.key, _ = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, s.key, _ = ed25519.GenerateKey(rand.Reader)
	default:
		s.key = rsaKey()
	}
	return s
}

// patienceWith is how long a server of these tests is waited for: only one that is to be
// too slow is given up soon, or a busy machine would make slow ones of all.
func patienceWith(kind string) time.Duration {
	if kind == "slow" {
		return 3 * time.Second
	}
	return 20 * time.Second
}
