package openapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gateway"
)

// operationOf compiles a document of one operation, through the stored form.
func operationOf(t testing.TB, document string) *operation {
	t.Helper()
	form, err := compile(document, anyURL)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(form)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := open(encoded, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range opened.(*target).operations {
		return o
	}
	return nil
}

func arguments(t testing.TB, text string) []gateway.Argument {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	var out []gateway.Argument
	if _, err := decoder.Token(); err != nil {
		t.Fatal(err)
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
		out = append(out, gateway.Argument{Name: name.(string), Value: value})
	}
	return out
}

const everything = `{"/users/{id}/files/{name}.{ext}":{"parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"string"}}],
	"put":{"operationId":"put","parameters":[
		{"name":"name","in":"path","required":true,"schema":{"type":"string"}},
		{"name":"ext","in":"path","required":true,"schema":{"type":"string"}},
		{"name":"tag","in":"query","schema":{"type":"array","items":{"type":"string"}}},
		{"name":"csv","in":"query","explode":false,"schema":{"type":"array","items":{"type":"integer"}}},
		{"name":"limit","in":"query","schema":{"type":"integer"}},
		{"name":"dry","in":"query","schema":{"type":"boolean"}},
		{"name":"filter","in":"query","content":{"application/json":{"schema":{"type":"object"}}}},
		{"name":"kind","in":"query","required":true,"schema":{"type":"string","default":"plain"}},
		{"name":"If-Match","in":"header","schema":{"type":"string"}},
		{"name":"Authorization","in":"header","schema":{"type":"string"}},
		{"name":"id","in":"query","schema":{"type":"integer"}}],
	"requestBody":{"required":true,"content":{"application/json":{"schema":{"type":"object","required":["title"],"properties":{
		"title":{"type":"string"},"size":{"type":"integer"},"name":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}},"made":{"type":"string","readOnly":true}}}}}},
	"responses":{"200":{"description":"ok"}}}}}`

func TestArgumentsArePlaced(t *testing.T) {
	t.Parallel()
	o := operationOf(t, doc(everything))
	request, err := o.request(context.Background(), "https://api.example.com/v1", arguments(t, `{"title":"é \"quoted\"","id":"a/b c","name":"x","ext":"t?t",
		"tag":["a&b","c"],"csv":[1,2],"limit":12345678901234567890,"dry":true,"filter":{"z":1,"a":[2]},"If-Match":"\"etag\"","query_id":7,"body_name":"in the body","size":1e2,"tags":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	wantURL := "https://api.example.com/v1/users/a%2Fb%20c/files/x.t%3Ft?tag=a%26b&tag=c&csv=1,2&limit=12345678901234567890&dry=true&filter=%7B%22z%22%3A1%2C%22a%22%3A%5B2%5D%7D&kind=plain&id=7"
	if got := request.URL.String(); got != wantURL {
		t.Errorf("URL\n%s\nwant\n%s", got, wantURL)
	}
	body, _ := io.ReadAll(request.Body)
	if want := `{"name":"in the body","size":1e2,"tags":[],"title":"é \"quoted\""}`; string(body) != want {
		t.Errorf("body %s, want %s", body, want)
	}
	wantHeader := http.Header{"Accept": {"application/json, */*;q=0.8"}, "User-Agent": {"onbehalf-gateway"}, "Content-Type": {"application/json"}, "If-Match": {`"etag"`}}
	if diff := cmp.Diff(wantHeader, request.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	var schema struct {
		Properties           map[string]any
		Required             []string
		AdditionalProperties *bool
	}
	if err := json.Unmarshal(o.Schema, &schema); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"name", "ext", "id", "title"}, schema.Required); diff != "" {
		t.Errorf("required (-want +got):\n%s", diff)
	}
	if _, readOnly := schema.Properties["made"]; readOnly || schema.AdditionalProperties == nil || *schema.AdditionalProperties {
		t.Errorf("schema: %s", o.Schema)
	}
}

func TestArgumentsThatDoNotFit(t *testing.T) {
	t.Parallel()
	o := operationOf(t, doc(everything))
	const good = `"title":"t","id":"i","name":"n","ext":"e"`
	for given, says := range map[string]string{
		`{}`:                                                   "name, ext, id, title",
		`{"title":"t","id":"i","name":"n"}`:                    "ext",
		`{` + good + `,"limit":"many"}`:                        `"limit" must be of type integer`,
		`{` + good + `,"limit":1.5}`:                           `"limit" must be of type integer`,
		`{` + good + `,"limit":[1]}`:                           `"limit" must be of type integer`,
		`{` + good + `,"tag":[["a"]]}`:                         `elements of the argument "tag"`,
		`{` + good + `,"tag":{}}`:                              `"tag" must be of type array`,
		`{` + good + `,"size":"1"}`:                            `"size" must be of type integer`,
		`{` + good + `,"filter":"x"}`:                          `"filter" must be of type object`,
		`{` + good + `,"nope":1}`:                              `no argument "nope"`,
		`{` + good + `,"made":"x"}`:                            `no argument "made"`,
		`{` + good + `,"Authorization":"x"}`:                   `no argument "Authorization"`,
		`{` + good + `,"If-Match":"a\r\nX-Evil: 1"}`:           "printable ASCII",
		`{` + good + `,"If-Match":"ü"}`:                        "printable ASCII",
		`{"title":"t","id":"","name":"n","ext":"e"}`:           `"id" must not be empty`,
		`{"title":"t","id":"..","name":"n","ext":"e"}`:         `"id" must not have`,
		`{"title":"t","id":"../x","name":"n","ext":"e"}`:       `"id" must not have`,
		`{"title":"t","id":"a\\..","name":"n","ext":"e"}`:      `"id" must not have`,
		`{"title":"t","id":"..;","name":"n","ext":"e"}`:        `"id" must not have`,
		`{"title":"t","id":"a/..;v=1/b","name":"n","ext":"e"}`: `"id" must not have`,
		`{"title":"t","id":"%2e%2E","name":"n","ext":"e"}`:     `"id" must not have`,
		`{"title":"t","id":"a%2f..","name":"n","ext":"e"}`:     `"id" must not have`,
		`{"title":"t","id":"a%5c.","name":"n","ext":"e"}`:      `"id" must not have`,
		`{"title":"t","id":"a\u0000","name":"n","ext":"e"}`:    "control characters",
		`{"title":"t","id":null,"name":"n","ext":"e"}`:         "missing: id",
	} {
		_, err := o.request(context.Background(), "https://api.example.com", arguments(t, given))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, says) {
			t.Errorf("%s: %v, want %q", given, err, says)
		}
	}
}

// Two arguments of one segment must not make dots together.
func TestDotsOfTwoArguments(t *testing.T) {
	t.Parallel()
	o := operationOf(t, doc(`{"/a/{x}{y}/b":{"get":{"operationId":"a","parameters":[{"name":"x","in":"path","required":true,"schema":{"type":"string"}},
		{"name":"y","in":"path","required":true,"schema":{"type":"string"}}],`+responses+`}}}`))
	for _, given := range []string{`{"x":".","y":"."}`, `{"x":".","y":".;v=1"}`, `{"x":"a/.","y":"."}`} {
		if _, err := o.request(context.Background(), "https://e.com", arguments(t, given)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", given, err)
		}
	}
}

// Whatever an argument holds, host and path structure stay, and it arrives as it was.
func TestArgumentsChangeNothingElse(t *testing.T) {
	t.Parallel()
	o := operationOf(t, doc(`{"/a/{p}/z":{"get":{"operationId":"a","parameters":[{"name":"p","in":"path","required":true,"schema":{"type":"string"}},
		{"name":"q","in":"query","schema":{"type":"string"}},{"name":"last","in":"query","schema":{"type":"string"}}],`+responses+`}}}`))
	rapid.Check(t, func(t *rapid.T) {
		p, q := rapid.String().Draw(t, "p"), rapid.String().Draw(t, "q")
		encode := func(s string) json.RawMessage { out, _ := json.Marshal(s); return out }
		request, err := o.request(context.Background(), "https://api.example.com/v1", []gateway.Argument{{Name: "p", Value: encode(p)}, {Name: "q", Value: encode(q)}, {Name: "last", Value: encode("end")}})
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		parsed, err := url.Parse(request.URL.String())
		if err != nil {
			t.Fatal(err)
		}
		segments := strings.Split(parsed.EscapedPath(), "/")
		if parsed.Host != "api.example.com" || len(segments) != 5 || segments[1] != "v1" || segments[2] != "a" || segments[4] != "z" || parsed.Fragment != "" {
			t.Fatalf("p %q made %s", p, parsed)
		}
		if got, _ := url.PathUnescape(segments[3]); got != p || parsed.Query().Get("q") != q || parsed.Query().Get("last") != "end" || len(parsed.Query()) != 2 {
			t.Fatalf("p %q q %q made %s", p, q, parsed)
		}
	})
}

func TestBodies(t *testing.T) {
	t.Parallel()
	post := func(media, schema, rest string) string {
		return doc(`{"/a":{"post":{"operationId":"a","requestBody":{` + rest + `"content":{"` + media + `":{"schema":` + schema + `}}},` + responses + `}}}`)
	}
	for name, c := range map[string]struct{ document, given, want string }{
		"an array":                    {post("application/json", `{"type":"array","items":{"type":"integer"}}`, ""), `{"body":[1,  2]}`, `[1,  2]`},
		"alternatives":                {post("application/json", `{"oneOf":[{"type":"object","properties":{"a":{}}},{"type":"string"}]}`, ""), `{"body":{"b":1,"a":2}}`, `{"b":1,"a":2}`},
		"a free object":               {post("application/json", `{"type":"object"}`, ""), `{"z":1,"a":{"n":12345678901234567890}}`, `{"z":1,"a":{"n":12345678901234567890}}`},
		"an open object":              {post("application/json", `{"type":"object","properties":{"a":{}},"additionalProperties":{"type":"string"}}`, ""), `{"z":"1","a":true}`, `{"a":true,"z":"1"}`},
		"an optional body, left out":  {post("application/json", `{"type":"object","properties":{"a":{}},"required":["a"]}`, ""), `{}`, ``},
		"a required body without any": {post("application/json", `{"type":"object","properties":{"a":{}}}`, `"required":true,`), `{}`, `{}`},
		"null is a value":             {post("application/json", `{"type":"object","properties":{"a":{"type":"string","nullable":true}}}`, ""), `{"a":null}`, `{"a":null}`},
		"merged":                      {post("application/json", `{"allOf":[{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},{"type":"object","properties":{"b":{"type":"integer"}}}]}`, `"required":true,`), `{"b":1,"a":"x"}`, `{"a":"x","b":1}`},
		"vendor JSON":                 {post("application/vnd.api+json; charset=utf-8", `{"type":"object","properties":{"a":{}}}`, ""), `{"a":1}`, `{"a":1}`},
		"a form":                      {post("application/x-www-form-urlencoded", `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"type":"string"}}}}`, ""), `{"a":"x y&z","b":["1","2"]}`, `a=x+y%26z&b=1&b=2`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := operationOf(t, c.document)
			request, err := o.request(context.Background(), "https://api.example.com", arguments(t, c.given))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if request.Body != nil {
				content, _ := io.ReadAll(request.Body)
				got = string(content)
			}
			if got != c.want {
				t.Errorf("body %s, want %s", got, c.want)
			}
			if (got == "") != (request.Header.Get("Content-Type") == "") {
				t.Errorf("Content-Type %q with body %q", request.Header.Get("Content-Type"), got)
			}
		})
	}
}

// An optional body's required properties are required once there is a body.
func TestPartOfAnOptionalBody(t *testing.T) {
	t.Parallel()
	o := operationOf(t, doc(`{"/a":{"post":{"operationId":"a","requestBody":{"content":{"application/json":{"schema":{"type":"object","properties":{"a":{},"b":{}},"required":["a"]}}}},`+responses+`}}}`))
	if _, err := o.request(context.Background(), "https://e.com", arguments(t, `{"b":1}`)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "missing: a") {
		t.Errorf("error: %v", err)
	}
	if strings.Contains(string(o.Schema), `"required"`) {
		t.Errorf("schema: %s", o.Schema)
	}
}

func TestFixedQueryAndTrailingSlash(t *testing.T) {
	t.Parallel()
	o := operationOf(t, doc(`{"/a b/":{"get":{"operationId":"a","parameters":[{"name":"q","in":"query","schema":{"type":"string"}}],`+responses+`}}}`))
	request, err := o.request(context.Background(), "https://e.com/v1", arguments(t, `{"q":"x"}`))
	if err != nil || request.URL.String() != "https://e.com/v1/a%20b/?q=x" {
		t.Errorf("%v %v", request.URL, err)
	}
	o = operationOf(t, doc(`{"/me?fields=names":{"get":{"operationId":"a","parameters":[{"name":"q","in":"query","schema":{"type":"string"}}],`+responses+`}}}`))
	request, err = o.request(context.Background(), "https://e.com/v1", arguments(t, `{"q":"x"}`))
	if err != nil || request.URL.String() != "https://e.com/v1/me?fields=names&q=x" {
		t.Errorf("%v %v", request.URL, err)
	}
}

// What comes in 6 MB does not leave as a gigabyte.
func TestListsDoNotGrow(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("n", 1000)
	query := operationOf(t, doc(`{"/list/{id}":{"get":{"operationId":"list","parameters":[
		{"name":"id","in":"path","required":true,"schema":{"type":"array","items":{"type":"string"}}},
		{"name":"`+name+`","in":"query","schema":{"type":"array","items":{"type":"string"}}},
		{"name":"csv","in":"query","explode":false,"schema":{"type":"array","items":{"type":"string"}}},
		{"name":"one","in":"query","schema":{"type":"string"}},
		{"name":"X-List","in":"header","schema":{"type":"array","items":{"type":"string"}}}],
		"responses":{"200":{"description":"ok"}}}}}`))
	form := operationOf(t, doc(`{"/form":{"post":{"operationId":"form","requestBody":{"content":{"application/x-www-form-urlencoded":{"schema":{
		"type":"object","additionalProperties":true,"properties":{"`+name+`":{"type":"array","items":{"type":"string"}}}}}}},"responses":{"200":{"description":"ok"}}}}}`))
	list := func(elements int) string { return "[1" + strings.Repeat(",1", elements-1) + "]" }
	for what, c := range map[string]struct {
		o         *operation
		arguments string
		want      string // part of the refusal; empty where it goes
	}{
		"a list":                     {query, `{"id":"a","` + name + `":` + list(20) + `}`, ""},
		"a list that grows":          {query, `{"id":"a","` + name + `":` + list(100) + `}`, "URL longer than 64 KB"},
		"a long list":                {query, `{"id":"a","` + name + `":` + list(1<<20) + `}`, "list of more than 64 KB"},
		"a long list between commas": {query, `{"id":"a","csv":` + list(1<<20) + `}`, "list of more than 64 KB"},
		"a list of long texts":       {query, `{"id":"a","csv":["` + strings.Repeat("%", 30000) + `"]}`, "URL longer than 64 KB"},
		"a long text":                {query, `{"id":"a","one":"` + strings.Repeat("x", 1<<20) + `"}`, "URL longer than 64 KB"},
		"a long segment":             {query, `{"id":"` + strings.Repeat("x", 1<<20) + `"}`, "URL longer than 64 KB"},
		"a long list in the path":    {query, `{"id":` + list(1<<20) + `}`, "list of more than 64 KB"},
		"a long list in a header":    {query, `{"id":"a","X-List":` + list(1<<20) + `}`, "list of more than 64 KB"},
		"a form":                     {form, `{"` + name + `":` + list(1000) + `,"more":"` + strings.Repeat("x", 1<<20) + `"}`, ""},
		"a form that grows":          {form, `{"` + name + `":` + list(30000) + `}`, "form of more than 6 MB"},
		"a form's list, undeclared":  {form, `{"more":` + list(1<<20) + `}`, "list of more than 64 KB"},
		"a form's names that grow":   {form, `{"` + strings.Repeat("m", 1<<20) + `":` + list(30000) + `}`, "form of more than 6 MB"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			_, err := c.o.request(t.Context(), "https://api.example.com", arguments(t, c.arguments))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, c.want)):
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
}
