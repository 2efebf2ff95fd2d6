package main

import "fmt"

// writeEncoders writes AppendJSON, the only way a secret gets into a response.
func writeEncoders(w *writer, u *unit) {
	for _, name := range u.shapes {
		found := u.service.Shapes[name]
		if found.Type != "structure" || found.EventStream {
			continue
		}
		goName := w.world.names[u.service][name]
		w.line("// AppendJSON appends v as the wire carries it: secrets in clear, absent members left out.")
		w.line("func (v *%s) AppendJSON(b []byte) []byte {", goName)
		if payload := found.Payload; payload != "" {
			w.encodePayload(u.service, found, payload)
		} else {
			w.line("b = append(b, '{')")
			for _, member := range sorted(found.Members) {
				if found.Members[member].Location == "" {
					w.encodeMember(u.service, found, member)
				}
			}
			w.line("return closeObject(b)")
		}
		w.line("}\n")
	}
}

// encodePayload makes the one payload member the whole body. Blobs and streams
// are not JSON and travel through the payload methods of bind.
func (w *writer) encodePayload(s *service, parent *shape, member string) {
	found := s.of(parent.Members[member])
	switch {
	case found.Document:
		w.line("return append(b, v.%s...)", upper(member))
	case found.Type == "structure" && !found.EventStream:
		w.line("if v.%s == nil { return append(b, `{}`...) }", upper(member))
		w.line("return v.%s.AppendJSON(b)", upper(member))
	default:
		w.line("return b")
	}
}

func (w *writer) encodeMember(s *service, parent *shape, member string) {
	r := parent.Members[member]
	found := s.of(r)
	field := "v." + upper(member)
	required := parent.requires(member) && !parent.Union
	condition, value := "", field
	switch {
	case found.Type == "structure" && !found.Document:
		condition = field + " != nil"
	case found.Document:
		condition = field + " != nil"
	case found.Type == "list" && required:
	case found.Type == "list" || found.Type == "map" || found.Type == "blob":
		condition = field + " != nil"
		if found.Type == "map" && required {
			condition = ""
		}
	case required:
	case len(found.Enum) > 0:
		condition = field + ` != ""`
	case found.Type == "timestamp":
		condition = "!" + field + ".IsZero()"
	default:
		condition, value = field+" != nil", "*"+field
	}
	if condition != "" {
		w.line("if %s {", condition)
	}
	w.line("b = append(b, `%q:`...)", member)
	w.encodeValue(s, r, value, 0, false)
	w.line("b = append(b, ',')")
	if condition != "" {
		w.line("}")
	}
}

func (w *writer) encodeValue(s *service, r *reference, value string, depth int, sensitive bool) {
	found := s.of(r)
	sensitive = sensitive || found.Sensitive
	switch found.Type {
	case "string":
		switch {
		case len(found.Enum) > 0:
			w.line("b = appendString(b, string(%s))", value)
		case sensitive && value[0] == '*':
			w.line("b = appendString(b, %s.Reveal())", value[1:])
		case sensitive:
			w.line("b = appendString(b, %s.Reveal())", value)
		default:
			w.line("b = appendString(b, %s)", value)
		}
	case "integer", "long":
		w.line("b = appendInteger(b, int64(%s))", value)
	case "double", "float":
		w.line("b = appendDouble(b, %s)", value)
	case "boolean":
		w.line("b = appendBoolean(b, %s)", value)
	case "timestamp":
		w.line("b = %s.AppendJSON(b)", value)
	case "blob":
		panic("a blob inside a JSON body: " + r.Shape) // the models have blobs as whole payloads only
	case "list":
		index := fmt.Sprintf("i%d", depth)
		w.line("b = append(b, '[')")
		w.line("for %s := range %s {", index, value)
		w.encodeValue(s, found.Member, value+"["+index+"]", depth+1, sensitive)
		w.line("b = append(b, ',')\n}")
		w.line("b = closeArray(b)")
	case "map":
		key, item := fmt.Sprintf("key%d", depth), fmt.Sprintf("item%d", depth)
		w.line("b = append(b, '{')")
		w.line("for _, %s := range sortedKeys(%s) {", key, value)
		w.line("%s := %s[%s]", item, value, key)
		w.line("b = appendString(b, %s)", key)
		w.line("b = append(b, ':')")
		w.encodeValue(s, found.Value, item, depth+1, sensitive)
		w.line("b = append(b, ',')\n}")
		w.line("b = closeObject(b)")
	case "structure":
		if found.Document {
			w.line("b = append(b, %s...)", value)
			return
		}
		w.line("b = %s.AppendJSON(b)", value)
	}
}
