package server_test

import (
	"fmt"
	"math"
	"strings"
)

// expectation is what a server must answer to a value.
type expectation int

const (
	violated expectation = iota // ValidationException that names the member in fieldList
	mistyped                    // ValidationException, could not be read
	accepted                    // no complaint about a constraint; what the room then says is its own affair
)

// variant is one value of a shape, as JSON, with what is to be answered.
type variant struct {
	what   string // "too long"
	path   string // of the member, as AWS spells it
	json   string
	absent bool   // the member is left out
	text   string // the same where the member does not travel as JSON
	expect expectation
}

// cases makes the values of one service's shapes.
type cases struct{ *serviceModel }

// depth bounds shapes that contain themselves: JSON schemas do.
const depth = 2

func join(path, name string) string {
	switch {
	case path == "":
		return name
	case name == "":
		return path
	}
	return path + "." + name
}

// good is the smallest value that keeps all constraints.
func (c cases) good(shape string, seen map[string]int) string {
	s := c.Shapes[shape]
	switch s.Type {
	case "string":
		return quote(s.sampleText(max(1, bound(s.Min, 0))))
	case "integer", "long", "double", "float":
		return fmt.Sprint(bound(s.Min, min(1, bound(s.Max, 1))))
	case "boolean":
		return "true"
	case "timestamp":
		return "1790000000"
	case "blob":
		return `"aGVsbG8="`
	case "list":
		items := make([]string, max(1, bound(s.Min, 0)))
		for i := range items {
			items[i] = c.good(s.Member.Shape, seen)
		}
		return "[" + strings.Join(items, ",") + "]"
	case "map":
		return "{" + c.good(s.Key.Shape, seen) + ":" + c.good(s.Value.Shape, seen) + "}"
	}
	if s.Document {
		return `{"any":["thing",1]}`
	}
	return "{" + strings.Join(c.members(s, seen, "", ""), ",") + "}"
}

// members are the members of a good structure: the required ones, or a union's
// shallowest. replaced takes the place of the named one, or is added.
func (c cases) members(s *shapeModel, seen map[string]int, name, replaced string) (members []string) {
	if s.Union {
		if name == "" {
			name = c.shallowest(s)
			replaced = c.good(s.Members[name].Shape, seen)
		}
		return []string{quote(name) + ":" + replaced}
	}
	for _, member := range s.names() {
		switch m := s.Members[member]; {
		case m.Location != "":
		case member == name:
			if replaced != "" {
				members = append(members, quote(member)+":"+replaced)
			}
		case s.requires(member):
			members = append(members, quote(member)+":"+c.good(m.Shape, seen))
		}
	}
	return members
}

// shallowest is the member of a union that does not lead back into it.
func (c cases) shallowest(s *shapeModel) string {
	best, lowest := "", math.MaxInt
	for _, name := range s.names() {
		if deep := c.height(s.Members[name].Shape, 0); deep < lowest {
			best, lowest = name, deep
		}
	}
	return best
}

func (c cases) height(shape string, above int) int {
	s := c.Shapes[shape]
	if above > 12 {
		return 100
	}
	deepest := 0
	for _, m := range []*memberModel{s.Member, s.Value} {
		if m != nil {
			deepest = max(deepest, 1+c.height(m.Shape, above+1))
		}
	}
	for name, m := range s.Members {
		if s.requires(name) || s.Union {
			deepest = max(deepest, 1+c.height(m.Shape, above+1))
		}
	}
	return deepest
}

// variants are the values of a shape, at a path: good ones at its bounds, and
// for each constraint ones that break it.
func (c cases) variants(shape, path string, seen map[string]int) []variant {
	if seen[shape] >= depth {
		return nil
	}
	seen[shape]++
	defer func() { seen[shape]-- }()
	switch s := c.Shapes[shape]; s.Type {
	case "string":
		return c.ofText(s, path)
	case "integer", "long", "double", "float":
		return c.ofNumber(s, path)
	case "boolean":
		return c.wrongTypes(path, `"true"`, `1`, `[]`, `{}`)
	case "list":
		return c.ofList(s, path, seen)
	case "map":
		return c.ofMap(s, path, seen)
	case "structure":
		if s.Document {
			deep := strings.Repeat("[", 1000)
			return []variant{
				{what: "a deep document", path: path, json: deep + strings.Repeat("]", 1000), expect: mistyped},
				{what: "half a document", path: path, json: `{"a":`, expect: mistyped},
				{what: "a document with bad UTF-8", path: path, json: "{\"a\":\"\xff\"}", expect: mistyped},
			}
		}
		return c.ofStructure(s, path, seen)
	}
	return nil
}

// wrongTypes are values of other JSON types, and what is no JSON at all.
func (c cases) wrongTypes(path string, values ...string) (all []variant) {
	for _, value := range append(values, `NaN`, `Infinity`, `undefined`, `'single'`, `01`, `1.`, `tru`, "\"\xff\"", "\"\xc3\x28\"", "\"a\nb\"", `"\x"`, `"\ud800"x`, `"open`) {
		all = append(all, variant{what: "the JSON " + shorten(value), path: path, json: value, text: value, expect: mistyped})
	}
	return all
}

func (c cases) ofText(s *shapeModel, path string) []variant {
	all := c.wrongTypes(path, `1`, `true`, `[]`, `{}`, `["a"]`, `{"a":"b"}`)
	add := func(what, text string, expect expectation) {
		all = append(all, variant{what: what, path: path, json: quote(text), text: text, expect: expect})
	}
	if len(s.Enum) > 0 {
		for _, value := range s.Enum {
			add("the value "+value, value, accepted)
		}
		add("a value that the enum lacks", "NOT_IN_THE_ENUM", violated)
		add("a value in the wrong case", flipCase(s.Enum[0]), violated)
		add("an empty value", "", violated)
		return all
	}
	if least := bound(s.Min, 0); least > 0 {
		add("too short", s.sampleText(1)[:0], violated)
		if least > 1 {
			add("too short by one", strings.Repeat("a", least-1), violated)
		}
		add("of the least length", s.sampleText(least), accepted)
	}
	if s.Max != nil {
		most := bound(s.Max, 0)
		add("too long by one", strings.Repeat("a", most+1), violated)
		add("too long by one, in two-byte characters", strings.Repeat("é", most+1), violated)
		if s.Pattern == "" {
			add("of the greatest length", strings.Repeat("a", most), accepted)
			add("of the greatest length, in two-byte characters", strings.Repeat("é", most), accepted)
		}
	}
	for _, text := range s.mismatches() {
		add("off its pattern as "+shorten(quote(text)), text, violated)
	}
	if s.Pattern == "" {
		for what, text := range map[string]string{"with a NUL": "aaa\x00aaa", "with escapes": "\"\\\u2028\u202e'; DROP TABLE accounts;--%s%n", "far out of Unicode's plane": "\U0001f600\U0010ffff"} {
			if len([]rune(text)) <= bound(s.Max, 1<<20) && len([]rune(text)) >= bound(s.Min, 0) {
				add(what, text, accepted)
			}
		}
		if half := s.sampleText(max(1, bound(s.Min, 0))); len(half) < bound(s.Max, 1<<20) {
			all = append(all, variant{what: "half a surrogate pair", path: path, json: `"\ud800` + half + `"`, text: half, expect: accepted})
		}
	}
	return all
}

func (c cases) ofNumber(s *shapeModel, path string) []variant {
	all := c.wrongTypes(path, `"1"`, `true`, `[]`, `{}`, `1e400`, `-1e400`, strings.Repeat("9", 400))
	whole := s.Type == "integer" || s.Type == "long"
	if whole {
		for _, value := range []string{`1.5`, `99999999999999999999`, `1e3`} {
			all = append(all, variant{what: value, path: path, json: value, text: value, expect: mistyped})
		}
	}
	add := func(what, value string, expect expectation) {
		all = append(all, variant{what: what, path: path, json: value, text: value, expect: expect})
	}
	if s.Min != nil {
		add("the least", number(s.Min, 0), accepted)
		add("too little", number(s.Min, -1), violated)
		if !whole {
			add("too little by a thousandth", number(s.Min, -0.001), violated)
		}
	}
	if s.Max != nil {
		add("the greatest", number(s.Max, 0), accepted)
		add("too much", number(s.Max, 1), violated)
	}
	return all
}

func (c cases) ofList(s *shapeModel, path string, seen map[string]int) []variant {
	all := c.wrongTypes(path, `"a"`, `1`, `{}`, `[1,]`, `[,]`, `[null]`)
	item := c.good(s.Member.Shape, seen)
	repeat := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]" }
	if least := bound(s.Min, 0); least > 0 {
		all = append(all, variant{what: "too few items", path: path, json: repeat(least - 1), expect: violated})
	}
	if s.Max != nil {
		all = append(all, variant{what: "too many items", path: path, json: repeat(bound(s.Max, 0) + 1), expect: violated})
	}
	rest := strings.Repeat(","+item, max(0, bound(s.Min, 0)-1))
	for _, inner := range c.variants(s.Member.Shape, join(path, "1.member"), seen) {
		inner.json = "[" + inner.json + rest + "]"
		all = append(all, inner)
	}
	return all
}

func (c cases) ofMap(s *shapeModel, path string, seen map[string]int) []variant {
	all := c.wrongTypes(path, `"a"`, `1`, `[]`, `{1:2}`, `{"a"}`)
	key, value := c.good(s.Key.Shape, seen), c.good(s.Value.Shape, seen)
	if bound(s.Min, 0) > 0 {
		all = append(all, variant{what: "too few entries", path: path, json: "{}", expect: violated})
	}
	if s.Max != nil {
		entries := make([]string, bound(s.Max, 0)+1)
		for i := range entries {
			entries[i] = fmt.Sprintf("%q:%s", fmt.Sprintf("key%d", i), value)
		}
		all = append(all, variant{what: "too many entries", path: path, json: "{" + strings.Join(entries, ",") + "}", expect: violated})
	}
	for _, bad := range c.ofText(c.Shapes[s.Key.Shape], path) {
		if bad.expect == violated {
			all = append(all, variant{what: "a key " + bad.what, path: path, json: "{" + bad.json + ":" + value + "}", expect: violated})
		}
	}
	name := strings.Trim(key, `"`)
	for _, inner := range c.variants(s.Value.Shape, join(path, name+".member"), seen) {
		inner.json = "{" + key + ":" + inner.json + "}"
		all = append(all, inner)
	}
	return all
}

func (c cases) ofStructure(s *shapeModel, path string, seen map[string]int) []variant {
	all := c.wrongTypes(path, `"a"`, `1`, `true`, `[]`, `{"a"}`, `{"a":1,}`)
	if s.Union {
		names := s.names()
		all = append(all,
			variant{what: "a union of nothing", path: path, json: "{}", expect: violated},
			variant{what: "a union of an unknown member", path: path, json: `{"SDK_UNKNOWN_MEMBER":{}}`, expect: violated})
		if len(names) > 1 {
			both := quote(names[0]) + ":" + c.good(s.Members[names[0]].Shape, seen) + "," + quote(names[1]) + ":" + c.good(s.Members[names[1]].Shape, seen)
			all = append(all, variant{what: "a union of two", path: path, json: "{" + both + "}", expect: violated})
		}
	}
	for _, name := range s.names() {
		for _, inner := range c.ofMember(s, name, path, seen) {
			replaced := inner.json
			if inner.absent {
				replaced = ""
			}
			inner.json = "{" + strings.Join(c.members(s, seen, name, replaced), ",") + "}"
			inner.absent = false
			all = append(all, inner)
		}
	}
	return all
}

// ofMember are the values of a structure's member, and its absence.
func (c cases) ofMember(s *shapeModel, name, path string, seen map[string]int) []variant {
	m, at := s.Members[name], join(path, name)
	all := c.variants(m.Shape, at, seen)
	if s.Union {
		return all
	}
	expect := accepted
	if s.requires(name) {
		expect = violated
	}
	return append(all, variant{what: "absent", path: at, absent: true, expect: expect}, variant{what: "null", path: at, json: "null", expect: expect})
}

func flipCase(text string) string {
	if flipped := strings.ToLower(text); flipped != text {
		return flipped
	}
	return strings.ToUpper(text)
}

func shorten(text string) string {
	if len(text) > 30 {
		return text[:27] + "..."
	}
	return text
}
