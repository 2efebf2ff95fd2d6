package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func (w *world) put(t testing.TB, account, owner string, z Authorizer) {
	t.Helper()
	if err := w.db.Update(context.Background(), func(tx *store.Tx) error { return w.PutAuthorizer(tx, account, owner, z) }); err != nil {
		t.Fatal(err)
	}
}

func TestTrustedIssuers(t *testing.T) {
	t.Parallel()
	p, stranger := newProvider(t), newProvider(t)
	w := newWorld(t).withOAuth(t, p, stranger)
	w.opts.TrustedIssuers = []TrustedIssuer{{URL: p.URL, Audiences: []string{"x"}}, {URL: p.URL, Audiences: []string{"the-app", "the-other-app"}}}
	now := time.Now()
	for name, c := range map[string]struct {
		token secret.Text
		text  string
	}{
		"good":               {token: p.token(t, map[string]any{"aud": "the-app"})},
		"good, several":      {token: p.token(t, map[string]any{"aud": []string{"y", "the-other-app"}})},
		"wrong audience":     {p.token(t, nil), "Claim 'aud' value mismatch"},
		"no audience":        {p.token(t, map[string]any{"aud": nil}), ""},
		"azp is no audience": {p.token(t, map[string]any{"aud": "y", "azp": "the-app", "client_id": "the-app"}), "Claim 'aud' value mismatch"},
		"unknown issuer":     {stranger.token(t, map[string]any{"aud": "the-app"}), "issuer is not trusted"},
		"issuer with slash":  {p.token(t, map[string]any{"iss": p.URL + "/", "aud": "the-app"}), "issuer is not trusted"},
		"no issuer":          {p.token(t, map[string]any{"iss": nil, "aud": "the-app"}), ""},
		"no subject":         {p.token(t, map[string]any{"sub": nil, "aud": "the-app"}), "names no user"},
		"of a client":        {p.token(t, map[string]any{"sub": "the-client", "client_id": "the-client", "aud": "the-app"}), "names no user"},
		"of an azp":          {p.token(t, map[string]any{"sub": "the-client", "client_id": nil, "azp": "the-client", "aud": "the-app"}), "names no user"},
		"of Auth0's client":  {p.token(t, map[string]any{"sub": "the-client@clients", "gty": "client-credentials", "aud": "the-app"}), "names no user"},
		"of Entra's app":     {p.token(t, map[string]any{"sub": "an-object-id", "idtyp": "app", "aud": "the-app"}), "names no user"},
		"good, of a user":    {token: p.token(t, map[string]any{"azp": "the-client", "gty": "password", "idtyp": "user", "aud": "the-app"})},
		"expired":            {p.token(t, map[string]any{"exp": now.Unix() - 120, "aud": "the-app"}), "expired"},
		"expired, in skew":   {p.token(t, map[string]any{"exp": now.Unix() - 10, "aud": "the-app"}), "expired"},
		"not yet":            {p.token(t, map[string]any{"nbf": now.Unix() + 120, "aud": "the-app"}), ""},
		"not a token":        {secret.New("abc"), ""},
		"empty":              {secret.Text{}, ""},
		"forged":             {unsigned(t, `{"alg":"none"}`, p.claims(map[string]any{"aud": "the-app"}), ""), ""},
	} {
		user, expiry, err := w.VerifyUser(context.Background(), account, "", c.token)
		if strings.HasPrefix(name, "good") {
			if err != nil || user != (principal.User{Issuer: p.URL, Subject: "ada"}) || expiry.Before(now.Add(4*time.Minute)) || expiry.After(now.Add(6*time.Minute)) {
				t.Errorf("%s: %v until %s, %v", name, user, expiry, err)
			}
			continue
		}
		if !fault.Is(err, fault.Unauthenticated) || !strings.Contains(strings.ToLower(fault.Of(err).Message), strings.ToLower(c.text)) || !user.IsZero() || !expiry.IsZero() {
			t.Errorf("%s: %v until %s, %v", name, user, expiry, err)
		}
	}
	if fetches := stranger.jwksFetches.Load(); fetches > 0 {
		t.Error("an issuer that nobody named was asked for its keys")
	}
	// Nobody is trusted by default.
	w.opts.TrustedIssuers = nil
	_, _, err := w.VerifyUser(context.Background(), account, "", p.token(t, nil))
	wantFault(t, err, fault.Unauthenticated, "issuer is not trusted")
}

func TestStoredAuthorizers(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db).withOAuth(t, p)
		ctx := context.Background()
		token := p.token(t, nil)
		z := Authorizer{DiscoveryURL: p.discovery(), Audiences: []string{"the-gateway"}, Clients: []string{"the-client"}, Scopes: []string{"read"},
			ScopesAdvertised: []string{"api/read"}, Claims: []ClaimRule{{Name: "team", Type: ClaimString, Operator: ClaimEquals, Value: "green"}}}
		w.put(t, account, gatewayARN, z)

		user, _, err := w.VerifyUser(ctx, account, gatewayARN, token)
		if err != nil || user.Subject != "ada" || user.Issuer != p.URL {
			t.Errorf("%v, %v", user, err)
		}
		var stored Authorizer
		err = db.View(ctx, func(tx *store.Tx) (err error) {
			stored, err = readAuthorizer(tx, account, gatewayARN)
			return err
		})
		if diff := cmp.Diff(z, stored); err != nil || diff != "" {
			t.Error(err, diff)
		}

		// Not from another account, nor another owner; and trusted issuers do not come into it.
		w.opts.TrustedIssuers = []TrustedIssuer{{URL: p.URL, Audiences: []string{"the-gateway"}}}
		for _, c := range [][2]string{{"111111111111", gatewayARN}, {account, gatewayARN + "x"}} {
			_, _, err := w.VerifyUser(ctx, c[0], c[1], token)
			wantFault(t, err, fault.Denied, "has no authorizer any more")
		}
		err = db.Update(ctx, func(tx *store.Tx) error { return w.PutAuthorizer(tx, "111111111111", gatewayARN, z) })
		if !fault.Is(err, fault.Internal) {
			t.Errorf("another account took the authorizer over: %v", err)
		}

		// All rules count here too, and a change counts at once, on every replica.
		other := w.replica()
		other.oauth = w.oauth
		z.Scopes = []string{"admin"}
		w.put(t, account, gatewayARN, z)
		_, _, err = other.VerifyUser(ctx, account, gatewayARN, token)
		if !errors.Is(err, ErrInsufficientScope) {
			t.Errorf("a scope is lacking: %v", err)
		}
		z.Audiences = []string{"x"}
		w.put(t, account, gatewayARN, z)
		_, _, err = other.VerifyUser(ctx, account, gatewayARN, token)
		wantFault(t, err, fault.Unauthenticated, "Claim 'aud'")

		for range 2 {
			if err := db.Update(ctx, func(tx *store.Tx) error { return w.DeleteAuthorizer(tx, gatewayARN) }); err != nil {
				t.Fatal(err)
			}
			_, _, err = other.VerifyUser(ctx, account, gatewayARN, token)
			wantFault(t, err, fault.Denied, "has no authorizer any more")
		}
		// One that says nothing is not stored.
		err = db.Update(ctx, func(tx *store.Tx) error {
			return w.PutAuthorizer(tx, account, gatewayARN, Authorizer{DiscoveryURL: p.discovery()})
		})
		wantFault(t, err, fault.Invalid, "an issuer alone")
	})
}

func TestAuthorizerCheck(t *testing.T) {
	t.Parallel()
	const url = "https://accounts.example.com/.well-known/openid-configuration"
	rule := func(c ClaimRule) Authorizer { return Authorizer{DiscoveryURL: url, Claims: []ClaimRule{c}} }
	for name, c := range map[string]struct {
		z    Authorizer
		text string
	}{
		"audience":           {Authorizer{DiscoveryURL: url, Audiences: []string{"a"}}, ""},
		"client":             {Authorizer{DiscoveryURL: url, Clients: []string{"a"}}, ""},
		"scope":              {Authorizer{DiscoveryURL: url, Scopes: []string{"a"}}, ""},
		"claim":              {rule(ClaimRule{Name: "a", Type: ClaimString, Operator: ClaimEquals, Value: "b"}), ""},
		"claim list":         {rule(ClaimRule{Name: "a", Type: ClaimStringArray, Operator: ClaimContainsAny, Values: []string{"b"}}), ""},
		"RFC 8414":           {Authorizer{DiscoveryURL: "https://a/.well-known/oauth-authorization-server", Audiences: []string{"a"}}, ""},
		"nothing":            {Authorizer{DiscoveryURL: url}, "At least one of"},
		"only advertised":    {Authorizer{DiscoveryURL: url, ScopesAdvertised: []string{"a"}}, "At least one of"},
		"no URL":             {Authorizer{Audiences: []string{"a"}}, "discovery URL must end"},
		"an empty audience":  {Authorizer{DiscoveryURL: url, Audiences: []string{"a", ""}}, "An entry of allowedAudience is empty"},
		"an empty client":    {Authorizer{DiscoveryURL: url, Clients: []string{""}}, "An entry of allowedClients is empty"},
		"no name":            {rule(ClaimRule{Type: ClaimString, Operator: ClaimEquals, Value: "b"}), "has no name"},
		"no operator":        {rule(ClaimRule{Name: "a", Type: ClaimString, Value: "b"}), "must be EQUALS, CONTAINS or CONTAINS_ANY"},
		"array equals":       {rule(ClaimRule{Name: "a", Type: ClaimStringArray, Operator: ClaimEquals, Value: "b"}), "goes with the claim value type STRING."},
		"string contains":    {rule(ClaimRule{Name: "a", Type: ClaimString, Operator: ClaimContains, Value: "b"}), "go with the claim value type STRING_ARRAY."},
		"equals without":     {rule(ClaimRule{Name: "a", Type: ClaimString, Operator: ClaimEquals}), "need a matchValueString."},
		"contains a list":    {rule(ClaimRule{Name: "a", Type: ClaimStringArray, Operator: ClaimContains, Values: []string{"b"}}), "need a matchValueString."},
		"any of nothing":     {rule(ClaimRule{Name: "a", Type: ClaimStringArray, Operator: ClaimContainsAny}), "needs a matchValueStringList"},
		"any of empty":       {rule(ClaimRule{Name: "a", Type: ClaimStringArray, Operator: ClaimContainsAny, Values: []string{""}}), "needs a matchValueStringList"},
		"any of one and one": {rule(ClaimRule{Name: "a", Type: ClaimStringArray, Operator: ClaimContainsAny, Value: "a", Values: []string{"b"}}), "needs a matchValueStringList"},
	} {
		err := c.z.Check()
		if c.text == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		t.Run(name, func(t *testing.T) { wantFault(t, err, fault.Invalid, c.text) })
	}
	if got := (Authorizer{Scopes: []string{"a"}}).Advertised(); len(got) != 1 || got[0] != "a" {
		t.Error(got)
	}
	if got := (Authorizer{Scopes: []string{"a"}, ScopesAdvertised: []string{"b"}}).Advertised(); len(got) != 1 || got[0] != "b" {
		t.Error(got)
	}
}

func TestParseTrustedIssuer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]TrustedIssuer{
		"https://accounts.example.com=a":      {URL: "https://accounts.example.com", Audiences: []string{"a"}},
		"https://accounts.example.com/x=a,b":  {URL: "https://accounts.example.com/x", Audiences: []string{"a", "b"}},
		"https://accounts.example.com/?t=x=a": {URL: "https://accounts.example.com/?t=x", Audiences: []string{"a"}},
		"http://127.0.0.1:9000=onbehalf-demo": {URL: "http://127.0.0.1:9000", Audiences: []string{"onbehalf-demo"}},
	} {
		got, err := ParseTrustedIssuer(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	for _, text := range []string{"", "https://accounts.example.com", "https://accounts.example.com=", "https://accounts.example.com=a,", "=a", "accounts.example.com=a"} {
		if got, err := ParseTrustedIssuer(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// The callers that nobody had to prove.
func TestUnprovenCallers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := principal.WithRequest(context.Background(), principal.Request{ID: "request"})
	for kind, caller := range map[principal.Kind]principal.Caller{
		principal.Anonymous: w.Anonymous(ctx, account),
		principal.Browser:   w.Browser(ctx, account),
	} {
		want := principal.Caller{Kind: kind, Account: account, Request: principal.Request{ID: "request"}}
		if caller != want {
			t.Errorf("%+v", caller)
		}
	}
}
