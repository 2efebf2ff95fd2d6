package policy

import (
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	e := New(db)
	put(t, db, e, ada, "access", `{"Version":"2012-10-17","Statement":[
		{"Sid":"Keys","Effect":"Allow","Action":"bedrock-agentcore:GetResource*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}},
		{"Effect":"Deny","Action":"*","Resource":"`+github+`"},
		{"Effect":"Deny","Action":"secretsmanager:*","Resource":"arn:aws:secretsmanager:*:*:secret:*/apikey/prod-*"}]}`)
	inside := map[string][]string{"aws:SourceIp": {"10.1.1.1"}}
	nobody := plain
	nobody.ARN = "arn:aws:iam::" + own + ":user/nobody"
	for name, c := range map[string]struct {
		caller  principal.Caller
		check   Check
		given   map[string][]string
		allowed bool
		reason  string
		steps   string
	}{
		"allowed":         {plain, Check{Action: getAPIKey, Resource: openai}, inside, true, "Allowed by statement 1 (Keys) of policy access.", "applies|is not about this resource|is not about this action"},
		"no address":      {plain, Check{Action: getAPIKey, Resource: openai}, nil, false, "No statement allows it, and what nothing allows is denied.", `condition IpAddress aws:sourceip ["10.0.0.0/8"] does not hold: the request has no aws:sourceip|is not about this resource|is not about this action`},
		"another address": {plain, Check{Action: getAPIKey, Resource: openai}, map[string][]string{"AWS:SOURCEIP": {"11.1.1.1"}}, false, "No statement allows it", `condition IpAddress aws:sourceip ["10.0.0.0/8"] does not hold|is not about this resource|is not about this action`},
		"denied":          {plain, Check{Action: getOauth2Token, Resource: github}, inside, false, "Explicitly denied by statement 2 of policy access.", "applies|applies|is not about this action"},
		"by the secret":   {plain, Check{Action: getAPIKey, Resource: vault + "/apikeycredentialprovider/prod-x"}, inside, false, "secretsmanager:GetSecretValue on the secret behind it is explicitly denied by statement 3", "applies|is not about this resource|is not about this action"},
		"another action":  {plain, Check{Action: create, Resource: gateway}, inside, false, "No statement allows it", "is not about this action|is not about this resource|is not about this action"},
		"no resource":     {plain, Check{Action: create, Resource: Any}, inside, false, "CreateGateway is asked for on gateway, not on this.", "is not about this action|is not about this resource|is not about this action"},
		"nor needed":      {nobody, Check{Action: "sts:GetCallerIdentity", Resource: Any}, nil, false, "what nothing allows is denied.", ""},
		"no policies":     {nobody, Check{Action: create, Resource: gateway}, nil, false, "user/nobody has no policies", ""},
		"root":            {root, Check{Action: create, Resource: gateway}, nil, true, "root key", ""},
		"beyond":          {root, Check{Action: create, Resource: beyond}, nil, false, "has no policy that would let another account in", ""},
		"a browser":       {browser, Check{Action: create, Resource: gateway}, nil, false, "neither a user nor a role", ""},
	} {
		got, err := e.Explain(t.Context(), c.caller, c.check, c.given)
		if err != nil {
			t.Fatal(err)
		}
		var results []string
		for _, step := range got.Steps {
			results = append(results, step.Result)
		}
		if got.Allowed != c.allowed || !strings.Contains(got.Reason, c.reason) || strings.Join(results, "|") != c.steps {
			t.Errorf("%s: %t, %s\n%s", name, got.Allowed, got.Reason, strings.Join(results, "|"))
		}
		if c.given == nil { // and it is what Decide says
			if err := e.Decide(t.Context(), c.caller, []Check{c.check}); (err == nil) != c.allowed {
				t.Errorf("%s: Decide says %v", name, err)
			}
		}
	}
	if _, err := e.Explain(t.Context(), plain, Check{Action: getAPIKey, Resource: openai}, map[string][]string{"aws:Nothing": {"x"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an unknown key: %v", err)
	}
}
