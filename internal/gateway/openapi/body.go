package openapi

import (
	"encoding/json"
	"net/url"
	"slices"
)

// content is the body: the arguments' own JSON text under the names that the
// target knows; nil when there is none.
func (o *operation) content(values []json.RawMessage, extras []extra) ([]byte, error) {
	if o.Body == nil {
		return nil, nil
	}
	if o.Body.Media == mediaForm {
		return o.form(values, extras)
	}
	out := []byte{'{'}
	present := o.Body.Required
	member := func(name string, value json.RawMessage) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		quoted, _ := json.Marshal(name)
		out = append(append(append(out, quoted...), ':'), value...)
		present = true
	}
	for i, value := range values {
		switch a := &o.Arguments[i]; {
		case value == nil:
		case a.Place == asBody:
			return value, nil
		case a.Place == inBody:
			member(a.Wire, value)
		}
	}
	for _, e := range extras {
		member(e.name, e.value)
	}
	if !present || slices.ContainsFunc(o.Arguments, func(a argument) bool { return a.Place == asBody }) {
		return nil, nil
	}
	return append(out, '}'), nil
}

func (o *operation) form(values []json.RawMessage, extras []extra) ([]byte, error) {
	pairs := url.Values{}
	size := 0
	add := func(name string, list []string) error {
		for _, text := range list {
			if size += len(name) + len(text); size > maxForm {
				return mistake("The arguments make a form of more than %d MB.", maxForm>>20)
			}
			pairs[name] = append(pairs[name], text)
		}
		return nil
	}
	for i, value := range values {
		a := &o.Arguments[i]
		if a.Place != inBody || value == nil || string(value) == "null" {
			continue
		}
		list, err := texts(a, value)
		if err != nil {
			return nil, err
		}
		if err := add(a.Wire, list); err != nil {
			return nil, err
		}
	}
	for _, e := range extras {
		list, err := texts(&argument{Name: e.name}, e.value)
		if err != nil {
			return nil, err
		}
		if err := add(e.name, list); err != nil {
			return nil, err
		}
	}
	if len(pairs) == 0 && !o.Body.Required {
		return nil, nil
	}
	return []byte(pairs.Encode()), nil
}
