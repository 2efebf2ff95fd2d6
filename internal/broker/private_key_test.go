package broker

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/external"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// signingARN is the nth declared key of the account.
func signingARN(account string, n int) string {
	return fmt.Sprintf("arn:aws:kms:us-east-1:%s:key/00000000-0000-0000-0000-%012d", account, n)
}

var elliptical = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// clientKeys declares key 1 (RSA) and 2 (P-256) of the account, and 3 (P-256) of another.
func (w *world) clientKeys(t testing.TB) {
	t.Helper()
	folder := t.TempDir()
	var declared []external.SigningKey
	for n, key := range []crypto.Signer{1: signingKey(), 2: elliptical(), 3: elliptical()} {
		if n == 0 {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%d.pem", n)
		put(t, folder, name, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
		owner := account
		if n == 3 {
			owner = other
		}
		parsed, err := external.ParseSigningKey(signingARN(owner, n) + "=file:" + filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		declared = append(declared, parsed)
	}
	var err error
	if w.options.Keys, err = external.NewKeys(declared, nil); err != nil {
		t.Fatal(err)
	}
}

// registration is what a provider knows of a client that signs. It takes each
// statement once, for itself alone, while it lives.
type registration struct {
	algorithm jose.SignatureAlgorithm
	key       crypto.PublicKey
	audience  string

	mu      sync.Mutex
	used    map[string]bool
	proven  int
	refused []string
	headers []jose.Header
}

func (r *registration) proves(request *http.Request) (string, bool) {
	client, err := r.verify(request)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.refused = append(r.refused, err.Error())
		return "", false
	}
	r.proven++
	return client, true
}

func (r *registration) verify(request *http.Request) (string, error) {
	if request.PostForm.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || request.Header.Get("Authorization") != "" || request.PostForm.Has("client_secret") {
		return "", fmt.Errorf("not an assertion alone")
	}
	assertion, err := jwt.ParseSigned(request.PostForm.Get("client_assertion"), []jose.SignatureAlgorithm{r.algorithm})
	if err != nil {
		return "", err
	}
	var claims struct {
		jwt.Claims
		Tenant string `json:"tenant"`
	}
	if err := assertion.Claims(r.key, &claims); err != nil {
		return "", err
	}
	if err := claims.Validate(jwt.Expected{Issuer: "client", Subject: "client", AnyAudience: jwt.Audience{r.audience}, Time: time.Now()}); err != nil {
		return "", err
	}
	if claims.ID == "" || claims.Expiry == nil || claims.IssuedAt == nil || claims.NotBefore == nil || claims.Expiry.Time().After(time.Now().Add(5*time.Minute)) || claims.Tenant != "canary-tenant" {
		return "", fmt.Errorf("claims %+v", claims)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used[claims.ID] {
		return "", fmt.Errorf("replayed")
	}
	r.used[claims.ID] = true
	r.headers = append(r.headers, assertion.Headers[0])
	return request.PostForm.Get("client_id"), nil
}

func (r *registration) counts() (proven int, refused []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proven, r.refused
}

func signing(p *idp, algorithm api.SigningAlgorithm, arn string) *api.Oauth2ProviderConfigInput {
	input := custom(p, "client")
	c := input.CustomOauth2ProviderConfig
	c.ClientSecret = nil
	c.ClientAuthenticationMethod = api.ClientAuthenticationMethodTypePrivateKeyJwt
	c.PrivateKeyJwtConfig = &api.PrivateKeyJwtConfig{
		SigningAlgorithm: algorithm, PrivateKeySource: &api.PrivateKeySource{KmsKeySource: &api.KmsKeySourceType{KmsKeyArn: arn}},
		AdditionalHeaderClaims: map[string]secret.Text{"kid": secret.New("agent-1")}, AdditionalPayloadClaims: map[string]secret.Text{"tenant": secret.New("canary-tenant")},
	}
	c.OnBehalfOfTokenExchangeConfig = &api.OnBehalfOfTokenExchangeConfigType{GrantType: api.OnBehalfOfTokenExchangeGrantTypeTypeTokenExchange,
		TokenExchangeGrantTypeConfig: &api.TokenExchangeGrantTypeConfigType{ActorTokenContent: api.ActorTokenContentTypeM2m}}
	return input
}

func (w *world) signingProvider(t testing.TB, input *api.Oauth2ProviderConfigInput) error {
	t.Helper()
	_, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input})
	return err
}

func TestPrivateKeyInEachFlow(t *testing.T) {
	t.Parallel()
	for algorithm, n := range map[api.SigningAlgorithm]int{"RS256": 1, "PS256": 1, "ES256": 2} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			w := newBareWorld(t)
			w.workload(t, "agent", returnURL)
			w.clientKeys(t)
			public := crypto.PublicKey(&signingKey().PublicKey)
			if n == 2 {
				public = &elliptical().PublicKey
			}
			r := &registration{algorithm: jose.SignatureAlgorithm(algorithm), key: public, audience: w.idp.URL + "/token", used: map[string]bool{}}
			w.idp.with(func(p *idp) { p.proves = r.proves })
			if err := w.signingProvider(t, signing(w.idp, algorithm, signingARN(account, n))); err != nil {
				t.Fatal(err)
			}
			caller := w.consented(t, "agent", "jwt:ada", ask("profile"))
			w.later(2 * time.Hour)
			w.token(t, caller, ask("profile")) // a refresh
			w.later(-2 * time.Hour)
			w.m2m(t, caller, TokenRequest{ProviderName: "google", Scopes: []string{"read"}})
			exchanged, err := w.ExchangedToken(t.Context(), caller, TokenRequest{ProviderName: "google", Scopes: []string{"write"}})
			if err != nil || !strings.Contains(exchanged.Reveal(), "ada-by-client") {
				t.Errorf("got %s, %v", exchanged.Reveal(), err)
			}
			proven, refused := r.counts()
			if proven != 5 || len(refused) > 0 { // code, refresh, client, actor, exchange
				t.Errorf("%d statements proven, refused %v", proven, refused)
			}
			for _, header := range r.headers {
				if header.KeyID != "agent-1" || header.ExtraHeaders[jose.HeaderType] != "JWT" {
					t.Errorf("header %+v", header)
				}
			}
			w.noCanaries(t) // the claims are sealed, too

			shown, err := w.GetOauth2CredentialProvider(t.Context(), root, &api.GetOauth2CredentialProviderRequest{Name: "google"})
			if err != nil {
				t.Fatal(err)
			}
			want := signing(w.idp, algorithm, signingARN(account, n)).CustomOauth2ProviderConfig
			got := shown.Oauth2ProviderConfigOutput.CustomOauth2ProviderConfig
			if got.ClientAuthenticationMethod != want.ClientAuthenticationMethod || cmp.Diff(string(want.PrivateKeyJwtConfig.AppendJSON(nil)), string(got.PrivateKeyJwtConfig.AppendJSON(nil))) != "" {
				t.Errorf("got %s", got.AppendJSON(nil))
			}
		})
	}
}

func TestPrivateKeyThatTheProviderRefuses(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent")
	w.clientKeys(t)
	if err := w.signingProvider(t, signing(w.idp, "ES256", signingARN(account, 2))); err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	caller := w.alone(t, "agent")
	for name, r := range map[string]*registration{
		"another key":      {algorithm: jose.ES256, key: &stranger.PublicKey, audience: w.idp.URL + "/token"},
		"another audience": {algorithm: jose.ES256, key: &elliptical().PublicKey, audience: "https://other.example/token"},
		"another kind":     {algorithm: jose.PS256, key: &signingKey().PublicKey, audience: w.idp.URL + "/token"},
	} {
		r.used = map[string]bool{}
		w.idp.with(func(p *idp) { p.proves = r.proves })
		_, err := w.ClientToken(t.Context(), caller, TokenRequest{ProviderName: "google", Force: true})
		if proven, refused := r.counts(); err == nil || proven != 0 || len(refused) != 1 || strings.Contains(fault.Of(err).Message, "eyJ") {
			t.Errorf("%s: %v, %d proven, %v", name, err, proven, refused)
		}
	}
	// An audience of the client's own choosing, and each statement good for once.
	input := signing(w.idp, "ES256", signingARN(account, 2))
	input.CustomOauth2ProviderConfig.PrivateKeyJwtConfig.AdditionalPayloadClaims["aud"] = secret.New("https://other.example/token")
	if _, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: input}); err != nil {
		t.Fatal(err)
	}
	r := &registration{algorithm: jose.ES256, key: &elliptical().PublicKey, audience: "https://other.example/token", used: map[string]bool{}}
	w.idp.with(func(p *idp) { p.proves = r.proves })
	for range 3 {
		if _, err := w.ClientToken(t.Context(), caller, TokenRequest{ProviderName: "google", Force: true}); err != nil {
			t.Error(err)
		}
	}
	form := w.idp.lastForm() // whoever has read along and sends it again
	if _, again := r.proves(&http.Request{Header: http.Header{}, PostForm: form}); again {
		t.Error("a statement was good twice")
	}
}

func TestPrivateKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent")
	w.clientKeys(t)
	type input = api.CustomOauth2ProviderConfigInput
	for name, c := range map[string]struct {
		change func(*input)
		text   string
	}{
		"a key that is not declared": {func(c *input) { c.PrivateKeyJwtConfig.PrivateKeySource.KmsKeySource.KmsKeyArn = signingARN(account, 9) }, "not declared for this account"},
		"another account's key":      {func(c *input) { c.PrivateKeyJwtConfig.PrivateKeySource.KmsKeySource.KmsKeyArn = signingARN(other, 3) }, "not declared for this account"},
		"an RSA key for ES256":       {func(c *input) { c.PrivateKeyJwtConfig.PrivateKeySource.KmsKeySource.KmsKeyArn = signingARN(account, 1) }, "does not fit ES256"},
		"an elliptic key for PS256":  {func(c *input) { c.PrivateKeyJwtConfig.SigningAlgorithm = "PS256" }, "does not fit PS256"},
		"no algorithm":               {func(c *input) { c.PrivateKeyJwtConfig.SigningAlgorithm = "" }, "signingAlgorithm is required"},
		"no key":                     {func(c *input) { c.PrivateKeyJwtConfig.PrivateKeySource = nil }, "privateKeySource"},
		"no configuration":           {func(c *input) { c.PrivateKeyJwtConfig = nil }, "needs a privateKeyJwtConfig"},
		"no client":                  {func(c *input) { c.ClientId = nil }, "clientId is required"},
		"a secret":                   {func(c *input) { c.ClientSecret = secret.Pointer("canary") }, "has no clientSecret"},
		"a secret elsewhere":         {func(c *input) { c.ClientSecretSource = api.SecretSourceTypeExternal }, "no client secret"},
		"alg":                        {func(c *input) { c.PrivateKeyJwtConfig.AdditionalHeaderClaims["alg"] = secret.New("none") }, "claim alg"},
		"typ":                        {func(c *input) { c.PrivateKeyJwtConfig.AdditionalHeaderClaims["typ"] = secret.New("x") }, "claim typ"},
		"sub":                        {func(c *input) { c.PrivateKeyJwtConfig.AdditionalPayloadClaims["sub"] = secret.New("x") }, "claim sub"},
		"exp":                        {func(c *input) { c.PrivateKeyJwtConfig.AdditionalPayloadClaims["exp"] = secret.New("1") }, "claim exp"},
		"jti":                        {func(c *input) { c.PrivateKeyJwtConfig.AdditionalPayloadClaims["jti"] = secret.New("1") }, "claim jti"},
	} {
		input := signing(w.idp, "ES256", signingARN(account, 2))
		c.change(input.CustomOauth2ProviderConfig)
		wantFault(t, w.signingProvider(t, input), fault.Invalid, c.text)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if n := w.count(t, `SELECT COUNT(*) FROM oauth2_providers`); n != 0 {
		t.Errorf("%d providers are stored", n)
	}
	// Taken out of the settings later, it signs no more.
	if err := w.signingProvider(t, signing(w.idp, "ES256", signingARN(account, 2))); err != nil {
		t.Fatal(err)
	}
	w.options.Keys = nil
	_, err := w.ClientToken(t.Context(), w.alone(t, "agent"), TokenRequest{ProviderName: "google"})
	wantFault(t, err, fault.Invalid, "not declared")
}

func TestPrivateEndpointsAreEchoed(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		lattice := func(id string) *api.PrivateEndpoint {
			return &api.PrivateEndpoint{SelfManagedLatticeResource: &api.SelfManagedLatticeResource{ResourceConfigurationIdentifier: &id}}
		}
		input := custom(w.idp, "client")
		c := input.CustomOauth2ProviderConfig
		c.PrivateEndpoint = &api.PrivateEndpoint{ManagedVpcResource: &api.ManagedVpcResource{
			VpcIdentifier: "vpc-0123456789abcdef0", SubnetIds: []string{"subnet-1"}, EndpointIpAddressType: "IPV4", SecurityGroupIds: []string{"sg-1"}, RoutingDomain: pointer("a.example"), Tags: map[string]string{"a": "b"},
		}}
		c.PrivateEndpointOverrides = []api.PrivateEndpointOverride{{Domain: "idp.internal", PrivateEndpoint: lattice("rcfg-0123456789abcdef0")}, {Domain: "two.internal", PrivateEndpoint: lattice("rcfg-0123456789abcdef1")}}
		if err := w.signingProvider(t, input); err != nil {
			t.Fatal(err)
		}
		shown, err := w.GetOauth2CredentialProvider(t.Context(), root, &api.GetOauth2CredentialProviderRequest{Name: "google"})
		if err != nil || shown.Status != api.StatusReady {
			t.Fatalf("got %+v, %v", shown, err)
		}
		got := shown.Oauth2ProviderConfigOutput.CustomOauth2ProviderConfig
		if diff := cmp.Diff(c.PrivateEndpoint, got.PrivateEndpoint) + cmp.Diff(c.PrivateEndpointOverrides, got.PrivateEndpointOverrides); diff != "" {
			t.Error(diff)
		}
		updated, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: custom(w.idp, "client")})
		if err != nil || updated.Oauth2ProviderConfigOutput.CustomOauth2ProviderConfig.PrivateEndpoint != nil || updated.Oauth2ProviderConfigOutput.CustomOauth2ProviderConfig.PrivateEndpointOverrides != nil {
			t.Errorf("got %+v, %v", updated, err)
		}
	})
}
