package main

import "strings"

// writeBindings writes what does not travel in the JSON body: BindHTTP for
// requests, SetHeaders and payloads for responses, page tokens for both.
func writeBindings(w *writer, u *unit) {
	if !u.own {
		return
	}
	for _, name := range sorted(u.service.Operations) {
		op := u.service.Operations[name]
		w.bindRequest(u.service, op.Input.Shape)
		w.bindResponse(u.service, op.Output.Shape)
		w.pageTokens(u.service, op)
	}
}

func (w *writer) bindRequest(s *service, name string) {
	found, goName := s.Shapes[name], w.world.names[s][name]
	var members []string
	for _, member := range sorted(found.Members) {
		if found.Members[member].Location != "" {
			members = append(members, member)
		}
	}
	used := func(location, argument string) string {
		for _, member := range members {
			if found.Members[member].Location == location {
				return argument
			}
		}
		return "_"
	}
	w.line("// BindHTTP fills in the members that travel in path, query and headers.")
	w.line("func (v *%s) BindHTTP(%s func(string) string, %s url.Values, %s http.Header) error {", goName,
		used("uri", "label"), used("querystring", "query"), used("header", "header"))
	for _, member := range members {
		r := found.Members[member]
		target := s.of(r)
		optional := !found.requires(member)
		field := "v." + upper(member)
		if target.Type == "list" {
			w.line("if values, given := query[%q]; given { %s = values }", r.LocationName, field)
			continue
		}
		source := map[string]string{"uri": "label(%q)", "querystring": "query.Get(%q)", "header": "header.Get(%q)"}[r.Location]
		source = strings.Replace(source, "%q", quote(r.LocationName), 1)
		given := `value := ` + source + `; value != ""`
		if r.Location == "querystring" { // where it can be told apart, empty is not absent
			given = "value := " + source + "; query.Has(" + quote(r.LocationName) + ")"
		}
		if target.Type == "integer" {
			w.line("if %s {", given)
			w.line("number, err := parseInteger(%q, value)\nif err != nil { return err }", member)
			if optional {
				w.line("%s = &number\n}", field)
			} else {
				w.line("%s = number\n}", field)
			}
			continue
		}
		if target.Type != "string" {
			panic("no binding of " + target.Type + " " + name + "." + member)
		}
		convert := func(value string) string {
			switch {
			case len(target.Enum) > 0:
				return w.world.names[s][r.Shape] + "(" + value + ")"
			case target.Sensitive:
				return "secret.New(" + value + ")"
			}
			return value
		}
		if !optional {
			w.line("%s = %s", field, convert(source))
			continue
		}
		star := "&"
		if len(target.Enum) > 0 {
			star = ""
		}
		if convert("value") == "value" || star == "" {
			w.line("if %s { %s = %s }", given, field, star+convert("value"))
		} else {
			w.line("if %s { text := %s; %s = &text }", given, convert("value"), field)
		}
	}
	w.line("return nil\n}\n")
}

func quote(s string) string { return `"` + s + `"` }

func (w *writer) bindResponse(s *service, name string) {
	if name == "" {
		return
	}
	found, goName := s.Shapes[name], w.world.names[s][name]
	var headers []string
	for _, member := range sorted(found.Members) {
		switch r := found.Members[member]; r.Location {
		case "header":
			headers = append(headers, member)
		case "statusCode":
			w.line("// HTTPStatus is the status the handler chose, or 0 for the operation's own.")
			w.line("func (v *%s) HTTPStatus() int {\nif v.%s == nil { return 0 }\nreturn int(*v.%s)\n}\n", goName, upper(member), upper(member))
		}
	}
	if len(headers) > 0 {
		w.line("// SetHeaders writes the members that travel in headers.")
		w.line("func (v *%s) SetHeaders(header http.Header) {", goName)
		for _, member := range headers {
			if found.requires(member) {
				w.line("header.Set(%q, v.%s)", found.Members[member].LocationName, upper(member))
			} else {
				w.line("if v.%s != nil { header.Set(%q, *v.%s) }", upper(member), found.Members[member].LocationName, upper(member))
			}
		}
		w.line("}\n")
	}
	if found.Payload != "" && s.of(found.Members[found.Payload]).Streaming {
		w.line("// Stream is the body, which is no JSON.")
		w.line("func (v *%s) Stream() io.Reader { return v.%s }\n", goName, upper(found.Payload))
	}
}

// follows reports whether an operation's nextToken always comes, also after the
// last of what there is: a place in something that grows, and not a page. It is
// the room's own from end to end.
func (s *service) follows(op *operation) bool {
	return op.Output.Shape != "" && s.of(&op.Output).requires("nextToken")
}

// pageTokens gives wire the nextToken of requests and responses, to seal and open.
func (w *writer) pageTokens(s *service, op *operation) {
	for _, name := range []string{op.Input.Shape, op.Output.Shape} {
		if name == "" || s.Shapes[name].Members["nextToken"] == nil || s.follows(op) {
			continue
		}
		w.line("// PageToken is where the next-page token is.")
		w.line("func (v *%s) PageToken() **string { return &v.NextToken }\n", w.world.names[s][name])
	}
}
