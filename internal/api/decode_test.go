package api

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const tokenBody = `{"workloadIdentityToken":"` + "eyJhbGciOi" + `","resourceCredentialProviderName":"google","scopes":["openid","https://www.googleapis.com/auth/userinfo.profile"],` +
	`"oauth2Flow":"USER_FEDERATION","resourceOauth2ReturnUrl":"http://localhost:9090/oauth2/callback","customParameters":{"access_type":"offline"},"forceAuthentication":false}`

func TestDecode(t *testing.T) {
	t.Parallel()
	var r GetResourceOauth2TokenRequest
	absent, err := Decode([]byte(tokenBody), &r)
	if err != nil || absent != nil {
		t.Fatal(err, absent)
	}
	if r.WorkloadIdentityToken.Reveal() != "eyJhbGciOi" || r.Oauth2Flow != Oauth2FlowTypeUserFederation || len(r.Scopes) != 2 || r.SessionUri != nil ||
		r.ForceAuthentication == nil || *r.ForceAuthentication || r.CustomParameters["access_type"].Reveal() != "offline" {
		t.Errorf("decoded %+v", r)
	}
}

// Unknown members are ignored, null is absent, names are compared exactly, the last of two counts, and white space is free.
func TestDecodeIsTolerantWhereAWSIs(t *testing.T) {
	t.Parallel()
	body := " {\n\"unknown\" : {\"deep\":[1,{\"a\":null},\"x\\u0041\"]} , \"NAME\":\"no\", \"name\":\"first\", \"name\":\"last\\n\\ud83d\\ude42\\/\", \"tags\":null,\t\"allowedResourceOauth2ReturnUrls\":[ ] }\r\n"
	var r CreateWorkloadIdentityRequest
	if absent, err := Decode([]byte(body), &r); err != nil || absent != nil {
		t.Fatal(err, absent)
	}
	if r.Name != "last\n🙂/" || r.Tags != nil || r.AllowedResourceOauth2ReturnUrls == nil || len(r.AllowedResourceOauth2ReturnUrls) != 0 {
		t.Errorf("decoded %+v", r)
	}
}

// Absence is told from the zero value, at any depth.
func TestDecodeNamesWhatIsAbsent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		request Request
		body    string
		want    []string
	}{
		{new(CreateWorkloadIdentityRequest), ``, []string{"name"}},
		{new(CreateWorkloadIdentityRequest), `{}`, []string{"name"}},
		{new(CreateWorkloadIdentityRequest), `{"name":null}`, []string{"name"}},
		{new(CreateWorkloadIdentityRequest), `{"name":""}`, nil},
		{new(CreateGatewayRequest), `{"name":"g","roleArn":"r","authorizerType":"NONE","interceptorConfigurations":[{"interceptor":{},"interceptionPoints":[],"inputConfiguration":{}}]}`,
			[]string{"interceptorConfigurations.1.member.inputConfiguration.passRequestHeaders"}},
		{new(CreateGatewayRequest), `{"name":"g","roleArn":"r","authorizerType":"NONE","interceptorConfigurations":[{"inputConfiguration":{"passRequestHeaders":false}}]}`, nil},
	} {
		fields, err := Decode([]byte(test.body), test.request)
		if err != nil {
			t.Errorf("%s: %v", test.body, err)
		}
		var got []string
		for _, field := range fields {
			got = append(got, field.Name)
			if want := "Value null at '" + field.Name + "' failed to satisfy constraint: Member must not be null"; field.Message != want {
				t.Errorf("message %q, want %q", field.Message, want)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: absent (-want +got)\n%s", test.body, diff)
		}
	}
}

// A member of the wrong type is named; what is no JSON at all is not blamed on a member.
func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, depthLimit+1) + "1" + strings.Repeat("}", depthLimit+1)
	for _, test := range []struct {
		request Request
		body    string
		field   string // empty: malformed
	}{
		{new(CreateWorkloadIdentityRequest), `{"name":5}`, "name"},
		{new(CreateWorkloadIdentityRequest), `{"name":["a"]}`, "name"},
		{new(CreateWorkloadIdentityRequest), `{"allowedResourceOauth2ReturnUrls":"http://a"}`, "allowedResourceOauth2ReturnUrls"},
		{new(CreateWorkloadIdentityRequest), `{"allowedResourceOauth2ReturnUrls":["http://a",null]}`, "allowedResourceOauth2ReturnUrls.2.member"},
		{new(CreateWorkloadIdentityRequest), `{"tags":{"color":1}}`, "tags.color.member"},
		{new(CreateWorkloadIdentityRequest), `[]`, "body"},
		{new(CreateWorkloadIdentityRequest), `"name"`, "body"},
		{new(CreateWorkloadIdentityRequest), `null`, "body"},
		{new(ListWorkloadIdentitiesRequest), `{"maxResults":"5"}`, "maxResults"},
		{new(ListWorkloadIdentitiesRequest), `{"maxResults":1.5}`, "maxResults"},
		{new(ListWorkloadIdentitiesRequest), `{"maxResults":4294967296}`, "maxResults"},
		{new(GetResourceOauth2TokenRequest), `{"forceAuthentication":"yes"}`, "forceAuthentication"},
		{new(CreateGatewayTargetRequest), `{"targetConfiguration":{"mcp":{"openApiSchema":"here"}}}`, "targetConfiguration.mcp.openApiSchema"},
		{new(CreateGatewayTargetRequest), `{"targetConfiguration":{"mcp":{"lambda":{"toolSchema":{"inlinePayload":[{"name":1}]}}}}}`, "targetConfiguration.mcp.lambda.toolSchema.inlinePayload.1.member.name"},
		{new(CreateWorkloadIdentityRequest), `{`, ""},
		{new(CreateWorkloadIdentityRequest), `{"name":"a"}}`, ""},
		{new(CreateWorkloadIdentityRequest), `{"name":"a"} {}`, ""},
		{new(CreateWorkloadIdentityRequest), `{"name":"a",}`, ""},
		{new(CreateWorkloadIdentityRequest), `{,"name":"a"}`, ""},
		{new(CreateWorkloadIdentityRequest), `{"name" "a"}`, ""},
		{new(CreateWorkloadIdentityRequest), `{"name":"a" "tags":{}}`, ""},
		{new(CreateWorkloadIdentityRequest), `{"name":}`, ""},
		{new(CreateWorkloadIdentityRequest), `{"name":tru}`, ""},
		{new(CreateWorkloadIdentityRequest), "{\"name\":\"a\nb\"}", ""},
		{new(CreateWorkloadIdentityRequest), "{\"name\":\"\xff\"}", ""},
		{new(CreateWorkloadIdentityRequest), `{"name":"\x"}`, ""},
		{new(CreateWorkloadIdentityRequest), `{"name":"\u12g4"}`, ""},
		{new(CreateWorkloadIdentityRequest), `{"other":01}`, ""},
		{new(CreateWorkloadIdentityRequest), "{\"name\":\"a\"}\x00", ""},
		{new(CreateWorkloadIdentityRequest), "\x00", ""},
		{new(CreateWorkloadIdentityRequest), deep, ""},
	} {
		_, err := Decode([]byte(test.body), test.request)
		var e *fault.Error
		if !errors.As(err, &e) || e.Kind != fault.Invalid || e.Reason != fault.ReasonCannotParse {
			t.Errorf("%.80s: %v, want an Invalid that cannot be parsed", test.body, err)
			continue
		}
		got := ""
		if len(e.Fields) > 0 {
			got = e.Fields[0].Name
		}
		if got != test.field {
			t.Errorf("%.80s: blamed on %q, want %q", test.body, got, test.field)
		}
	}
}

// Error texts repeat names, never values: they may be secrets.
func TestDecodeErrorsDoNotEcho(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"scopes":"canary-7f3a"}`, `{"workloadIdentityToken":"canary-7f3a`, `{"customParameters":["canary-7f3a"]}`} {
		if _, err := Decode([]byte(body), new(GetResourceOauth2TokenRequest)); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// What Decode takes is JSON, by encoding/json's judgement; and what is a JSON
// object, and no deeper than allowed, is skipped whole by a request without members.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{tokenBody, `{}`, `{"a":[1,-0.5e+7,true,null,"\u00e9\ud800"]}`, `{"scopes":[],"tags":{"":""}}`, `{"scopes":[["a"]]}`,
		`{"targetConfiguration":{"mcp":{"lambda":{"toolSchema":{"inlinePayload":[{"name":"a","inputSchema":{"type":"object","properties":{"p":{"type":"array","items":{}}}}}]}}}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		original := string(body)
		for _, request := range []Request{new(GetResourceOauth2TokenRequest), new(CreateGatewayTargetRequest), new(UpdateGatewayRuleRequest)} {
			if _, err := Decode(body, request); err == nil && !json.Valid(body) && strings.TrimSpace(original) != "" {
				t.Fatalf("%T took what is no JSON: %q", request, body)
			}
			request.Validate()
		}
		var object map[string]any
		if json.Unmarshal(body, &object) == nil && object != nil && strings.ToValidUTF8(original, "") == original && strings.Count(original, "{")+strings.Count(original, "[") < depthLimit {
			if _, err := Decode(body, new(ListGatewaysRequest)); err != nil {
				t.Fatalf("refused %q: %v", body, err)
			}
		}
		if string(body) != original {
			t.Fatal("the body was changed")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(strings.Replace(tokenBody, "eyJhbGciOi", strings.Repeat("eyJhbGciOi", 100), 1))
	b.ReportAllocs()
	for b.Loop() {
		var r GetResourceOauth2TokenRequest
		if _, err := Decode(body, &r); err != nil {
			b.Fatal(err)
		}
		if fields := r.Validate(); fields != nil {
			b.Fatal(fields)
		}
	}
}
