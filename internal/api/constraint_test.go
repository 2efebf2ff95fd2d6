package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const role = "arn:aws:iam::000000000000:role/gateway"

// Complaints are worded, and paths spelled, as AWS does it.
func TestConstraints(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		request Request
		body    string
		want    []string
	}{
		{"nothing to say", new(CreateWorkloadIdentityRequest), `{"name":"say.hello_1-2"}`, nil},
		{"too short", new(CreateWorkloadIdentityRequest), `{"name":"ab"}`,
			[]string{"Value 'ab' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 3"}},
		{"too long", new(CreateWorkloadIdentityRequest), `{"name":"` + strings.Repeat("a", 256) + `"}`,
			[]string{"Value '" + strings.Repeat("a", 256) + "' at 'name' failed to satisfy constraint: Member must have length less than or equal to 255"}},
		{"two at once", new(CreateWorkloadIdentityRequest), `{"name":"a b","tags":{"color":"` + strings.Repeat("x", 257) + `"}}`, []string{
			`Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [A-Za-z0-9_.-]+`,
			"Value '" + strings.Repeat("x", 257) + "' at 'tags.color.member' failed to satisfy constraint: Member must have length less than or equal to 256",
		}},
		{"a pattern is matched in full", new(CreateWorkloadIdentityRequest), `{"name":"good\n"}`,
			[]string{"Value 'good\n' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [A-Za-z0-9_.-]+"}},
		{"in a list", new(CreateWorkloadIdentityRequest), `{"name":"abc","allowedResourceOauth2ReturnUrls":["http://localhost","nope"]}`,
			[]string{`Value 'nope' at 'allowedResourceOauth2ReturnUrls.2.member' failed to satisfy constraint: Member must satisfy regular expression pattern: \w+:(\/?\/?)[^\s]+`}},
		{"a map's key", new(CreateWorkloadIdentityRequest), `{"name":"abc","tags":{"a#b":"1"}}`,
			[]string{`Value 'a#b' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z0-9\s._:/=+@-]*]`}},
		{"number too small", new(ListWorkloadIdentitiesRequest), `{"maxResults":0}`,
			[]string{"Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1"}},
		{"number too large", new(ListWorkloadIdentitiesRequest), `{"maxResults":21}`,
			[]string{"Value '21' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 20"}},
		{"not in the enum", new(CreateGatewayRequest), `{"name":"g","roleArn":"` + role + `","authorizerType":"MAYBE"}`,
			[]string{"Value 'MAYBE' at 'authorizerType' failed to satisfy constraint: Member must satisfy enum value set: [CUSTOM_JWT, AWS_IAM, NONE, AUTHENTICATE_ONLY]"}},
		{"a missing structure", new(CompleteResourceTokenAuthRequest), `{"sessionUri":"urn:ietf:params:oauth:request_uri:abc"}`,
			[]string{"Value null at 'userIdentifier' failed to satisfy constraint: Member must not be null"}},
		{"a missing list", new(GetResourceOauth2TokenRequest), `{"workloadIdentityToken":"t","resourceCredentialProviderName":"p","oauth2Flow":"M2M"}`,
			[]string{"Value null at 'scopes' failed to satisfy constraint: Member must not be null"}},
		{"an empty list is a list", new(GetResourceOauth2TokenRequest), `{"workloadIdentityToken":"t","resourceCredentialProviderName":"p","oauth2Flow":"M2M","scopes":[]}`, nil},
		{"nothing of a union", new(CompleteResourceTokenAuthRequest), `{"sessionUri":"urn:ietf:params:oauth:request_uri:abc","userIdentifier":{}}`,
			[]string{"Value at 'userIdentifier' failed to satisfy constraint: Member must have exactly one of its members set: [userId, userToken]"}},
		{"two of a union", new(CompleteResourceTokenAuthRequest), `{"sessionUri":"urn:ietf:params:oauth:request_uri:abc","userIdentifier":{"userId":"u","userToken":"a.b.c"}}`,
			[]string{"Value at 'userIdentifier' failed to satisfy constraint: Member must have exactly one of its members set: [userId, userToken]"}},
		{"a secret is not repeated", new(CompleteResourceTokenAuthRequest), `{"sessionUri":"urn:ietf:params:oauth:request_uri:abc","userIdentifier":{"userToken":"ca  na  ry"}}`,
			[]string{"Value at 'userIdentifier.userToken' failed to satisfy constraint: Member must satisfy regular expression pattern: [A-Za-z0-9-_=]+.[A-Za-z0-9-_=]+.[A-Za-z0-9-_=]+"}},
		{"in an overlaid constraint", new(CreateConsentPortalRequest), `{"name":"a portal","executionRoleArn":"` + role + `","idpConfig":{"credentialProviderArn":"arn","scopes":["openid"]},"sources":[]}`, []string{
			"Value 'a portal' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]{1,50}",
			"Value at 'sources' failed to satisfy constraint: Member must have length greater than or equal to 1",
		}},
	} {
		if _, err := Decode([]byte(test.body), test.request); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		var got []string
		for _, field := range test.request.Validate() {
			got = append(got, field.Message)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// A target deep in unions: the path has every step.
func TestConstraintDeepInTheRequest(t *testing.T) {
	t.Parallel()
	var r CreateGatewayTargetRequest
	body := `{"targetConfiguration":{"mcp":{"openApiSchema":{}}},"credentialProviderConfigurations":[{"credentialProviderType":"OAUTH","credentialProvider":{"oauthCredentialProvider":{"providerArn":"x","scopes":["` +
		strings.Repeat("s", 65) + `"]}}}]}`
	if _, err := Decode([]byte(body), &r); err != nil {
		t.Fatal(err)
	}
	r.GatewayIdentifier = "demo-0123456789"
	var names []string
	for _, field := range r.Validate() {
		names = append(names, field.Name)
	}
	want := []string{
		"credentialProviderConfigurations.1.member.credentialProvider.oauthCredentialProvider.providerArn",
		"credentialProviderConfigurations.1.member.credentialProvider.oauthCredentialProvider.scopes.1.member",
		"targetConfiguration.mcp.openApiSchema",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Lengths are in characters, not bytes.
func TestLengthsCountCharacters(t *testing.T) {
	t.Parallel()
	r := rule{least: 2, most: 3, bounded: true}
	for text, broken := range map[string]bool{"é": true, "éé": false, "ééé": false, "éééé": true, "🙂🙂🙂": false, "🙂": true, "": true, "abc": false, "abcd": true} {
		if got := r.brokenText(text); got != broken {
			t.Errorf("%q broken: %v, want %v", text, got, broken)
		}
	}
}

// What lies inside a structure that AWS marks sensitive is not repeated either, and a huge value only in part.
func TestEchoHasLimits(t *testing.T) {
	t.Parallel()
	var tool GetResourceOauth2TokenRequest
	tool.ResourceCredentialProviderName = strings.Repeat("x", 1<<20)
	tool.Scopes = make([]string, 100_000)
	fields := tool.Validate()
	if len(fields) != complaintLimit {
		t.Errorf("%d complaints, want the first %d", len(fields), complaintLimit)
	}
	for _, field := range fields {
		if len(field.Message) > 2*echoLimit {
			t.Errorf("a message of %d bytes", len(field.Message))
		}
	}
	c := checker{hidden: 1}
	c.text("name", "canary", &rule{most: 3, bounded: true})
	if strings.Contains(c.fields[0].Message, "canary") {
		t.Errorf("%s", c.fields[0].Message)
	}
}

func TestInvalidCountsErrors(t *testing.T) {
	t.Parallel()
	one, two := fault.Field{Name: "a", Message: "A"}, fault.Field{Name: "b", Message: "B"}
	if Invalid(nil) != nil {
		t.Error("no complaints are no error")
	}
	for want, fields := range map[string][]fault.Field{"1 validation error detected: A": {one}, "2 validation errors detected: A; B": {one, two}} {
		if got := fault.Of(Invalid(fields)); got.Message != want || got.Kind != fault.Invalid || len(got.Fields) != len(fields) {
			t.Errorf("%+v, want %q", got, want)
		}
	}
}

// The table that stands in for a regular expression agrees with it.
func TestCharTableAgreesWithTheRegexp(t *testing.T) {
	t.Parallel()
	table, least, ok := charTable(`[a-zA-Z0-9\-_]+`)
	if !ok || least != 1 {
		t.Fatal("a class repeated is not recognised")
	}
	slow := newMatcher(`(?:[a-zA-Z0-9\-_]+)(?:)`)
	for c := range 256 {
		if text := string([]byte{byte(c)}); table[c] != slow(text) && c < 0x80 {
			t.Errorf("byte %#x: table %v", c, table[c])
		}
	}
	for _, other := range []string{`[^a]+`, `a+b`, `[a-z]{2}`, `[é]+`, `.*`} {
		if _, _, ok := charTable(other); ok {
			t.Errorf("%s is no repeated ASCII class", other)
		}
	}
}

func Example_complaint() {
	r := CreateWorkloadIdentityRequest{Name: "a"}
	fmt.Println(fault.Of(Invalid(r.Validate())).Message)
	// Output: 1 validation error detected: Value 'a' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 3
}
