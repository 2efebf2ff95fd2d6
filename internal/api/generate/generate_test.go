package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// The files in the tree are what the generator makes of the models, no more and no fewer.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	t.Parallel()
	files, err := generate("../model")
	if err != nil {
		t.Fatal(err)
	}
	for folder, files := range map[string]map[string][]byte{"..": files.api, "../../../client": files.client} {
		present, err := filepath.Glob(filepath.Join(folder, "*_gen.go"))
		if err != nil {
			t.Fatal(err)
		}
		if len(present) != len(files) {
			t.Errorf("%s: %d generated files in the tree, the generator makes %d", folder, len(present), len(files))
		}
		for name, want := range files {
			if got, err := os.ReadFile(filepath.Join(folder, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s of %s is not current (%v): run go generate ./internal/api", name, folder, err)
			}
		}
	}
}

// RE2 takes every pattern of the models, translated.
func TestEveryPatternCompiles(t *testing.T) {
	t.Parallel()
	services, err := load("../model")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, s := range services {
		for name, found := range s.Shapes {
			if found.Pattern == "" {
				continue
			}
			count++
			if _, err := regexp.Compile(`\A(?:` + translate(found.Pattern) + `)\z`); err != nil {
				t.Errorf("%s %s: %v", s.Name, name, err)
			}
		}
	}
	if count < 90 {
		t.Errorf("only %d patterns: the models have more", count)
	}
}

// An overlay adds values to an enum, and never one that the model has.
func TestOverlayOfEnums(t *testing.T) {
	t.Parallel()
	for overlaid, good := range map[string]bool{
		`{"control": {"Kind": {"enumAlso": ["OURS"], "source": "ours"}}}`:   true,
		`{"control": {"Kind": {"enumAlso": ["THEIRS"], "source": "ours"}}}`: false, // AWS has it by now
		`{"control": {"Kind": {"enumAlso": ["OURS"]}}}`:                     false, // from where?
		`{"control": {"Text": {"enumAlso": ["OURS"], "source": "ours"}}}`:   false, // would close what is open
	} {
		path := filepath.Join(t.TempDir(), "overlay.json")
		if err := os.WriteFile(path, []byte(overlaid), 0o600); err != nil {
			t.Fatal(err)
		}
		kind := &shape{Type: "string", Enum: []string{"THEIRS"}}
		err := overlay(path, []*service{{Name: "control", Shapes: map[string]*shape{"Kind": kind, "Text": {Type: "string"}}}})
		if (err == nil) != good || good && !slices.Equal(kind.Enum, []string{"THEIRS", "OURS"}) {
			t.Errorf("%s: %v, %v", overlaid, kind.Enum, err)
		}
	}
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ java, match, refuse string }{
		{`s3://.{1,2043}`, "s3://bucket/key", "s3://"},
		{`s3://.{1,2043}`, "s3://bucket/key", "s3://a\u2028b"},       // Java's dot stops at every line end
		{`\S*`, "token", "to\vken"},                                  // Java's white space has the vertical tab
		{`[a-z\s]+`, "a\vb", "A"},                                    // also inside a class
		{`(a.c){2}`, "abcabc", "abc"},                                // a group is repeated whole
		{`[A-Za-z0-9_.-:]+`, "a/b", "a b"},                           // a range in the middle
		{`a{1,1001}`, "aa", ""},                                      // more often than RE2 repeats
		{`\w+:(\/?\/?)[^\s]+`, "myapp:callback", "no scheme at all"}, // escaped slashes
	} {
		re, err := regexp.Compile(`\A(?:` + translate(test.java) + `)\z`)
		if err != nil {
			t.Errorf("%s: %v", test.java, err)
			continue
		}
		if !re.MatchString(test.match) {
			t.Errorf("%s does not match %q", test.java, test.match)
		}
		if re.MatchString(test.refuse) {
			t.Errorf("%s matches %q", test.java, test.refuse)
		}
	}
}

// One name in two services is one type where it means the same, all the way
// down, and two types where it does not.
func TestSettleNamesOfTwoServices(t *testing.T) {
	t.Parallel()
	model := func(name, verb, depth string) *service {
		s := &service{Name: name, Operations: map[string]*operation{}, Shapes: map[string]*shape{
			"Same":           {Type: "structure", Members: map[string]*reference{"a": {Shape: "Text"}}},
			"Different":      {Type: "structure", Members: map[string]*reference{"inner": {Shape: "Inner"}}},
			"Inner":          {Type: "structure", Members: map[string]*reference{depth: {Shape: "Text"}}},
			"Text":           {Type: "string"},
			verb + "Request": {Type: "structure", Members: map[string]*reference{"same": {Shape: "Same"}, "different": {Shape: "Different"}}},
		}}
		s.Operations[verb] = &operation{Name: verb, Input: reference{Shape: verb + "Request"}}
		return s
	}
	control, data := model("control", "PutThing", "one"), model("data", "UseThing", "two")
	w, err := settle([]*service{control, data})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		service     *service
		shape, want string
	}{
		{control, "Same", "Same"}, {data, "Same", "Same"},
		{control, "Different", "Different"}, {data, "Different", "DataDifferent"},
		{control, "Inner", "Inner"}, {data, "Inner", "DataInner"},
	} {
		if got := w.names[test.service][test.shape]; got != test.want {
			t.Errorf("%s's %s is called %q, want %q", test.service.Name, test.shape, got, test.want)
		}
	}
	var shared []string
	for _, u := range w.units() {
		if u.name == "shared" {
			shared = u.shapes
		}
	}
	if len(shared) != 1 || shared[0] != "Same" {
		t.Errorf("shared shapes are %v, want Same alone", shared)
	}
}

func TestOperationInTwoServicesIsRefused(t *testing.T) {
	t.Parallel()
	one := &service{Name: "control", Operations: map[string]*operation{"Get": {}}, Shapes: map[string]*shape{}}
	two := &service{Name: "data", Operations: map[string]*operation{"Get": {}}, Shapes: map[string]*shape{}}
	if _, err := settle([]*service{one, two}); err == nil {
		t.Error("no error")
	}
}

func TestConstantNames(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"CREATE_FAILED": "CreateFailed", "GoogleOauth2": "GoogleOauth2", "M2M": "M2m", "agentcore-gateway": "AgentcoreGateway", "CUSTOM_JWT": "CustomJwt",
	} {
		if got := constant(value); got != want {
			t.Errorf("%s is %s, want %s", value, got, want)
		}
	}
}
