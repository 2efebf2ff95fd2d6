package main

import "fmt"

// writeDecoders writes how requests, and what they are made of, are read from JSON.
func writeDecoders(w *writer, u *unit) {
	for _, name := range u.shapes {
		found := u.service.Shapes[name]
		if found.Type != "structure" || !w.world.inputs[found] {
			continue
		}
		goName := w.world.names[u.service][name]
		w.line("func (v *%s) readJSON(d *reader) {", goName)
		w.readMembers(u.service, found)
		w.line("}\n")
		if isInput(u.service, name) {
			w.line("func (v *%s) readBody(d *reader) {", goName)
			w.readBody(u.service, found)
			w.line("}\n")
		}
	}
}

// readBody reads a request's payload, or the whole request. No body is an empty object.
func (w *writer) readBody(s *service, found *shape) {
	if found.Payload == "" {
		w.line("if d.peek() == 0 { d.data = emptyObject; d.pos = 0 }")
		w.line("v.readJSON(d)")
		return
	}
	field := "v." + upper(found.Payload)
	switch r := found.Members[found.Payload]; s.of(r).Type {
	case "blob":
		if s.of(r).Streaming { // the door that has the stream fills it in
			return
		}
		w.line("%s = d.rest()", field)
	case "structure":
		w.line("if d.peek() == 0 { return }")
		w.line("d.enter(%q)\n%s = new(%s)\n%s.readJSON(d)\nd.leave()", found.Payload, field, w.world.names[s][r.Shape], field)
	default:
		panic("no reader of payload " + r.Shape)
	}
}

func (w *writer) readMembers(s *service, parent *shape) {
	var body, scalars []string
	for _, member := range sorted(parent.Members) {
		if parent.Members[member].Location != "" || parent.Payload == member {
			continue
		}
		body = append(body, member)
		if parent.requires(member) && !parent.Union && !nilable(s.of(parent.Members[member])) {
			scalars = append(scalars, member)
		}
	}
	w.line("if !d.object(\"\") { return }")
	if len(scalars) > 0 {
		w.line("var given [%d]bool", len(scalars))
	}
	w.line("for d.member() {")
	if len(body) > 0 {
		w.line("switch string(d.key) {")
		for _, member := range body {
			w.line("case %q:", member)
			w.readMember(s, parent, member)
			for i, scalar := range scalars {
				if scalar == member {
					w.line("given[%d] = true", i)
				}
			}
		}
		w.line("default:\nd.skip()\n}\n}")
	} else {
		w.line("d.skip()\n}")
	}
	for i, scalar := range scalars {
		w.line("if !given[%d] { d.missing(%q) }", i, scalar)
	}
}

// nilable reports whether absence shows in the Go value.
func nilable(found *shape) bool {
	switch found.Type {
	case "structure", "list", "map", "blob":
		return true
	}
	return false
}

func (w *writer) readMember(s *service, parent *shape, member string) {
	r := parent.Members[member]
	found := s.of(r)
	field, name := "v."+upper(member), fmt.Sprintf("%q", member)
	switch {
	case found.Type == "structure" && !found.Document:
		w.line("d.enter(%s)\n%s = new(%s)\n%s.readJSON(d)\nd.leave()", name, field, w.world.names[s][r.Shape], field)
	case nilable(found) || w.memberType(s, parent, member)[0] != '*':
		w.readValue(s, r, field, name, 0, false)
	default:
		w.line("value := %s", w.scalar(s, r, name, false))
		w.line("%s = &value", field)
	}
}

// readValue writes the statements that read one value into a variable.
func (w *writer) readValue(s *service, r *reference, target, name string, depth int, sensitive bool) {
	found := s.of(r)
	sensitive = sensitive || found.Sensitive
	switch {
	case found.Type == "list":
		list, index := fmt.Sprintf("list%d", depth), fmt.Sprintf("i%d", depth)
		w.line("if d.array(%s) {", name)
		w.line("%s := %s{}", list, w.goType(s, r, false, sensitive))
		w.line("for %s := 0; d.element(); %s++ {", index, index)
		w.line("d.item(%s, %s)", name, index)
		item := fmt.Sprintf("item%d", depth)
		w.readItem(s, found.Member, item, depth, sensitive)
		w.line("%s = append(%s, %s)", list, list, item)
		w.line("d.leave()\n}\n%s = %s\n}", target, list)
	case found.Type == "map":
		m, key, item := fmt.Sprintf("map%d", depth), fmt.Sprintf("key%d", depth), fmt.Sprintf("item%d", depth)
		w.line("if d.object(%s) {", name)
		w.line("%s := %s{}", m, w.goType(s, r, false, sensitive))
		w.line("for d.member() {\n%s := string(d.key)", key)
		w.line("d.entry(%s, %s)", name, key)
		w.readItem(s, found.Value, item, depth, sensitive)
		w.line("%s[%s] = %s", m, key, item)
		w.line("d.leave()\n}\n%s = %s\n}", target, m)
	default:
		w.line("%s = %s", target, w.scalar(s, r, name, sensitive))
	}
}

func (w *writer) readItem(s *service, r *reference, item string, depth int, sensitive bool) {
	found := s.of(r)
	switch {
	case found.Type == "structure" && !found.Document:
		w.line("var %s %s\n%s.readJSON(d)", item, w.world.names[s][r.Shape], item)
	case found.Type == "list" || found.Type == "map":
		w.line("var %s %s", item, w.goType(s, r, false, sensitive))
		w.readValue(s, r, item, `""`, depth+1, sensitive)
	default:
		w.line("%s := %s", item, w.scalar(s, r, `""`, sensitive))
	}
}

// scalar is the expression that reads a value without parts.
func (w *writer) scalar(s *service, r *reference, name string, sensitive bool) string {
	found := s.of(r)
	switch {
	case len(found.Enum) > 0:
		return w.world.names[s][r.Shape] + "(d.word(" + name + ", &" + ruleName(s, r.Shape) + "))"
	case found.Type == "string" && (sensitive || found.Sensitive):
		return "secret.New(d.text(" + name + "))"
	case found.Type == "string":
		return "d.text(" + name + ")"
	case found.Type == "integer":
		return "d.integer(" + name + ")"
	case found.Type == "double":
		return "d.double(" + name + ")"
	case found.Type == "boolean":
		return "d.boolean(" + name + ")"
	case found.Document:
		return "json.RawMessage(d.document())"
	}
	panic("no reader of " + found.Type + " " + r.Shape)
}
