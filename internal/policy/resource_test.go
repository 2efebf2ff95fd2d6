package policy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const getGateway = "bedrock-agentcore:GetGateway"

var (
	stranger     = principal.Caller{Kind: principal.Key, Account: foreign, ARN: "arn:aws:iam::" + foreign + ":user/eve", KeyID: "AKIE"}
	strangerRoot = principal.Caller{Kind: principal.Key, Account: foreign, ARN: "arn:aws:iam::" + foreign + ":root", KeyID: "AKIR", Root: true}
	strangerRole = principal.Caller{Kind: principal.Role, Account: foreign, ARN: "arn:aws:sts::" + foreign + ":assumed-role/agent/1"}
)

// said is a resource policy's statement: {"Effect":…,"Principal":…,"Action":…,"Resource":the gateway}.
func said(effect, principals, action string) string {
	element := "Principal"
	if rest, not := strings.CutPrefix(principals, "!"); not {
		element, principals = "NotPrincipal", rest
	}
	return fmt.Sprintf(`{"Effect":%q,%q:%s,"Action":%q,"Resource":%q}`, effect, element, principals, action, gateway)
}

// TestResourcePolicy: a gateway's policy beside what callers' own policies say.
func TestResourcePolicy(t *testing.T) {
	t.Parallel()
	all := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	for name, c := range map[string]struct {
		identity string // of the caller; empty for none
		caller   principal.Caller
		policy   string // statements; empty for none
		action   string
		want     string // part of the refusal; empty for yes
	}{
		"silent, none":            {"", plain, "", getGateway, "no identity-based policy"},
		"own policy, none":        {all, plain, "", getGateway, ""},
		"either allows":           {"", plain, said("Allow", `{"AWS":"`+ada+`"}`, getGateway), getGateway, ""},
		"another user":            {"", plain, said("Allow", `{"AWS":"`+ada+`x"}`, getGateway), getGateway, "no identity-based policy"},
		"another action":          {"", plain, said("Allow", `{"AWS":"`+ada+`"}`, getGateway), InvokeGateway, "no identity-based policy"},
		"everybody, own account":  {"", plain, said("Allow", `"*"`, getGateway), getGateway, ""},
		"the account, delegated":  {"", plain, said("Allow", `{"AWS":"`+own+`"}`, getGateway), getGateway, "no identity-based policy"},
		"a role, by its session":  {"", role, said("Allow", `{"AWS":"`+agentRole+`"}`, getGateway), getGateway, ""},
		"one session":             {"", role, said("Allow", `{"AWS":"`+role.ARN+`"}`, getGateway), getGateway, ""},
		"another session":         {"", role, said("Allow", `{"AWS":"`+role.ARN+`2"}`, getGateway), getGateway, "no identity-based policy"},
		"a user is no role":       {"", plain, said("Allow", `{"AWS":"`+agentRole+`"}`, getGateway), getGateway, "no identity-based policy"},
		"a service is nobody":     {"", plain, said("Allow", `{"Service":"lambda.amazonaws.com"}`, getGateway), getGateway, "no identity-based policy"},
		"its deny wins":           {all, plain, said("Deny", `{"AWS":"`+ada+`"}`, getGateway), getGateway, "explicit deny in a resource-based policy"},
		"its deny of the account": {all, plain, said("Deny", `{"AWS":"`+own+`"}`, "bedrock-agentcore:*"), getGateway, "explicit deny in a resource-based policy"},
		"own deny wins":           {deny(getGateway, "*"), plain, said("Allow", `{"AWS":"`+ada+`"}`, getGateway), getGateway, "explicit deny in an identity-based policy"},
		"deny all but her":        {all, plain, said("Deny", `!{"AWS":["`+ada+`","`+own+`"]}`, getGateway), getGateway, ""},
		"deny all but another":    {all, plain, said("Deny", `!{"AWS":["`+ada+`x","arn:aws:iam::`+own+`:root"]}`, getGateway), getGateway, "explicit deny in a resource-based policy"},
		"the root is not locked":  {"", root, said("Deny", `"*"`, "bedrock-agentcore:*"), getGateway, ""},

		"foreign, silent":                {all, stranger, said("Allow", `{"AWS":"`+ada+`"}`, getGateway), getGateway, "no resource-based policy"},
		"foreign, no policy":             {all, stranger, "", getGateway, "no resource-based policy"},
		"foreign, by name, own silent":   {"", stranger, said("Allow", `{"AWS":"`+stranger.ARN+`"}`, getGateway), getGateway, "no identity-based policy"},
		"foreign, by name, both":         {all, stranger, said("Allow", `{"AWS":"`+stranger.ARN+`"}`, getGateway), getGateway, ""},
		"foreign, by account, both":      {all, stranger, said("Allow", `{"AWS":"`+foreign+`"}`, getGateway), getGateway, ""},
		"foreign, by root ARN, both":     {all, stranger, said("Allow", `{"AWS":"arn:aws:iam::`+foreign+`:root"}`, getGateway), getGateway, ""},
		"foreign, everybody":             {all, stranger, said("Allow", `"*"`, getGateway), getGateway, "no resource-based policy"},
		"foreign root, everybody":        {"", strangerRoot, said("Allow", `{"AWS":"*"}`, "bedrock-agentcore:*"), getGateway, "no resource-based policy"},
		"foreign root, by account":       {"", strangerRoot, said("Allow", `{"AWS":"`+foreign+`"}`, getGateway), getGateway, ""},
		"foreign root, denied":           {"", strangerRoot, said("Allow", `{"AWS":"`+foreign+`"}`, getGateway) + "," + said("Deny", `"*"`, getGateway), getGateway, "explicit deny in a resource-based"},
		"foreign role, by its twin here": {all, strangerRole, said("Allow", `{"AWS":"`+agentRole+`"}`, getGateway), getGateway, "no resource-based policy"},

		"a gateway's user, no policy":  {"", bearer, "", InvokeGateway, ""},
		"a gateway's user, everybody":  {"", bearer, said("Allow", `"*"`, InvokeGateway), InvokeGateway, ""},
		"a gateway's user, silent":     {"", bearer, said("Allow", `{"AWS":"`+own+`"}`, InvokeGateway), InvokeGateway, "no resource-based policy"},
		"a gateway's user, denied":     {"", bearer, said("Allow", `"*"`, InvokeGateway) + "," + said("Deny", `"*"`, "*"), InvokeGateway, "explicit deny in a resource-based policy"},
		"a gateway's user, management": {"", bearer, said("Allow", `"*"`, InvokeGateway), getGateway, "no identity-based policy"},
		"anybody, everybody":           {"", anyone, said("Allow", `"*"`, InvokeGateway), InvokeGateway, ""},
		"anybody, silent":              {"", anyone, said("Allow", `{"AWS":"`+own+`"}`, InvokeGateway), InvokeGateway, "no resource-based policy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := storetest.Open(t)
			e := New(db)
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				if c.identity != "" {
					if err := e.Put(tx, c.caller.Account, identityARN(c.caller), "own", c.identity); err != nil {
						return err
					}
				}
				if c.policy == "" {
					return nil
				}
				return e.PutResource(tx, own, gateway, `{"Version":"2012-10-17","Statement":[`+c.policy+`]}`)
			})
			if err != nil {
				t.Fatal(err)
			}
			check := Check{Action: c.action, Resource: gateway}
			err = e.Decide(t.Context(), c.caller, []Check{check})
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
			if c.caller.Kind != principal.Key && c.caller.Kind != principal.Role {
				return
			}
			explained, explainErr := e.Explain(t.Context(), c.caller, check, nil)
			if explainErr != nil || explained.Allowed != (err == nil) {
				t.Errorf("explain says %t (%s), and it is %v", explained.Allowed, explained.Reason, err)
			}
		})
	}
}

// TestManagementIsNotForEverybody: "*" gives a gateway's users InvokeGateway and nothing else.
func TestManagementIsNotForEverybody(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		return e.PutResource(tx, own, gateway, `{"Version":"2012-10-17","Statement":[`+said("Allow", `"*"`, "bedrock-agentcore:*")+`]}`)
	}); err != nil {
		t.Fatal(err)
	}
	for _, caller := range []principal.Caller{bearer, anyone, browser, {}, strangerRoot} {
		if err := e.Decide(t.Context(), caller, []Check{{Action: "bedrock-agentcore:DeleteGateway", Resource: gateway}}); !fault.Is(err, fault.Denied) {
			t.Errorf("%s %s may delete the gateway: %v", caller.Kind, caller.ARN, err)
		}
	}
}

// TestForeignTagsAreNotTold: whom a gateway's policy does not let in hears the
// same whatever its tags are, also where a Deny of his own asks about them.
func TestForeignTagsAreNotTold(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	e.UseTags(func(context.Context, string) (map[string]string, error) { return map[string]string{"team": "red"}, nil })
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		for _, color := range []string{"red", "blue"} {
			if err := e.Put(tx, foreign, "arn:aws:iam::"+foreign+":user/"+color, "own", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
				{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"`+color+`"}}}]}`); err != nil {
				return err
			}
		}
		return e.PutResource(tx, own, gateway, `{"Version":"2012-10-17","Statement":[`+said("Allow", `{"AWS":"`+ada+`"}`, getGateway)+`]}`)
	}); err != nil {
		t.Fatal(err)
	}
	for _, color := range []string{"red", "blue"} {
		caller := stranger
		caller.ARN = "arn:aws:iam::" + foreign + ":user/" + color
		if err := e.Decide(t.Context(), caller, []Check{{Action: getGateway, Resource: gateway}}); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "no resource-based policy allows") {
			t.Errorf("%s: %v", color, err)
		}
	}
}

func TestResourcePolicyIsRefused(t *testing.T) {
	t.Parallel()
	statement := func(members string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` + members + `}]}`
	}
	const action = `"Action":"bedrock-agentcore:InvokeGateway"`
	at := `,"Resource":"` + gateway + `"`
	for name, c := range map[string]struct{ document, says string }{
		"no principal":              {statement(action + at), "Principal is missing"},
		"an empty principal":        {statement(`"Principal":{},` + action + at), "names nobody"},
		"both":                      {statement(`"Principal":"*","NotPrincipal":"*",` + action + at), "one of the two"},
		"allow all but":             {statement(`"NotPrincipal":{"AWS":"` + own + `"},` + action + at), "stands with Deny only"},
		"a word":                    {statement(`"Principal":"ada",` + action + at), `is "*" or an object`},
		"a wildcard in an ARN":      {statement(`"Principal":{"AWS":"arn:aws:iam::` + own + `:role/*"},` + action + at), "wildcards do not work"},
		"a federated user":          {statement(`"Principal":{"Federated":"accounts.google.com"},` + action + at), `the kind "Federated"`},
		"a canonical user":          {statement(`"Principal":{"CanonicalUser":"x"},` + action + at), `the kind "CanonicalUser"`},
		"a service elsewhere":       {statement(`"Principal":{"Service":"evil.example"},` + action + at), "Invalid principal"},
		"an ARN of no account":      {statement(`"Principal":{"AWS":"arn:aws:iam:::root"},` + action + at), "Invalid principal"},
		"every resource":            {statement(`"Principal":"*",` + action + `,"Resource":"*"`), "must be the ARN of the resource"},
		"another resource":          {statement(`"Principal":"*",` + action + `,"Resource":["` + gateway + `","` + other + `"]`), "must be the ARN of the resource"},
		"all but a resource":        {statement(`"Principal":"*",` + action + `,"NotResource":"` + other + `"`), "NotResource has no place"},
		"another service's action":  {statement(`"Principal":"*","Action":"s3:GetObject"` + at), "none that a gateway has"},
		"a provider's action":       {statement(`"Principal":"*","Action":"bedrock-agentcore:GetResourceApiKey"` + at), "none that a gateway has"},
		"a misspelt one among good": {statement(`"Principal":"*","Action":["bedrock-agentcore:InvokeGateway","bedrock-agentcore:InvokeGatway"]` + at), "InvokeGatway is none"},
		"an unknown condition key":  {statement(`"Principal":"*",` + action + at + `,"Condition":{"StringEquals":{"aws:SourceVpc":"vpc-1"}}`), "aws:SourceVpc"},
		"too long":                  {statement(`"Principal":"*",` + action + at + `,"Sid":"` + strings.Repeat("a", MaxResourcePolicy) + `"`), "longer than 20480"},
	} {
		if _, err := ParseResource(c.document, gateway); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(statement(`"Principal":"*",` + action + at)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a principal in an identity-based policy: %v", err)
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	e := New(storetest.Open(t))
	trust := func(principals, condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":` + principals + `,"Action":"sts:AssumeRole"` + condition + `}]}`
	}
	service := `{"Service":"` + Service + `"}`
	for name, c := range map[string]struct {
		document string
		want     bool
	}{
		"the default":       {DefaultTrust, true},
		"the tutorial's":    {trust(service, `,"Condition":{"StringEquals":{"aws:SourceAccount":"`+own+`"},"ArnLike":{"aws:SourceArn":"arn:aws:bedrock-agentcore:us-east-1:`+own+`:*"}}`), true},
		"a service's call":  {trust(`"*"`, `,"Condition":{"Bool":{"aws:PrincipalIsAWSService":"true","aws:SecureTransport":"true"}}`), true},
		"another account":   {trust(service, `,"Condition":{"StringEquals":{"aws:SourceAccount":"`+foreign+`"}}`), false},
		"another service":   {trust(`{"Service":"lambda.amazonaws.com"}`, ""), false},
		"several":           {trust(`{"Service":["lambda.amazonaws.com","`+Service+`"]}`, ""), true},
		"an account":        {trust(`{"AWS":"`+own+`"}`, ""), false},
		"nothing about it":  {strings.Replace(DefaultTrust, "AssumeRole", "TagSession", 1), false},
		"explicitly denied": {strings.Replace(DefaultTrust, `"Statement":[`, `"Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:*"},`, 1), false},
	} {
		got, err := e.Trusts(c.document, own, gateway)
		if err != nil || got != c.want {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
	if _, err := ParseTrust(strings.Replace(DefaultTrust, `"Action"`, `"Resource":"*","Action"`, 1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a resource in a trust policy: %v", err)
	}
}

// TestTagConditions: on the tags of what is touched, and of what is asked for.
func TestTagConditions(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	broken := errors.New("the tags cannot be read")
	tags := map[string]string{"Team": "red"}
	var problem error
	e.UseTags(func(_ context.Context, arn string) (map[string]string, error) {
		if arn != gateway {
			return nil, nil
		}
		return tags, problem
	})
	put(t, db, e, ada, "red", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"red"}}}}`)
	for resource, want := range map[string]bool{gateway: true, other: false} {
		if err := e.Decide(t.Context(), plain, []Check{{Action: getGateway, Resource: resource}}); (err == nil) != want {
			t.Errorf("%s: %v", resource, err)
		}
	}
	problem = broken
	if err := e.Decide(t.Context(), plain, []Check{{Action: getGateway, Resource: gateway}}); !errors.Is(err, broken) {
		t.Errorf("tags that cannot be read: %v", err)
	}

	bob := plain
	bob.ARN = "arn:aws:iam::" + own + ":user/bob"
	put(t, db, e, bob.ARN, "own", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/owner":"${aws:username}"},"ForAllValues:StringEquals":{"aws:TagKeys":["owner"]}}}}`)
	for values, want := range map[[2]string]bool{{"owner", "bob"}: true, {"owner", "ada"}: false, {"team", "bob"}: false} {
		check := Check{Action: create, Resource: prefix + "gateway/*", Values: map[string][]string{KeyRequestTag + values[0]: {values[1]}, KeyTagKeys: {values[0]}}}
		if err := e.Decide(t.Context(), bob, []Check{check}); (err == nil) != want {
			t.Errorf("%v: %v", values, err)
		}
	}
}

// Gateways, runtimes and runtimes' endpoints have policies, and nothing else has.
func TestWhatMayHaveAPolicy(t *testing.T) {
	t.Parallel()
	const prefix = "arn:aws:bedrock-agentcore:us-east-1:" + own + ":"
	for resource, want := range map[string]bool{
		prefix + "gateway/demo-0123456789":                                true,
		prefix + "runtime/clerk-0123456789":                               true,
		prefix + "runtime/clerk-0123456789/runtime-endpoint/DEFAULT":      true,
		prefix + "runtime/*":                                              false,
		prefix + "runtime/":                                               false,
		prefix + "runtime/clerk-0123456789/runtime-endpoint/*":            false,
		prefix + "runtime/clerk-0123456789/runtime-endpoint/":             false,
		prefix + "runtime//runtime-endpoint/DEFAULT":                      false,
		prefix + "gateway/demo-0123456789/runtime-endpoint/DEFAULT":       false,
		prefix + "runtime/clerk-0123456789/runtime-endpoint/DEFAULT/more": false,
		prefix + "token-vault/default":                                    false,
		"arn:aws:iam::" + own + ":runtime/clerk-0123456789":               false,
	} {
		arn, err := api.ParseARN(resource)
		if err != nil {
			t.Fatal(err)
		}
		if got := HasPolicy(arn); got != want {
			t.Errorf("%s: %v, want %v", resource, got, want)
		}
	}
	const endpoint = prefix + "runtime/clerk-0123456789/runtime-endpoint/DEFAULT"
	for action, want := range map[string]bool{
		invokeAgent: true, "bedrock-agentcore:GetResourcePolicy": true, "bedrock-agentcore:*": true, "bedrock-agentcore:TagResource": true,
		InvokeGateway: false, "bedrock-agentcore:DeleteAgentRuntime": false,
	} {
		_, err := ParseResource(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"`+action+`","Resource":"`+endpoint+`"}]}`, endpoint)
		if (err == nil) != want {
			t.Errorf("%s in an endpoint's policy: %v, want it taken: %v", action, err, want)
		}
	}
}

// TestConditionsOnCallsOfAgents: the claims of a token that was verified, and the
// user whom a signed caller names, can be asked about.
func TestConditionsOnCallsOfAgents(t *testing.T) {
	t.Parallel()
	const runtime = "arn:aws:bedrock-agentcore:us-east-1:" + own + ":runtime/agent-0123456789"
	const invoke, forUser = "bedrock-agentcore:InvokeAgentRuntime", "bedrock-agentcore:InvokeAgentRuntimeForUser"
	token := func(claims string) secret.Text {
		return secret.New("x." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".x")
	}
	of := func(claims string) principal.Caller {
		return principal.Caller{Kind: principal.Bearer, Account: own, Authorizer: runtime, User: principal.User{Issuer: "https://idp", Subject: "ada"}, UserToken: token(claims)}
	}
	named := plain
	named.User = principal.User{ID: "ada"}
	const anybody, her = `"Principal":"*"`, `"Principal":{"AWS":"` + ada + `"}`
	for name, c := range map[string]struct {
		caller         principal.Caller
		policy, action string
		allowed        bool
	}{
		"a claim that is there": {caller: of(`{"sub":"ada","scope":"read write"}`), action: invoke, allowed: true,
			policy: `{"Effect":"Allow",` + anybody + `,"Action":"` + invoke + `","Resource":"` + runtime + `","Condition":{"StringEquals":{"bedrock-agentcore:InboundJwtClaim/sub":"ada"},"ForAnyValue:StringEquals":{"bedrock-agentcore:InboundJwtClaim/scope":"write"}}}`},
		"another's claim": {caller: of(`{"sub":"bob"}`), action: invoke,
			policy: `{"Effect":"Allow",` + anybody + `,"Action":"` + invoke + `","Resource":"` + runtime + `","Condition":{"StringEquals":{"bedrock-agentcore:InboundJwtClaim/sub":"ada"}}}`},
		"no claim": {caller: of(`{}`), action: invoke,
			policy: `{"Effect":"Allow",` + anybody + `,"Action":"` + invoke + `","Resource":"` + runtime + `","Condition":{"StringEquals":{"bedrock-agentcore:InboundJwtClaim/sub":"ada"}}}`},
		"a token of a client, which names nobody": {caller: principal.Caller{Kind: principal.Bearer, Account: own, Authorizer: runtime}, action: invoke,
			policy: `{"Effect":"Allow",` + anybody + `,"Action":"` + invoke + `","Resource":"` + runtime + `","Condition":{"StringEquals":{"bedrock-agentcore:InboundJwtClaim/sub":"ada"}}}`},
		"the user who is named": {caller: named, action: forUser, allowed: true,
			policy: `{"Effect":"Allow",` + her + `,"Action":"` + forUser + `","Resource":"` + runtime + `","Condition":{"StringEquals":{"bedrock-agentcore:userid":"ada"}}}`},
		"another user": {caller: named, action: forUser,
			policy: `{"Effect":"Allow",` + her + `,"Action":"` + forUser + `","Resource":"` + runtime + `","Condition":{"StringEquals":{"bedrock-agentcore:userid":"bob"}}}`},
		"a claim of nobody's": {caller: named, action: forUser,
			policy: `{"Effect":"Allow",` + her + `,"Action":"` + forUser + `","Resource":"` + runtime + `","Condition":{"StringLike":{"bedrock-agentcore:InboundJwtClaim/sub":"*"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := storetest.Open(t)
			e := New(db)
			if err := db.Update(t.Context(), func(tx *store.Tx) error {
				return e.PutResource(tx, own, runtime, `{"Version":"2012-10-17","Statement":[`+c.policy+`]}`)
			}); err != nil {
				t.Fatal(err)
			}
			err := e.Decide(t.Context(), c.caller, []Check{{Action: c.action, Resource: runtime}})
			if (err == nil) != c.allowed || err != nil && !fault.Is(err, fault.Denied) {
				t.Error(err)
			}
		})
	}
}
