package broker

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// newReplicas are two processes with a store each, over one PostgreSQL database.
func newReplicas(t *testing.T) (here, there *world) {
	t.Helper()
	if os.Getenv(storetest.Variable) == "" {
		t.Skipf("%s is not set", storetest.Variable)
	}
	address, key, provider, clock := storetest.Postgres(t), filepath.Join(t.TempDir(), "key"), newIDP(t), &atomic.Int64{}
	process := func() *world {
		db, err := store.Open(t.Context(), store.Options{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		wrapper, err := seal.FileKey(t.Context(), db, key)
		if err != nil {
			t.Fatal(err)
		}
		keeper, err := seal.NewKeeper(t.Context(), db, wrapper)
		if err != nil {
			t.Fatal(err)
		}
		for _, account := range []string{account, other} {
			if err := keeper.EnsureAccount(t.Context(), account); err != nil {
				t.Fatal(err)
			}
		}
		return worldOn(t, db, keeper, provider, clock)
	}
	here, there = process(), process()
	there.back = here.back
	here.workload(t, "agent", returnURL)
	here.provider(t, "google", here.idp)
	return here, there
}

// What one replica took away, the other one gives to nobody, from the moment of
// the first one's answer on, although it gave it a moment before.
func TestNoReplicaServesWhatAnotherTookAway(t *testing.T) {
	t.Parallel()
	here, there := newReplicas(t)
	caller := here.consented(t, "agent", "ada", ask("read"))
	for range 3 { // the second time with what it knows of the provider
		there.token(t, caller, ask("read"))
	}

	// A grant that was revoked, given again, marked, and given again.
	if _, err := here.RevokeGrant(t.Context(), root, &api.RevokeGrantRequest{GrantId: here.onlyGrant(t).GrantId}); err != nil {
		t.Fatal(err)
	}
	there.link(t, caller, ask("read"))
	here.consented(t, "agent", "ada", ask("read"))
	there.token(t, caller, ask("read"))
	here.exec(t, `UPDATE grants SET state = 'needs-consent'`)
	there.link(t, caller, ask("read"))
	here.consented(t, "agent", "ada", ask("read"))
	there.token(t, caller, ask("read"))

	// A provider that was deleted, and another one of the same name.
	client := there.m2m(t, caller, ask("read"))
	if got := there.m2m(t, caller, ask("read")); got != client {
		t.Errorf("the client's token was fetched twice: %s, then %s", client, got)
	}
	remove := func() {
		t.Helper()
		if _, err := here.DeleteOauth2CredentialProvider(t.Context(), root, &api.DeleteOauth2CredentialProviderRequest{Name: "google"}); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	for what, try := range map[string]func() error{
		"a person's token": func() error { _, err := there.UserToken(t.Context(), caller, ask("read")); return err },
		"a client's token": func() error { _, err := there.ClientToken(t.Context(), caller, ask("read")); return err },
	} {
		if err := try(); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s of a provider that is gone: %v", what, err)
		}
	}
	here.provider(t, "google", here.idp)
	there.link(t, caller, ask("read"))
	if got := there.m2m(t, caller, ask("read")); got == client {
		t.Error("the new provider of the name gave the old one's token")
	}
	here.consented(t, "agent", "ada", ask("read"))
	there.token(t, caller, ask("read"))
	here.token(t, caller, ask("read"))

	// A key that was replaced, and one that was deleted.
	here.apiKey(t, "weather", "canary-key-1")
	for n, key := range []string{"canary-key-1", "canary-key-2", "canary-key-3"} {
		if n > 0 {
			if _, err := here.UpdateApiKeyCredentialProvider(t.Context(), root, &api.UpdateApiKeyCredentialProviderRequest{Name: "weather", ApiKey: secret.Pointer(key)}); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := there.readKey(t, caller, "weather"); got != key || err != nil {
			t.Errorf("got %s, %v; want %s", got, err, key)
		}
	}
	if _, err := here.DeleteApiKeyCredentialProvider(t.Context(), root, &api.DeleteApiKeyCredentialProviderRequest{Name: "weather"}); err != nil {
		t.Fatal(err)
	}
	if _, err := there.readKey(t, caller, "weather"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a key that is gone: %v", err)
	}
}

// So it is with what a workload access token claims, and with what a policy says.
func TestNoReplicaBelievesWhatAnotherRevoked(t *testing.T) {
	t.Parallel()
	here, there := newReplicas(t)
	caller := here.as(t, "agent", "ada")
	token, err := here.tokenFor(t, caller)
	if err != nil {
		t.Fatal(err)
	}
	open := func(want bool, when string) {
		t.Helper()
		if _, err := there.identity.Open(t.Context(), root, token); want != (err == nil) || err != nil && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("a workload access token %s: %v", when, err)
		}
	}
	open(true, "that was just made")
	ada := "ada"
	who := api.RevokeWorkloadTokensRequest{WorkloadName: "agent", User: &api.EndUser{UserId: &ada}}
	if _, err := here.identity.RevokeWorkloadTokens(t.Context(), root, &who); err != nil {
		t.Fatal(err)
	}
	open(false, "that was revoked")
	here.later(1000) // a microsecond
	if token, err = here.tokenFor(t, caller); err != nil {
		t.Fatal(err)
	}
	open(true, "made after that")
	if _, err := here.identity.DeleteWorkloadIdentity(t.Context(), root, &api.DeleteWorkloadIdentityRequest{Name: "agent"}); err != nil {
		t.Fatal(err)
	}
	open(false, "of a workload that was deleted")

	const user = "arn:aws:iam::" + account + ":user/eve"
	eve := principal.Caller{Kind: principal.Key, Account: account, ARN: user}
	checks := []gate.Check{{Action: "bedrock-agentcore:GetWorkloadAccessToken", Resource: api.WorkloadIdentityARN("us-east-1", account, "agent")}}
	engine := policy.New(here.db)
	decide := policy.New(there.db)
	for _, effect := range []string{"", "Allow", "Deny", "Allow", ""} {
		if err := here.db.Update(t.Context(), func(tx *store.Tx) error {
			if effect == "" {
				return engine.DeleteAll(tx, account, user)
			}
			return engine.Put(tx, account, user, "own", `{"Version":"2012-10-17","Statement":[{"Effect":"`+effect+`","Action":"*","Resource":"*"}]}`)
		}); err != nil {
			t.Fatal(err)
		}
		if err := decide.Decide(t.Context(), eve, checks); (err == nil) != (effect == "Allow") {
			t.Errorf("after the policy said %q: %v", effect, err)
		}
	}
}
