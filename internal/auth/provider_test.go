package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// provider is an OpenID provider over HTTP: discovery, keys, and a pen.
type provider struct {
	*httptest.Server
	jwksFetches atomic.Int64

	mu  sync.Mutex
	kid string
	key crypto.Signer
	alg jose.SignatureAlgorithm
}

// rsaKey is made once: generating one takes longer than all the rest.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newProvider(t testing.TB) *provider {
	t.Helper()
	p := &provider{kid: "first", key: rsaKey(), alg: jose.RS256}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/jwks",
			"authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
		})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		p.jwksFetches.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: p.kid, Algorithm: string(p.alg), Use: "sig"}}})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) discovery() string { return p.URL + "/.well-known/openid-configuration" }

// rotate takes another key, of another kind, and forgets the first.
func (p *provider) rotate(t testing.TB, kid string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kid, p.key, p.alg = kid, key, jose.ES256
}

// claims are good ones, with changes: nil takes a claim away.
func (p *provider) claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{"iss": p.URL, "sub": "ada", "aud": "the-gateway", "client_id": "the-client",
		"scope": "read write", "iat": now, "exp": now + 300, "roles": []string{"admin", "reader"}, "team": "green"}
	for name, value := range changes {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	return claims
}

// token is signed with the provider's present key.
func (p *provider) token(t testing.TB, changes map[string]any) secret.Text {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	return signWith(t, p.alg, p.key, p.kid, p.claims(changes))
}

func signWith(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) secret.Text {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(text)
}

// withOAuth gives the world an OAuth client that may reach the providers.
func (w *world) withOAuth(t testing.TB, providers ...*provider) *world {
	t.Helper()
	var allow []string
	for _, p := range providers {
		at, err := url.Parse(p.URL)
		if err != nil {
			t.Fatal(err)
		}
		allow = append(allow, at.Host)
	}
	client, err := egress.New(egress.Options{Allow: allow, LoopbackHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	w.oauth = oauth.New(client)
	return w
}

// bearing is a request with a token.
func bearing(token secret.Text) *http.Request {
	r := httptest.NewRequest("POST", "http://127.0.0.1:7080/gateway/g/mcp", nil)
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	return r
}
