package broker

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// idp is an OpenID provider over HTTP. It proves PKCE, rotates refresh tokens
// (the old one is refused from then on), and does what a test tells it to.
type idp struct {
	*httptest.Server

	mu        sync.Mutex
	codes     map[string]issuedCode
	refreshes map[string]string // refresh token -> person
	serial    int

	// What a test sets, before or while.
	lifetime     int  // seconds of an access token
	noRefresh    bool // gives no refresh tokens
	keepRefresh  bool // does not rotate, and does not repeat the old one
	scopes       string
	issuerParam  bool // RFC 9207: iss in callbacks, and said so in the metadata
	denyWith     string
	tokenStatus  int           // instead of an answer
	tokenError   string        // with tokenStatus
	holdRefresh  chan struct{} // answers a refresh when this is closed
	refreshSeen  chan struct{} // gets one for each refresh request
	exchanges    int           // requests of either kind
	refreshCalls int
	grantCalls   int                                          // requests for which nobody has to be asked
	holdGrant    <-chan struct{}                              // answers such a request when this is closed
	grantSeen    chan struct{}                                // gets one for each of them
	noClient     bool                                         // takes exchanges without a client's proof, and no others
	proves       func(*http.Request) (client string, ok bool) // instead of a password
	forms        []url.Values
	sent         []string // every form that the token endpoint got
	lastAuth     string
	looked       func() // is called when the metadata are asked for

	takesBack *revocations // has a revocation endpoint
}

type issuedCode struct {
	person, challenge, redirect, client string
}

var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

const clientSecret = "canary-client-secret"

func newIDP(t testing.TB) *idp {
	t.Helper()
	p := &idp{codes: map[string]issuedCode{}, refreshes: map[string]string{}, lifetime: 3600, refreshSeen: make(chan struct{}, 1000), grantSeen: make(chan struct{}, 1000)}
	mux := http.NewServeMux()
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", p.metadata)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", p.metadata)
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: signingKey().Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /revoke", p.revoke)
	return p
}

func (p *idp) discovery() string { return p.URL + "/.well-known/openid-configuration" }
func (p *idp) address() string   { return strings.TrimPrefix(p.URL, "http://") }

// with changes what the provider does.
func (p *idp) with(change func(*idp)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// counts are of refresh requests and of all token requests.
func (p *idp) counts() (refreshes, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refreshCalls, p.exchanges
}

func (p *idp) everSent(value string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.sent, func(form string) bool { return strings.Contains(form, url.QueryEscape(value)) })
}

func (p *idp) metadata(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	looked := p.looked
	p.mu.Unlock()
	if looked != nil {
		looked()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	revocation := map[bool]string{true: p.URL + "/revoke"}[p.takesBack != nil]
	_ = json.NewEncoder(w).Encode(map[string]any{
		"revocation_endpoint": revocation,
		"issuer":              p.URL, "jwks_uri": p.URL + "/jwks", "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
		"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "client_secret_post"},
		"authorization_response_iss_parameter_supported": p.issuerParam,
	})
}

// authorize signs in the person whom the test's browser names, and allows.
func (p *idp) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || q.Get("state") == "" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	back, answer := q.Get("redirect_uri"), url.Values{"state": {q.Get("state")}}
	if p.issuerParam {
		answer.Set("iss", p.URL)
	}
	if p.denyWith != "" {
		answer.Set("error", p.denyWith)
	} else {
		p.serial++
		code := fmt.Sprintf("canary-code-%d", p.serial)
		p.codes[code] = issuedCode{r.Header.Get("Person"), q.Get("code_challenge"), back, q.Get("client_id")}
		answer.Set("code", code)
	}
	http.Redirect(w, r, back+"?"+answer.Encode(), http.StatusFound)
}

func (p *idp) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	refresh := r.PostForm.Get("grant_type") == "refresh_token"
	p.mu.Lock()
	p.exchanges++
	p.sent = append(p.sent, r.PostForm.Encode())
	p.lastAuth = r.Header.Get("Authorization")
	p.forms = append(p.forms, r.PostForm)
	hold := p.holdRefresh
	grant := r.PostForm.Get("grant_type")
	asksNobody := grant == "client_credentials" || grant == oauth.GrantTokenExchange || grant == oauth.GrantJWTBearer
	holdGrant := p.holdGrant
	if refresh {
		p.refreshCalls++
	}
	if asksNobody {
		p.grantCalls++
	}
	p.mu.Unlock()
	if asksNobody {
		p.grantSeen <- struct{}{}
		if holdGrant != nil {
			<-holdGrant
		}
	}
	if refresh {
		p.refreshSeen <- struct{}{}
		if hold != nil {
			<-hold
		}
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	fail := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "canary-description " + r.PostForm.Encode()})
	}
	if p.tokenStatus != 0 {
		fail(p.tokenStatus, p.tokenError)
		return
	}
	client, password, basic := r.BasicAuth()
	if !basic {
		client, password = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if p.proves != nil {
		proven := false
		if client, proven = p.proves(r); proven && !basic && password == "" {
			password = clientSecret
		}
	}
	if asksNobody && p.noClient && client == "" && password == "" && grant != "client_credentials" {
		password = clientSecret
	}
	if password != clientSecret || p.noClient && client != "" && asksNobody && grant != "client_credentials" {
		fail(http.StatusUnauthorized, "invalid_client")
		return
	}
	if asksNobody {
		p.grantWithoutPerson(w, r.PostForm, client)
		return
	}
	var person string
	if refresh {
		old := r.PostForm.Get("refresh_token")
		if person = p.refreshes[old]; person == "" {
			fail(http.StatusBadRequest, "invalid_grant")
			return
		}
		if !p.keepRefresh {
			delete(p.refreshes, old)
		}
	} else {
		code, known := p.codes[r.PostForm.Get("code")]
		delete(p.codes, r.PostForm.Get("code"))
		if !known || code.client != client || code.redirect != r.PostForm.Get("redirect_uri") || oauth.Challenge(secret.New(r.PostForm.Get("code_verifier"))) != code.challenge {
			fail(http.StatusBadRequest, "invalid_grant")
			return
		}
		person = code.person
	}
	p.serial++
	answer := map[string]any{"access_token": fmt.Sprintf("canary-access-%s-%d", person, p.serial), "token_type": "Bearer", "expires_in": p.lifetime}
	if !p.noRefresh && !(refresh && p.keepRefresh) {
		next := fmt.Sprintf("canary-refresh-%s-%d", person, p.serial)
		p.refreshes[next] = person
		answer["refresh_token"] = next
	}
	if p.scopes != "" {
		answer["scope"] = p.scopes
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// grantWithoutPerson answers client credentials and the two ways of trading a
// token: whose token it is stands in the answer.
func (p *idp) grantWithoutPerson(w http.ResponseWriter, form url.Values, client string) {
	subject := client
	if form.Get("grant_type") != "client_credentials" {
		traded, err := jwt.ParseSigned(form.Get("subject_token")+form.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
		var claims struct {
			Subject string `json:"sub"`
		}
		if err == nil {
			err = traded.Claims(signingKey().Public(), &claims)
		}
		if err != nil {
			http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
			return
		}
		subject = claims.Subject
		if actor := form.Get("actor_token"); actor != "" {
			subject += "-by-" + strings.TrimPrefix(actor, "canary-m2m-")
		}
	}
	p.serial++
	kind := map[string]string{"client_credentials": "m2m", oauth.GrantTokenExchange: "exchanged", oauth.GrantJWTBearer: "borne"}[form.Get("grant_type")]
	answer := map[string]any{"access_token": fmt.Sprintf("canary-%s-%s-%d", kind, subject, p.serial), "token_type": "Bearer"}
	if p.lifetime > 0 {
		answer["expires_in"] = p.lifetime
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// grants counts the requests for which nobody had to be asked.
func (p *idp) grants() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grantCalls
}

// lastForm is what the token endpoint was asked last.
func (p *idp) lastForm() url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forms[len(p.forms)-1]
}

// jwt is a sign-in token of the person, made for an audience.
func (p *idp) jwt(t testing.TB, person, audience string, lifetime time.Duration) secret.Text {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: signingKey(), KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.serial++ // no two tokens are the same bytes
	serial := p.serial
	p.mu.Unlock()
	raw, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": p.URL, "sub": person, "aud": audience, "exp": time.Now().Add(lifetime).Unix(), "iat": time.Now().Add(-time.Minute).Unix(), "jti": serial,
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(raw)
}
