package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// The model files as the constraint test reads them: by itself, not through the
// generator whose work it examines.

// serviceModel is one file of internal/api/model with the overlay laid over it.
type serviceModel struct {
	Operations map[string]*struct {
		Name string
		HTTP struct{ Method, RequestUri string }
		Input,
		Output memberModel
	}
	Shapes map[string]*shapeModel
}

type memberModel struct {
	Shape        string
	Location     string // uri, querystring, header; empty is the body
	LocationName string
}

type shapeModel struct {
	Type                 string
	Members              map[string]*memberModel
	Required             []string
	Member               *memberModel
	Key, Value           *memberModel
	Min, Max             *json.Number
	Pattern              string
	Enum                 []string
	Union                bool
	Document             bool
	Payload              string
	Streaming, Exception bool
}

const modelFolder = "../api/model"

func readModels(t *testing.T) map[string]*serviceModel {
	t.Helper()
	models := map[string]*serviceModel{}
	var overlay map[string]map[string]json.RawMessage
	readJSON(t, filepath.Join(modelFolder, "overlay.json"), &overlay)
	for _, name := range []string{"control", "data", "onbehalf"} {
		model := &serviceModel{}
		readJSON(t, filepath.Join(modelFolder, name+".json"), model)
		for shape, addition := range overlay[name] {
			if err := json.Unmarshal(addition, model.Shapes[shape]); err != nil {
				t.Fatal(err)
			}
		}
		models[name] = model
	}
	return models
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func (s *shapeModel) requires(member string) bool { return slices.Contains(s.Required, member) }

func (s *shapeModel) names() []string { return slices.Sorted(maps.Keys(s.Members)) }

// bound is a limit of the shape as a whole number.
func bound(n *json.Number, otherwise int) int {
	if n == nil {
		return otherwise
	}
	value, err := n.Float64()
	if err != nil {
		panic(err)
	}
	return int(value)
}

// pattern is a model's pattern, ready to be asked and to be sampled. What Java
// and Go mean differently does not matter for the texts used here: they have
// neither line ends nor odd spaces.
type patternModel struct {
	match *regexp.Regexp
	tree  *syntax.Regexp
}

var (
	patternCache sync.Map
	repetition   = regexp.MustCompile(`\{(\d+),(\d{4,})\}`)
)

func patternOf(text string) *patternModel {
	if known, found := patternCache.Load(text); found {
		return known.(*patternModel)
	}
	// RE2 repeats at most a thousand times, and knows no escaped slash.
	adapted := repetition.ReplaceAllString(strings.ReplaceAll(text, `\/`, `/`), "{$1,1000}")
	tree, err := syntax.Parse(adapted, syntax.Perl)
	if err != nil {
		panic(fmt.Sprintf("pattern %s: %v", text, err))
	}
	p := &patternModel{match: regexp.MustCompile(`\A(?:` + adapted + `)\z`), tree: tree}
	patternCache.Store(text, p)
	return p
}

// sampleText is a text that keeps a string's constraints, as near to the wanted
// length as that goes.
func (s *shapeModel) sampleText(length int) string {
	if len(s.Enum) > 0 {
		return s.Enum[0]
	}
	least := max(bound(s.Min, 0), length)
	if s.Pattern == "" {
		return strings.Repeat("a", least)
	}
	p := patternOf(s.Pattern)
	best := ""
	for repeats := range least + 2 {
		text := stretch(p.tree, repeats)
		if !p.match.MatchString(text) || len(text) > bound(s.Max, 1<<20) {
			continue
		}
		if best = text; len(text) >= least {
			break
		}
	}
	if utf8.RuneCountInString(best) < bound(s.Min, 0) || !p.match.MatchString(best) {
		panic(fmt.Sprintf("no sample for %s of %d characters: %q", s.Pattern, least, best))
	}
	return best
}

// stretch is the text of a pattern in which everything that may be repeated is,
// as often as is said and allowed.
func stretch(tree *syntax.Regexp, repeats int) string {
	parts := func() (all []string) {
		for _, sub := range tree.Sub {
			all = append(all, stretch(sub, repeats))
		}
		return all
	}
	switch tree.Op {
	case syntax.OpLiteral:
		return string(tree.Rune)
	case syntax.OpCharClass:
		for _, preferred := range []rune{'a', 'A', '1', '/', '-'} {
			for i := 0; i+1 < len(tree.Rune); i += 2 {
				if tree.Rune[i] <= preferred && preferred <= tree.Rune[i+1] {
					return string(preferred)
				}
			}
		}
		return string(tree.Rune[0])
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "a"
	case syntax.OpStar:
		return strings.Repeat(stretch(tree.Sub[0], 1), repeats)
	case syntax.OpPlus:
		return strings.Repeat(stretch(tree.Sub[0], 1), max(repeats, 1))
	case syntax.OpRepeat:
		count := max(tree.Min, repeats)
		if tree.Max >= 0 {
			count = min(count, tree.Max)
		}
		return strings.Repeat(stretch(tree.Sub[0], 1), count)
	case syntax.OpAlternate:
		return stretch(tree.Sub[0], repeats)
	case syntax.OpCapture, syntax.OpConcat:
		return strings.Join(parts(), "")
	default: // an optional part, left out; anchors
		return ""
	}
}

// mismatches are texts of an allowed length that a string's pattern refuses.
func (s *shapeModel) mismatches() (texts []string) {
	if s.Pattern == "" {
		return nil
	}
	p, good := patternOf(s.Pattern), s.sampleText(1)
	for _, text := range []string{good + " ", good + "\n", "\n" + good, good + "\x00", good + "é", "!" + good, good + "…\u202e", strings.Repeat(" ", len(good)), "<script>"} {
		length := utf8.RuneCountInString(text)
		if !p.match.MatchString(text) && length >= bound(s.Min, 0) && length <= bound(s.Max, 1<<20) {
			texts = append(texts, text)
		}
	}
	return texts
}

func quote(text string) string {
	if !utf8.ValidString(text) {
		return `"` + text + `"` // on purpose
	}
	quoted, _ := json.Marshal(text) // a string never fails
	return string(quoted)
}

func number(n *json.Number, plus float64) string {
	value, err := n.Float64()
	if err != nil {
		panic(err)
	}
	return strconv.FormatFloat(value+plus, 'f', -1, 64)
}
