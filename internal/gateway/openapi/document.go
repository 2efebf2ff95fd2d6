package openapi

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const (
	maxDocument = 1 << 20 // bytes of an inline document, as AWS has it
	maxNesting  = 150     // objects and lists within each other
	maxTools    = 1000    // of one target, as AWS has it
	maxCompiled = 4 << 20 // bytes of all tools' schemas and descriptions
)

// field is the request member that holds the document.
const field = "targetConfiguration.mcp.openApiSchema.inlinePayload"

// invalid complains about the document, saying where.
func invalid(where, format string, args ...any) *fault.Error {
	complaint := fmt.Sprintf(format, args...)
	if where != "" {
		complaint = where + ": " + complaint
	}
	return fault.InvalidField(field, "The OpenAPI document is not usable: %s", complaint)
}

// compile reads a document, JSON or YAML, and makes its stored form. checkURL
// judges the server.
func compile(document string, checkURL func(string) error) (form *compiled, err error) {
	defer func() {
		// The parser is not ours and reads foreign bytes; a document that makes
		// it panic is a document that is refused.
		if problem := recover(); problem != nil {
			form, err = nil, invalid("", "it cannot be read").Because(fmt.Errorf("panic: %v", problem))
		}
	}()
	doc, err := load(document)
	if err != nil {
		return nil, err
	}
	server, err := serverOf(doc, checkURL)
	if err != nil {
		return nil, err
	}
	form = &compiled{Format: format, Server: server}
	names := map[string]string{}
	size := 0
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		item := doc.Paths.Value(path)
		operations := item.Operations()
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			where := "paths." + path + "." + strings.ToLower(method)
			o, err := compileOperation(where, doc, path, method, item, operations[method])
			if err != nil {
				return nil, err
			}
			if earlier, taken := names[o.Name]; taken {
				return nil, invalid(where, "its operationId %q is also that of %s", o.Name, earlier)
			}
			names[o.Name] = where
			form.Operations = append(form.Operations, *o)
			if size += len(o.Schema) + len(o.Description); size > maxCompiled {
				return nil, invalid(where, "the tools' schemas come to more than %d MB up to here", maxCompiled>>20)
			}
		}
	}
	switch {
	case len(form.Operations) == 0:
		return nil, invalid("paths", "there are no operations, so there would be no tools")
	case len(form.Operations) > maxTools:
		return nil, fault.New(fault.QuotaExceeded, "The OpenAPI document has %d operations; a target may have %d tools.", len(form.Operations), maxTools)
	}
	return form, nil
}

func load(document string) (*openapi3.T, error) {
	switch {
	case strings.TrimSpace(document) == "":
		return nil, invalid("", "it is empty")
	case len(document) > maxDocument:
		return nil, invalid("", "it has %d bytes; an inline document may have %d", len(document), maxDocument)
	case !utf8.ValidString(document):
		return nil, invalid("", "it is not UTF-8 text")
	}
	if err := checkNesting(document); err != nil {
		return nil, err
	}
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = false // and no ReadFromURIFunc, which would bypass it
	doc, err := loader.LoadFromData([]byte(document))
	if err != nil {
		return nil, invalid("", "%s", told(err))
	}
	if swagger, ok := doc.Extensions["swagger"]; ok {
		return nil, invalid("swagger", "version %v is not OpenAPI 3; convert the document to OpenAPI 3.0 or 3.1", swagger)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.0.") && !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		return nil, invalid("openapi", "version %q is not 3.0.x or 3.1.x", clip(doc.OpenAPI, 40))
	}
	// What only examples and defaults get wrong harms nobody; patterns are
	// ECMAScript's, which Go's regexp does not speak.
	err = doc.Validate(context.Background(), openapi3.DisableExamplesValidation(), openapi3.DisableSchemaDefaultsValidation(),
		openapi3.DisableSchemaFormatValidation(), openapi3.DisableSchemaPatternValidation())
	if err != nil {
		return nil, invalid("", "%s", told(err))
	}
	if doc.Paths == nil {
		return nil, invalid("paths", "there are none")
	}
	return doc, nil
}

// serverOf is the one server that every operation of the document goes to. A
// document cannot send some of its operations, and the user's token with them,
// elsewhere: such servers are refused in compileOperation.
func serverOf(doc *openapi3.T, checkURL func(string) error) (string, error) {
	if len(doc.Servers) == 0 {
		return "", invalid("servers", "there is none; the first one has to be the https URL of the API")
	}
	const where = "servers[0].url"
	raw, err := fill(doc.Servers[0])
	if err != nil {
		return "", err
	}
	parsed, err := url.Parse(raw)
	switch {
	case err != nil || parsed.Host == "":
		return "", invalid(where, "it is no absolute URL, such as https://api.example.com/v1")
	case parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "":
		return "", invalid(where, "it must not have a query or a fragment")
	case slices.ContainsFunc(strings.Split(parsed.Path, "/"), dots):
		return "", invalid(where, "its path must not have . or .. segments")
	}
	if err := checkURL(raw); err != nil {
		refused := fault.Of(err)
		return "", invalid(where, "%s", refused.Message).Because(err)
	}
	return strings.TrimRight(parsed.Scheme+"://"+parsed.Host+parsed.EscapedPath(), "/"), nil
}

var variable = regexp.MustCompile(`\{[^{}]*\}`)

// fill puts the server variables' defaults in. A caller never chooses one: that
// would be choosing the host.
func fill(server *openapi3.Server) (string, error) {
	const where = "servers[0]"
	var problem error
	filled := variable.ReplaceAllStringFunc(server.URL, func(found string) string {
		name := found[1 : len(found)-1]
		v := server.Variables[name]
		switch {
		case v == nil || v.Default == "":
			problem = invalid(where, "the variable %q has no default", name)
		case len(v.Enum) > 0 && !slices.Contains(v.Enum, v.Default):
			problem = invalid(where, "the default of the variable %q is not in its enum", name)
		default:
			return v.Default
		}
		return ""
	})
	return filled, problem
}

func dots(segment string) bool { return segment == "." || segment == ".." }

var control = regexp.MustCompile(`[\x00-\x1f\x7f]+`)

// told makes the parser's complaint fit for an answer: one line, bounded.
func told(err error) string { return clip(control.ReplaceAllString(err.Error(), " "), 600) }

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
