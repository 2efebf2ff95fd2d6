package identity

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

func TestTokenSaysWhomItSpeaksFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")

	response, err := w.GetWorkloadAccessToken(t.Context(), caller, &api.GetWorkloadAccessTokenRequest{WorkloadName: "agent"})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := w.Open(t.Context(), caller, response.WorkloadAccessToken)
	if err != nil || !alone.User.IsZero() || alone.Workload.Name != "agent" || alone.Workload.ID == "" {
		t.Errorf("the workload's own token opened as %+v, %v", alone, err)
	}
	if alone.Kind != caller.Kind || alone.Account != caller.Account {
		t.Errorf("the caller changed: %+v", alone)
	}

	forID, err := w.Open(t.Context(), caller, w.forUser(t, "agent", "cognito+ada"))
	if err != nil || forID.User != (principal.User{ID: "cognito+ada"}) || !forID.UserToken.Empty() {
		t.Errorf("a user id's token opened as %+v, %v", forID, err)
	}

	inbound := w.jwt(t, "ada", time.Hour, 0)
	forJWT, err := w.Open(t.Context(), caller, w.forJWT(t, "agent", inbound))
	if err != nil || forJWT.User != (principal.User{Issuer: w.issuer.URL, Subject: "ada"}) || !forJWT.UserToken.Equal(inbound) || forJWT.Authorizer != "" {
		t.Errorf("a JWT's token opened as %+v, %v", forJWT, err)
	}
}

func TestLargeInboundTokenIsStoredAndReferredTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")
	inbound := w.jwt(t, "ada", 10*time.Minute, 6000)
	token := w.forJWT(t, "agent", inbound)
	if token.Len() > 1024 {
		t.Errorf("the token has %d bytes", token.Len())
	}
	if largest := w.forJWT(t, "agent", w.jwt(t, "ada", time.Hour, 1100)); largest.Len() > tokenLimit {
		t.Errorf("a token that carries its JWT has %d bytes", largest.Len())
	}
	opened, err := w.Open(t.Context(), caller, token)
	if err != nil || !opened.UserToken.Equal(inbound) {
		t.Fatalf("the inbound token did not come back: %v", err)
	}
	// The JWT ends before the workload access token does: whose user it is, is known on.
	w.late.Store(int64(11 * time.Minute))
	opened, err = w.Open(t.Context(), caller, token)
	if err != nil || !opened.UserToken.Empty() || opened.User.Subject != "ada" {
		t.Errorf("after its JWT's end the token opened as %v, %v", opened.User, err)
	}
	if err := w.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	w.update(t, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM workload_inbound_tokens`).Scan(&left)
	})
	if left != 0 {
		t.Errorf("%d expired inbound tokens were left", left)
	}
}

func TestTokensThatDoNotOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")
	token := w.forUser(t, "agent", "ada")

	flipped := []byte(token.Reveal())
	flipped[len(flipped)/2] ^= 1
	otherKind, err := w.keeper.Seal(t.Context(), seal.Context{Account: account, Purpose: seal.Tokens, Kind: "page"}, (&content{workloadID: "x"}).append(nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]string{
		"empty": "", "no base64": "*", "short": "AAAA", "changed": string(flipped), "cut": token.Reveal()[:40],
		"too long": strings.Repeat("A", tokenLimit+1), "sealed as something else": string(otherKind), "with a tail": token.Reveal() + "AAAA",
	} {
		_, err := w.Open(t.Context(), caller, secret.New(forged))
		if !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.Open(t.Context(), principal.Caller{Kind: principal.Key, Account: other, Root: true}, token)
	wantFault(t, err, fault.Unauthenticated, "not valid")

	w.late.Store(int64(tokenLifetime - time.Minute))
	if _, err := w.Open(t.Context(), caller, token); err != nil {
		t.Errorf("a minute before its end: %v", err)
	}
	w.late.Store(int64(tokenLifetime))
	_, err = w.Open(t.Context(), caller, token)
	wantFault(t, err, fault.Unauthenticated, "expired")
}

func TestRecreatedNameRevivesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")
	token := w.forUser(t, "agent", "ada")
	if _, err := w.DeleteWorkloadIdentity(t.Context(), caller, &api.DeleteWorkloadIdentityRequest{Name: "agent"}); err != nil {
		t.Fatal(err)
	}
	_, err := w.Open(t.Context(), caller, token)
	wantFault(t, err, fault.Unauthenticated, "does not exist any more")
	w.create(t, "agent")
	_, err = w.Open(t.Context(), caller, token)
	wantFault(t, err, fault.Unauthenticated, "does not exist any more")
	if _, err := w.Open(t.Context(), caller, w.forUser(t, "agent", "ada")); err != nil {
		t.Errorf("the new workload's own token: %v", err)
	}
}

func TestRevokedTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")
	w.create(t, "second")
	ada, bob, elsewhere := w.forUser(t, "agent", "ada"), w.forUser(t, "agent", "bob"), w.forUser(t, "second", "ada")
	opened, err := w.Open(t.Context(), caller, ada)
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *store.Tx) error { return w.Revoke(tx, account, opened.Workload.ID, opened.User) })
	_, err = w.Open(t.Context(), caller, ada)
	wantFault(t, err, fault.Unauthenticated, "revoked")
	for name, token := range map[string]secret.Text{"another user's": bob, "another workload's": elsewhere} {
		if _, err := w.Open(t.Context(), caller, token); err != nil {
			t.Errorf("%s token: %v", name, err)
		}
	}
	w.late.Store(int64(time.Second))
	if _, err := w.Open(t.Context(), caller, w.forUser(t, "agent", "ada")); err != nil {
		t.Errorf("a token issued after the revocation: %v", err)
	}
	w.update(t, func(tx *store.Tx) error { return w.Revoke(tx, account, opened.Workload.ID, opened.User) })
	err = w.db.Update(t.Context(), func(tx *store.Tx) error {
		return w.Revoke(tx, account, "nobody", opened.User)
	})
	wantFault(t, err, fault.NotFound, "not exist")

	w.late.Store(int64(tokenLifetime + time.Minute))
	if err := w.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	w.update(t, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM workload_token_cutoffs`).Scan(&left)
	})
	if left != 0 {
		t.Errorf("%d cut-offs outlived the tokens they were for", left)
	}
}

func TestForJWTTrustsNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")
	stranger := &world{issuer: newIssuer(t)}
	for name, token := range map[string]secret.Text{
		"an issuer that the operator did not name": stranger.jwt(t, "ada", time.Hour, 0),
		"an expired token":                         w.jwt(t, "ada", -time.Hour, 0),
		"a token that was tampered with":           secret.New(w.jwt(t, "ada", time.Hour, 0).Reveal() + "A"),
		"no JWT at all":                            secret.New("a.b.c"),
	} {
		_, err := w.GetWorkloadAccessTokenForJWT(t.Context(), caller, &api.GetWorkloadAccessTokenForJWTRequest{WorkloadName: "agent", UserToken: token})
		if !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.GetWorkloadAccessTokenForJWT(t.Context(), caller, &api.GetWorkloadAccessTokenForJWTRequest{WorkloadName: "nobody", UserToken: w.jwt(t, "ada", time.Hour, 0)})
	wantFault(t, err, fault.NotFound, "nobody not found")
	_, err = w.GetWorkloadAccessTokenForUserId(t.Context(), caller, &api.GetWorkloadAccessTokenForUserIdRequest{WorkloadName: "agent", UserId: "a\x00b"})
	wantFault(t, err, fault.Invalid, "NUL")
}

func TestMintIsForOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateway := w.owned(t, "gateway-0123456789")
	w.create(t, "agent")
	own, err := w.Open(t.Context(), caller, w.forUser(t, "agent", "ada"))
	if err != nil {
		t.Fatal(err)
	}

	arrived := principal.Caller{Kind: principal.Bearer, Account: account, Workload: gateway, User: principal.User{Issuer: "https://idp.example", Subject: "ada"}, UserToken: secret.New("header.payload.signature"), Authorizer: gateway.Owner}
	token, err := w.Mint(t.Context(), arrived)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := w.Open(t.Context(), caller, token)
	if err != nil || opened.Authorizer != gateway.Owner || opened.User != arrived.User || !opened.UserToken.Equal(arrived.UserToken) {
		t.Errorf("a minted token opened as %+v, %v", opened, err)
	}
	if diff := cmp.Diff(gateway, opened.Workload); diff != "" {
		t.Errorf("workload (-want +got):\n%s", diff)
	}

	for name, thief := range map[string]principal.Caller{
		"a workload without owner": {Account: account, Workload: own.Workload},
		"a foreign owner":          {Account: account, Workload: principal.Workload{ID: gateway.ID, Owner: "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/evil"}},
	} {
		if _, err := w.Mint(t.Context(), thief); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.Mint(t.Context(), principal.Caller{Account: other, Workload: gateway})
	wantFault(t, err, fault.NotFound, "not exist")
}

func TestOldKeyStillOpensAfterRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "agent")
	token := w.forUser(t, "agent", "ada")
	if err := w.keeper.Rotate(t.Context(), account, seal.Tokens); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Open(t.Context(), caller, token); err != nil {
		t.Errorf("the predecessor's token: %v", err)
	}
	if _, err := w.Open(t.Context(), caller, w.forUser(t, "agent", "ada")); err != nil {
		t.Error(err)
	}
}

func FuzzContent(f *testing.F) {
	f.Add((&content{issued: time.UnixMicro(1), expires: time.UnixMicro(2), workloadID: "w", user: principal.User{ID: "ada"}, authorizer: "arn", userToken: "a.b.c"}).append(nil))
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseContent(data)
		if err != nil {
			return
		}
		again, err := parseContent(c.append(nil))
		if err != nil || *again != *c {
			t.Errorf("%x does not survive: %v", data, err)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	w := newWorld(b)
	w.create(b, "agent")
	token := w.forUser(b, "agent", "ada")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Open(b.Context(), caller, token); err != nil {
			b.Fatal(err)
		}
	}
}
