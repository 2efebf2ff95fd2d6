package gateway

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// The relay reads JSON without decoding it: it finds the members it needs and
// hands the rest on as the bytes that came. encoding/json's structs would not
// do: they match keys without regard to case and let the last of two equal keys
// win, and then two readers of one message (a header check, a policy, a target)
// may see different things. Here keys are exact and a repeated key is refused.

var (
	errNotJSON   = errors.New("not valid JSON")
	errNotObject = errors.New("not a JSON object")
	errRepeated  = errors.New("a member name is repeated")
	errMany      = errors.New("an object of more than 10000 members")
	errNotText   = errors.New("not valid UTF-8")
)

// checkJSON reports whether data is one JSON value in valid UTF-8. members and
// elements rely on it having been asked.
func checkJSON(data []byte) error {
	if !json.Valid(data) {
		return errNotJSON
	}
	if !utf8.Valid(data) {
		return errNotText
	}
	return nil
}

// member is one member of an object: the decoded name and the value's bytes.
type member struct {
	name  string
	value json.RawMessage
}

// maxMembers bounds what an object of a few bytes per member costs: in memory
// each is worth some 200, and a body may have 6 MB.
const maxMembers = 10_000

// members splits an object of valid JSON. The values alias data.
func members(data []byte, into []member) ([]member, error) {
	i := space(data, 0)
	if i >= len(data) || data[i] != '{' {
		return nil, errNotObject
	}
	i = space(data, i+1)
	var seen map[string]bool // only of large objects
	for data[i] != '}' {
		if len(into) >= maxMembers {
			return nil, errMany
		}
		end := skip(data, i)
		name, err := unquote(data[i:end])
		if err != nil {
			return nil, err
		}
		if seen, err = distinct(seen, into, name); err != nil {
			return nil, err
		}
		i = space(data, space(data, end)+1) // past the colon
		end = skip(data, i)
		into = append(into, member{name, data[i:end]})
		i = space(data, end)
		if data[i] == ',' {
			i = space(data, i+1)
		}
	}
	return into, nil
}

// distinct refuses a repeated name: by looking at all of a small object, by a
// set of a large one, so that a hostile body costs no quadratic time.
func distinct(seen map[string]bool, earlier []member, name string) (map[string]bool, error) {
	const small = 24
	if len(earlier) < small {
		for i := range earlier {
			if earlier[i].name == name {
				return nil, errRepeated
			}
		}
		return nil, nil
	}
	if seen == nil {
		seen = make(map[string]bool, 4*small)
		for i := range earlier {
			seen[earlier[i].name] = true
		}
	}
	if seen[name] {
		return nil, errRepeated
	}
	seen[name] = true
	return seen, nil
}

// elements splits an array of valid JSON, handing each element to yield until
// yield says no.
func elements(data []byte, yield func([]byte) bool) {
	i := space(data, space(data, 0)+1)
	for data[i] != ']' {
		end := skip(data, i)
		if !yield(data[i:end]) {
			return
		}
		i = space(data, end)
		if data[i] == ',' {
			i = space(data, i+1)
		}
	}
}

// space skips white space from i on.
func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

// skip finds the end of the value that begins at i. The data is valid JSON.
func skip(data []byte, i int) int {
	switch data[i] {
	case '"':
		return skipString(data, i)
	case '{', '[':
		depth := 0
		for {
			switch data[i] {
			case '"':
				i = skipString(data, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(data) {
		switch data[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
	return i
}

func skipString(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote decodes a JSON string of valid JSON.
func unquote(data []byte) (string, error) {
	for _, c := range data[1 : len(data)-1] {
		if c == '\\' {
			var text string
			err := json.Unmarshal(data, &text)
			return text, err
		}
	}
	return string(data[1 : len(data)-1]), nil
}

// text decodes a value that must be a string.
func text(value json.RawMessage) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	s, err := unquote(value)
	return s, err == nil
}

// isObject and isArray look at a value's first byte; members and elements leave
// no white space before it.
func isObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }
func isArray(value []byte) bool  { return len(value) > 0 && value[0] == '[' }

const hexDigits = "0123456789abcdef"

// unescaped marks the bytes that a JSON string carries as they are, the parts of
// well-formed UTF-8 among them.
var unescaped = func() (table [256]bool) {
	for c := ' '; c < 256; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

// appendText appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendText[T ~string | ~[]byte](out []byte, s T) []byte {
	if !valid(s) {
		return appendText(out, strings.ToValidUTF8(string(s), "\uFFFD"))
	}
	out = append(out, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if unescaped[c] {
			continue
		}
		out = append(out, s[start:i]...)
		switch c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\n':
			out = append(out, '\\', 'n')
		case '\r':
			out = append(out, '\\', 'r')
		case '\t':
			out = append(out, '\\', 't')
		default:
			out = append(out, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		start = i + 1
	}
	return append(append(out, s[start:]...), '"')
}

func valid[T ~string | ~[]byte](s T) bool {
	switch v := any(s).(type) {
	case string:
		return utf8.ValidString(v)
	case []byte:
		return utf8.Valid(v)
	}
	return utf8.ValidString(string(s))
}
