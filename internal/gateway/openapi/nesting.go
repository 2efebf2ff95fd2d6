package openapi

import (
	"encoding/json"

	"github.com/oasdiff/yaml"
)

// checkNesting refuses a document whose objects and lists lie too deep within
// each other. The parser reads each level anew with all that is in it: 200 KB
// that nest 9000 deep took it half a minute. A document that is neither JSON nor
// YAML is left to the parser, which says what is wrong with it.
func checkNesting(document string) error {
	data := []byte(document)
	depth := 0
	if json.Valid(data) {
		depth = nestingOfJSON(data)
	} else {
		var value any
		// As the parser reads it, aliases written out and bombs refused.
		if _, err := yaml.Unmarshal(data, &value, yaml.DecodeOpts{DisableTimestamps: true}); err == nil {
			depth = nestingOf(value)
		}
	}
	if depth > maxNesting {
		return invalid("", "its objects and lists are nested %d deep; %d is the limit", depth, maxNesting)
	}
	return nil
}

// nestingOfJSON counts the brackets of valid JSON.
func nestingOfJSON(data []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func nestingOf(value any) int {
	deepest := 0
	switch v := value.(type) {
	case map[string]any:
		for _, member := range v {
			deepest = max(deepest, nestingOf(member))
		}
	case []any:
		for _, element := range v {
			deepest = max(deepest, nestingOf(element))
		}
	default:
		return 0
	}
	return deepest + 1
}
