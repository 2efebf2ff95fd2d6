package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// hostile is many OpenID providers in one server, each below a folder of its
// own. They are honest, strict (a refresh token is good for one refresh) and ask
// nobody anything, until a test makes one of their endpoints misbehave.
type hostile struct {
	url  string
	host string
	keys *rsa.PrivateKey

	mu     sync.Mutex
	badly  map[string]http.HandlerFunc // by folder/endpoint
	tokens map[string]*hostileTokens   // by folder
}

// hostileTokens is what one of the providers gave out.
type hostileTokens struct {
	count    int
	refresh  string
	lifetime int // seconds, of the next access token
	silent   bool
	asked    map[string]int // by grant type or endpoint
}

func startHostile(t testing.TB) *hostile {
	t.Helper()
	keys, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{keys: keys, badly: map[string]http.HandlerFunc{}, tokens: map[string]*hostileTokens{}}
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections() // of those that are never done answering
		server.Close()
	})
	h.url, h.host = server.URL, strings.TrimPrefix(server.URL, "http://")
	return h
}

func (h *hostile) issuer(folder string) string { return h.url + "/" + folder }
func (h *hostile) discovery(folder string) string {
	return h.issuer(folder) + "/.well-known/openid-configuration"
}

// misbehave replaces what an endpoint of a folder answers; nil makes it honest again.
func (h *hostile) misbehave(folder, endpoint string, how http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.badly[folder+"/"+endpoint] = how
}

// of is the state of a folder; call with the lock held.
func (h *hostile) of(folder string) *hostileTokens {
	if h.tokens[folder] == nil {
		h.tokens[folder] = &hostileTokens{lifetime: 3600, asked: map[string]int{}}
	}
	return h.tokens[folder]
}

// set changes the state of a folder.
func (h *hostile) set(folder string, change func(*hostileTokens)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h.of(folder))
}

func (h *hostile) asked(folder, what string) (count int) {
	h.set(folder, func(s *hostileTokens) { count = s.asked[what] })
	return count
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	folder, endpoint, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	h.mu.Lock()
	how := h.badly[folder+"/"+endpoint]
	h.of(folder).asked[endpoint]++
	h.mu.Unlock()
	if how != nil {
		_, _ = io.Copy(io.Discard, r.Body) // else a client that hangs up is not noticed
		how(w, r)
		return
	}
	switch endpoint {
	case ".well-known/openid-configuration":
		respond(w, http.StatusOK, h.metadata(folder))
	case "authorize":
		query := r.URL.Query()
		back := url.Values{"code": {"code-of-" + folder}, "state": {query.Get("state")}, "iss": {h.issuer(folder)}}
		http.Redirect(w, r, query.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	case "token":
		h.token(w, r, folder)
	case "keys":
		respond(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: h.keys.Public(), KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	case "revoke":
		w.WriteHeader(http.StatusOK)
	default:
		http.NotFound(w, r)
	}
}

func (h *hostile) metadata(folder string) map[string]any {
	at := h.issuer(folder)
	return map[string]any{
		"issuer": at, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "jwks_uri": at + "/keys", "revocation_endpoint": at + "/revoke",
		"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"}, "authorization_response_iss_parameter_supported": true,
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic"}, "id_token_signing_alg_values_supported": []string{"RS256"}, "subject_types_supported": []string{"public"},
	}
}

func (h *hostile) token(w http.ResponseWriter, r *http.Request, folder string) {
	grant := r.FormValue("grant_type")
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.of(folder)
	s.asked[grant]++
	if grant == "refresh_token" && r.FormValue("refresh_token") != s.refresh {
		respond(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	s.count++
	answer := map[string]any{"access_token": fmt.Sprintf("access-%s-%d", folder, s.count), "token_type": "Bearer", "expires_in": s.lifetime}
	if grant != "client_credentials" && !s.silent {
		s.refresh = fmt.Sprintf("refresh-%s-%d", folder, s.count)
		answer["refresh_token"] = s.refresh
	}
	respond(w, http.StatusOK, answer)
}

// jwt is a sign-in token of a folder's provider.
func (h *hostile) jwt(t testing.TB, issuer, audience string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: h.keys, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: issuer, Subject: "ada", Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)), IssuedAt: jwt.NewNumericDate(time.Now()),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// misbehaviours are ways of answering that no client should have to bear. inside
// is an address that only the platform's own machine could reach.
func misbehaviours(inside string) map[string]http.HandlerFunc {
	says := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	leads := func(status int, to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(status)
		}
	}
	const page = "<!DOCTYPE html><html><head><title>Down for maintenance</title></head><body><h1>We will be back soon</h1></body></html>"
	megabytes := strings.Repeat("a", 10<<20)
	var bomb bytes.Buffer
	packer := gzip.NewWriter(&bomb)
	_, _ = packer.Write([]byte(`{"access_token":"`))
	for zeros := make([]byte, 1<<20); bomb.Len() < 512<<10; {
		_, _ = packer.Write(zeros)
	}
	_ = packer.Close()
	return map[string]http.HandlerFunc{
		"is silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"answers a byte at a time": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for tick := time.NewTicker(50 * time.Millisecond); r.Context().Err() == nil; <-tick.C {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
			}
		},
		"answers for ever": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for part := bytes.Repeat([]byte(" "), 64<<10); r.Context().Err() == nil; {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hangs up in the middle": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"access_token":"half`))
			panic(http.ErrAbortHandler)
		},
		"answers 10 MB":           says(200, "application/json", `{"access_token":"`+megabytes+`"}`),
		"answers 10 MB of errors": says(400, "application/json", `{"error":"invalid_request","error_description":"`+megabytes+`"}`),
		"answers a gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		},
		"answers with a flood of headers": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 20_000 {
				w.Header().Set(fmt.Sprintf("X-Flood-%d", i), strings.Repeat("a", 512))
			}
			respond(w, 200, map[string]any{"access_token": "flooded"})
		},
		"redirects to a private address":       leads(http.StatusFound, inside),
		"redirects and wants the body again":   leads(http.StatusTemporaryRedirect, inside),
		"redirects to the cloud's metadata":    leads(http.StatusPermanentRedirect, "http://169.254.169.254/latest/meta-data/iam/security-credentials/"),
		"redirects to itself":                  func(w http.ResponseWriter, r *http.Request) { leads(http.StatusFound, r.URL.Path)(w, r) },
		"redirects to a file":                  leads(http.StatusFound, "file:///etc/passwd"),
		"answers a page":                       says(200, "text/html; charset=utf-8", page),
		"answers a page with 500":              says(500, "text/html; charset=utf-8", page),
		"answers a page with 404":              says(404, "text/html; charset=utf-8", page),
		"is overrun":                           says(429, "text/plain", "slow down"),
		"answers nothing":                      says(200, "application/json", ""),
		"answers 204":                          says(204, "application/json", ""),
		"answers null":                         says(200, "application/json", "null"),
		"speaks for another issuer":            says(200, "application/json", `{"issuer":"https://idp.example","authorization_endpoint":"https://idp.example/a","token_endpoint":"https://idp.example/t","jwks_uri":"https://idp.example/k"}`),
		"answers a list":                       says(200, "application/json", "[]"),
		"answers members of other types":       says(200, "application/json", `{"access_token":{"a":1},"expires_in":[],"keys":7,"issuer":false,"token_endpoint":["x"]}`),
		"answers empty members":                says(200, "application/json", `{"access_token":"","keys":[],"issuer":"","token_endpoint":""}`),
		"answers a token that breaks a header": says(200, "application/json", `{"access_token":"a\r\nSet-Cookie: b","token_type":"Bearer"}`),
		"answers JSON 100,000 levels deep":     says(200, "application/json", strings.Repeat(`{"a":`, 100_000)),
		"answers an error of no known sort":    says(400, "application/json", `{"error":"<script>alert(1)</script>","error_description":"\u0000\u202e\n\nForged log line"}`),
		"answers what is not UTF-8":            says(200, "application/json", "{\"access_token\":\"\xff\xfe\"}"),
		"switches protocols":                   says(101, "text/plain", ""),
	}
}
