package main

import (
	"fmt"
	"strings"
)

// writeValidators writes Validate for requests and validate for what they are
// made of, and one rule per constrained shape.
func writeValidators(w *writer, u *unit) {
	if u.service == nil {
		return
	}
	for _, name := range u.shapes {
		found := u.service.Shapes[name]
		if found.Type != "structure" || !w.world.inputs[found] {
			continue
		}
		goName := w.world.names[u.service][name]
		if isInput(u.service, name) {
			w.line("// Validate names every constraint that v breaks; nil is a good request.")
			w.line("func (v *%s) Validate() []fault.Field {", goName)
			if w.constrained(u.service, found, map[*shape]bool{}) {
				w.line("var c checker\nv.validate(&c)\nreturn c.fields\n}\n")
			} else {
				w.line("return nil\n}\n")
			}
		}
		if !w.constrained(u.service, found, map[*shape]bool{}) {
			continue
		}
		w.line("func (v *%s) validate(c *checker) {", goName)
		w.checkMembers(u.service, found)
		w.line("}\n")
	}
	w.rules(u)
}

func isInput(s *service, name string) bool {
	for _, op := range s.Operations {
		if op.Input.Shape == name {
			return true
		}
	}
	return false
}

// constrained reports whether there is anything to check in a shape or below it.
func (w *writer) constrained(s *service, found *shape, seen map[*shape]bool) bool {
	if seen[found] {
		return false
	}
	seen[found] = true
	if found.Streaming { // its length is known when it has been read, and the door bounds it
		return false
	}
	if found.Min != nil || found.Max != nil || found.Pattern != "" || len(found.Enum) > 0 || found.Union {
		return true
	}
	for name, r := range found.Members {
		next := s.of(r)
		if found.requires(name) && (next.Type == "structure" || next.Type == "list" || next.Type == "map" || next.Type == "blob") {
			return true
		}
	}
	for _, r := range found.references() {
		if w.constrained(s, s.of(r), seen) {
			return true
		}
	}
	return false
}

func (w *writer) checkMembers(s *service, parent *shape) {
	if parent.Sensitive {
		w.line("c.hidden++")
		w.line("defer func() { c.hidden-- }()")
	}
	if parent.Union {
		var set, names []string
		for _, member := range sorted(parent.Members) {
			if len(s.of(parent.Members[member]).Enum) > 0 {
				set = append(set, fmt.Sprintf("v.%s != \"\"", upper(member)))
			} else {
				set = append(set, fmt.Sprintf("v.%s != nil", upper(member)))
			}
			names = append(names, member)
		}
		w.line("c.union(%q, %s)", strings.Join(names, ", "), strings.Join(set, ", "))
	}
	for _, member := range sorted(parent.Members) {
		r := parent.Members[member]
		found := s.of(r)
		field := "v." + upper(member)
		required := parent.requires(member) && !parent.Union
		nilable := found.Type == "structure" || found.Type == "list" || found.Type == "map" || found.Type == "blob"
		if required && nilable && !found.Streaming && !found.EventStream {
			w.line("if %s == nil { c.missing(%q) }", field, member)
		}
		if !w.constrained(s, found, map[*shape]bool{}) {
			continue
		}
		switch {
		case found.Type == "structure":
			w.line("if %s != nil { c.enter(%q); %s.validate(c); c.leave() }", field, member, field)
		case nilable:
			w.line("if %s != nil {", field)
			w.check(s, r, fmt.Sprintf("%q", member), field, 0, false)
			w.line("}")
		case len(found.Enum) > 0 && !required:
			w.line("if %s != \"\" {", field)
			w.check(s, r, fmt.Sprintf("%q", member), field, 0, false)
			w.line("}")
		case required:
			w.check(s, r, fmt.Sprintf("%q", member), field, 0, false)
		default:
			w.line("if %s != nil {", field)
			w.check(s, r, fmt.Sprintf("%q", member), "*"+field, 0, false)
			w.line("}")
		}
	}
}

// check writes the checks of one value; name is the Go expression of its last path step.
func (w *writer) check(s *service, r *reference, name, value string, depth int, sensitive bool) {
	found := s.of(r)
	sensitive = sensitive || found.Sensitive
	rule := ruleName(s, r.Shape)
	switch found.Type {
	case "string":
		switch {
		case len(found.Enum) > 0:
			w.line("c.enum(%s, string(%s), &%s)", name, value, rule)
		case sensitive:
			w.line("c.secret(%s, %s, &%s)", name, value, rule)
		default:
			w.line("c.text(%s, %s, &%s)", name, value, rule)
		}
	case "integer", "long":
		w.line("c.integer(%s, int64(%s), &%s)", name, value, rule)
	case "double", "float":
		w.line("c.double(%s, %s, &%s)", name, value, rule)
	case "blob":
		w.line("c.size(%s, len(%s), &%s)", name, value, rule)
	case "list":
		if found.Min != nil || found.Max != nil {
			w.line("c.size(%s, len(%s), &%s)", name, value, rule)
		}
		if !w.constrained(s, s.of(found.Member), map[*shape]bool{}) {
			return
		}
		index := fmt.Sprintf("i%d", depth)
		w.line("for %s := range %s {", index, value)
		w.line("c.item(%s, %s)", name, index)
		w.checkItem(s, found.Member, value+"["+index+"]", depth, sensitive)
		w.line("c.leave()\n}")
	case "map":
		if found.Min != nil || found.Max != nil {
			w.line("c.size(%s, len(%s), &%s)", name, value, rule)
		}
		keys := w.constrained(s, s.of(found.Key), map[*shape]bool{})
		values := w.constrained(s, s.of(found.Value), map[*shape]bool{})
		if !keys && !values {
			return
		}
		key, item := fmt.Sprintf("key%d", depth), fmt.Sprintf("item%d", depth)
		if values {
			w.line("for %s, %s := range %s {", key, item, value)
		} else {
			w.line("for %s := range %s {", key, value)
		}
		if keys {
			w.line("c.key(%s, %s, &%s)", name, key, ruleName(s, found.Key.Shape))
		}
		if values {
			w.line("c.entry(%s, %s)", name, key)
			w.checkItem(s, found.Value, item, depth, sensitive)
			w.line("c.leave()")
		}
		w.line("}")
	}
}

func (w *writer) checkItem(s *service, r *reference, value string, depth int, sensitive bool) {
	if found := s.of(r); found.Type == "structure" && !found.Document {
		w.line("%s.validate(c)", value)
		return
	}
	w.check(s, r, `""`, value, depth+1, sensitive)
}

func ruleName(s *service, shape string) string { return s.Name + "Rule" + upper(shape) }

// rules writes the constraints of a service's simple shapes. They are one set
// per service, because the same simple name may be bound differently in another.
func (w *writer) rules(u *unit) {
	source := w.body.String()
	for _, service := range w.world.services {
		for _, name := range sorted(service.Shapes) {
			rule := ruleName(service, name)
			if w.world.ruled[rule] || !strings.Contains(source, "&"+rule+")") {
				continue
			}
			w.world.ruled[rule] = true
			found := service.Shapes[name]
			var parts []string
			add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
			if found.Min != nil {
				add("least: %s", *found.Min)
			}
			if found.Max != nil {
				add("most: %s, bounded: true", *found.Max)
			}
			if found.Min != nil && (found.Type == "integer" || found.Type == "long" || found.Type == "double") {
				add("floored: true")
			}
			if found.Pattern != "" {
				add("pattern: newPattern(%q, %q)", found.Pattern, translate(found.Pattern))
			}
			if len(found.Enum) > 0 {
				add("values: %#v", found.Enum)
			}
			w.line("var %s = rule{%s}", rule, strings.Join(parts, ", "))
		}
	}
}
