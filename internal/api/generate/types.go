package main

import (
	"fmt"
	"strings"
)

func writeEnums(w *writer, u *unit) {
	for _, name := range u.shapes {
		found := u.service.Shapes[name]
		if found.Type != "string" {
			continue
		}
		goName := w.world.names[u.service][name]
		w.line("// %s is one of the values below.", goName)
		w.line("type %s string", goName)
		w.line("// The values of %s.", goName)
		w.line("const (")
		for _, value := range found.Enum {
			w.line("%s%s %s = %q", goName, constant(value), goName, value)
		}
		w.line(")\n")
	}
}

func writeTypes(w *writer, u *unit) {
	for _, name := range u.shapes {
		found := u.service.Shapes[name]
		if found.Type != "structure" {
			continue
		}
		goName := w.world.names[u.service][name]
		w.line("// %s is %s.", goName, purpose(w.world, u.service, name))
		w.line("type %s struct {", goName)
		for _, member := range sorted(found.Members) {
			w.line("%s %s `json:\"%s\"`%s", upper(member), w.memberType(u.service, found, member), jsonTag(u.service, found, member), memberNote(found, member))
		}
		w.line("}\n")
	}
}

// jsonTag keeps members that travel outside the body out of encoding/json.
func jsonTag(s *service, parent *shape, member string) string {
	r := parent.Members[member]
	found := s.of(r)
	if r.Location != "" || found.Streaming || found.EventStream || found.Type == "blob" && parent.Payload == member {
		return "-"
	}
	if parent.requires(member) && !parent.Union {
		return member
	}
	return member + ",omitempty"
}

func memberNote(parent *shape, member string) string {
	var notes []string
	r := parent.Members[member]
	switch r.Location {
	case "uri":
		notes = append(notes, "in the path")
	case "querystring":
		notes = append(notes, fmt.Sprintf("query parameter %s", r.LocationName))
	case "header":
		notes = append(notes, fmt.Sprintf("header %s", r.LocationName))
	case "statusCode":
		notes = append(notes, "HTTP status; 0 is the operation's own")
	}
	if parent.requires(member) && !parent.Union {
		notes = append(notes, "required")
	}
	if r.IdempotencyToken {
		notes = append(notes, "idempotency token")
	}
	if len(notes) == 0 {
		return ""
	}
	return " // " + strings.Join(notes, ", ")
}

// purpose says what a structure is for; the models have no prose to quote.
func purpose(w *world, s *service, name string) string {
	for _, service := range w.services {
		for _, operation := range sorted(service.Operations) {
			switch op := service.Operations[operation]; {
			case service == s && op.Input.Shape == name:
				return "the input of " + operation
			case service == s && op.Output.Shape == name:
				return "the output of " + operation
			}
		}
	}
	found := s.Shapes[name]
	var users []string
	for _, other := range sorted(s.Shapes) {
		for _, r := range s.Shapes[other].references() {
			if r.Shape == name && w.names[s][other] != "" && len(users) < 3 {
				users = append(users, w.names[s][other])
				break
			}
		}
	}
	kind := "a part"
	if found.Union {
		kind = "a union, exactly one of whose members is set; a part"
	}
	if len(users) == 0 {
		return kind + " of lists and maps of the model"
	}
	return kind + " of " + strings.Join(users, ", ")
}
