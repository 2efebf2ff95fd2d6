package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const (
	account = "000000000000"
	other   = "111111111111"
)

var caller = principal.Caller{Kind: principal.Key, Account: account, Root: true}

// world is the room on a real database, with an OpenID provider over HTTP.
type world struct {
	*Service
	keeper *seal.Keeper
	issuer *httptest.Server
	late   atomic.Int64 // how far the database's clock is ahead
}

var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{issuer: newIssuer(t)}
	db := storetest.OpenAt(t, func() time.Time { return time.Now().Add(time.Duration(w.late.Load())) })
	w.keeper = storetest.Keeper(t, db, account, other)
	out, err := egress.New(egress.Options{Allow: []string{"127.0.0.1:*"}, LoopbackHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	authenticator := auth.New(db, w.keeper, oauth.New(out), auth.Options{TrustedIssuers: []auth.TrustedIssuer{{URL: w.issuer.URL, Audiences: []string{"agents"}}}})
	w.Service = New(db, w.keeper, authenticator, Options{Region: "us-east-1"})
	return w
}

func newIssuer(t testing.TB) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": server.URL, "jwks_uri": server.URL + "/jwks", "authorization_endpoint": server.URL + "/authorize", "token_endpoint": server.URL + "/token"})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: signingKey().Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	return server
}

// jwt signs a token for subject; padding makes it large.
func (w *world) jwt(t testing.TB, subject string, lifetime time.Duration, padding int) secret.Text {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: signingKey(), KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": w.issuer.URL, "sub": subject, "aud": "agents", "exp": time.Now().Add(lifetime).Unix(), "iat": time.Now().Unix(), "padding": strings.Repeat("x", padding),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(raw)
}

func (w *world) create(t testing.TB, name string, urls ...string) {
	t.Helper()
	if _, err := w.CreateWorkloadIdentity(t.Context(), caller, &api.CreateWorkloadIdentityRequest{Name: name, AllowedResourceOauth2ReturnUrls: urls}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) forUser(t testing.TB, name, user string) secret.Text {
	t.Helper()
	response, err := w.GetWorkloadAccessTokenForUserId(t.Context(), caller, &api.GetWorkloadAccessTokenForUserIdRequest{WorkloadName: name, UserId: user})
	if err != nil {
		t.Fatal(err)
	}
	return response.WorkloadAccessToken
}

func (w *world) forJWT(t testing.TB, name string, token secret.Text) secret.Text {
	t.Helper()
	response, err := w.GetWorkloadAccessTokenForJWT(t.Context(), caller, &api.GetWorkloadAccessTokenForJWTRequest{WorkloadName: name, UserToken: token})
	if err != nil {
		t.Fatal(err)
	}
	return response.WorkloadAccessToken
}

// owned makes the identity of a gateway.
func (w *world) owned(t testing.TB, name string) principal.Workload {
	t.Helper()
	var workload principal.Workload
	w.update(t, func(tx *store.Tx) (err error) {
		workload, err = w.CreateOwned(tx, account, name, api.GatewayARN("us-east-1", account, name), []string{"https://app.example/done"}, nil)
		return err
	})
	return workload
}

func (w *world) update(t testing.TB, fn func(*store.Tx) error) {
	t.Helper()
	if err := w.db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func wantFault(t testing.TB, err error, kind fault.Kind, text string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(fault.Of(err).Message, text) {
		t.Errorf("got %v, want a fault of kind %s that says %q", err, kind, text)
	}
}
