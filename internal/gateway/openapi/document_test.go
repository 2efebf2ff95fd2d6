package openapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
)

func anyURL(string) error { return nil }

// doc is a document with these paths.
func doc(paths string) string {
	return `{"openapi":"3.0.3","info":{"title":"t","version":"1"},"servers":[{"url":"https://api.example.com/v1/"}],"paths":` + paths + `}`
}

const responses = `"responses":{"200":{"description":"ok"}}`

func TestDocumentsThatAreRefused(t *testing.T) {
	t.Parallel()
	operation := func(rest string) string { return doc(`{"/a":{"get":{"operationId":"a",` + rest + responses + `}}}`) }
	body := func(content string) string {
		return doc(`{"/a":{"post":{"operationId":"a","requestBody":{"content":` + content + `},` + responses + `}}}`)
	}
	for name, c := range map[string]struct{ document, says string }{
		"empty":                  {" ", "it is empty"},
		"not a document":         {"hello", ""},
		"too large":              {strings.Repeat(" ", maxDocument+1) + "x", "1048576"},
		"not UTF-8":              {"openapi: \xff", "UTF-8"},
		"swagger 2":              {`{"swagger":"2.0","info":{"title":"t","version":"1"},"paths":{}}`, "swagger: version 2.0 is not OpenAPI 3"},
		"version 4":              {strings.Replace(doc(`{}`), "3.0.3", "4.0.0", 1), `openapi: version "4.0.0"`},
		"no paths":               {doc(`{}`), "no operations"},
		"no servers":             {strings.Replace(operation(""), `"servers":[{"url":"https://api.example.com/v1/"}],`, "", 1), "servers: there is none"},
		"relative server":        {strings.Replace(operation(""), "https://api.example.com/v1/", "/v1", 1), "servers[0].url"},
		"server with query":      {strings.Replace(operation(""), "/v1/", "/v1?a=b", 1), "query"},
		"server with dots":       {strings.Replace(operation(""), "/v1/", "/v1/../v2", 1), "segments"},
		"free host":              {strings.Replace(operation(""), "api.example.com", "{host}", 1), ""},
		"default not in enum":    {strings.Replace(operation(""), `"url":"https://api.example.com/v1/"`, `"url":"https://{h}.example.com","variables":{"h":{"default":"x","enum":["y"]}}`, 1), ""},
		"server of an operation": {operation(`"servers":[{"url":"https://evil.example.com"}],`), "paths./a.get: it has a server of its own"},
		"no operationId":         {doc(`{"/a":{"get":{` + responses + `}}}`), "paths./a.get: it has no operationId"},
		"odd operationId":        {doc(`{"/a":{"get":{"operationId":"a b",` + responses + `}}}`), "cannot name a tool"},
		"operationId twice":      {doc(`{"/a":{"get":{"operationId":"x",` + responses + `}},"/b":{"get":{"operationId":"x",` + responses + `}}}`), `"x"`},
		"trace":                  {doc(`{"/a":{"trace":{"operationId":"a",` + responses + `}}}`), "the method TRACE"},
		"external file":          {operation(`"parameters":[{"$ref":"other.yaml#/p"}],`), "external reference"},
		"external URL":           {operation(`"parameters":[{"name":"p","in":"query","schema":{"$ref":"http://169.254.169.254/x"}}],`), "external reference"},
		"external path":          {operation(`"parameters":[{"name":"p","in":"query","schema":{"$ref":"/etc/passwd"}}],`), "external reference"},
		"undeclared parameter":   {doc(`{"/a/{id}":{"get":{"operationId":"a",` + responses + `}}}`), "id"},
		"cookie":                 {operation(`"parameters":[{"name":"s","in":"cookie","schema":{"type":"string"}}],`), "cookie parameters are not supported"},
		"deep object":            {operation(`"parameters":[{"name":"f","in":"query","style":"deepObject","explode":true,"schema":{"type":"object"}}],`), "style deepObject"},
		"matrix":                 {doc(`{"/a/{id}":{"get":{"operationId":"a","parameters":[{"name":"id","in":"path","required":true,"style":"matrix","schema":{"type":"string"}}],` + responses + `}}}`), "style matrix"},
		"pipes":                  {operation(`"parameters":[{"name":"f","in":"query","style":"pipeDelimited","schema":{"type":"array","items":{"type":"string"}}}],`), "style pipeDelimited"},
		"object in the query":    {operation(`"parameters":[{"name":"f","in":"query","schema":{"type":"object"}}],`), "query f"},
		"array of arrays":        {operation(`"parameters":[{"name":"f","in":"query","schema":{"type":"array","items":{"type":"array","items":{}}}}],`), "array of arrays"},
		"host header":            {operation(`"parameters":[{"name":"Host","in":"header","schema":{"type":"string"}}],`), "header Host"},
		"forwarded header":       {operation(`"parameters":[{"name":"x-forwarded-for","in":"header","schema":{"type":"string"}}],`), "header x-forwarded-for"},
		"proxy authorization":    {operation(`"parameters":[{"name":"Proxy-Authorization","in":"header","schema":{"type":"string"}}],`), "Proxy-Authorization"},
		"cookie header":          {operation(`"parameters":[{"name":"Cookie","in":"header","schema":{"type":"string"}}],`), "Cookie"},
		"length header":          {operation(`"parameters":[{"name":"Content-Length","in":"header","schema":{"type":"string"}}],`), "Content-Length"},
		"header with a newline":  {operation(`"parameters":[{"name":"X\r\nY","in":"header","schema":{"type":"string"}}],`), "no header name"},
		"multipart":              {body(`{"multipart/form-data":{"schema":{"type":"object"}}}`), "paths./a.post.requestBody"},
		"form of an array":       {body(`{"application/x-www-form-urlencoded":{"schema":{"type":"array","items":{"type":"string"}}}}`), "a form has to be an object"},
		"dots in a path":         {doc(`{"/a/../b":{"get":{"operationId":"a",` + responses + `}}}`), "malformed"},
		"escaped dots in a path": {doc(`{"/a/%2e%2e/b":{"get":{"operationId":"a",` + responses + `}}}`), "malformed"},
		"names that cannot be told apart": {doc(`{"/a/{id}":{"post":{"operationId":"a","parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"string"}},
			{"name":"body_id","in":"query","schema":{"type":"string"}}],"requestBody":{"content":{"application/json":{"schema":{"type":"object","properties":{"id":{"type":"string"}}}}}},` + responses + `}}}`), "body_id"},
		"yaml bomb": {"openapi: 3.0.3\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := compile(c.document, anyURL)
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("error: %v", err)
			}
			problem := fault.Of(err)
			if !strings.Contains(problem.Message, c.says) || len(problem.Message) > 2000 || len(problem.Fields) != 1 || problem.Fields[0].Name != field {
				t.Errorf("it says %q, fields %v; want %q", problem.Message, problem.Fields, c.says)
			}
		})
	}
}

// The server is judged by egress, with egress's own words.
func TestServerIsJudged(t *testing.T) {
	t.Parallel()
	guard, err := egress.New(egress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"http://api.example.com", "http://127.0.0.1:1", "https://user:pass@example.com", "https://10.0.0.1", "https://[::1]", "ftp://example.com", "https://169.254.169.254/latest"} {
		_, err := compile(strings.Replace(doc(`{"/a":{"get":{"operationId":"a",`+responses+`}}}`), "https://api.example.com/v1/", server, 1), guard.CheckURL)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, "servers[0].url") {
			t.Errorf("%s: %v", server, err)
		}
	}
	if _, err := compile(doc(`{"/a":{"get":{"operationId":"a",`+responses+`}}}`), guard.CheckURL); err != nil {
		t.Error(err)
	}
}

func TestTooManyTools(t *testing.T) {
	t.Parallel()
	var paths strings.Builder
	for i := range maxTools + 1 {
		fmt.Fprintf(&paths, `,"/%d":{"get":{"operationId":"o%d",%s}}`, i, i, responses)
	}
	if _, err := compile(doc("{"+paths.String()[1:]+"}"), anyURL); !fault.Is(err, fault.QuotaExceeded) {
		t.Errorf("error: %v", err)
	}
}

// A small document must not become a huge one by references: written out where
// that is small, shared where it is not, refused where even that is too much.
func TestSchemasThatGrow(t *testing.T) {
	t.Parallel()
	var components strings.Builder
	for i := range 20 {
		fmt.Fprintf(&components, `"S%d":{"type":"object","properties":{"a":{"$ref":"#/components/schemas/S%d"},"b":{"$ref":"#/components/schemas/S%d"}}},`, i, i+1, i+1)
	}
	components.WriteString(`"S20":{"type":"string"}`)
	document := strings.TrimSuffix(doc(`{"/a":{"post":{"operationId":"a","requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/S0"}}}},`+responses+`}}}`), "}") +
		`,"components":{"schemas":{` + components.String() + `}}}`
	form, err := compile(document, anyURL)
	if err != nil {
		t.Fatal(err)
	}
	o := form.Operations[0]
	if len(o.Schema) > 20_000 || !strings.Contains(string(o.Schema), `"$defs"`) || len(o.Arguments) != 2 {
		t.Errorf("%d bytes, %d arguments", len(o.Schema), len(o.Arguments))
	}
}

// The parser reads each level anew with all that is in it: what nests deep is
// refused before it gets there.
func TestDocumentsThatNest(t *testing.T) {
	t.Parallel()
	schema := func(levels int) string {
		return strings.Repeat(`{"type":"array","items":`, levels) + `{"type":"string","description":"\"}}}]"}` + strings.Repeat("}", levels)
	}
	body := func(levels int) string {
		return doc(`{"/a":{"post":{"operationId":"a","requestBody":{"content":{"application/json":{"schema":` + schema(levels) + `}}},` + responses + `}}}`)
	}
	if _, err := compile(body(50), anyURL); err != nil {
		t.Errorf("fifty levels: %v", err)
	}
	const head = "openapi: 3.0.0\ninfo: {title: t, version: '1'}\nservers: [{url: 'https://e.com'}]\npaths: {}\n"
	var block strings.Builder
	block.WriteString(head + "x-deep:\n")
	for i := range 1000 {
		block.WriteString(strings.Repeat(" ", i+1) + "a:\n")
	}
	for name, document := range map[string]string{
		"schemas":            body(9000),
		"extensions":         strings.TrimSuffix(doc("{}"), "}") + `,"x-deep":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"yaml, flow":         head + "x-deep: " + strings.Repeat("{a: ", 9000) + "b" + strings.Repeat("}", 9000),
		"yaml, block":        block.String(),
		"yaml, block, lists": head + "x-deep:\n  " + strings.Repeat("- ", 9000) + "b\n",
		"yaml, json in it":   head + "x-deep: " + schema(9000),
	} {
		_, err := compile(document, anyURL)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Of(err).Message, "deep") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecursiveSchemas(t *testing.T) {
	t.Parallel()
	document := strings.TrimSuffix(doc(`{"/a":{"post":{"operationId":"a","requestBody":{"content":{"application/json":{"schema":{"type":"object","properties":{"root":{"$ref":"#/components/schemas/Node"}}}}}},`+responses+`}}}`), "}") +
		`,"components":{"schemas":{"Node":{"type":"object","properties":{"name":{"type":"string"},"children":{"type":"array","items":{"$ref":"#/components/schemas/Node"}}}}}}}`
	form, err := compile(document, anyURL)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct{ Root json.RawMessage }
		Defs       map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(form.Operations[0].Schema, &schema); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(schema.Properties.Root), `"$ref":"#/$defs/Node"`) || !strings.Contains(string(schema.Defs["Node"]), `"$ref":"#/$defs/Node"`) {
		t.Errorf("schema: %s", form.Operations[0].Schema)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(doc(`{"/a/{id}":{"get":{"operationId":"a","parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"string"}}],` + responses + `}}}`))
	f.Add("openapi: 3.1.0\ninfo: {title: t, version: '1'}\nservers: [{url: 'https://e.com'}]\npaths:\n  /x:\n    post:\n      operationId: x\n      requestBody: {content: {application/json: {schema: {allOf: [{type: object, properties: {a: {type: [string, 'null']}}}, {required: [a]}]}}}}\n      responses: {'200': {description: ok}}\n")
	f.Add(`{"openapi":"3.0.0","paths":{"/{":{}}}`)
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, document string) {
		form, err := compile(document, anyURL)
		if err != nil {
			if problem := fault.Of(err); problem.Kind != fault.Invalid && problem.Kind != fault.QuotaExceeded {
				t.Fatalf("error: %v", err)
			}
			return
		}
		encoded, err := json.Marshal(form)
		if err != nil {
			t.Fatal(err)
		}
		target, err := open(encoded, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, tool := range target.Tools() {
			if tool.Name == "" || !json.Valid(tool.InputSchema) {
				t.Fatalf("tool %+v", tool)
			}
		}
	})
}
