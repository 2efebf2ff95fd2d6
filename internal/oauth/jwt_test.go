package oauth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func (p *provider) claims(changes ...any) map[string]any {
	claims := map[string]any{"iss": p.URL, "sub": "canary-subject", "aud": "api", "exp": time.Now().Add(time.Hour).Unix()}
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(claims, changes[i].(string))
		} else {
			claims[changes[i].(string)] = changes[i+1]
		}
	}
	return claims
}

func TestEachAlgorithmVerifies(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	var signers []signer
	var keys []any
	for _, alg := range algorithms {
		s := newSigner("kid-"+string(alg), alg)
		signers, keys = append(signers, s), append(keys, s.public())
	}
	p.publish(keys...)
	for _, s := range signers {
		for _, verify := range []func(secret.Text) (Claims, error){
			func(raw secret.Text) (Claims, error) { return c.VerifyJWT(t.Context(), p.discoveryURL(), raw) },
			func(raw secret.Text) (Claims, error) { return c.VerifyIssuer(t.Context(), p.URL, raw) },
		} {
			raw := s.sign(t, p.claims())
			claims, err := verify(raw)
			if err != nil || claims.Subject != "canary-subject" || claims.Issuer != p.URL {
				t.Errorf("%s: %+v, %v", s.alg, claims, err)
			}
		}
	}
	if p.keyFetches.Load() != 1 || p.discoveries.Load() != 1 {
		t.Errorf("%d key fetches and %d discoveries; want one each", p.keyFetches.Load(), p.discoveries.Load())
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := newSigner("k", jose.ES256)
	p.publish(s.public())
	c := p.client()
	exp := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	for name, test := range map[string]struct {
		changes []any
		want    Claims
	}{
		"plain":  {nil, Claims{Subject: "canary-subject", Audience: []string{"api"}}},
		"lists":  {[]any{"aud", []string{"a", "b"}, "scope", []string{"x", "y z"}, "scp", []string{"y", "w"}}, Claims{Subject: "canary-subject", Audience: []string{"a", "b"}, Scopes: []string{"x", "y", "z", "w"}}},
		"string": {[]any{"scope", " x  y ", "client_id", "c1", "azp", "c2", "cid", "c3"}, Claims{Subject: "canary-subject", Audience: []string{"api"}, Scopes: []string{"x", "y"}, ClientID: "c1"}},
		"azp":    {[]any{"azp", "c2", "cid", "c3", "scp", "read"}, Claims{Subject: "canary-subject", Audience: []string{"api"}, Scopes: []string{"read"}, ClientID: "c2"}},
		"cid":    {[]any{"cid", "c3", "client_id", 7}, Claims{Subject: "canary-subject", Audience: []string{"api"}, ClientID: "c3"}},
		"no sub": {[]any{"sub", nil, "aud", nil}, Claims{}},
		"times":  {[]any{"nbf", 0, "iat", exp.Add(-time.Hour).Unix() + 1}, Claims{Subject: "canary-subject", Audience: []string{"api"}, NotBefore: time.Unix(0, 0).UTC(), IssuedAt: exp.Add(-time.Hour + time.Second)}},
	} {
		got, err := c.VerifyJWT(t.Context(), p.discoveryURL(), s.sign(t, p.claims(append(test.changes, "exp", exp.Unix())...)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Raw["iss"] != p.URL || fmt.Sprintf("%T", got.Raw["exp"]) != "json.Number" {
			t.Errorf("%s: raw %v", name, got.Raw)
		}
		got.Raw, test.want.Issuer, test.want.Expiry = nil, p.URL, exp
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTokensAreRefused(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	good, es := newSigner("k", jose.RS256), newSigner("es", jose.ES256)
	stranger := newSigner("k", jose.ES256)
	hmac := signer{id: "k", alg: jose.HS256, key: x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)} // the public key as a shared one
	p.publish(good.public(), es.public(), jose.JSONWebKey{Key: []byte(strings.Repeat("s", 32)), KeyID: "shared"})
	c := p.client()
	now := time.Now()
	part := func(value any) string {
		b, _ := json.Marshal(value)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	tamper := func(raw secret.Text) secret.Text {
		parts := strings.Split(raw.Reveal(), ".")
		parts[1] = part(p.claims("sub", "canary-other"))
		return secret.New(strings.Join(parts, "."))
	}
	for name, test := range map[string]struct {
		raw     secret.Text
		message string
	}{
		"empty":               {secret.Text{}, "accepted algorithm"},
		"no JWT":              {secret.New("canary"), "accepted algorithm"},
		"none":                {secret.New(part(map[string]any{"alg": "none"}) + "." + part(p.claims()) + "."), "accepted algorithm"},
		"None":                {secret.New(part(map[string]any{"alg": "None", "kid": "k"}) + "." + part(p.claims()) + ".AAAA"), "accepted algorithm"},
		"HS256":               {hmac.sign(t, p.claims()), "accepted algorithm"},
		"HS256, shared key":   {signer{id: "shared", alg: jose.HS256, key: []byte(strings.Repeat("s", 32))}.sign(t, p.claims()), "accepted algorithm"},
		"JWE":                 {secret.New("eyJ.a.b.c.d"), "accepted algorithm"},
		"JSON form":           {secret.New(`{"payload":"e30","signatures":[]}`), "accepted algorithm"},
		"too long":            {secret.New(strings.Repeat("e", maximumJWT+1)), "too long"},
		"tampered":            {tamper(good.sign(t, p.claims())), "not of a key"},
		"cut signature":       {secret.New(strings.TrimRight(good.sign(t, p.claims()).Reveal(), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") + "AAAA"), "not of a key"},
		"stranger":            {stranger.sign(t, p.claims()), "not of a key"},
		"key in the header":   {good.sign(t, p.claims(), "jwk", stranger.public(), "jku", "https://evil.example/keys"), ""},
		"critical header":     {good.sign(t, p.claims(), "crit", []string{"evil"}, "evil", 1), "not of a key"},
		"another issuer":      {good.sign(t, p.claims("iss", "https://evil.example")), "another issuer"},
		"issuer with a slash": {good.sign(t, p.claims("iss", p.URL+"/")), "another issuer"},
		"issuer as a list":    {good.sign(t, p.claims("iss", []string{p.URL})), "another issuer"},
		"no issuer":           {good.sign(t, p.claims("iss", nil)), "another issuer"},
		"no expiry":           {good.sign(t, p.claims("exp", nil)), "no expiry"},
		"expired":             {good.sign(t, p.claims("exp", now.Add(-61*time.Second).Unix())), "expired"},
		"expiry as a string":  {good.sign(t, p.claims("exp", "9999999999")), "wrong type"},
		"endless expiry":      {good.sign(t, p.claims("exp", 1e300)), "wrong type"},
		"not yet":             {good.sign(t, p.claims("nbf", now.Add(2*time.Minute).Unix())), "not valid yet"},
		"from the future":     {good.sign(t, p.claims("iat", now.Add(2*time.Minute).Unix())), "not valid yet"},
		"subject as a number": {good.sign(t, p.claims("sub", 7)), "wrong type"},
		"empty subject":       {good.sign(t, p.claims("sub", "")), "wrong type"},
		"audience of numbers": {good.sign(t, p.claims("aud", []int{1})), "wrong type"},
		"logout token":        {good.sign(t, p.claims("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}})), "another type"},
		"typed logout token":  {good.sign(t, p.claims(), "typ", "logout+jwt"), "another type"},
		"client assertion":    {good.sign(t, p.claims(), "typ", "application/client-authentication+JWT"), "another type"},
		"EC token, RSA's kid": {signer{id: "k", alg: jose.ES256, key: es.key}.sign(t, p.claims()), "not of a key"},
		"claims are a list":   {secret.New(part(map[string]any{"alg": "RS256", "kid": "k"}) + "." + part([]int{1}) + ".AAAA"), "not of a key"},
	} {
		claims, err := c.VerifyJWT(t.Context(), p.discoveryURL(), test.raw)
		if name == "key in the header" {
			if err != nil { // our own key signed it: the header's is not looked at
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: accepted: %v", name, claims)
			continue
		}
		wantFault(t, err, fault.Unauthenticated, test.message)
		if claims.Raw != nil {
			t.Errorf("%s: claims are returned", name)
		}
	}
	for name, raw := range map[string]secret.Text{
		"within the skew":    good.sign(t, p.claims("exp", now.Add(-30*time.Second).Unix(), "nbf", now.Add(30*time.Second).Unix())),
		"an access token":    good.sign(t, p.claims(), "typ", "at+jwt"),
		"fractions and null": good.sign(t, p.claims("exp", float64(now.Unix())+100.5, "nbf", json.RawMessage("null"))),
	} {
		if _, err := c.VerifyJWT(t.Context(), p.discoveryURL(), raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p.keyFetches.Load() != 1 {
		t.Errorf("bad tokens made us fetch the keys %d times", p.keyFetches.Load())
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	old, next, nameless := newSigner("old", jose.ES256), newSigner("next", jose.ES384), newSigner("", jose.EdDSA)
	p.publish(old.public())
	c := p.client()
	k := withClock(c)
	verify := func(s signer) error {
		_, err := c.VerifyJWT(t.Context(), p.discoveryURL(), s.sign(t, p.claims("exp", k.now().Add(time.Hour).Unix(), "jti", rand.Text())))
		return err
	}
	want := func(err error, ok bool, fetches int32) {
		t.Helper()
		if (err == nil) != ok || p.keyFetches.Load() != fetches {
			t.Errorf("%v after %d fetches; want ok %v and %d", err, p.keyFetches.Load(), ok, fetches)
		}
		if err != nil {
			noSecrets(t, err)
		}
	}
	want(verify(old), true, 1)
	p.publish(next.public(), old.public())
	want(verify(next), false, 1) // too early to ask again
	k.move(keysPause)
	want(verify(next), true, 2)
	want(verify(old), true, 2)
	k.move(keysPause)
	for range 5 {
		want(verify(newSigner("unknown", jose.ES256)), false, 3) // asked once, whoever sends how many
	}

	p.publish(nameless.public()) // without a kid, and the others are withdrawn
	k.move(keysPause)
	want(verify(nameless), true, 4)
	k.move(keysPause)
	want(verify(old), false, 5)

	// While the issuer cannot be asked, old keys serve, but not for ever.
	p.broken.Store(503)
	k.move(keysFresh)
	want(verify(nameless), true, 8)
	err := verify(old)
	want(err, false, 8)
	wantFault(t, err, fault.Unavailable, "503") // not "your token is bad": we do not know
	k.move(keysStale)
	p.broken.Store(0)
	c.Discover(t.Context(), p.discoveryURL())
	p.broken.Store(503)
	want(verify(nameless), false, 11)
	p.broken.Store(0)
	k.move(keysPause)
	want(verify(nameless), true, 12)
}

func TestKeysThatAreNotUsed(t *testing.T) {
	t.Parallel()
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	good := newSigner("good", jose.ES256)
	key := func(changes string) json.RawMessage {
		b, _ := json.Marshal(good.public())
		return json.RawMessage(strings.Replace(string(b), "{", "{"+changes, 1))
	}
	private, _ := json.Marshal(jose.JSONWebKey{Key: good.key, KeyID: "private"})
	b, err := json.Marshal(map[string]any{"keys": []any{
		jose.JSONWebKey{Key: &weak.PublicKey, KeyID: "weak"},
		jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "shared"},
		json.RawMessage(private),
		jose.JSONWebKey{Key: newSigner("enc", jose.ES256).public().(jose.JSONWebKey).Key, KeyID: "enc", Use: "enc"},
		map[string]any{"kty": "future", "kid": "future"}, map[string]any{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, 7, nil, "x",
		key(""),
	}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := readKeys(b)
	if err != nil || len(keys) != 1 || keys[0].KeyID != "good" {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for _, body := range []string{"", "[]", "{}", `{"keys":null}`, `{"keys":{}}`, "<html>"} {
		if _, err := readKeys([]byte(body)); !fault.Is(err, fault.Upstream) {
			t.Errorf("%q: %v", body, err)
		}
	}
	if keys, err := readKeys([]byte(`{"keys":[]}`)); err != nil || len(keys) != 0 {
		t.Errorf("no keys: %v", err)
	}
}

func TestVerifiedTokensAreCached(t *testing.T) {
	t.Parallel()
	p, other := newProvider(t), newProvider(t)
	s := newSigner("k", jose.RS256)
	p.publish(s.public())
	other.publish(newSigner("k", jose.ES256).public())
	c := p.client()
	k := withClock(c)
	raw := s.sign(t, p.claims())
	verified := k.now()
	if _, err := c.VerifyJWT(t.Context(), p.discoveryURL(), raw); err != nil {
		t.Fatal(err)
	}
	p.publish(newSigner("next", jose.ES256).public()) // the key is withdrawn
	k.move(keysFresh)
	if hit, ok := c.verified.GetIfPresent(cacheKey(p.discoveryURL(), raw)); !ok || hit.until.Sub(verified) != verifiedLifetime {
		t.Errorf("a verified token is cached for %v", hit.until.Sub(verified))
	}
	_, err := c.VerifyJWT(t.Context(), p.discoveryURL(), raw)
	wantFault(t, err, fault.Unauthenticated, "not of a key")
	if _, ok := c.verified.GetIfPresent(cacheKey(other.discoveryURL(), raw)); ok {
		t.Error("a token verified by one issuer is taken for another's")
	}

	p.publish(s.public())
	k.move(keysPause)
	short := s.sign(t, p.claims("exp", k.now().Add(20*time.Second).Unix()))
	if _, err := c.VerifyJWT(t.Context(), p.discoveryURL(), short); err != nil {
		t.Fatal(err)
	}
	hit, _ := c.verified.GetIfPresent(cacheKey(p.discoveryURL(), short))
	if life := hit.until.Sub(k.now()); life <= 0 || life > 20*time.Second {
		t.Errorf("a token of 20 seconds is cached for %v", life)
	}
	k.move(81 * time.Second) // beyond the skew
	_, err = c.VerifyJWT(t.Context(), p.discoveryURL(), short)
	wantFault(t, err, fault.Unauthenticated, "expired")
}

func TestVerifyIsOneFlight(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := newSigner("k", jose.EdDSA)
	p.publish(s.public())
	c := p.client()
	var group sync.WaitGroup
	for range 32 {
		raw := s.sign(t, p.claims("jti", rand.Text()))
		group.Go(func() {
			if _, err := c.VerifyJWT(t.Context(), p.discoveryURL(), raw); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if p.keyFetches.Load() != 1 || p.discoveries.Load() != 1 {
		t.Errorf("%d key fetches, %d discoveries", p.keyFetches.Load(), p.discoveries.Load())
	}
}

func TestVerifyWithoutKeys(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := newSigner("k", jose.EdDSA)
	p.setDocument(func(document map[string]any) { delete(document, "jwks_uri") })
	_, err := p.client().VerifyJWT(t.Context(), p.discoveryURL(), s.sign(t, p.claims()))
	wantFault(t, err, fault.Upstream, "publishes no keys")
	p.broken.Store(500)
	_, err = p.client().VerifyJWT(t.Context(), p.discoveryURL(), s.sign(t, p.claims()))
	wantFault(t, err, fault.Unavailable, "500")
	_, err = p.client().VerifyJWT(t.Context(), "https://idp.example/", s.sign(t, p.claims()))
	wantFault(t, err, fault.Invalid, "discovery URL")
}

func TestGoogleSpellsItsIssuerTwoWays(t *testing.T) {
	t.Parallel()
	payload := fmt.Appendf(nil, `{"iss":"accounts.google.com","sub":"1","exp":%d}`, time.Now().Add(time.Hour).Unix())
	claims, err := readClaims(payload, "https://accounts.google.com", time.Now())
	if err != nil || claims.Issuer != "https://accounts.google.com" {
		t.Errorf("%+v, %v", claims, err)
	}
	if _, err := readClaims(payload, "https://idp.example", time.Now()); err == nil {
		t.Error("Google's token is taken for another's")
	}
	issuer, err := PeekIssuer(newSigner("k", jose.EdDSA).sign(t, map[string]any{"iss": "accounts.google.com"}))
	if err != nil || issuer != "https://accounts.google.com" {
		t.Errorf("%q, %v", issuer, err)
	}
}

func TestPeekIssuer(t *testing.T) {
	t.Parallel()
	s := newSigner("k", jose.EdDSA)
	if issuer, err := PeekIssuer(s.sign(t, map[string]any{"iss": "https://a"})); issuer != "https://a" || err != nil {
		t.Errorf("%q, %v", issuer, err)
	}
	for _, raw := range []secret.Text{{}, secret.New("canary.canary.canary"), s.sign(t, map[string]any{}), s.sign(t, map[string]any{"iss": 7})} {
		_, err := PeekIssuer(raw)
		wantFault(t, err, fault.Unauthenticated, "")
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner("k", jose.EdDSA)
	good := s.sign(f, map[string]any{"iss": "https://idp.example", "sub": "1", "exp": 1_900_000_000, "aud": []string{"a"}, "scope": "x"})
	f.Add(good.Reveal())
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.AAAA")
	body, _ := json.Marshal(map[string]any{"keys": []any{s.public()}})
	keys, _ := readKeys(body)
	set := &keySet{keys: keys}
	f.Fuzz(func(t *testing.T, text string) {
		raw := secret.New(text)
		_, _ = PeekIssuer(raw)
		signed, err := parse(raw)
		if err != nil {
			return
		}
		payload, ok := set.verify(signed)
		if !ok {
			return
		}
		if string(payload) != string(mustPayload(good)) {
			t.Errorf("a forged token verifies: %q", payload)
		}
	})
}

func mustPayload(raw secret.Text) []byte {
	signed, _ := parse(raw)
	return signed.UnsafePayloadWithoutVerification()
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"iss":"https://idp.example","sub":"1","exp":1900000000,"aud":["a"],"scope":"x y","scp":["z"],"azp":"c"}`))
	f.Add([]byte(`{"iss":"https://idp.example","exp":1e300}`))
	f.Add([]byte(`{"iss":"https://idp.example","exp":1900000000.5,"nbf":null}x`))
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, payload []byte) {
		claims, err := readClaims(payload, "https://idp.example", now)
		if err == nil && (claims.Issuer != "https://idp.example" || !now.Before(claims.Expiry.Add(clockSkew))) {
			t.Errorf("%+v", claims)
		}
	})
}

func FuzzKeys(f *testing.F) {
	b, _ := json.Marshal(map[string]any{"keys": []any{newSigner("k", jose.ES256).public(), newSigner("r", jose.RS256).public()}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, _ := readKeys(body)
		for _, key := range keys {
			if !key.IsPublic() {
				t.Error("a key that is not public is kept")
			}
		}
	})
}

func BenchmarkVerifyCached(b *testing.B) {
	c := New(nil)
	s := newSigner("k", jose.RS256)
	raw := s.sign(b, map[string]any{"iss": "https://idp.example", "sub": "1", "pad": strings.Repeat("x", 600)})
	const discoveryURL = "https://idp.example/.well-known/openid-configuration"
	c.verified.Set(cacheKey(discoveryURL, raw), verifiedJWT{until: time.Now().Add(time.Hour)})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.VerifyJWT(b.Context(), discoveryURL, raw); err != nil {
				b.Error(err)
			}
		}
	})
}
