package openapi

import (
	"reflect"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// all merges the parts of an allOf into the schema that has it, so that the
// properties of a composed object are seen as its own. Where two parts say
// different things under one keyword and only both together are right, the
// allOf stays as it is, which JSON Schema allows.
func (s *schemas) all(out map[string]any, schema *openapi3.Schema) (any, error) {
	if len(schema.AllOf) == 0 {
		return out, nil
	}
	parts := make([]any, 0, len(schema.AllOf))
	for _, ref := range schema.AllOf {
		written, err := s.part(ref)
		if err != nil {
			return nil, err
		}
		parts = append(parts, written)
	}
	merged := copied(out)
	for _, part := range parts {
		object, ok := part.(map[string]any)
		if !ok || !merge(merged, object) {
			out["allOf"] = parts
			return out, nil
		}
	}
	return merged, nil
}

// part is a part of an allOf: written out also where references are shared,
// because a $ref cannot be merged. Only recursion keeps its $ref.
func (s *schemas) part(ref *openapi3.SchemaRef) (any, error) {
	if ref == nil || ref.Ref == "" || slices.Contains(s.within, ref.Ref) {
		return s.of(ref)
	}
	if ref.Value == nil {
		return map[string]any{}, nil
	}
	return s.inlined(ref)
}

// merge puts part into whole and reports whether the two can be one.
func merge(whole, part map[string]any) bool {
	for key, value := range part {
		present, taken := whole[key]
		switch {
		case !taken:
			whole[key] = value
		case key == "title" || key == "description" || key == "examples":
			// The composed schema's own words, or the first part's, stand.
		case key == "required":
			whole[key] = union(present.([]string), value.([]string))
		case key == "properties":
			whole[key] = mergeProperties(present.(map[string]any), value.(map[string]any))
		case key == "additionalProperties":
			// Each part's false means "nothing that the whole does not know".
			if present == false || value == false {
				whole[key] = false
			} else if !reflect.DeepEqual(present, value) {
				return false
			}
		case !reflect.DeepEqual(present, value):
			return false
		}
	}
	return true
}

func mergeProperties(a, b map[string]any) map[string]any {
	out := copied(a)
	for name, schema := range b {
		switch present, taken := out[name]; {
		case !taken:
			out[name] = schema
		case !reflect.DeepEqual(present, schema):
			out[name] = map[string]any{"allOf": []any{present, schema}}
		}
	}
	return out
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, name := range b {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func copied(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for key, value := range m {
		out[key] = value
	}
	return out
}
