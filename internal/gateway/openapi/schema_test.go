package openapi

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemaOf is the input schema that a body's schema becomes, as the property
// "it" of the body.
func schemaOf(t *testing.T, version, schema string) any {
	t.Helper()
	document := `{"openapi":"` + version + `","info":{"title":"t","version":"1"},"servers":[{"url":"https://e.com"}],"paths":{"/a":{"post":{"operationId":"a",
		"requestBody":{"content":{"application/json":{"schema":{"type":"object","properties":{"it":` + schema + `}}}}},"responses":{"200":{"description":"ok"}}}}},
		"components":{"schemas":{"Pet":{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]},"Dog":{"allOf":[{"$ref":"#/components/schemas/Pet"},{"type":"object","properties":{"bark":{"type":"boolean"}}}]}}}}`
	o := operationOf(t, document)
	compiler := jsonschema.NewCompiler()
	var whole any
	if err := json.Unmarshal(o.Schema, &whole); err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("tool.json", whole); err != nil {
		t.Fatal(err)
	}
	if _, err := compiler.Compile("tool.json"); err != nil {
		t.Errorf("not a JSON Schema 2020-12: %v", err)
	}
	return whole.(map[string]any)["properties"].(map[string]any)["it"]
}

func TestSchemasBecomeJSONSchema(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ version, given, want string }{
		"nullable":        {"3.0.3", `{"type":"string","nullable":true,"enum":["a"]}`, `{"type":["string","null"],"enum":["a",null]}`},
		"exclusive 3.0":   {"3.0.3", `{"type":"integer","minimum":1,"exclusiveMinimum":true,"maximum":9}`, `{"type":"integer","exclusiveMinimum":1,"maximum":9}`},
		"exclusive 3.1":   {"3.1.0", `{"type":"integer","exclusiveMinimum":1}`, `{"type":"integer","exclusiveMinimum":1}`},
		"several types":   {"3.1.0", `{"type":["string","null"],"const":"x"}`, `{"type":["string","null"],"const":"x"}`},
		"example":         {"3.0.3", `{"type":"string","example":"x","format":"date","description":"d"}`, `{"type":"string","examples":["x"],"format":"date","description":"d"}`},
		"vendor, xml":     {"3.0.3", `{"type":"string","x-internal":1,"xml":{"name":"n"},"externalDocs":{"url":"https://e.com"}}`, `{"type":"string"}`},
		"header mark":     {"3.1.0", `{"type":"string","x-mcp-header":"Region"}`, `{"type":"string"}`},
		"alternatives":    {"3.0.3", `{"oneOf":[{"type":"string"},{"type":"integer"}],"discriminator":{"propertyName":"p"}}`, `{"oneOf":[{"type":"string"},{"type":"integer"}]}`},
		"any":             {"3.0.3", `{"anyOf":[{"$ref":"#/components/schemas/Pet"},{"type":"string"}]}`, `{"anyOf":[{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]},{"type":"string"}]}`},
		"all merged":      {"3.0.3", `{"$ref":"#/components/schemas/Dog"}`, `{"type":"object","properties":{"name":{"type":"string"},"bark":{"type":"boolean"}},"required":["name"]}`},
		"all of two":      {"3.0.3", `{"description":"own","allOf":[{"$ref":"#/components/schemas/Pet"}],"properties":{"age":{"type":"integer"}},"required":["age"]}`, `{"description":"own","type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["age","name"]}`},
		"all in conflict": {"3.0.3", `{"allOf":[{"type":"string","maxLength":3},{"type":"string","maxLength":5}]}`, `{"allOf":[{"type":"string","maxLength":3},{"type":"string","maxLength":5}]}`},
		"same property":   {"3.0.3", `{"allOf":[{"properties":{"a":{"minimum":1}}},{"properties":{"a":{"maximum":2}}}]}`, `{"properties":{"a":{"allOf":[{"minimum":1},{"maximum":2}]}}}`},
		"closed parts":    {"3.0.3", `{"allOf":[{"type":"object","properties":{"a":{}},"additionalProperties":false},{"type":"object","properties":{"b":{}}}]}`, `{"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false}`},
		"nested":          {"3.1.0", `{"type":"array","items":{"type":"object","additionalProperties":{"type":"number"}},"prefixItems":[{"type":"string"}],"minItems":1,"uniqueItems":true}`, `{"type":"array","items":{"type":"object","additionalProperties":{"type":"number"}},"prefixItems":[{"type":"string"}],"minItems":1,"uniqueItems":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want any
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, schemaOf(t, c.version, c.given)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// JSON and YAML, 3.0 and 3.1, say the same.
func TestYAML(t *testing.T) {
	t.Parallel()
	o := operationOf(t, `
openapi: 3.1.0
info: {title: Files, version: "1"}
servers:
  - url: https://{region}.example.com/v1
    variables: {region: {default: eu, enum: [eu, us]}}
paths:
  /files/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}}
    get:
      operationId: files.get
      summary: Reads a file.
      responses: {"200": {description: ok}}
`)
	if o.Name != "files.get" || o.Description != "Reads a file." || o.Arguments[0].Place != inPath {
		t.Errorf("operation: %+v", o)
	}
}
