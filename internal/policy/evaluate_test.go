package policy

import (
	"fmt"
	"testing"
)

// TestConditions: operators against AWS's documented outcomes. The request's
// values are given by key; an absent key has none.
func TestConditions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		operator string
		key      string
		policy   string // JSON
		request  []string
		want     bool
	}{
		{"StringEquals", "aws:username", `"ada"`, []string{"ada"}, true},
		{"StringEquals", "AWS:USERNAME", `"ada"`, []string{"ada"}, true}, // names of keys are not case-sensitive
		{"StringEquals", "aws:username", `"ada"`, []string{"Ada"}, false},
		{"StringEquals", "aws:username", `"a*"`, []string{"ada"}, false},
		{"StringEquals", "aws:username", `["bob","ada"]`, []string{"ada"}, true}, // values are alternatives
		{"StringEquals", "aws:username", `"ada"`, nil, false},
		{"StringEqualsIfExists", "aws:username", `"ada"`, nil, true},
		{"StringEqualsIfExists", "aws:username", `"ada"`, []string{"bob"}, false},
		{"StringNotEquals", "aws:username", `"ada"`, []string{"bob"}, true},
		{"StringNotEquals", "aws:username", `["bob","ada"]`, []string{"bob"}, false}, // negated: none of them
		{"StringNotEquals", "aws:username", `"ada"`, nil, true},                      // absent: it does not match
		{"StringEqualsIgnoreCase", "aws:username", `"ADA"`, []string{"ada"}, true},
		{"StringNotEqualsIgnoreCase", "aws:username", `"ADA"`, []string{"ada"}, false},
		{"StringLike", "aws:username", `"a?a*"`, []string{"ada-2"}, true},
		{"StringNotLike", "aws:username", `"a*"`, []string{"bob"}, true},
		{"StringNotLike", "aws:username", `"a*"`, nil, true},
		{"ForAllValues:StringEquals", "aws:username", `["a","b"]`, []string{"a", "b"}, true},
		{"ForAllValues:StringEquals", "aws:username", `["a","b"]`, []string{"a", "c"}, false},
		{"ForAllValues:StringEquals", "aws:username", `["a","b"]`, nil, true}, // AWS: also true for an empty set
		{"ForAllValues:StringNotEquals", "aws:username", `["a","b"]`, []string{"c", "d"}, true},
		{"ForAllValues:StringNotEquals", "aws:username", `["a","b"]`, []string{"c", "a"}, false},
		{"ForAnyValue:StringEquals", "aws:username", `["a","b"]`, []string{"c", "a"}, true},
		{"ForAnyValue:StringEquals", "aws:username", `["a","b"]`, []string{"c"}, false},
		{"ForAnyValue:StringEquals", "aws:username", `["a","b"]`, nil, false},
		{"ForAnyValue:StringEqualsIfExists", "aws:username", `["a","b"]`, nil, true},
		{"ForAnyValue:StringNotEquals", "aws:username", `["a","b"]`, []string{"a", "c"}, true},
		{"ForAnyValue:StringNotEquals", "aws:username", `["a","b"]`, []string{"a"}, false},
		{"StringEquals", "aws:username", `"a"`, []string{"a", "c"}, true},
		{"StringNotEquals", "aws:username", `"a"`, []string{"a", "c"}, false},
		{"ArnLike", "aws:PrincipalArn", `"arn:aws:iam::*:user/a*"`, []string{"arn:aws:iam::1:user/ada"}, true},
		{"ArnEquals", "aws:PrincipalArn", `"arn:aws:iam::*:user/a*"`, []string{"arn:aws:iam::1:user/ada"}, true}, // the same as ArnLike
		{"ArnLike", "aws:PrincipalArn", `"arn:aws:iam::*:ada"`, []string{"arn:aws:iam::1:x:ada"}, false},
		{"ArnLike", "aws:PrincipalArn", `"*"`, []string{"ada"}, false},
		{"ArnNotLike", "aws:PrincipalArn", `"arn:aws:iam::*:user/a*"`, []string{"arn:aws:iam::1:user/ada"}, false},
		{"ArnNotEquals", "aws:PrincipalArn", `"arn:aws:iam::*:user/a*"`, nil, true},
		{"Bool", "aws:SecureTransport", `"true"`, []string{"true"}, true},
		{"Bool", "aws:SecureTransport", `true`, []string{"TRUE"}, true},
		{"Bool", "aws:SecureTransport", `"false"`, []string{"true"}, false},
		{"Bool", "aws:SecureTransport", `"false"`, nil, false},
		{"BoolIfExists", "aws:SecureTransport", `"false"`, nil, true},
		{"NumericEquals", "aws:EpochTime", `"10"`, []string{"10.0"}, true},
		{"NumericNotEquals", "aws:EpochTime", `10`, []string{"11"}, true},
		{"NumericLessThan", "aws:EpochTime", `10`, []string{"9.5"}, true},
		{"NumericLessThan", "aws:EpochTime", `10`, []string{"10"}, false},
		{"NumericLessThanEquals", "aws:EpochTime", `10`, []string{"10"}, true},
		{"NumericGreaterThan", "aws:EpochTime", `-1`, []string{"0"}, true},
		{"NumericGreaterThanEquals", "aws:EpochTime", `10`, []string{"9"}, false},
		{"NumericLessThan", "aws:EpochTime", `10`, []string{"ada"}, false},
		{"DateEquals", "aws:CurrentTime", `"2026-01-31T12:00:00Z"`, []string{"2026-01-31T13:00:00+01:00"}, true},
		{"DateNotEquals", "aws:CurrentTime", `"2026-01-31T12:00:00Z"`, []string{"2026-01-31T12:00:00Z"}, false},
		{"DateLessThan", "aws:CurrentTime", `"2026-02"`, []string{"2026-01-31T23:59:59Z"}, true},
		{"DateLessThanEquals", "aws:CurrentTime", `"2026"`, []string{"2026-01-01T00:00:00Z"}, true},
		{"DateGreaterThan", "aws:EpochTime", `"2026-01-01"`, []string{"1780000000"}, true},
		{"DateGreaterThan", "aws:CurrentTime", `"1780000000"`, []string{"2026-01-01T00:00:00Z"}, false},
		{"DateGreaterThanEquals", "aws:CurrentTime", `"2026-01-31T12:00Z"`, []string{"2026-01-31T12:00:00Z"}, true},
		{"IpAddress", "aws:SourceIp", `"203.0.113.0/24"`, []string{"203.0.113.9"}, true},
		{"IpAddress", "aws:SourceIp", `["10.0.0.0/8","203.0.113.9"]`, []string{"203.0.113.9"}, true},
		{"IpAddress", "aws:SourceIp", `"2001:db8::/32"`, []string{"2001:db8:1::1"}, true},
		{"IpAddress", "aws:SourceIp", `"10.0.0.0/8"`, []string{"::ffff:10.1.2.3"}, true},
		{"IpAddress", "aws:SourceIp", `"10.0.0.0/8"`, nil, false},
		{"NotIpAddress", "aws:SourceIp", `["10.0.0.0/8","192.168.0.0/16"]`, []string{"192.168.1.1"}, false},
		{"NotIpAddress", "aws:SourceIp", `["10.0.0.0/8","192.168.0.0/16"]`, []string{"203.0.113.9"}, true},
		{"NotIpAddress", "aws:SourceIp", `"10.0.0.0/8"`, nil, true},
		{"Null", "aws:SourceIp", `"true"`, nil, true},
		{"Null", "aws:SourceIp", `"true"`, []string{"1.2.3.4"}, false},
		{"Null", "aws:SourceIp", `false`, []string{"1.2.3.4"}, true},
		{"Null", "aws:SourceIp", `false`, nil, false},
		{"StringEquals", "aws:username", `"${aws:username}"`, []string{"a*"}, true},
		{"StringLike", "aws:username", `"${aws:username}"`, []string{"a*"}, true},
	} {
		document := fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{%q:{%q:%s}}}}`, c.operator, c.key, c.policy)
		d, err := Parse(document)
		if err != nil {
			t.Errorf("%s: %v", document, err)
			continue
		}
		got := evaluate([]Attached{{"p", d}}, "a:B", "*", func(string) []string { return c.request }).allowed
		if got != c.want {
			t.Errorf("%s %s %s of %q: %t", c.operator, c.key, c.policy, c.request, got)
		}
	}
}

// TestEvaluation: documents as a whole.
func TestEvaluation(t *testing.T) {
	t.Parallel()
	const (
		vault  = "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default"
		github = vault + "/oauth2credentialprovider/github"
		slack  = vault + "/oauth2credentialprovider/slack"
	)
	values := func(key string) []string {
		return map[string][]string{"aws:username": {"ada"}, "aws:sourceip": {"10.1.2.3"}}[key]
	}
	for name, c := range map[string]struct {
		statements string
		action     string
		resource   string
		want       string // allow, deny, none
	}{
		"nothing said":         {`{"Effect":"Allow","Action":"a:B","Resource":"*"}`, "a:C", github, "none"},
		"action in any case":   {`{"Effect":"Allow","Action":"BEDROCK-agentcore:getresource*","Resource":"*"}`, "bedrock-agentcore:GetResourceOauth2Token", github, "allow"},
		"? in an action":       {`{"Effect":"Allow","Action":"a:Get?","Resource":"*"}`, "a:Gets", github, "allow"},
		"* is one service's":   {`{"Effect":"Allow","Action":"a:*","Resource":"*"}`, "ab:C", github, "none"},
		"resource by case":     {`{"Effect":"Allow","Action":"*","Resource":"` + vault + `/oauth2credentialprovider/GitHub"}`, "a:B", github, "none"},
		"resource by wildcard": {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:bedrock-agentcore:*:*:token-vault/*/oauth2credentialprovider/git*"}`, "a:B", github, "allow"},
		"another resource":     {`{"Effect":"Allow","Action":"*","Resource":"` + github + `"}`, "a:B", slack, "none"},
		"an ARN is not *":      {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:bedrock-agentcore:*"}`, "a:B", "*", "none"},
		"deny wins":            {`[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"a:B","Resource":"` + github + `"}]`, "a:B", github, "deny"},
		"deny wins, first":     {`[{"Effect":"Deny","Action":"a:B","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]`, "a:B", github, "deny"},
		"deny of another":      {`[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"a:B","Resource":"` + slack + `"}]`, "a:B", github, "allow"},
		"NotAction":            {`{"Effect":"Allow","NotAction":["iam:*","a:Delete*"],"Resource":"*"}`, "a:Get", github, "allow"},
		"NotAction, named":     {`{"Effect":"Allow","NotAction":["iam:*","a:Delete*"],"Resource":"*"}`, "a:DeleteAll", github, "none"},
		"NotResource":          {`{"Effect":"Deny","Action":"*","NotResource":"` + github + `"}`, "a:B", slack, "deny"},
		"NotResource, named":   {`{"Effect":"Deny","Action":"*","NotResource":"` + github + `"}`, "a:B", github, "none"},
		"all conditions":       {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":"ada"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`, "a:B", github, "allow"},
		"one condition fails":  {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":"bob"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`, "a:B", github, "none"},
		"variable in resource": {`{"Effect":"Allow","Action":"*","Resource":"` + vault + `/oauth2credentialprovider/${aws:username}-*"}`, "a:B", vault + "/oauth2credentialprovider/ada-x", "allow"},
		"another's variable":   {`{"Effect":"Allow","Action":"*","Resource":"` + vault + `/oauth2credentialprovider/${aws:username}-*"}`, "a:B", vault + "/oauth2credentialprovider/bob-x", "none"},

		// AWS leaves this open; here a gap never allows.
		"no value, NotResource":     {`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:s3:::${aws:PrincipalType}"}`, "a:B", github, "none"},
		"no value, StringNotEquals": {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:username":"${aws:PrincipalType}"}}}`, "a:B", github, "none"},
		"no value, deny NotEquals":  {`[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:username":"${aws:PrincipalType}"}}}]`, "a:B", github, "deny"},
		"no value, with default":    {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":"${aws:PrincipalType, 'ada'}"}}}`, "a:B", github, "allow"},
	} {
		d, err := Parse(`{"Version":"2012-10-17","Statement":` + c.statements + `}`)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v := evaluate([]Attached{{"p", d}}, c.action, c.resource, values)
		got := map[bool]string{true: "allow"}[v.allowed] + map[bool]string{true: "deny"}[v.denied]
		if got == "" {
			got = "none"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	d, err := Parse(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["bedrock-agentcore:GetResource*","bedrock-agentcore:GetWorkloadAccessToken*"],"Resource":"arn:aws:bedrock-agentcore:us-east-1:*:*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}},
		{"Effect":"Deny","Action":"*","Resource":"arn:aws:bedrock-agentcore:*:*:token-vault/default/apikeycredentialprovider/prod-*"}]}`)
	if err != nil {
		b.Fatal(err)
	}
	set := []Attached{{"p", d}}
	values := func(string) []string { return []string{"10.1.2.3"} }
	b.ReportAllocs()
	for b.Loop() {
		if !evaluate(set, "bedrock-agentcore:GetResourceApiKey", "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/apikeycredentialprovider/openai", values).allowed {
			b.Fatal("denied")
		}
	}
}
