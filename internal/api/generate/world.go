package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// world is all services with their Go names settled.
type world struct {
	services []*service
	names    map[*service]map[string]string // shape to Go name, of structures and enums that are reachable
	inputs   map[*shape]bool                // reachable from a request
	outputs  map[*shape]bool                // reachable from a response
	shared   map[string]bool                // Go names that two services have in common
	ruled    map[string]bool                // constraint rules that a file already has
}

// unit is what goes into one set of files: a service's own shapes, or the shared ones.
type unit struct {
	name    string
	service *service
	shapes  []string // sorted by Go name
	own     bool     // has the service's operations
}

// settle decides which shapes become Go types and what they are called. Two
// services may use one name: for the same thing, which is then one Go type, or
// for different things, of which the later service's gets its name in front.
func settle(services []*service) (*world, error) {
	w := &world{services: services, names: map[*service]map[string]string{}, inputs: map[*shape]bool{}, outputs: map[*shape]bool{}, shared: map[string]bool{}, ruled: map[string]bool{}}
	owner := map[string]*service{}
	for _, s := range services {
		w.names[s] = map[string]string{}
		for _, name := range sorted(s.Operations) {
			op := s.Operations[name]
			if owner[name] != nil {
				return nil, fmt.Errorf("operation %s is in two services", name)
			}
			owner[name] = s
			s.reach(&op.Input, w.inputs)
			s.reach(&op.Output, w.outputs)
		}
		for _, name := range sorted(s.Shapes) {
			found := s.Shapes[name]
			if !(w.inputs[found] || w.outputs[found]) || !found.named() {
				continue
			}
			goName := upper(name)
			switch first := owner[goName]; {
			case first == nil:
			case same(first, s, name, map[string]bool{}):
				w.shared[goName] = true
			default:
				goName = upper(s.Name) + goName
				if owner[goName] != nil {
					return nil, fmt.Errorf("%s: no free Go name for shape %s", s.Name, name)
				}
			}
			if owner[goName] == nil {
				owner[goName] = s
			}
			w.names[s][name] = goName
		}
	}
	return w, nil
}

// reach marks what a reference leads to.
func (s *service) reach(r *reference, seen map[*shape]bool) {
	if r.Shape == "" {
		return
	}
	found := s.of(r)
	if seen[found] {
		return
	}
	seen[found] = true
	for _, next := range found.references() {
		s.reach(next, seen)
	}
}

// named reports whether a shape is a Go type of its own.
func (s *shape) named() bool {
	return s.Type == "structure" && !s.Document || s.Type == "string" && len(s.Enum) > 0
}

// same reports whether a shape means the same in two services, all the way down.
func same(a, b *service, name string, seen map[string]bool) bool {
	if seen[name] {
		return true
	}
	seen[name] = true
	one, two := a.Shapes[name], b.Shapes[name]
	if one == nil || two == nil {
		return false
	}
	left, _ := json.Marshal(one)
	right, _ := json.Marshal(two)
	if !bytes.Equal(left, right) {
		return false
	}
	for _, r := range one.references() {
		if !same(a, b, r.Shape, seen) {
			return false
		}
	}
	return true
}

func (w *world) units() []*unit {
	common := &unit{name: "shared"}
	all := []*unit{common}
	for _, s := range w.services {
		own := &unit{name: s.Name, service: s, own: true}
		for _, name := range sorted(w.names[s]) {
			switch goName := w.names[s][name]; {
			case !w.shared[goName]:
				own.shapes = append(own.shapes, name)
			case common.service == nil || common.service == s:
				common.service = s
				common.shapes = append(common.shapes, name)
			}
		}
		all = append(all, own)
	}
	return all
}

// upper makes a model's name a Go name: its first letter upper-cased, nothing else.
func upper(name string) string {
	return strings.ToUpper(name[:1]) + name[1:]
}

// constant is the Go name of an enum's value: CREATE_FAILED becomes CreateFailed.
func constant(value string) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(value, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if word == strings.ToUpper(word) {
			word = strings.ToLower(word)
		}
		b.WriteString(upper(word))
	}
	return b.String()
}

func sorted[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
