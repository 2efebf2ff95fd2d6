package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// service is one model file, in botocore's service-2.json format without prose.
type service struct {
	Name       string `json:"-"` // control, data, onbehalf
	Operations map[string]*operation
	Shapes     map[string]*shape
}

type operation struct {
	Name string
	HTTP struct {
		Method, RequestUri string
		ResponseCode       int
	}
	Input, Output    reference
	Errors           []reference
	ErrorsUnverified bool
	Idempotent       bool
	ReadOnly         bool
	Documentation    prose
}

type reference struct {
	Shape            string
	Location         string // uri, querystring, header, statusCode; empty is the body
	LocationName     string
	IdempotencyToken bool
	Documentation    prose
}

// prose is for people; only our own model has some. It is left out when a shape
// is written, because it is no part of what the shape means.
type prose string

func (prose) MarshalJSON() ([]byte, error) { return []byte(`""`), nil }

type shape struct {
	Type            string
	Members         map[string]*reference
	Required        []string
	Member          *reference // of a list
	Key, Value      *reference // of a map
	Min, Max        *json.Number
	Pattern         string
	Enum            []string
	Sensitive       bool
	Union           bool
	Document        bool
	Exception       bool
	Error           struct{ HTTPStatusCode int }
	Payload         string
	EventStream     bool
	Event           bool
	Streaming       bool
	TimestampFormat string
	Documentation   prose
}

// load reads the models in the order in which their names win: control, data, ours.
func load(folder string) ([]*service, error) {
	var services []*service
	for _, name := range []string{"control", "data", "onbehalf"} {
		s := &service{Name: name}
		if err := read(filepath.Join(folder, name+".json"), s); err != nil {
			return nil, err
		}
		services = append(services, s)
	}
	return services, overlay(filepath.Join(folder, "overlay.json"), services)
}

// overlay adds what the models lack, each with its source: constraints, which
// stand in place of the model's, and values of an enum, which come on top of the
// model's (enumAlso). A value that the model has got meanwhile is a mistake, so
// that nothing of AWS's is ever taken for ours.
func overlay(path string, services []*service) error {
	var additions map[string]map[string]json.RawMessage
	if err := read(path, &additions); err != nil {
		return err
	}
	for _, s := range services {
		for _, name := range sorted(additions[s.Name]) {
			var note struct {
				Source   string
				EnumAlso []string
			}
			if err := json.Unmarshal(additions[s.Name][name], &note); err != nil || note.Source == "" {
				return fmt.Errorf("%s: %s has no source", path, name)
			}
			if s.Shapes[name] == nil {
				return fmt.Errorf("%s: the %s model has no shape %s", path, s.Name, name)
			}
			if err := json.Unmarshal(additions[s.Name][name], s.Shapes[name]); err != nil {
				return fmt.Errorf("%s: %s: %w", path, name, err)
			}
			for _, value := range note.EnumAlso {
				if slices.Contains(s.Shapes[name].Enum, value) || len(s.Shapes[name].Enum) == 0 {
					return fmt.Errorf("%s: %s cannot get the value %s: the %s model has it, or has no values at all", path, name, value, s.Name)
				}
				s.Shapes[name].Enum = append(s.Shapes[name].Enum, value)
			}
		}
	}
	return nil
}

func read(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// of gives the shape a reference points at.
func (s *service) of(r *reference) *shape {
	found := s.Shapes[r.Shape]
	if found == nil {
		panic(fmt.Sprintf("%s: no shape %q", s.Name, r.Shape))
	}
	return found
}

// requires reports whether a structure cannot be without the member.
func (s *shape) requires(member string) bool {
	for _, name := range s.Required {
		if name == member {
			return true
		}
	}
	return false
}

// references lists what a shape is made of.
func (s *shape) references() []*reference {
	var all []*reference
	for _, name := range sorted(s.Members) {
		all = append(all, s.Members[name])
	}
	for _, r := range []*reference{s.Member, s.Key, s.Value} {
		if r != nil {
			all = append(all, r)
		}
	}
	return all
}
