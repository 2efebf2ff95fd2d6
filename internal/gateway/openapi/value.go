package openapi

import (
	"bytes"
	"encoding/json"
	"strings"
)

// fits compares JSON types. A number as a string is let through where it is
// written as text anyway.
func fits(a *argument, value json.RawMessage) bool {
	kind := kindOf(value)
	if a.Type == "" || kind == "null" || kind == a.Type {
		return true
	}
	if a.Type == "integer" && kind == "number" {
		return !bytes.ContainsAny(value, ".eE") || integral(value)
	}
	if a.Place == inBody || a.Place == asBody || a.JSON {
		return false
	}
	switch a.Type {
	case "string":
		return kind == "number" || kind == "boolean"
	case "integer", "number":
		text, ok := plain(value)
		return ok && kind == "string" && json.Valid([]byte(text)) && kindOf([]byte(text)) == "number" && text == strings.TrimSpace(text)
	case "boolean":
		return string(value) == `"true"` || string(value) == `"false"`
	case "array":
		return kind != "object" // one element without its brackets
	}
	return false
}

func integral(value []byte) bool {
	var number json.Number
	if json.Unmarshal(value, &number) != nil {
		return false
	}
	f, err := number.Float64()
	return err == nil && f == float64(int64(f))
}

func kindOf(value []byte) string {
	if len(value) == 0 {
		return ""
	}
	switch value[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// plain is the text of a scalar: a string's content, any other scalar's JSON
// text, digit for digit.
func plain(value json.RawMessage) (string, bool) {
	switch kindOf(value) {
	case "string":
		if bytes.IndexByte(value, '\\') < 0 {
			return string(value[1 : len(value)-1]), true
		}
		var s string
		err := json.Unmarshal(value, &s)
		return s, err == nil
	case "number", "boolean":
		return string(value), true
	}
	return "", false
}

// texts are the texts of a scalar or of an array of scalars.
func texts(a *argument, value json.RawMessage) ([]string, error) {
	if a.JSON {
		return []string{string(value)}, nil
	}
	if kindOf(value) != "array" {
		text, ok := plain(value)
		if !ok {
			return nil, mistake("The argument %q must be a string, a number or a boolean.", a.Name)
		}
		return []string{text}, nil
	}
	if len(value) > maxList {
		return nil, mistake("The argument %q is a list of more than %d KB.", a.Name, maxList>>10)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, mistake("The argument %q is no JSON array.", a.Name)
	}
	out := make([]string, 0, len(list))
	for _, element := range list {
		text, ok := plain(bytes.TrimSpace(element))
		if !ok {
			return nil, mistake("The elements of the argument %q must be strings, numbers or booleans.", a.Name)
		}
		out = append(out, text)
	}
	return out, nil
}
