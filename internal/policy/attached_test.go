package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const (
	prefix    = "arn:aws:bedrock-agentcore:us-east-1:" + own + ":"
	directory = prefix + "workload-identity-directory/default"
	agent     = directory + "/workload-identity/agent"
	vault     = prefix + "token-vault/default"
	openai    = vault + "/apikeycredentialprovider/openai"
	github    = vault + "/oauth2credentialprovider/github"
	ada       = "arn:aws:iam::" + own + ":user/ada"
	agentRole = "arn:aws:iam::" + own + ":role/agent"

	tutorial = `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["bedrock-agentcore:GetResourceApiKey"], "Resource": "*"},
		{"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": ["arn:aws:secretsmanager:*:*:secret:bedrock-agentcore*"]}]}`
	onlyKeys = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"bedrock-agentcore:GetResourceApiKey","Resource":"*"}}`
)

func put(t *testing.T, db *store.DB, e *Engine, principal, name, document string) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *store.Tx) error { return e.Put(tx, own, principal, name, document) }); err != nil {
		t.Fatal(err)
	}
}

func deny(action, resource string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":%q,"Resource":%q}}`, action, resource)
}

// through is what a data-plane call touches.
func through(action, provider string) []Check {
	return []Check{{Action: action, Resource: directory}, {Action: action, Resource: agent}, {Action: action, Resource: vault}, {Action: action, Resource: provider}}
}

// TestOneAction: the policy with a single action allows that and nothing else.
func TestOneAction(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		e := New(db)
		put(t, db, e, ada, "keys", onlyKeys)
		if err := e.Decide(t.Context(), plain, through(getAPIKey, openai)); err != nil {
			t.Error(err)
		}
		for _, checks := range [][]Check{
			through(getOauth2Token, github),
			{{Action: create, Resource: gateway}},
			{{Action: "bedrock-agentcore:ListWorkloadIdentities", Resource: directory}},
			{{Action: "bedrock-agentcore:GetApiKeyCredentialProvider", Resource: openai}},
			{{Action: getSecretValue, Resource: Any}},
			{{Action: "onbehalf:ListGrants", Resource: vault}},
			{{Action: getAPIKey, Resource: openai}, {Action: create, Resource: gateway}}, // all of a call's checks
			{{Action: getAPIKey, Resource: strings.Replace(openai, own, foreign, 1)}},
		} {
			if err := e.Decide(t.Context(), plain, checks); !fault.Is(err, fault.Denied) {
				t.Errorf("%v: %v", checks, err)
			}
		}
		bob := plain
		bob.ARN = "arn:aws:iam::" + own + ":user/bob"
		if err := e.Decide(t.Context(), bob, through(getAPIKey, openai)); !fault.Is(err, fault.Denied) {
			t.Errorf("another user: %v", err)
		}
	})
}

// TestSecretBehind: the second statement of the tutorial is not needed, and a denial of it counts.
func TestSecretBehind(t *testing.T) {
	t.Parallel()
	secret := "arn:aws:secretsmanager:us-east-1:" + own + ":secret:bedrock-agentcore-identity!default/"
	for _, c := range []struct {
		name, denied string
		checks       []Check
		allowed      bool
	}{
		{"nothing denied", "", through(getAPIKey, openai), true},
		{"all secrets", "*", through(getAPIKey, openai), false},
		{"the tutorial's", "arn:aws:secretsmanager:*:*:secret:bedrock-agentcore*", through(getAPIKey, openai), false},
		{"by its name", secret + "apikey/openai-??????", through(getAPIKey, openai), false},
		{"by its suffix", secret + "apikey/openai-AbCdEf", through(getAPIKey, openai), false},
		{"another's", secret + "apikey/anthropic-*", through(getAPIKey, openai), true},
		{"one of the same beginning", secret + "apikey/openai-eu-*", through(getAPIKey, openai), true},
		{"a token's", secret + "oauth2/github-*", through(getOauth2Token, github), false},
		{"a key's, asking for a token", secret + "apikey/*", through(getOauth2Token, github), true},
		{"not what is done", "*", []Check{{Action: "bedrock-agentcore:GetApiKeyCredentialProvider", Resource: openai}}, true},
	} {
		db := storetest.Open(t)
		e := New(db)
		put(t, db, e, ada, "all", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"bedrock-agentcore:*","Resource":"*"}}`)
		if c.denied != "" {
			put(t, db, e, ada, "no-secrets", deny(getSecretValue, c.denied))
		}
		err := e.Decide(t.Context(), plain, c.checks)
		if c.allowed != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "perform: secretsmanager:GetSecretValue on resource: "+secret) || !strings.Contains(err.Error(), "explicit deny") || strings.ContainsRune(err.Error(), unknown)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestTheTutorialsPolicy is accepted as it stands.
func TestTheTutorialsPolicy(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	put(t, db, e, agentRole, "access", tutorial)
	session := role
	if err := e.Decide(t.Context(), session, through(getAPIKey, openai)); err != nil {
		t.Error(err)
	}
	err := e.Decide(t.Context(), session, through(getOauth2Token, github))
	if want := "User: arn:aws:sts::" + own + ":assumed-role/agent/1 is not authorized to perform: bedrock-agentcore:GetResourceOauth2Token on resource: " + directory; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	session.ARN = "arn:aws:sts::" + own + ":assumed-role/other/agent"
	if err := e.Decide(t.Context(), session, through(getAPIKey, openai)); !fault.Is(err, fault.Denied) {
		t.Errorf("another role's session: %v", err)
	}
}

// TestKeptToItsProviders: a call touches workload, vault and provider, so each can be named.
func TestKeptToItsProviders(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	put(t, db, e, ada, "agent", fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"bedrock-agentcore:GetResource*","Resource":[%q,%q,%q,%q]}}`, directory, agent, vault, openai))
	if err := e.Decide(t.Context(), plain, through(getAPIKey, openai)); err != nil {
		t.Error(err)
	}
	err := e.Decide(t.Context(), plain, through(getOauth2Token, github))
	if err == nil || !strings.Contains(err.Error(), "on resource: "+github+" because no identity-based policy allows") {
		t.Errorf("another provider: %v", err)
	}
	if err := e.Decide(t.Context(), plain, []Check{{Action: getAPIKey, Resource: directory + "/workload-identity/other"}, {Action: getAPIKey, Resource: vault}, {Action: getAPIKey, Resource: openai}}); err == nil {
		t.Error("another workload")
	}
}

// TestChangesCount: at once in this process, within a second beside it.
func TestChangesCount(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		at := time.Now()
		o.Now = func() time.Time { return at }
		db, beside := storetest.OpenWith(t, o), storetest.OpenWith(t, o)
		e, other := New(db), New(beside)
		may := func(e *Engine) bool { return e.Decide(t.Context(), plain, through(getAPIKey, openai)) == nil }
		if may(e) || may(other) {
			t.Fatal("allowed without a policy")
		}
		put(t, db, e, ada, "keys", onlyKeys)
		if !may(e) {
			t.Error("not allowed at once")
		}
		at = at.Add(time.Second)
		if !may(other) {
			t.Error("not allowed after a second, beside it")
		}
		put(t, db, e, ada, "keys", deny(getAPIKey, "*"))
		if may(e) {
			t.Error("still allowed after the policy was replaced")
		}
		at = at.Add(time.Second)
		if may(other) {
			t.Error("still allowed beside it")
		}
		if err := db.Update(t.Context(), func(tx *store.Tx) error { return e.Delete(tx, own, ada, "keys") }); err != nil {
			t.Fatal(err)
		}
		err := db.Update(t.Context(), func(tx *store.Tx) error { return e.Delete(tx, own, ada, "keys") })
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("deleted twice: %v", err)
		}
	})
}

func TestPutRefuses(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	for name, c := range map[string]struct {
		principal, name, document string
		kind                      fault.Kind
	}{
		"another account":  {"arn:aws:iam::" + foreign + ":user/ada", "p", onlyKeys, fault.Denied},
		"the root":         {rootARN, "p", onlyKeys, fault.Invalid},
		"a gateway":        {gateway, "p", onlyKeys, fault.Invalid},
		"a session":        {"arn:aws:sts::" + own + ":assumed-role/agent/1", "p", onlyKeys, fault.Invalid},
		"a path":           {"arn:aws:iam::" + own + ":user/a/b", "p", onlyKeys, fault.Invalid},
		"no ARN":           {"ada", "p", onlyKeys, fault.Invalid},
		"no name":          {ada, "", onlyKeys, fault.Invalid},
		"a name with a /":  {ada, "a/b", onlyKeys, fault.Invalid},
		"a wrong document": {ada, "p", `{"Version":"2012-10-17"}`, fault.Invalid},
	} {
		err := db.Update(t.Context(), func(tx *store.Tx) error { return e.Put(tx, own, c.principal, c.name, c.document) })
		if !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range maxPolicies {
		put(t, db, e, ada, fmt.Sprint("p", n), onlyKeys)
	}
	if err := db.Update(t.Context(), func(tx *store.Tx) error { return e.Put(tx, own, ada, "more", onlyKeys) }); !fault.Is(err, fault.QuotaExceeded) {
		t.Errorf("one too many: %v", err)
	}
	put(t, db, e, ada, "p0", tutorial) // replacing one is no addition
	err := db.View(t.Context(), func(tx *store.Tx) error {
		list, err := e.List(tx, own, "")
		if err != nil || len(list) != maxPolicies || list[0].Name != "p0" || list[0].Document != tutorial {
			t.Errorf("%d policies, %v", len(list), err)
		}
		if list, err := e.List(tx, foreign, ada); err != nil || len(list) != 0 {
			t.Errorf("of another account: %v, %v", list, err)
		}
		if _, err := e.Get(tx, foreign, ada, "p0"); !fault.Is(err, fault.NotFound) {
			t.Errorf("from another account: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestUnreadableDocument: it might be a Deny, so nothing is allowed beside it.
func TestUnreadableDocument(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	put(t, db, e, ada, "keys", onlyKeys)
	put(t, db, e, ada, "old", onlyKeys)
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE principal_policies SET document = '{"Version":"2000-01-01"}' WHERE name = 'old'`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := e.Decide(t.Context(), plain, through(getAPIKey, openai)); !fault.Is(err, fault.Internal) {
		t.Errorf("%v", err)
	}
}

// TestContextKeys: what a condition sees of a real caller.
func TestContextKeys(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	caller := plain
	caller.Request = principal.Request{Address: netip.MustParseAddr("::ffff:10.1.2.3"), Secure: true, Region: "us-east-1"}
	session := role
	session.Request = caller.Request
	for n, c := range []struct {
		caller    principal.Caller
		condition string
		want      bool
	}{
		{caller, `{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`, true},
		{caller, `{"IpAddress":{"aws:SourceIp":"10.2.0.0/16"}}`, false},
		{plain, `{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`, true},
		{caller, `{"Bool":{"aws:SecureTransport":"true"}}`, true},
		{plain, `{"Bool":{"aws:SecureTransport":"true"}}`, false},
		{caller, `{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`, false},
		{caller, `{"BoolIfExists":{"aws:MultiFactorAuthPresent":"true"}}`, false},
		{caller, `{"Null":{"aws:MultiFactorAuthAge":"true"}}`, true},
		{caller, `{"StringEquals":{"aws:RequestedRegion":"us-east-1"}}`, true},
		{plain, `{"StringEquals":{"aws:RequestedRegion":"us-east-1"}}`, true},
		{caller, `{"StringEquals":{"aws:PrincipalAccount":"` + own + `","aws:PrincipalType":"User","aws:username":"ada","aws:ResourceAccount":"` + own + `"}}`, true},
		{caller, `{"ArnEquals":{"aws:PrincipalArn":"` + ada + `"}}`, true},
		{session, `{"ArnEquals":{"aws:PrincipalArn":"` + agentRole + `"},"StringEquals":{"aws:PrincipalType":"AssumedRole"},"Null":{"aws:username":"true"}}`, true},
		{caller, `{"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z","aws:EpochTime":"2020-01-01T00:00:00Z"},"NumericGreaterThan":{"aws:EpochTime":"1500000000"}}`, true},
		{caller, `{"DateLessThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}`, false},
	} {
		document := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + c.condition + `}}`
		put(t, db, e, identityARN(c.caller), "p", document)
		if err := e.Decide(t.Context(), c.caller, []Check{{Action: create, Resource: gateway}}); c.want != (err == nil) {
			t.Errorf("%d %s: %v", n, c.condition, err)
		}
	}
}

func BenchmarkDecideDocuments(b *testing.B) {
	db := storetest.Open(b)
	e := New(db)
	if err := db.Update(b.Context(), func(tx *store.Tx) error { return e.Put(tx, own, ada, "access", tutorial) }); err != nil {
		b.Fatal(err)
	}
	checks := through(getAPIKey, openai)
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Decide(b.Context(), plain, checks); err != nil {
			b.Fatal(err)
		}
	}
}
