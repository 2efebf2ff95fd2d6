package openapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// operationId becomes the tool's name, so it has to be one.
var toolName = regexp.MustCompile(`^[A-Za-z0-9_./-]{1,150}$`)

var methods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}

func compileOperation(where string, doc *openapi3.T, path, method string, item *openapi3.PathItem, source *openapi3.Operation) (*operation, error) {
	switch {
	case !slices.Contains(methods, method):
		return nil, invalid(where, "the method %s cannot be a tool", method)
	case source.OperationID == "":
		return nil, invalid(where, "it has no operationId, which would name the tool")
	case !toolName.MatchString(source.OperationID):
		return nil, invalid(where, "its operationId %q cannot name a tool: letters, digits, _ . / and - only, at most 150", clip(source.OperationID, 160))
	}
	if err := sameServers(where, doc, item, source); err != nil {
		return nil, err
	}
	o, err := assemble(newSchemas(where, false), path, method, item, source)
	if errors.Is(err, errHuge) {
		o, err = assemble(newSchemas(where, true), path, method, item, source)
	}
	return o, err
}

// sameServers refuses servers of a path's or an operation's own: the token of
// the target's provider would go there.
func sameServers(where string, doc *openapi3.T, item *openapi3.PathItem, source *openapi3.Operation) error {
	own := item.Servers
	if source.Servers != nil && len(*source.Servers) > 0 {
		own = *source.Servers
	}
	for _, server := range own {
		if server.URL != doc.Servers[0].URL {
			return invalid(where, "it has a server of its own, %s; make it a target of its own", clip(server.URL, 200))
		}
	}
	return nil
}

// assembly is an operation in the making.
type assembly struct {
	*operation
	schemas    *schemas
	where      string
	properties map[string]any // of the input schema
	required   []string
}

func assemble(s *schemas, path, method string, item *openapi3.PathItem, source *openapi3.Operation) (*operation, error) {
	a := &assembly{
		operation:  &operation{Name: source.OperationID, Method: method, Description: cmp.Or(source.Description, source.Summary, item.Description, item.Summary)},
		schemas:    s,
		where:      s.where,
		properties: map[string]any{},
	}
	for _, p := range parametersOf(item, source) {
		if err := a.parameter(p); err != nil {
			return nil, err
		}
	}
	if err := a.template(path); err != nil {
		return nil, err
	}
	if source.RequestBody != nil && source.RequestBody.Value != nil {
		if err := a.body(source.RequestBody.Value); err != nil {
			return nil, err
		}
	}
	root := map[string]any{"type": "object", "properties": a.properties}
	set(root, "required", a.required, len(a.required) > 0)
	if a.Body == nil || !a.Body.Open {
		root["additionalProperties"] = false
	}
	if err := s.finish(root); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(root)
	if err != nil {
		return nil, invalid(a.where, "its schema cannot be written as JSON").Because(err)
	}
	a.Schema = encoded
	return a.operation, nil
}

// parametersOf are the operation's parameters and those of its path that it
// does not replace, in the order path, query, header: the order in which they
// get names.
func parametersOf(item *openapi3.PathItem, source *openapi3.Operation) []*openapi3.Parameter {
	var out []*openapi3.Parameter
	for _, list := range []openapi3.Parameters{source.Parameters, item.Parameters} {
		for _, ref := range list {
			if ref == nil || ref.Value == nil {
				continue
			}
			p := ref.Value
			if !slices.ContainsFunc(out, func(o *openapi3.Parameter) bool { return o.In == p.In && o.Name == p.Name }) {
				out = append(out, p)
			}
		}
	}
	order := []string{openapi3.ParameterInPath, openapi3.ParameterInQuery, openapi3.ParameterInHeader}
	slices.SortStableFunc(out, func(x, y *openapi3.Parameter) int {
		return cmp.Compare(slices.Index(order, x.In), slices.Index(order, y.In))
	})
	return out
}

// name gives an argument its name: the one its place has for it, or, when an
// earlier argument has that name already, place_name.
func (a *assembly) name(p place, wire string) (string, error) {
	if _, taken := a.properties[wire]; !taken {
		return wire, nil
	}
	prefixed := string(p) + "_" + wire
	if _, taken := a.properties[prefixed]; taken {
		return "", invalid(a.where, "the name %q is used several times, and so is %q, which would tell them apart", wire, prefixed)
	}
	return prefixed, nil
}

// add takes an argument in, with the schema that is shown for it. A body's
// required properties are required of the caller only where the body is.
func (a *assembly) add(arg argument, schema any) {
	a.Arguments = append(a.Arguments, arg)
	a.properties[arg.Name] = schema
	if arg.Required && arg.Default == nil && (arg.Place != inBody || a.Body.Required) {
		a.required = append(a.required, arg.Name)
	}
}

// typeOf is the one JSON type that a schema allows, null apart; empty when
// there are several or when it does not say.
func typeOf(schema any) string {
	object, ok := schema.(map[string]any)
	if !ok {
		return ""
	}
	switch t := object["type"].(type) {
	case string:
		return t
	case []string:
		others := slices.DeleteFunc(slices.Clone(t), func(s string) bool { return s == "null" })
		if len(others) == 1 {
			return others[0]
		}
	}
	return ""
}

var parameterInTemplate = regexp.MustCompile(`\{([^{}]+)\}`)

// template splits the path at its slashes and its parameters. A fixed query in
// the template, which OpenAPI does not have but documents do, is kept.
func (a *assembly) template(path string) error {
	path, a.Query, _ = strings.Cut(path, "?")
	if strings.ContainsAny(a.Query, "{}#") || !printable(a.Query) {
		return invalid(a.where, "the query in its path has more than fixed text; declare query parameters")
	}
	for _, part := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		var s segment
		rest := part
		for {
			found := parameterInTemplate.FindStringSubmatchIndex(rest)
			if found == nil {
				break
			}
			name := rest[found[2]:found[3]]
			i := slices.IndexFunc(a.Arguments, func(arg argument) bool { return arg.Place == inPath && arg.Wire == name })
			if i < 0 {
				return invalid(a.where, "the path parameter %q is not declared", name)
			}
			if text := rest[:found[0]]; text != "" {
				s = append(s, piece{Text: escapePath(text)})
			}
			s = append(s, piece{Argument: &i})
			rest = rest[found[1]:]
		}
		if rest != "" || len(s) == 0 {
			s = append(s, piece{Text: escapePath(rest)})
		}
		fixed := parameterInTemplate.ReplaceAllString(part, "")
		decoded, err := url.PathUnescape(part)
		if err != nil || strings.ContainsAny(fixed, "{}#\\") || dots(decoded) {
			return invalid(a.where, "its path is malformed at %q", clip(part, 100))
		}
		a.Path = append(a.Path, s)
	}
	return nil
}
