package policy

import (
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// TestParseRefuses: what is not known is named, not passed over.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":` + s + `}` }
	condition := func(s string) string {
		return statement(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + s + `}`)
	}
	for name, c := range map[string]struct{ document, complaint string }{
		"nothing":                {``, "not JSON"},
		"no JSON":                {`{`, "not JSON"},
		"an array":               {`[]`, "must be a JSON object"},
		"null":                   {`null`, "must be a JSON object"},
		"more behind it":         {statement(`{"Effect":"Allow","Action":"*","Resource":"*"}`) + `{}`, "goes on after its end"},
		"bad UTF-8":              {"{\"Id\":\"\xff\"}", "UTF-8"},
		"no statement":           {`{"Version":"2012-10-17"}`, "no Statement"},
		"empty statements":       {statement(`[]`), "at least one"},
		"statement of text":      {statement(`"x"`), "JSON object"},
		"another version":        {`{"Version":"2012-10-18","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, `"2012-10-18" is not known`},
		"version as a number":    {`{"Version":2012,"Statement":[]}`, "Version must be a string"},
		"version null":           {`{"Version":null,"Statement":[]}`, "Version must be a string"},
		"unknown element":        {`{"Version":"2012-10-17","Statements":[]}`, `"Statements" is not known`},
		"lower-case element":     {`{"version":"2012-10-17","Statement":[]}`, `"version" is not known`},
		"element twice":          {`{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}`, `"Version" twice`},
		"no effect":              {statement(`{"Action":"*","Resource":"*"}`), "Effect must be"},
		"lower-case effect":      {statement(`{"Effect":"allow","Action":"*","Resource":"*"}`), "Effect must be"},
		"effect twice":           {statement(`{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}`), `"Effect" twice`},
		"no action":              {statement(`{"Effect":"Allow","Resource":"*"}`), "Action or NotAction is missing"},
		"no resource":            {statement(`{"Effect":"Allow","Action":"*"}`), "Resource or NotResource is missing"},
		"empty actions":          {statement(`{"Effect":"Allow","Action":[],"Resource":"*"}`), "empty array"},
		"both actions":           {statement(`{"Effect":"Allow","Action":"*","NotAction":"a:B","Resource":"*"}`), "one of the two"},
		"both resources":         {statement(`{"Effect":"Allow","Action":"*","NotResource":"*","Resource":"*"}`), "one of the two"},
		"action without service": {statement(`{"Effect":"Allow","Action":"GetResourceApiKey","Resource":"*"}`), "service:Name"},
		"wild service":           {statement(`{"Effect":"Allow","Action":"bedrock*:Get*","Resource":"*"}`), "service:Name"},
		"empty action":           {statement(`{"Effect":"Allow","Action":"","Resource":"*"}`), "service:Name"},
		"action of a number":     {statement(`{"Effect":"Allow","Action":1,"Resource":"*"}`), "string or an array"},
		"action with a variable": {statement(`{"Effect":"Allow","Action":"a:${aws:username}","Resource":"*"}`), "service:Name"},
		"resource that is none":  {statement(`{"Effect":"Allow","Action":"*","Resource":"gateway/x"}`), "neither * nor an ARN"},
		"resource cut short":     {statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:bedrock-agentcore:us-east-1"}`), "neither * nor an ARN"},
		"wild service in ARN":    {statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:*:us-east-1:1:x"}`), "whose service is named"},
		"principal":              {statement(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`), "Principal belongs into a resource's policy"},
		"not-principal":          {statement(`{"Effect":"Allow","NotPrincipal":"*","Action":"*","Resource":"*"}`), "NotPrincipal belongs"},
		"unknown in statement":   {statement(`{"Effect":"Allow","Actions":"*","Resource":"*"}`), `"Actions" is not known`},
		"the second statement":   {statement(`[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"No","Action":"*","Resource":"*"}]`), "Statement 2:"},
		"bad Sid":                {statement(`{"Sid":"a b","Effect":"Allow","Action":"*","Resource":"*"}`), "letters and digits"},
		"Sid twice":              {statement(`[{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}]`), `Sid "a"`},
		"condition of text":      {condition(`"x"`), "JSON object"},
		"unknown operator":       {condition(`{"StringMatches":{"aws:username":"a"}}`), `"StringMatches" is not known`},
		"lower-case operator":    {condition(`{"stringequals":{"aws:username":"a"}}`), `is not known`},
		"binary operator":        {condition(`{"BinaryEquals":{"aws:username":"YQ=="}}`), `is not known`},
		"IfExists twice":         {condition(`{"StringEqualsIfExistsIfExists":{"aws:username":"a"}}`), `is not known`},
		"set of sets":            {condition(`{"ForAllValues:ForAnyValue:StringEquals":{"aws:username":"a"}}`), `is not known`},
		"NullIfExists":           {condition(`{"NullIfExists":{"aws:username":"true"}}`), "stands alone"},
		"two Nulls":              {condition(`{"Null":{"aws:username":["true","false"]}}`), "one value"},
		"unknown key":            {condition(`{"StringEquals":{"aws:SourceIP2":"a"}}`), `"aws:SourceIP2" is not one`},
		"key twice":              {condition(`{"StringEquals":{"aws:username":"a","AWS:UserName":"b"}}`), "stands twice"},
		"operator without keys":  {condition(`{"StringEquals":{}}`), "has no keys"},
		"key without values":     {condition(`{"StringEquals":{"aws:username":[]}}`), "empty array"},
		"value of null":          {condition(`{"StringEquals":{"aws:username":null}}`), "string or an array"},
		"no number":              {condition(`{"NumericEquals":{"aws:EpochTime":"0x10"}}`), "not a number"},
		"infinite number":        {condition(`{"NumericEquals":{"aws:EpochTime":"1e999"}}`), "not a number"},
		"no date":                {condition(`{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}`), "not a date"},
		"no bool":                {condition(`{"Bool":{"aws:SecureTransport":"yes"}}`), "neither true nor false"},
		"no address":             {condition(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}`), "neither an IP address"},
		"variable as an address": {condition(`{"IpAddress":{"aws:SourceIp":"${aws:SourceIp}"}}`), "neither an IP address"},
		"no ARN":                 {condition(`{"ArnLike":{"aws:PrincipalArn":"user/ada"}}`), "not an ARN"},
		"variable without end":   {condition(`{"StringLike":{"aws:username":"${aws:username"}}`), "does not end"},
		"unknown variable":       {condition(`{"StringLike":{"aws:username":"${aws:nobody}"}}`), `"aws:nobody" is not one`},
		"default unquoted":       {condition(`{"StringLike":{"aws:username":"${aws:username, x}"}}`), "single quotes"},
		"variable, old version":  {`{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username}"}}`, "Policy variables need"},
		"variable, no version":   {`{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username}"}}`, "Policy variables need"},
		"too long":               {statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::` + strings.Repeat("x", MaxDocument) + `"}`), "longer than"},
	} {
		d, err := Parse(c.document)
		if d != nil || !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, c.complaint) {
			t.Errorf("%s: %v, want %q", name, err, c.complaint)
		}
	}
}

// TestParseAccepts: documents as people find them in AWS's own pages.
func TestParseAccepts(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"the tutorial": `{"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Action": ["bedrock-agentcore:GetResourceApiKey"], "Resource": "*"},
			{"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": ["arn:aws:secretsmanager:*:*:secret:bedrock-agentcore*"]}]}`,
		"no version":     `{"Statement":{"Effect":"Deny","NotAction":"iam:*","NotResource":"arn:aws:s3:::a/*"}}`,
		"old version":    `{"Version":"2008-10-17","Id":"x","Statement":[{"Sid":"","Effect":"Allow","Action":"*","Resource":"*"}]}`,
		"cut short, *":   `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:*"}}`,
		"scalars":        `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true},"NumericLessThan":{"aws:EpochTime":4102444800}}}}`,
		"no conditions":  `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}}`,
		"variable, user": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::home/${aws:username}/${*}"}}`,
	} {
		if _, err := Parse(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse: no text makes the parser or the evaluation panic, and a parsed
// document that has a Deny of everything allows nothing.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"a:B*","NotResource":"arn:aws:s3:u?-*:1:x/${aws:username, 'y'}*","Condition":{"ForAllValues:StringLikeIfExists":{"aws:username":["a*","${*}"]},"ArnLike":{"aws:PrincipalArn":"arn:*:iam:*:*:user/*"},"Null":{"aws:SourceIp":false}}}]}`,
		`{"Statement":{"Effect":"Deny","NotAction":["*"],"Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"2026"},"NotIpAddress":{"aws:SourceIp":["10.0.0.0/8","::1"]},"NumericEquals":{"aws:EpochTime":1.5},"Bool":{"aws:SecureTransport":"TRUE"}}}}`,
		`{"Version":"2012-10-17","Version":""}`, `{`, ``,
	} {
		f.Add(seed, "a:Bc", "arn:aws:s3:us-1:1:x/y:z")
	}
	all, err := Parse(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*","`+own+`"],"Service":"x.amazonaws.com"},"Action":"bedrock-agentcore:*","Resource":"`+gateway+`"}]}`, InvokeGateway, gateway)
	f.Fuzz(func(t *testing.T, source, action, resource string) {
		for _, parse := range []func(string) (*Document, error){ParseTrust, func(source string) (*Document, error) { return ParseResource(source, gateway) }} {
			if d, err := parse(source); err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			} else if err == nil {
				values := (&request{caller: bearer, resource: gateway}).value
				if v, how := granted(Attached{"p", d}, asker{caller: bearer}, action, gateway, values); v.allowed && how != toAll {
					t.Errorf("somebody without an IAM identity was named: %d", how)
				}
			}
		}
		d, err := Parse(source)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			}
			return
		}
		values := (&request{caller: plain, resource: resource}).value
		v := evaluate([]Attached{{"p", d}}, action, resource, values)
		if v.allowed && v.denied {
			t.Error("allowed and denied")
		}
		if evaluate([]Attached{{"p", d}, {"all", all}}, action, resource, values).allowed {
			t.Error("allowed in spite of a Deny")
		}
	})
}
