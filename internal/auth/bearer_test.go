package auth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const gatewayARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/mail-abcdefghij"

func TestBearer(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorld(t).withOAuth(t, p)
	z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"another", "the-gateway"}}
	token := p.token(t, nil)
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
		r := bearing(token)
		r.Header.Set("Authorization", scheme+token.Reveal())
		caller, err := w.Bearer(context.Background(), r, account, gatewayARN, z)
		if err != nil {
			t.Fatal(err)
		}
		if caller.Kind != principal.Bearer || caller.Account != account || caller.Authorizer != gatewayARN || caller.Root || caller.ARN != "" ||
			caller.User != (principal.User{Issuer: p.URL, Subject: "ada"}) || !caller.UserToken.Equal(token) {
			t.Errorf("%+v", caller)
		}
	}
	// Somebody without a name, and a client for itself, may call, and is nobody's user.
	for _, claims := range []map[string]any{{"sub": nil}, {"sub": "the-client", "client_id": "the-client"}} {
		caller, err := w.Bearer(context.Background(), bearing(p.token(t, claims)), account, gatewayARN, z)
		if err != nil || !caller.User.IsZero() || !caller.UserToken.Empty() || caller.Kind != principal.Bearer {
			t.Errorf("with %v: %+v, %v", claims, caller, err)
		}
	}
}

func TestBearerHeader(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorld(t).withOAuth(t, p)
	z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"the-gateway"}}
	good := p.token(t, nil).Reveal()
	for name, header := range map[string]http.Header{
		"none":           {},
		"empty":          {"Authorization": {""}},
		"no token":       {"Authorization": {"Bearer "}},
		"basic":          {"Authorization": {"Basic YTpi"}},
		"no scheme":      {"Authorization": {good}},
		"two":            {"Authorization": {"Bearer " + good, "Bearer " + good}},
		"two in one":     {"Authorization": {"Bearer " + good + ", Bearer " + good}},
		"with a space":   {"Authorization": {"Bearer " + good + " x"}},
		"enormous":       {"Authorization": {"Bearer " + strings.Repeat("a", maxToken+1)}},
		"another header": {"X-Authorization": {"Bearer " + good}},
		"not a token":    {"Authorization": {"Bearer abc"}},
		"three dots":     {"Authorization": {"Bearer ..."}},
	} {
		r := bearing(secret.New("x"))
		r.Header = header
		r.URL.RawQuery = "access_token=" + good // never looked at
		caller, err := w.Bearer(context.Background(), r, account, gatewayARN, z)
		if !fault.Is(err, fault.Unauthenticated) || caller.Kind != principal.Nobody {
			t.Errorf("%s: %+v, %v", name, caller, err)
		}
		if err != nil && strings.Contains(err.Error(), good[20:40]) {
			t.Errorf("%s: the error has the token in it: %v", name, err)
		}
	}
}

func TestForgedTokens(t *testing.T) {
	t.Parallel()
	p, stranger := newProvider(t), newProvider(t)
	w := newWorld(t).withOAuth(t, p, stranger)
	z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"the-gateway"}}
	another, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	now := time.Now().Unix()
	good := p.token(t, nil).Reveal()
	parts := strings.Split(good, ".")
	for name, token := range map[string]secret.Text{
		"alg none":                  unsigned(t, `{"alg":"none","typ":"JWT"}`, p.claims(nil), ""),
		"alg None with a kid":       unsigned(t, `{"alg":"None","kid":"first"}`, p.claims(nil), ""),
		"alg none, RSA signature":   unsigned(t, `{"alg":"none"}`, p.claims(nil), parts[2]),
		"HS256 with the public PEM": signWith(t, jose.HS256, publicPEM, "first", p.claims(nil)),
		"HS256 with the public DER": signWith(t, jose.HS256, public, "first", p.claims(nil)),
		"another key, known kid":    signWith(t, jose.RS256, another, "first", p.claims(nil)),
		"another key, own kid":      signWith(t, jose.RS256, another, "mine", p.claims(nil)),
		"altered claims":            secret.New(parts[0] + "." + base64.RawURLEncoding.EncodeToString(encode(t, p.claims(map[string]any{"sub": "eve"}))) + "." + parts[2]),
		"no signature":              secret.New(parts[0] + "." + parts[1] + "."),
		"wrong issuer":              p.token(t, map[string]any{"iss": "https://accounts.example.com"}),
		"issuer with a slash":       p.token(t, map[string]any{"iss": p.URL + "/"}),
		"no issuer":                 p.token(t, map[string]any{"iss": nil}),
		"wrong audience":            p.token(t, map[string]any{"aud": "somebody-else"}),
		"no audience":               p.token(t, map[string]any{"aud": nil}),
		"expired":                   p.token(t, map[string]any{"exp": now - 120}),
		"no expiry":                 p.token(t, map[string]any{"exp": nil}),
		"nbf in the future":         p.token(t, map[string]any{"nbf": now + 120}),
	} {
		caller, err := w.Bearer(context.Background(), bearing(token), account, gatewayARN, z)
		if !fault.Is(err, fault.Unauthenticated) || caller.Kind != principal.Nobody {
			t.Errorf("%s: %+v, %v", name, caller, err)
		}
	}
	// The stranger signs with a key that has the same kid and names our issuer.
	stranger.rotate(t, "first")
	if _, err := w.Bearer(context.Background(), bearing(stranger.token(t, map[string]any{"iss": p.URL})), account, gatewayARN, z); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a stranger's token: %v", err)
	}
}

func encode(t *testing.T, claims map[string]any) []byte {
	t.Helper()
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unsigned(t *testing.T, header string, claims map[string]any, signature string) secret.Text {
	t.Helper()
	return secret.New(base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(encode(t, claims)) + "." + signature)
}

// Keys that a provider has put aside no longer count, and its new ones do. (When
// a process that has the old ones at hand looks again is oauth's to say; here
// another one starts.)
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorld(t).withOAuth(t, p)
	z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"the-gateway"}}
	old := p.token(t, nil)
	if _, err := w.Bearer(context.Background(), bearing(old), account, gatewayARN, z); err != nil {
		t.Fatal(err)
	}
	p.rotate(t, "second")
	w.withOAuth(t, p)
	if _, err := w.Bearer(context.Background(), bearing(p.token(t, nil)), account, gatewayARN, z); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := w.Bearer(context.Background(), bearing(old), account, gatewayARN, z); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the old key: %v", err)
	}
}

// Tokens that name ever new keys do not become requests to the provider.
func TestUnknownKeyStorm(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorld(t).withOAuth(t, p)
	z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"the-gateway"}}
	if _, err := w.Bearer(context.Background(), bearing(p.token(t, nil)), account, gatewayARN, z); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		token := signWith(t, jose.RS256, rsaKey(), "unknown-"+strconv.Itoa(i), p.claims(nil))
		r := bearing(token)
		r.RemoteAddr = "198.51.100." + strconv.Itoa(i) + ":1"
		if _, err := w.Bearer(context.Background(), r, account, gatewayARN, z); !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
	}
	if fetches := p.jwksFetches.Load(); fetches > 5 {
		t.Errorf("%d requests for the keys", fetches)
	}
	if _, err := w.Bearer(context.Background(), bearing(p.token(t, map[string]any{"jti": "2"})), account, gatewayARN, z); err != nil {
		t.Errorf("a good token after the storm: %v", err)
	}
}

// The issuer's trouble is not the caller's fault, and opens nothing.
func TestIssuerUnreachable(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorld(t).withOAuth(t, p)
	z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"the-gateway"}}
	token := p.token(t, nil)
	p.Close()
	_, err := w.Bearer(context.Background(), bearing(token), account, gatewayARN, z)
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v, want Unavailable", err)
	}
}

func TestBearerRules(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorld(t).withOAuth(t, p)
	type rules = Authorizer
	equals := func(name, value string) ClaimRule {
		return ClaimRule{Name: name, Type: ClaimString, Operator: ClaimEquals, Value: value}
	}
	contains := func(name, value string) ClaimRule {
		return ClaimRule{Name: name, Type: ClaimStringArray, Operator: ClaimContains, Value: value}
	}
	containsAny := func(name string, values ...string) ClaimRule {
		return ClaimRule{Name: name, Type: ClaimStringArray, Operator: ClaimContainsAny, Values: values}
	}
	for name, c := range map[string]struct {
		rules  rules
		claims map[string]any
		kind   fault.Kind // Internal stands for none
		text   string
	}{
		"audience in a list":  {rules: rules{Audiences: []string{"the-gateway"}}, claims: map[string]any{"aud": []string{"x", "the-gateway"}}},
		"audience":            {rules: rules{Audiences: []string{"x"}}, kind: fault.Unauthenticated, text: "Claim 'aud' value mismatch with configuration."},
		"client":              {rules: rules{Clients: []string{"x", "the-client"}}},
		"another client":      {rules: rules{Clients: []string{"x"}}, kind: fault.Unauthenticated, text: "Claim 'client_id' value mismatch with configuration."},
		"no client":           {rules: rules{Clients: []string{"x"}}, claims: map[string]any{"client_id": nil}, kind: fault.Unauthenticated, text: "'client_id'"},
		"both":                {rules: rules{Audiences: []string{"the-gateway"}, Clients: []string{"the-client"}}},
		"audience alone":      {rules: rules{Audiences: []string{"the-gateway"}, Clients: []string{"x"}}, kind: fault.Unauthenticated, text: "'client_id'"},
		"one scope":           {rules: rules{Scopes: []string{"admin", "write"}}},
		"no scope":            {rules: rules{Scopes: []string{"admin"}}, kind: fault.Denied, text: "lacks a scope"},
		"half a scope":        {rules: rules{Scopes: []string{"rea"}}, kind: fault.Denied, text: "lacks a scope"},
		"scope and audience":  {rules: rules{Audiences: []string{"x"}, Scopes: []string{"admin"}}, kind: fault.Unauthenticated, text: "'aud'"},
		"equals":              {rules: rules{Claims: []ClaimRule{equals("team", "green")}}},
		"equals not":          {rules: rules{Claims: []ClaimRule{equals("team", "gree")}}, kind: fault.Unauthenticated, text: "Claim 'team' value mismatch with configuration."},
		"equals, case":        {rules: rules{Claims: []ClaimRule{equals("team", "Green")}}, kind: fault.Unauthenticated, text: "'team'"},
		"equals, absent":      {rules: rules{Claims: []ClaimRule{equals("department", "green")}}, kind: fault.Unauthenticated, text: "'department'"},
		"equals, an array":    {rules: rules{Claims: []ClaimRule{equals("roles", "admin")}}, kind: fault.Unauthenticated, text: "'roles'"},
		"equals, a number":    {rules: rules{Claims: []ClaimRule{equals("level", "1")}}, claims: map[string]any{"level": 1}, kind: fault.Unauthenticated, text: "'level'"},
		"contains":            {rules: rules{Claims: []ClaimRule{contains("roles", "reader")}}},
		"contains not":        {rules: rules{Claims: []ClaimRule{contains("roles", "writer")}}, kind: fault.Unauthenticated, text: "'roles'"},
		"contains, a string":  {rules: rules{Claims: []ClaimRule{contains("team", "green")}}, kind: fault.Unauthenticated, text: "'team'"},
		"contains, mixed":     {rules: rules{Claims: []ClaimRule{contains("roles", "admin")}}, claims: map[string]any{"roles": []any{"admin", 1}}, kind: fault.Unauthenticated, text: "'roles'"},
		"contains any":        {rules: rules{Claims: []ClaimRule{containsAny("roles", "x", "admin")}}},
		"contains any of two": {rules: rules{Claims: []ClaimRule{containsAny("roles", "x", "y")}}, kind: fault.Unauthenticated, text: "'roles'"},
		"all claims":          {rules: rules{Claims: []ClaimRule{equals("team", "green"), contains("roles", "x")}}, kind: fault.Unauthenticated, text: "'roles'"},
		"no rules at all":     {rules: rules{}, kind: fault.Unauthenticated, text: "takes no token"},
		"a rule without an operator": {rules: rules{Claims: []ClaimRule{{Name: "team", Type: ClaimString, Value: "green"}}},
			kind: fault.Unauthenticated, text: "takes no token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := c.rules
			z.DiscoveryURL = p.discovery()
			caller, err := w.Bearer(context.Background(), bearing(p.token(t, c.claims)), account, gatewayARN, z)
			if c.kind == fault.Internal {
				if err != nil || caller.User.Subject != "ada" {
					t.Errorf("%+v, %v", caller, err)
				}
				return
			}
			wantFault(t, err, c.kind, c.text)
			if errors.Is(err, ErrInsufficientScope) != (c.kind == fault.Denied) {
				t.Errorf("insufficient scope: %v", err)
			}
			if caller.Kind != principal.Nobody {
				t.Errorf("a refused caller is %+v", caller)
			}
		})
	}
}

func TestBearerIsLimitedByFailures(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorld(t).withOAuth(t, p)
	z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"the-gateway"}}
	good := bearing(p.token(t, nil))
	bad := bearing(secret.New("not.a.token"))
	none := bearing(secret.New("x"))
	none.Header.Del("Authorization")
	burst := allowances[LimitBearer].remote.burst
	for range burst {
		for _, r := range []*http.Request{none, bad} {
			if _, err := w.Bearer(context.Background(), r, account, gatewayARN, z); !fault.Is(err, fault.Unauthenticated) {
				t.Fatal(err)
			}
		}
	}
	_, err := w.Bearer(context.Background(), good, account, gatewayARN, z)
	wantFault(t, err, fault.Throttled, "Too many requests")
	w.clock.add(time.Second)
	if _, err := w.Bearer(context.Background(), good, account, gatewayARN, z); err != nil {
		t.Error(err)
	}
}

func BenchmarkBearer(b *testing.B) {
	p := newProvider(b)
	w := newWorld(b).withOAuth(b, p)
	z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"the-gateway"}, Scopes: []string{"read"}}
	r := bearing(p.token(b, nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Bearer(context.Background(), r, account, gatewayARN, z); err != nil {
			b.Fatal(err)
		}
	}
}
