package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// member is one member of a JSON object, in its place. encoding/json would fold
// the case of names, keep the last of two equal ones and drop what it does not
// know: each of them a way to say one thing and mean another.
type member struct {
	name  string
	value json.RawMessage
}

// members takes a JSON object apart; a name that comes twice is refused.
func members(raw json.RawMessage, what string) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return nil, fault.New(fault.Invalid, "%s must be a JSON object.", what)
	}
	var list []member
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return nil, notJSON(err)
		}
		if seen[name] {
			return nil, fault.New(fault.Invalid, "%s has the element %q twice.", what, name)
		}
		seen[name] = true
		m := member{name: name}
		if err := decoder.Decode(&m.value); err != nil {
			return nil, notJSON(err)
		}
		list = append(list, m)
	}
	return list, nil
}

// objects is a JSON object, or an array of them.
func objects(raw json.RawMessage, what string) ([]json.RawMessage, error) {
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' {
		return []json.RawMessage{raw}, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return nil, fault.New(fault.Invalid, "%s must be a JSON object or an array of at least one.", what)
	}
	return list, nil
}

// texts is a JSON string, or an array of at least one. With scalars, numbers and booleans count as the text they are written as.
func texts(raw json.RawMessage, what string, scalars bool) ([]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, notJSON(err)
	}
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	out := make([]string, 0, len(list))
	for _, item := range list {
		switch item := item.(type) {
		case string:
			out = append(out, item)
			continue
		case json.Number:
			if scalars {
				out = append(out, item.String())
				continue
			}
		case bool:
			if scalars {
				out = append(out, map[bool]string{true: "true", false: "false"}[item])
				continue
			}
		}
		return nil, fault.New(fault.Invalid, "%s must be a string or an array of strings.", what)
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Invalid, "%s is an empty array.", what)
	}
	return out, nil
}

// text is one JSON string.
func text(raw json.RawMessage, what string) (string, error) {
	var value *string
	if err := json.Unmarshal(raw, &value); err != nil || value == nil {
		return "", fault.New(fault.Invalid, "%s must be a string.", what)
	}
	return *value, nil
}

// whole checks that source is one JSON value and nothing after it.
func whole(source string) (json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(source)))
	var raw json.RawMessage
	if err := decoder.Decode(&raw); err != nil {
		return nil, notJSON(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "The policy document goes on after its end.")
	}
	return raw, nil
}

func notJSON(err error) error {
	return fault.New(fault.Invalid, "The policy document is not JSON.").Because(err)
}
