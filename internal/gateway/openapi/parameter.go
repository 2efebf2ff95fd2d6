package openapi

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// parameter takes a path, query or header parameter in. What the document asks
// for beyond the default styles is refused by name rather than sent wrongly.
func (a *assembly) parameter(p *openapi3.Parameter) error {
	where := a.where + ".parameters (" + p.In + " " + p.Name + ")"
	if p.In == openapi3.ParameterInHeader && ignoredHeader(p.Name) {
		return nil
	}
	ref := p.Schema
	arg := argument{Wire: p.Name, Place: place(p.In), Required: p.Required}
	for media, content := range p.Content {
		if !isJSON(media) || content == nil {
			return invalid(where, "its content is %s; only application/json is supported", clip(media, 80))
		}
		arg.JSON, ref = true, content.Schema
	}
	schema, err := a.schemas.of(ref)
	if err != nil {
		return err
	}
	arg.Type = typeOf(schema)
	if err := a.style(where, p, &arg, schema); err != nil {
		return err
	}
	if arg.Name, err = a.name(arg.Place, p.Name); err != nil {
		return err
	}
	if p.Required && ref != nil && ref.Value != nil && ref.Value.Default != nil {
		if arg.Default, err = json.Marshal(ref.Value.Default); err != nil {
			return invalid(where, "its default cannot be written as JSON").Because(err)
		}
	}
	a.add(arg, described(schema, p.Description))
	return nil
}

// style checks how the parameter is to be written.
func (a *assembly) style(where string, p *openapi3.Parameter, arg *argument, schema any) error {
	style := p.Style
	switch p.In {
	case openapi3.ParameterInPath:
		if style != "" && style != openapi3.SerializationSimple {
			return invalid(where, "style %s is not supported; path parameters have style simple", style)
		}
	case openapi3.ParameterInQuery:
		if style != "" && style != openapi3.SerializationForm {
			return invalid(where, "style %s is not supported; query parameters have style form", style)
		}
		arg.Explode = p.Explode == nil || *p.Explode
	case openapi3.ParameterInHeader:
		if deniedHeader(p.Name) {
			return invalid(where, "this header is the gateway's or the connection's own and cannot be an argument")
		}
		if !headerName(p.Name) {
			return invalid(where, "this is no header name")
		}
		if style != "" && style != openapi3.SerializationSimple {
			return invalid(where, "style %s is not supported; headers have style simple", style)
		}
	default:
		return invalid(where, "cookie parameters are not supported")
	}
	if arg.JSON {
		return nil
	}
	if arg.Type == "object" {
		return invalid(where, "an object can only be a parameter with content application/json")
	}
	if arg.Type == "array" && !scalarItems(schema) {
		return invalid(where, "an array of arrays or objects can only be a parameter with content application/json")
	}
	return nil
}

func scalarItems(schema any) bool {
	items := typeOf(schema.(map[string]any)["items"])
	return items != "object" && items != "array"
}

// described gives a schema the parameter's description, where it has none of its own.
func described(schema any, description string) any {
	object, ok := schema.(map[string]any)
	if !ok || description == "" || object["description"] != nil {
		return schema
	}
	object = copied(object)
	object["description"] = description
	return object
}

// body takes the request body in: the properties of an object as arguments of
// their own, anything else as one argument named body.
func (a *assembly) body(source *openapi3.RequestBody) error {
	where := a.where + ".requestBody"
	media, content := chooseMedia(source.Content)
	if content == nil {
		return invalid(where, "it has none of the supported media types, application/json and application/x-www-form-urlencoded")
	}
	a.Body = &body{Media: media, Required: source.Required}
	schema, err := a.schemas.of(content.Schema)
	if err != nil {
		return err
	}
	schema = a.resolved(schema, content.Schema)
	object, flat := flatObject(schema)
	if !flat {
		if media == mediaForm {
			return invalid(where, "a form has to be an object with properties")
		}
		name, err := a.name(inBody, "body")
		if err != nil {
			return err
		}
		a.add(argument{Name: name, Wire: "body", Place: asBody, Required: source.Required, Type: typeOf(schema)}, described(schema, source.Description))
		return nil
	}
	properties, _ := object["properties"].(map[string]any)
	required, _ := object["required"].([]string)
	names := make([]string, 0, len(properties))
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, wire := range names {
		arg := argument{Wire: wire, Place: inBody, Required: slices.Contains(required, wire), Type: typeOf(properties[wire])}
		if arg.Name, err = a.name(inBody, wire); err != nil {
			return err
		}
		a.add(arg, properties[wire])
	}
	additional, said := object["additionalProperties"]
	a.Body.Open = said && additional != false || !said && len(properties) == 0
	return nil
}

// resolved writes out a body's schema that the shared mode put into $defs: its
// properties have to be seen.
func (a *assembly) resolved(schema any, ref *openapi3.SchemaRef) any {
	if object, ok := schema.(map[string]any); ok && object["$ref"] != nil && ref != nil && ref.Value != nil {
		if written, err := a.schemas.inlined(ref); err == nil {
			return written
		}
	}
	return schema
}

// flatObject reports whether a body's schema is an object whose members can be
// arguments: one without alternatives between which members would have to choose.
func flatObject(schema any) (map[string]any, bool) {
	object, ok := schema.(map[string]any)
	if !ok {
		return nil, false
	}
	for _, keyword := range []string{"oneOf", "anyOf", "allOf", "not", "if", "$ref", "patternProperties", "dependentSchemas", "dependentRequired", "minProperties", "maxProperties", "propertyNames"} {
		if object[keyword] != nil {
			return nil, false
		}
	}
	_, properties := object["properties"]
	return object, properties || typeOf(object) == "object"
}

// chooseMedia prefers JSON to forms.
func chooseMedia(content openapi3.Content) (string, *openapi3.MediaType) {
	names := make([]string, 0, len(content))
	for name := range content {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, accepts := range []func(string) bool{func(m string) bool { return essence(m) == mediaJSON }, isJSON} {
		for _, name := range names {
			if accepts(name) && content[name] != nil {
				media := essence(name)
				if strings.Contains(media, "*") {
					media = mediaJSON
				}
				return media, content[name]
			}
		}
	}
	for _, name := range names {
		if essence(name) == mediaForm && content[name] != nil {
			return mediaForm, content[name]
		}
	}
	return "", nil
}

func essence(media string) string {
	parsed, _, err := mime.ParseMediaType(media)
	if err != nil {
		return strings.ToLower(strings.TrimSpace(media))
	}
	return parsed
}

func isJSON(media string) bool {
	m := essence(media)
	return m == mediaJSON || m == "*/*" || strings.HasPrefix(m, "application/") && strings.HasSuffix(m, "+json")
}

// ignoredHeader names the three that OpenAPI itself says to ignore as parameters.
func ignoredHeader(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Accept", "Content-Type", "Authorization":
		return true
	}
	return false
}

// deniedHeader names the headers that no argument may set: they say who calls,
// where to, or how the message is framed.
func deniedHeader(name string) bool {
	canonical := http.CanonicalHeaderKey(name)
	switch canonical {
	case "Host", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Date", "Via", "Forwarded",
		"Cookie", "Set-Cookie", "Www-Authenticate", "Origin", "Referer", "User-Agent", "X-Real-Ip", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override":
		return true
	}
	for _, prefix := range []string{"Proxy-", "Content-", "Accept-Encoding", "X-Forwarded-", "X-Amz-", "X-Amzn-", "Mcp-", "Sec-", "Access-Control-"} {
		if strings.HasPrefix(canonical, prefix) {
			return true
		}
	}
	return false
}

func headerName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}) < 0
}
