package api

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/secret"
)

func TestAppendString(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"", `""`},
		{"plain", `"plain"`},
		{`quote " and \ backslash`, `"quote \" and \\ backslash"`},
		{"line\nreturn\rtab\t", `"line\nreturn\rtab\t"`},
		{"\x00\x1f", `"\u0000\u001f"`},
		{"\x7f", "\"\x7f\""},
		{"Käse 世界 🙂", `"Käse 世界 🙂"`},
		{"a\u2028b\u2029c", `"a\u2028b\u2029c"`},
		{"bad\xff\xfebytes\xe2\x80", "\"bad\ufffd\ufffdbytes\ufffd\ufffd\""},
		{"<&>", `"<&>"`},
	} {
		if got := string(appendString(nil, test.text)); got != test.want {
			t.Errorf("%q is written %s, want %s", test.text, got, test.want)
		}
	}
}

// Whatever bytes a string has, what is written is valid UTF-8 and JSON, and reads back as encoding/json would have it.
func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "a", "\xff", "\u2028", "\"\\\n\x00", "\xed\xa0\x80", strings.Repeat("é", 40)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		written := appendString(nil, text)
		var got, want string
		if err := json.Unmarshal(written, &got); err != nil || !utf8.Valid(written) {
			t.Fatalf("%q: %v", written, err)
		}
		theirs, _ := json.Marshal(text)
		_ = json.Unmarshal(theirs, &want)
		if got != want {
			t.Errorf("%q reads back as %q, want %q", text, got, want)
		}
	})
}

func TestAppendDouble(t *testing.T) {
	t.Parallel()
	for number, want := range map[float64]string{0: "0", 1: "1", 0.5: "0.5", 1e21: "1e+21", 1e-7: "1e-07", 1e20: "100000000000000000000", -2.25: "-2.25"} {
		got := string(appendDouble(nil, number))
		var back float64
		if err := json.Unmarshal([]byte(got), &back); got != want || err != nil || back != number {
			t.Errorf("%v is written %s, want %s (%v)", number, got, want, err)
		}
	}
	if got := string(appendDouble(nil, math.NaN())); got != "null" {
		t.Errorf("NaN is written %s: a body must stay valid", got)
	}
}

// Absent members are left out, never null; required lists are there even when
// empty; maps have one order; secrets are in clear here and nowhere else.
func TestAppendJSONOfAbsentAndEmpty(t *testing.T) {
	t.Parallel()
	token := "pages"
	for _, test := range []struct {
		name string
		v    interface{ AppendJSON([]byte) []byte }
		want string
	}{
		{"no members", &DeleteWorkloadIdentityResponse{}, `{}`},
		{"all absent", &GetResourceOauth2TokenResponse{}, `{}`},
		{"a secret", &GetResourceOauth2TokenResponse{AccessToken: secret.Pointer("to\"ken")}, `{"accessToken":"to\"ken"}`},
		{"an empty required list", &ListWorkloadIdentitiesResponse{}, `{"workloadIdentities":[]}`},
		{"a list", &ListWorkloadIdentitiesResponse{NextToken: &token, WorkloadIdentities: []WorkloadIdentityType{{Name: "a", WorkloadIdentityArn: "b"}, {}}},
			`{"nextToken":"pages","workloadIdentities":[{"name":"a","workloadIdentityArn":"b"},{"name":"","workloadIdentityArn":""}]}`},
		{"an empty optional list", &CreateWorkloadIdentityResponse{AllowedResourceOauth2ReturnUrls: []string{}}, `{"allowedResourceOauth2ReturnUrls":[],"name":"","workloadIdentityArn":""}`},
		{"a map", &CreateWorkloadIdentityRequest{Name: "n", Tags: map[string]string{"b": "2", "a": "1"}}, `{"name":"n","tags":{"a":"1","b":"2"}}`},
		{"nesting", &SchemaDefinition{Type: SchemaTypeArray, Items: &SchemaDefinition{Type: SchemaTypeObject, Properties: map[string]SchemaDefinition{"x": {Type: SchemaTypeString}}}},
			`{"items":{"properties":{"x":{"type":"string"}},"type":"object"},"type":"array"}`},
	} {
		if got := string(test.v.AppendJSON(nil)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// encoding/json, which logs and mistakes use, does not reveal.
func TestMarshalRedacts(t *testing.T) {
	t.Parallel()
	response := &GetResourceOauth2TokenResponse{AccessToken: secret.Pointer("canary-7f3a")}
	if written, err := json.Marshal(response); err != nil || strings.Contains(string(written), "canary") {
		t.Errorf("%s, %v", written, err)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	response := &GetResourceOauth2TokenResponse{AccessToken: secret.Pointer(strings.Repeat("ya29.a0", 200))}
	buffer := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buffer = response.AppendJSON(buffer[:0])
	}
}
