package openapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Schemas of OpenAPI 3.0 and 3.1 become JSON Schema 2020-12. References are
// written out, because many agents' models read $ref badly; only recursive
// ones, and all of them where writing them out would make a tool's schema huge,
// go to $defs. Vendor extensions (x-…) are left out.

const (
	maxInlined = 3000    // subschemas of one tool before references go to $defs
	maxSchemas = 20000   // subschemas of one tool at all
	maxWritten = 1 << 18 // bytes of text in them before references go to $defs
	maxWeight  = 1 << 22 // bytes of text in them at all
	maxDepth   = 100
)

// schemas makes the schemas of one tool.
type schemas struct {
	where   string
	shared  bool // put every reference into $defs
	request bool // leave read-only properties out
	count   int
	weight  int // rough bytes of descriptions, enums, examples
	depth   int
	within  []string          // references being written out
	names   map[string]string // reference to its name in $defs
	taken   map[string]bool   // those names
	pending []string
	refs    map[string]*openapi3.SchemaRef
	defs    map[string]any
}

// errHuge asks for another attempt, with shared references.
var errHuge = fmt.Errorf("schema too large to write out")

func newSchemas(where string, shared bool) *schemas {
	return &schemas{where: where, shared: shared, request: true, names: map[string]string{}, taken: map[string]bool{}, refs: map[string]*openapi3.SchemaRef{}, defs: map[string]any{}}
}

// of is the JSON Schema of a reference: a map or, for boolean schemas, a bool.
func (s *schemas) of(ref *openapi3.SchemaRef) (any, error) {
	if ref == nil || ref.Value == nil {
		return map[string]any{}, nil
	}
	if ref.Ref == "" {
		return s.written(ref.Value)
	}
	if s.shared || slices.Contains(s.within, ref.Ref) {
		return map[string]any{"$ref": "#/$defs/" + s.name(ref)}, nil
	}
	return s.inlined(ref)
}

// inlined writes the schema behind a reference out.
func (s *schemas) inlined(ref *openapi3.SchemaRef) (any, error) {
	s.within = append(s.within, ref.Ref)
	defer func() { s.within = s.within[:len(s.within)-1] }()
	return s.written(ref.Value)
}

// spend counts one more schema, and refuses a document that uses references to
// grow beyond what it is.
func (s *schemas) spend(schema *openapi3.Schema) error {
	s.count++
	s.weight += len(schema.Title) + len(schema.Description) + len(schema.Pattern) + weigh(schema.Enum) + weigh(schema.Default) +
		weigh(schema.Const) + weigh(schema.Example) + weigh(schema.Examples)
	switch {
	case !s.shared && (s.count > maxInlined || s.weight > maxWritten):
		return errHuge
	case s.count > maxSchemas || s.weight > maxWeight:
		return invalid(s.where, "its schemas are too large: more than %d of them, or more than %d bytes of text in them", maxSchemas, maxWeight)
	case s.depth >= maxDepth:
		return invalid(s.where, "its schemas are nested more than %d deep", maxDepth)
	}
	return nil
}

func weigh(value any) int {
	switch v := value.(type) {
	case nil:
		return 0
	case string:
		return len(v)
	case []any:
		total := 2
		for _, e := range v {
			total += 1 + weigh(e)
		}
		return total
	case map[string]any:
		total := 2
		for key, e := range v {
			total += 4 + len(key) + weigh(e)
		}
		return total
	}
	return 8
}

var notName = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

func (s *schemas) name(ref *openapi3.SchemaRef) string {
	if name, ok := s.names[ref.Ref]; ok {
		return name
	}
	base := notName.ReplaceAllString(ref.Ref[strings.LastIndexByte(ref.Ref, '/')+1:], "_")
	name := base
	for i := 2; s.taken[name]; i++ {
		name = fmt.Sprintf("%s_%d", base, i)
	}
	s.names[ref.Ref], s.taken[name] = name, true
	s.refs[name] = ref
	s.pending = append(s.pending, name)
	return name
}

// finish adds the definitions that were referred to.
func (s *schemas) finish(root map[string]any) error {
	for len(s.pending) > 0 {
		name := s.pending[0]
		s.pending = s.pending[1:]
		ref := s.refs[name]
		s.within = []string{ref.Ref}
		written, err := s.written(ref.Value)
		if err != nil {
			return err
		}
		s.defs[name] = written
	}
	if len(s.defs) > 0 {
		root["$defs"] = s.defs
	}
	return nil
}

// written writes one schema out.
func (s *schemas) written(schema *openapi3.Schema) (any, error) {
	if err := s.spend(schema); err != nil {
		return nil, err
	}
	s.depth++
	defer func() { s.depth-- }()
	if schema.Always != nil {
		return *schema.Always, nil
	}
	out := map[string]any{}
	annotations(out, schema)
	types(out, schema)
	bounds(out, schema)
	if err := s.nested(out, schema); err != nil {
		return nil, err
	}
	if err := s.object(out, schema); err != nil {
		return nil, err
	}
	return s.all(out, schema)
}

func annotations(out map[string]any, schema *openapi3.Schema) {
	set(out, "title", schema.Title, schema.Title != "")
	set(out, "description", schema.Description, schema.Description != "")
	set(out, "format", schema.Format, schema.Format != "")
	set(out, "default", schema.Default, schema.Default != nil)
	set(out, "deprecated", true, schema.Deprecated)
	set(out, "contentMediaType", schema.ContentMediaType, schema.ContentMediaType != "")
	set(out, "contentEncoding", schema.ContentEncoding, schema.ContentEncoding != "")
	set(out, "examples", schema.Examples, len(schema.Examples) > 0)
	if schema.Example != nil && len(schema.Examples) == 0 {
		out["examples"] = []any{schema.Example}
	}
}

// types writes type, enum and const; nullable of 3.0 becomes the type null.
func types(out map[string]any, schema *openapi3.Schema) {
	list := slices.Clone(schema.Type.Slice())
	enum := schema.Enum
	if schema.Nullable {
		if len(list) > 0 && !slices.Contains(list, "null") {
			list = append(list, "null")
		}
		if len(enum) > 0 && !slices.Contains(enum, nil) {
			enum = append(slices.Clone(enum), nil)
		}
	}
	switch len(list) {
	case 0:
	case 1:
		out["type"] = list[0]
	default:
		out["type"] = list
	}
	set(out, "enum", enum, len(enum) > 0)
	set(out, "const", schema.Const, schema.Const != nil)
}

func bounds(out map[string]any, schema *openapi3.Schema) {
	number := func(key string, value *float64) {
		if value != nil {
			out[key] = *value
		}
	}
	count := func(key string, value *uint64) {
		if value != nil {
			out[key] = *value
		}
	}
	// In 3.0 an exclusive bound is a flag on the inclusive one.
	if schema.ExclusiveMin.IsTrue() {
		number("exclusiveMinimum", schema.Min)
	} else {
		number("minimum", schema.Min)
	}
	if schema.ExclusiveMax.IsTrue() {
		number("exclusiveMaximum", schema.Max)
	} else {
		number("maximum", schema.Max)
	}
	number("exclusiveMinimum", schema.ExclusiveMin.Value)
	number("exclusiveMaximum", schema.ExclusiveMax.Value)
	number("multipleOf", schema.MultipleOf)
	count("maxLength", schema.MaxLength)
	count("maxItems", schema.MaxItems)
	count("maxProperties", schema.MaxProps)
	count("minContains", schema.MinContains)
	count("maxContains", schema.MaxContains)
	set(out, "minLength", schema.MinLength, schema.MinLength > 0)
	set(out, "minItems", schema.MinItems, schema.MinItems > 0)
	set(out, "minProperties", schema.MinProps, schema.MinProps > 0)
	set(out, "uniqueItems", true, schema.UniqueItems)
	set(out, "pattern", schema.Pattern, schema.Pattern != "")
}

// nested writes the keywords that hold schemas, apart from an object's.
func (s *schemas) nested(out map[string]any, schema *openapi3.Schema) error {
	for key, ref := range map[string]*openapi3.SchemaRef{
		"items": schema.Items, "not": schema.Not, "contains": schema.Contains, "propertyNames": schema.PropertyNames,
		"if": schema.If, "then": schema.Then, "else": schema.Else,
	} {
		if ref == nil {
			continue
		}
		written, err := s.of(ref)
		if err != nil {
			return err
		}
		out[key] = written
	}
	for key, refs := range map[string]openapi3.SchemaRefs{"oneOf": schema.OneOf, "anyOf": schema.AnyOf, "prefixItems": schema.PrefixItems} {
		if len(refs) == 0 {
			continue
		}
		list := make([]any, 0, len(refs))
		for _, ref := range refs {
			written, err := s.of(ref)
			if err != nil {
				return err
			}
			list = append(list, written)
		}
		out[key] = list
	}
	return nil
}

// object writes an object's keywords. Read-only properties are no input.
func (s *schemas) object(out map[string]any, schema *openapi3.Schema) error {
	required := slices.Clone(schema.Required)
	properties := map[string]any{}
	for name, ref := range schema.Properties {
		if s.request && ref != nil && ref.Value != nil && ref.Value.ReadOnly {
			required = slices.DeleteFunc(required, func(r string) bool { return r == name })
			continue
		}
		written, err := s.of(ref)
		if err != nil {
			return err
		}
		properties[name] = written
	}
	set(out, "properties", properties, len(properties) > 0)
	set(out, "required", required, len(required) > 0)
	for key, refs := range map[string]openapi3.Schemas{"patternProperties": schema.PatternProperties, "dependentSchemas": schema.DependentSchemas} {
		if len(refs) == 0 {
			continue
		}
		group := map[string]any{}
		for name, ref := range refs {
			written, err := s.of(ref)
			if err != nil {
				return err
			}
			group[name] = written
		}
		out[key] = group
	}
	set(out, "dependentRequired", schema.DependentRequired, len(schema.DependentRequired) > 0)
	switch additional := schema.AdditionalProperties; {
	case additional.Schema != nil:
		written, err := s.of(additional.Schema)
		if err != nil {
			return err
		}
		out["additionalProperties"] = written
	case additional.Has != nil:
		out["additionalProperties"] = *additional.Has
	}
	return nil
}

func set(out map[string]any, key string, value any, when bool) {
	if when {
		out[key] = value
	}
}
