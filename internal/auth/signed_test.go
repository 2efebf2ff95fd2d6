package auth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func TestSigned(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		about := principal.Request{ID: "request", Address: netip.MustParseAddr("192.0.2.1")}
		for _, body := range []string{"", `{"name":"agent"}`, strings.Repeat("x", 100_000)} {
			r := w.request(t, request{body: body})
			r = r.WithContext(principal.WithRequest(r.Context(), about))
			caller, got, err := w.Signed(httptest.NewRecorder(), r, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			want := principal.Caller{Kind: principal.Key, Account: account, ARN: "arn:aws:iam::000000000000:root", KeyID: w.root.ID, Root: true, Request: about}
			if diff := cmp.Diff(want, caller, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Error(diff)
			}
			if string(got) != body {
				t.Errorf("body of %d bytes, want %d", len(got), len(body))
			}
		}
	})
}

func TestSignedRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		request request
		kind    fault.Kind
		text    string
	}{
		"unsigned":         {request{after: func(r *http.Request) { r.Header.Del("Authorization") }}, fault.MissingSignature, "Missing Authentication Token"},
		"bearer":           {request{after: func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }}, fault.BadSignature, "Unsupported Authorization header"},
		"two signatures":   {request{after: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }}, fault.BadSignature, "more than one Authorization"},
		"presigned":        {request{after: func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=abc" }}, fault.BadSignature, "Presigned"},
		"unknown key":      {request{key: NewKey{"AKIAAAAAAAAAAAAAAAAA", secret.New("x")}}, fault.UnknownKey, "The security token included in the request is invalid."},
		"session token":    {request{token: "token"}, fault.UnknownKey, "The security token included in the request is invalid."},
		"wrong secret":     {request{key: NewKey{w.root.ID, secret.New("x")}}, fault.BadSignature, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method."},
		"wrong region":     {request{region: "eu-west-1"}, fault.BadSignature, "Credential should be scoped to a valid region"},
		"wrong service":    {request{service: "execute-api"}, fault.BadSignature, "Credential should be scoped to correct service: 'bedrock-agentcore'."},
		"control plane's":  {request{service: "bedrock-agentcore-control"}, fault.BadSignature, "Credential should be scoped to correct service: 'bedrock-agentcore'."},
		"old":              {request{at: w.clock.now().Add(-6 * time.Minute)}, fault.StaleSignature, "Signature expired: "},
		"new":              {request{at: w.clock.now().Add(6 * time.Minute)}, fault.StaleSignature, "Signature not yet current: "},
		"unsigned x-amz":   {request{after: func(r *http.Request) { r.Header.Set("X-Amz-Target", "x") }}, fault.BadSignature, "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization."},
		"unsigned user":    {request{after: func(r *http.Request) { r.Header.Set("X-Amzn-Bedrock-AgentCore-Runtime-User-Id", "x") }}, fault.BadSignature, "must be a 'SignedHeader'"},
		"altered body":     {request{body: "abc", after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("abd")) }}, fault.BadSignature, "does not match"},
		"altered path":     {request{after: func(r *http.Request) { r.RequestURI = "/identities/DeleteWorkloadIdentity" }}, fault.BadSignature, "does not match"},
		"unsigned payload": {request{before: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }}, fault.BadSignature, "not the SHA-256 of the body"},
		"long body":        {request{body: strings.Repeat("x", 1025)}, fault.Invalid, "longer than the 1024 bytes"},
		"long body, length unknown": {request{body: strings.Repeat("x", 1025), after: func(r *http.Request) { r.ContentLength = -1 }},
			fault.Invalid, "longer than the 1024 bytes"},
		"body cut short": {request{body: "abc", after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("ab")) }}, fault.Invalid, "could not be read to its end"},
	} {
		t.Run(name, func(t *testing.T) {
			caller, body, err := w.Signed(httptest.NewRecorder(), w.request(t, c.request), 1024)
			wantFault(t, err, c.kind, c.text)
			if caller.Kind != principal.Nobody || body != nil {
				t.Errorf("a refused caller is %+v with %d bytes", caller, len(body))
			}
			if strings.Contains(err.Error(), w.root.Secret.Reveal()) {
				t.Error("the error has the secret in it")
			}
		})
	}
}

// A header that cannot be right must not make the server read a body.
func TestBodyUnreadWhenHeadersDecide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, q := range map[string]request{
		"unsigned":       {after: func(r *http.Request) { r.Header.Del("Authorization") }},
		"unknown key":    {key: NewKey{"AKIAAAAAAAAAAAAAAAAA", secret.New("x")}},
		"wrong region":   {region: "eu-west-1"},
		"old":            {at: w.clock.now().Add(-6 * time.Minute)},
		"unsigned x-amz": {after: func(r *http.Request) { r.Header.Set("X-Amz-Target", "x") }},
		"too long":       {after: func(r *http.Request) { r.ContentLength = 1025 }},
	} {
		r := w.request(t, q)
		r.Body = io.NopCloser(unreadable{t, name})
		if _, _, err := w.Signed(httptest.NewRecorder(), r, 1024); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

type unreadable struct {
	t    *testing.T
	name string
}

func (u unreadable) Read([]byte) (int, error) {
	u.t.Errorf("%s: the body was read", u.name)
	return 0, io.EOF
}

// AWS takes a signed request again while its date is good; so does this server.
func TestReplayWithinSkew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := w.clock.now()
	for range 3 {
		if _, _, err := w.Signed(httptest.NewRecorder(), w.request(t, request{at: at}), 1024); err != nil {
			t.Fatal(err)
		}
		w.clock.add(2 * time.Minute)
	}
	_, _, err := w.Signed(httptest.NewRecorder(), w.request(t, request{at: at}), 1024)
	wantFault(t, err, fault.StaleSignature, "Signature expired")
}

// A published SDK adds its workload token after signing: it is ignored.
func TestUnsignedWorkloadTokenIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request(t, request{after: func(r *http.Request) { r.Header.Set("X-Amz-Bedrock-AgentCore-Identity-WAT", "somebody's") }})
	if _, _, err := w.Signed(httptest.NewRecorder(), r, 1024); err != nil {
		t.Fatal(err)
	}
	if got := r.Header.Get("X-Amz-Bedrock-AgentCore-Identity-WAT"); got != "" {
		t.Errorf("the header is still there: %q", got)
	}
}

// A disabled key stops within a second on every replica that has it at hand, and
// looks like one that never was.
func TestDisabledKey(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		replicas := []*Authenticator{w.Authenticator, w.replica()}
		signed := func(a *Authenticator) error {
			_, _, err := a.Signed(httptest.NewRecorder(), w.request(t, request{}), 1024)
			return err
		}
		for _, a := range replicas {
			if err := signed(a); err != nil {
				t.Fatal(err)
			}
		}
		w.set(t, `UPDATE access_keys SET state = 'disabled' WHERE id = $1`, w.root.ID)
		w.clock.add(keyFresh)
		for _, a := range replicas {
			wantFault(t, signed(a), fault.UnknownKey, "The security token included in the request is invalid.")
			if len(a.keys.keys) != 0 {
				t.Error("the disabled key is still in memory")
			}
		}
		w.set(t, `UPDATE access_keys SET state = 'active' WHERE id = $1`, w.root.ID)
		if err := signed(w.Authenticator); err != nil {
			t.Errorf("enabled again: %v", err)
		}
	})
}

// What is in memory does not outlive the database's word.
func TestKeysFailClosed(t *testing.T) {
	t.Parallel()
	db, err := store.Open(context.Background(), store.Options{Path: storetest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, db)
	if _, _, err := w.Signed(httptest.NewRecorder(), w.request(t, request{}), 1024); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w.clock.add(keyFresh)
	if _, _, err := w.Signed(httptest.NewRecorder(), w.request(t, request{}), 1024); err == nil || Unproven(err) {
		t.Errorf("without a database: %v", err)
	}
}

func TestKeyringIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
		INSERT INTO access_keys (id, account, arn, root, state, secret, created)
		SELECT 'AKIA' || i, $1, 'arn:aws:iam::000000000000:user/u', 0, 'active', $2, 0 FROM n`, account, []byte("x"))
	for i := range 5000 {
		if _, err := w.keys.find(context.Background(), "AKIA"+strconv.Itoa(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(w.keys.keys); got > maxKeys {
		t.Errorf("%d keys in memory", got)
	}
}

// Around midnight both days' signing keys are in use.
func TestMidnight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	midnight := w.clock.now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	w.clock.add(midnight.Sub(w.clock.now()))
	for range 2 {
		for _, at := range []time.Time{midnight.Add(-time.Minute), midnight.Add(time.Minute)} {
			if _, _, err := w.Signed(httptest.NewRecorder(), w.request(t, request{at: at}), 1024); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestEnsureRoot(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		ctx := context.Background()
		if id := w.root.ID; len(id) != 20 || !strings.HasPrefix(id, "AKIA") || w.root.Secret.Len() != 40 {
			t.Errorf("key %q with a secret of %d characters", id, w.root.Secret.Len())
		}
		never := func(NewKey) error { t.Error("saved a second key"); return nil }
		if created, err := w.EnsureRoot(ctx, account, never); created || err != nil {
			t.Errorf("again: %t, %v", created, err)
		}
		w.set(t, `UPDATE access_keys SET state = 'disabled'`)
		if created, err := w.EnsureRoot(ctx, account, never); created || err != nil {
			t.Errorf("with a disabled one: %t, %v", created, err)
		}
		// A key that could not be saved is not there.
		broken := errors.New("disk full")
		if created, err := w.EnsureRoot(ctx, "111111111111", func(NewKey) error { return broken }); created || !errors.Is(err, broken) {
			t.Errorf("with a failing save: %t, %v", created, err)
		}
		var second NewKey
		if created, err := w.EnsureRoot(ctx, "111111111111", func(k NewKey) error { second = k; return nil }); !created || err != nil {
			t.Errorf("after a failing save: %t, %v", created, err)
		}
		caller, _, err := w.Signed(httptest.NewRecorder(), w.request(t, request{key: second}), 1024)
		if err != nil || caller.Account != "111111111111" {
			t.Errorf("the other account's key: %+v, %v", caller, err)
		}
		for _, bad := range []string{"", "1", "12345678901a", "1234567890123"} {
			_, err := w.EnsureRoot(ctx, bad, never)
			wantFault(t, err, fault.Invalid, "12 digits")
		}
		// The secret is nowhere in clear, and opens only in its own row.
		err = w.db.View(ctx, func(tx *store.Tx) error {
			row, err := readKey(tx, second.ID)
			if err != nil {
				return err
			}
			if strings.Contains(string(row.sealed), second.Secret.Reveal()) {
				t.Error("the secret is stored in clear")
			}
			if _, err := w.keeper.OpenText(ctx, sealContext("111111111111", w.root.ID), row.sealed); err == nil {
				t.Error("the secret opens as another key's")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// Replicas that start together on an empty database make one key.
func TestEnsureRootTogether(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := &world{db: db, keeper: storetest.Keeper(t, db), clock: newClock(time.Now())}
		results := make(chan bool, 8)
		for range cap(results) {
			go func() {
				created, err := w.replica().EnsureRoot(context.Background(), account, func(NewKey) error { return nil })
				if err != nil {
					t.Error(err)
				}
				results <- created
			}()
		}
		made := 0
		for range cap(results) {
			if <-results {
				made++
			}
		}
		if made != 1 {
			t.Errorf("%d keys were made", made)
		}
	})
}

func TestSignedIsLimitedByFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	from := func(address string, q request) error {
		r := w.request(t, q)
		r.RemoteAddr = address
		_, _, err := w.Signed(httptest.NewRecorder(), r, 1024)
		return err
	}
	bad := request{key: NewKey{w.root.ID, secret.New("x")}}
	for range 1000 { // no number of good ones is too many
		if err := from("192.0.2.1:1", request{}); err != nil {
			t.Fatal(err)
		}
	}
	burst := allowances[LimitSignature].remote.burst
	for range burst {
		wantFault(t, from("192.0.2.1:1", bad), fault.BadSignature, "does not match")
	}
	wantFault(t, from("192.0.2.1:2", bad), fault.Throttled, "Too many requests")
	wantFault(t, from("192.0.2.1:2", request{}), fault.Throttled, "Too many requests")
	if err := from("192.0.2.2:1", request{}); err != nil {
		t.Errorf("a neighbour: %v", err)
	}
	w.clock.add(time.Second)
	if err := from("192.0.2.1:1", request{}); err != nil {
		t.Errorf("a second later: %v", err)
	}
	// Too long a body is no failure to prove oneself.
	for range 2 * burst {
		wantFault(t, from("192.0.2.3:1", request{body: strings.Repeat("x", 1025)}), fault.Invalid, "longer than")
	}
}

func BenchmarkSigned1KB(b *testing.B) {
	w := newWorld(b)
	body := strings.Repeat("x", 1024)
	r := w.request(b, request{body: body})
	recorder := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(body))
		if _, _, err := w.Signed(recorder, r, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}
