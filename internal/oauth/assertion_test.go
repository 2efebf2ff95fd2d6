package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// verified checks a client assertion with another implementation.
func verified(t *testing.T, text string, algorithm jose.SignatureAlgorithm, key any) (header map[string]any, claims map[string]any) {
	t.Helper()
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{algorithm})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(key)
	if err != nil {
		t.Fatalf("%s: %v", algorithm, err)
	}
	if json.Unmarshal(payload, &claims) != nil {
		t.Fatalf("payload %s", payload)
	}
	header = map[string]any{"kid": signed.Signatures[0].Header.KeyID}
	for name, value := range signed.Signatures[0].Header.ExtraHeaders {
		header[string(name)] = value
	}
	return header, claims
}

func TestPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	sent := recording(p, 200, `{"access_token":"t"}`)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	seen := map[any]bool{}
	for algorithm, key := range map[string]crypto.Signer{"RS256": rsaKey(), "PS256": rsaKey(), "ES256": ec} {
		s := p.server(AuthPrivateKeyJWT)
		s.ClientSecret = secret.Text{}
		s.Assertion = &ClientAssertion{
			Algorithm: algorithm, Signer: key,
			Header: map[string]string{"kid": "key 1", "x5t#S256": "thumb"}, Payload: map[string]string{"tenant": "t"},
		}
		s.Metadata.RevocationEndpoint = p.URL + "/revoke"
		for name, call := range map[string]func() error{
			"code": func() error {
				_, err := c.Exchange(t.Context(), s, secret.New(canaryCode), NewVerifier(), Authorization{})
				return err
			},
			"refresh": func() error {
				_, err := c.Refresh(t.Context(), s, secret.New(canaryRefresh), nil, nil)
				return err
			},
			"M2M": func() error { _, err := c.ClientCredentials(t.Context(), s, nil, nil, nil, nil); return err },
			"exchange": func() error {
				_, err := c.ExchangeToken(t.Context(), s, TokenExchange{Subject: secret.New(canaryJWT)})
				return err
			},
			"revocation": func() error { return c.Revoke(t.Context(), s, secret.New(canaryRefresh), "") },
		} {
			before := time.Now().Truncate(time.Second)
			if err := call(); err != nil {
				t.Fatalf("%s, %s: %v", algorithm, name, err)
			}
			if sent.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || sent.Get("client_id") != "client:1" || sent.Has("client_secret") {
				t.Errorf("%s, %s: sent %v", algorithm, name, *sent)
			}
			header, claims := verified(t, sent.Get("client_assertion"), jose.SignatureAlgorithm(algorithm), key.Public())
			if diff := cmp.Diff(map[string]any{"kid": "key 1", "typ": "JWT", "x5t#S256": "thumb"}, header); diff != "" {
				t.Error(diff)
			}
			jti, issued, expires := claims["jti"].(string), claims["iat"].(float64), claims["exp"].(float64)
			if len(jti) < 20 || seen[jti] || issued < float64(before.Unix()) || issued > float64(time.Now().Unix()) || claims["nbf"] != issued || expires-issued != 120 {
				t.Errorf("%s, %s: claims %v", algorithm, name, claims)
			}
			seen[jti] = true
			for _, name := range []string{"jti", "iat", "nbf", "exp"} {
				delete(claims, name)
			}
			if diff := cmp.Diff(map[string]any{"iss": "client:1", "sub": "client:1", "aud": p.URL + "/token", "tenant": "t"}, claims); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestAudienceOfAnAssertion(t *testing.T) {
	t.Parallel()
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a := &ClientAssertion{Algorithm: "ES256", Signer: ec, Payload: map[string]string{"aud": "https://issuer"}}
	text, err := a.sign("client", "https://token", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	header, claims := verified(t, text.Reveal(), jose.ES256, ec.Public())
	if claims["aud"] != "https://issuer" || header["kid"] != "" {
		t.Errorf("%v %v", header, claims)
	}
}

func TestCheckOfAnAssertion(t *testing.T) {
	t.Parallel()
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ec384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	many := map[string]string{}
	for _, letter := range strings.Split("abcdefghijk", "") {
		many[letter] = "x"
	}
	good := ClientAssertion{Algorithm: "ES256", Signer: ec}
	for name, test := range map[string]struct {
		change func(*ClientAssertion)
		field  string
	}{
		"good":       {func(a *ClientAssertion) {}, ""},
		"no key yet": {func(a *ClientAssertion) { a.Signer = nil }, ""},
		"claims": {func(a *ClientAssertion) {
			a.Header, a.Payload = map[string]string{"kid": "k"}, map[string]string{"aud": "x"}
		}, ""},
		"no algorithm":  {func(a *ClientAssertion) { a.Algorithm = "" }, "signingAlgorithm"},
		"none":          {func(a *ClientAssertion) { a.Algorithm = "none" }, "signingAlgorithm"},
		"HS256":         {func(a *ClientAssertion) { a.Algorithm = "HS256" }, "signingAlgorithm"},
		"RSA for ECDSA": {func(a *ClientAssertion) { a.Signer = rsaKey() }, "privateKeySource"},
		"ECDSA for RSA": {func(a *ClientAssertion) { a.Algorithm = "PS256" }, "privateKeySource"},
		"other curve":   {func(a *ClientAssertion) { a.Signer = ec384 }, "privateKeySource"},
		"Ed25519":       {func(a *ClientAssertion) { a.Signer = ed }, "privateKeySource"},
		"short RSA":     {func(a *ClientAssertion) { a.Algorithm, a.Signer = "RS256", shortRSA{} }, "privateKeySource"},
		"alg":           {func(a *ClientAssertion) { a.Header = map[string]string{"alg": "none"} }, "additionalHeaderClaims"},
		"typ":           {func(a *ClientAssertion) { a.Header = map[string]string{"typ": "x"} }, "additionalHeaderClaims"},
		"crit":          {func(a *ClientAssertion) { a.Header = map[string]string{"crit": "x"} }, "additionalHeaderClaims"},
		"b64":           {func(a *ClientAssertion) { a.Header = map[string]string{"b64": "x"} }, "additionalHeaderClaims"},
		"many headers":  {func(a *ClientAssertion) { a.Header = many }, "additionalHeaderClaims"},
		"many claims":   {func(a *ClientAssertion) { a.Payload = many }, "additionalPayloadClaims"},
		"no name":       {func(a *ClientAssertion) { a.Payload = map[string]string{"": "x"} }, "additionalPayloadClaims"},
		"iss":           {func(a *ClientAssertion) { a.Payload = map[string]string{"iss": "x"} }, "additionalPayloadClaims"},
		"sub":           {func(a *ClientAssertion) { a.Payload = map[string]string{"sub": "x"} }, "additionalPayloadClaims"},
		"jti":           {func(a *ClientAssertion) { a.Payload = map[string]string{"jti": "x"} }, "additionalPayloadClaims"},
		"exp":           {func(a *ClientAssertion) { a.Payload = map[string]string{"exp": "x"} }, "additionalPayloadClaims"},
		"iat":           {func(a *ClientAssertion) { a.Payload = map[string]string{"iat": "x"} }, "additionalPayloadClaims"},
		"nbf":           {func(a *ClientAssertion) { a.Payload = map[string]string{"nbf": "x"} }, "additionalPayloadClaims"},
	} {
		a := good
		test.change(&a)
		err := a.Check()
		if test.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !fault.Is(err, fault.Invalid) || len(fault.Of(err).Fields) != 1 || fault.Of(err).Fields[0].Name != test.field {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := a.sign("client", "https://token", time.Now()); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s was signed: %v", name, err)
		}
	}
}

type shortRSA struct{}

func (shortRSA) Public() crypto.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
}
func (shortRSA) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("signed") }

// failing is a signer elsewhere that does not do its work.
type failing struct {
	key       crypto.Signer
	signature []byte
	err       error
}

func (f failing) Public() crypto.PublicKey { return f.key.Public() }
func (f failing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return f.signature, f.err
}

// Nothing is sent when the client cannot be proven.
func TestNoProofNoRequest(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for name, test := range map[string]struct {
		assertion *ClientAssertion
		client    string
		kind      fault.Kind
	}{
		"no assertion":  {nil, "client", fault.Invalid},
		"no key":        {&ClientAssertion{Algorithm: "ES256"}, "client", fault.Invalid},
		"no client":     {&ClientAssertion{Algorithm: "ES256", Signer: ec}, "", fault.Invalid},
		"fails":         {&ClientAssertion{Algorithm: "ES256", Signer: failing{key: ec, err: errors.New("throttled")}}, "client", fault.Unavailable},
		"fails, known":  {&ClientAssertion{Algorithm: "ES256", Signer: failing{key: ec, err: fault.New(fault.Denied, "no")}}, "client", fault.Denied},
		"no ASN.1":      {&ClientAssertion{Algorithm: "ES256", Signer: failing{key: ec, signature: []byte("canary")}}, "client", fault.Unavailable},
		"RSA fails":     {&ClientAssertion{Algorithm: "RS256", Signer: failing{key: rsaKey(), err: errors.New("throttled")}}, "client", fault.Unavailable},
		"RSA-PSS fails": {&ClientAssertion{Algorithm: "PS256", Signer: failing{key: rsaKey(), err: errors.New("throttled")}}, "client", fault.Unavailable},
	} {
		s := p.server(AuthPrivateKeyJWT)
		s.Assertion, s.ClientID = test.assertion, test.client
		_, err := c.Refresh(t.Context(), s, secret.New(canaryRefresh), nil, nil)
		if !fault.Is(err, test.kind) || p.tokenPosts.Load() != 0 {
			t.Errorf("%s: %v; want %v and no request", name, err, test.kind)
		}
		noSecrets(t, err)
	}
}

// An assertion that a server echoes is masked: it is good until it expires.
func TestEchoedAssertion(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s := p.server(AuthPrivateKeyJWT)
	s.Assertion = &ClientAssertion{Algorithm: "ES256", Signer: ec}
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(401)
		io.WriteString(w, `{"error":"invalid_client","error_description":"`+url.QueryEscape(r.FormValue("client_assertion"))+`"}`)
		return true
	}
	_, err := p.client().ClientCredentials(t.Context(), s, nil, nil, nil, nil)
	wantFault(t, err, fault.Upstream, "invalid_client")
}

func TestPlainSignature(t *testing.T) {
	t.Parallel()
	encode := func(r, s *big.Int) []byte {
		b, _ := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		return b
	}
	one, large := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 256)
	got, err := plainSignature(encode(one, big.NewInt(0x0203)))
	if err != nil || len(got) != 64 || got[31] != 1 || got[62] != 2 || got[63] != 3 || got[0] != 0 {
		t.Errorf("%x, %v", got, err)
	}
	for name, encoded := range map[string][]byte{
		"empty": nil, "zero": encode(new(big.Int), one), "negative": encode(one, big.NewInt(-1)), "large": encode(large, one), "large s": encode(one, large),
		"trailing": append(encode(one, one), 0), "cut": encode(one, one)[:4],
	} {
		if got, err := plainSignature(encoded); err == nil {
			t.Errorf("%s: %x", name, got)
		}
	}
}

func FuzzPlainSignature(f *testing.F) {
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add([]byte{0x30, 6, 2, 1, 0xff, 2, 1, 1})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		if plain, err := plainSignature(encoded); (err == nil) != (len(plain) == 64) {
			t.Errorf("%x: %x, %v", encoded, plain, err)
		}
	})
}
