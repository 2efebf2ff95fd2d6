package main

import (
	"fmt"
	"slices"
	"strings"
)

// clientFiles are the parts of package client that the model of our own
// operations decides on. It is a package for everybody, so its types are plain:
// pointers for what may be absent, as in the AWS SDK, and no types of package api.
func clientFiles(services []*service) (map[string][]byte, error) {
	s := services[slices.IndexFunc(services, func(s *service) bool { return s.Name == "onbehalf" })]
	reached := map[*shape]bool{}
	for _, name := range sorted(s.Operations) {
		op := s.Operations[name]
		s.reach(&op.Input, reached)
		s.reach(&op.Output, reached)
	}
	for _, found := range s.Shapes {
		if found.Exception {
			for _, r := range found.references() {
				s.reach(r, reached)
			}
		}
	}
	files := map[string][]byte{}
	for name, write := range map[string]func(*clientWriter){
		"operations_gen.go": (*clientWriter).operations, "types_gen.go": (*clientWriter).types, "errors_gen.go": (*clientWriter).errors,
	} {
		w := &clientWriter{writer: writer{packageName: "client"}, service: s, reached: reached}
		write(w)
		var err error
		if files[name], err = w.file(); err != nil {
			return nil, fmt.Errorf("client/%s: %w", name, err)
		}
	}
	return files, nil
}

type clientWriter struct {
	writer
	service *service
	reached map[*shape]bool
}

func (w *clientWriter) operations() {
	for _, name := range sorted(w.service.Operations) {
		op := w.service.Operations[name]
		w.comment(name + " " + lower(string(op.Documentation)))
		w.line("func (c *Client) %s(ctx context.Context, input *%sInput, options ...func(*Options)) (*%sOutput, error) {", name, name, name)
		w.line("if input == nil { input = &%sInput{} }", name)
		w.line("output := new(%sOutput)", name)
		w.line("if err := c.invoke(ctx, %q, input, output, options); err != nil { return nil, err }", name)
		w.line("return output, nil\n}\n")
		if w.service.of(&op.Input).Members["nextToken"] != nil && w.service.of(&op.Output).Members["nextToken"] != nil && !w.service.follows(op) {
			w.paginator(name)
		}
	}
}

// paginator has the method names of the AWS SDK's.
func (w *clientWriter) paginator(name string) {
	w.line("// %sPaginator walks through all pages of %s.", name, name)
	w.line("type %sPaginator struct {\nclient *Client\ninput %sInput\nbegun bool\n}\n", name, name)
	w.line("// New%sPaginator begins where input's NextToken says, or at the beginning.", name)
	w.line("func New%sPaginator(client *Client, input *%sInput) *%sPaginator {", name, name, name)
	w.line("p := &%sPaginator{client: client}\nif input != nil { p.input = *input }\nreturn p\n}\n", name)
	w.line("// HasMorePages reports whether NextPage has something to fetch.")
	w.line("func (p *%sPaginator) HasMorePages() bool { return !p.begun || p.input.NextToken != nil }\n", name)
	w.line("// NextPage fetches a page.")
	w.line("func (p *%sPaginator) NextPage(ctx context.Context, options ...func(*Options)) (*%sOutput, error) {", name, name)
	w.line("if !p.HasMorePages() { return nil, errNoMorePages }")
	w.line("input := p.input\noutput, err := p.client.%s(ctx, &input, options...)\nif err != nil { return nil, err }", name)
	w.line("p.begun, p.input.NextToken = true, output.NextToken\nreturn output, nil\n}\n")
}

func (w *clientWriter) types() {
	for _, name := range sorted(w.service.Shapes) {
		found := w.service.Shapes[name]
		switch {
		case !w.reached[found]:
		case found.Type == "structure":
			w.structure(name, found)
		case len(found.Enum) > 0:
			w.enum(name, found)
		}
	}
}

func (w *clientWriter) structure(name string, found *shape) {
	goName := w.clientName(name)
	doc := goName + " is " + w.purpose(name) + "."
	if found.Documentation != "" {
		doc = goName + " is " + lower(string(found.Documentation))
	}
	w.comment(doc)
	w.line("type %s struct {", goName)
	w.members(found)
	w.line("}\n")
	if found.Payload != "" && w.service.of(found.Members[found.Payload]).Streaming {
		w.line("func (v *%s) stream() io.ReadSeeker { return v.%s }\n", goName, upper(found.Payload))
	}
}

func (w *clientWriter) members(found *shape) {
	for _, member := range sorted(found.Members) {
		r := found.Members[member]
		doc := string(r.Documentation)
		if found.requires(member) {
			doc = strings.TrimSpace(doc + "\nRequired.")
		}
		if doc != "" {
			w.comment(doc)
		}
		if w.service.of(r).Streaming {
			w.line("%s io.ReadSeeker `json:\"-\"`", upper(member))
			continue
		}
		w.line("%s %s `json:\"%s,omitzero\"`", upper(member), w.memberGoType(r), member)
	}
}

// memberGoType is a pointer for all but lists, maps and enums, whose zero value says "absent" already.
func (w *clientWriter) memberGoType(r *reference) string {
	t := w.valueType(r)
	if found := w.service.of(r); found.Type == "list" || found.Type == "map" || len(found.Enum) > 0 {
		return t
	}
	return "*" + t
}

func (w *clientWriter) valueType(r *reference) string {
	found := w.service.of(r)
	switch {
	case found.Type == "structure" || len(found.Enum) > 0:
		return w.clientName(r.Shape)
	case found.Type == "list":
		return "[]" + w.valueType(found.Member)
	case found.Type == "map":
		return "map[string]" + w.valueType(found.Value)
	case found.Type == "timestamp" && found.TimestampFormat == "iso8601":
		return "time.Time"
	}
	if t := map[string]string{"string": "string", "integer": "int32", "long": "int64", "boolean": "bool", "double": "float64"}[found.Type]; t != "" {
		return t
	}
	panic("package client has no type for " + found.Type + " " + r.Shape + " (times are iso8601)")
}

// clientName calls requests and responses what the AWS SDK calls them.
func (w *clientWriter) clientName(name string) string {
	for operation, op := range w.service.Operations {
		switch name {
		case op.Input.Shape:
			return operation + "Input"
		case op.Output.Shape:
			return operation + "Output"
		}
	}
	return upper(name)
}

func (w *clientWriter) purpose(name string) string {
	for operation, op := range w.service.Operations {
		switch name {
		case op.Input.Shape:
			return "what " + operation + " is asked with"
		case op.Output.Shape:
			return "what " + operation + " answers"
		}
	}
	return "a part of inputs and outputs"
}

func (w *clientWriter) enum(name string, found *shape) {
	goName := w.clientName(name)
	doc := goName + " is one of the values below."
	if found.Documentation != "" {
		doc += " " + string(found.Documentation)
	}
	w.comment(doc)
	w.line("type %s string\n\n// The values of %s.\nconst (", goName, goName)
	for _, value := range found.Enum {
		w.line("%s%s %s = %q", goName, constant(value), goName, value)
	}
	w.line(")\n")
}

func (w *clientWriter) errors() {
	var names []string
	for _, name := range sorted(w.service.Shapes) {
		if w.service.Shapes[name].Exception {
			names = append(names, name)
		}
	}
	w.line("// exception makes the error of a name; nil for a name that the model does not have.")
	w.line("func exception(name string) smithy.APIError {\nswitch name {")
	for _, name := range names {
		w.line("case %q:\nreturn new(%s)", name, name)
	}
	w.line("}\nreturn nil\n}\n")
	for _, name := range names {
		found := w.service.Shapes[name]
		fault := "smithy.FaultClient"
		if found.Error.HTTPStatusCode >= 500 {
			fault = "smithy.FaultServer"
		}
		w.line("// %s is what answers of status %d say.", name, found.Error.HTTPStatusCode)
		w.line("type %s struct {", name)
		w.members(found)
		w.line("}\n")
		w.line("// Error is the error's name and message.")
		w.line("func (e *%s) Error() string { return e.ErrorCode() + \": \" + e.ErrorMessage() }\n", name)
		w.line("// ErrorMessage is what the server says.")
		w.line("func (e *%s) ErrorMessage() string { if e.Message == nil { return \"\" }; return *e.Message }\n", name)
		w.line("// ErrorCode is %q.", name)
		w.line("func (e *%s) ErrorCode() string { return %q }\n", name, name)
		w.line("// ErrorFault says whose fault it is.")
		w.line("func (e *%s) ErrorFault() smithy.ErrorFault { return %s }\n", name, fault)
	}
}

// lower continues a sentence.
func lower(text string) string { return strings.ToLower(text[:1]) + text[1:] }

// comment writes prose as a comment.
func (w *clientWriter) comment(text string) {
	for line := range strings.Lines(text) {
		w.line("// %s", strings.TrimSpace(line))
	}
}
