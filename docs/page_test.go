package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is one fenced block of a page.
type block struct {
	where    string // page and line, for messages
	language string
	text     string
	reason   string // why it is not run; empty: it is
}

// languages are those of what a reader runs; others are output, files, pictures.
var languages = []string{"sh", "python", "go"}

func (b block) runs() bool { return b.reason == "" && slices.Contains(languages, b.language) }

// tools are the programs that a block needs besides Go and bash.
func (b block) tools() []string {
	if b.language == "python" {
		return []string{"python"}
	}
	var needed []string
	for _, tool := range []string{"aws", "curl", "openssl", "python"} {
		if b.language == "sh" && regexp.MustCompile(`(?m)(^|[\s(|])`+tool+` `).MatchString(b.text) {
			needed = append(needed, tool)
		}
	}
	if strings.Contains(b.text, "docs/guide/demo/") {
		needed = append(needed, "curl", "openssl")
	}
	return needed
}

// page is a document and its blocks, in their order.
type page struct {
	path   string
	blocks []block
}

// needsRepository reports whether the page's reader is in the repository's
// folder. Others may write where they are.
func (p page) needsRepository() bool {
	return slices.ContainsFunc(p.blocks, func(b block) bool {
		return b.runs() && (b.language == "go" || regexp.MustCompile(`(\./|\bdocs/guide/)`).MatchString(b.text))
	})
}

var (
	fence  = regexp.MustCompile("^( *)```([a-z]*)$")
	notRun = regexp.MustCompile(`^ *<!-- not run: (.+) -->$`)
)

func readPage(t testing.TB, path string) page {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	p, err := parse(path, string(content))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// parse finds the blocks. A block in a list is indented with it.
func parse(path, content string) (page, error) {
	p := page{path: path}
	var open *block
	indent, previous := "", ""
	for i, line := range strings.Split(content, "\n") {
		marks := fence.FindStringSubmatch(line)
		switch {
		case open == nil && marks != nil:
			indent, open = marks[1], &block{where: fmt.Sprintf("%s:%d", path, i+1), language: marks[2]}
			if reason := notRun.FindStringSubmatch(previous); reason != nil {
				open.reason = reason[1]
			}
			if open.language == "" {
				return p, fmt.Errorf("%s: a block without a language: sh is run, text is not", open.where)
			}
		case open != nil && marks != nil && marks[2] == "":
			p.blocks, open = append(p.blocks, *open), nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		}
		previous = line
	}
	if open != nil {
		return p, fmt.Errorf("%s: a block that does not end", open.where)
	}
	return p, nil
}

func TestParse(t *testing.T) {
	t.Parallel()
	const text = "a\n```sh\none\n  two\n```\n\n1. list\n\n   ```sh\n   three\n     four\n   ```\n<!-- not run: needs a reason -->\n```sh\nfive\n```\n```text\nsix\n```\n"
	p, err := parse("p", text)
	if err != nil {
		t.Fatal(err)
	}
	want := []block{
		{"p:2", "sh", "one\n  two\n", ""}, {"p:9", "sh", "three\n  four\n", ""}, {"p:14", "sh", "five\n", "needs a reason"}, {"p:17", "text", "six\n", ""},
	}
	if !slices.Equal(p.blocks, want) {
		t.Errorf("got %+v", p.blocks)
	}
	if p.needsRepository() || !(page{blocks: []block{{language: "sh", text: "go run ./examples/sayhello"}}}).needsRepository() {
		t.Error("it runs in another folder")
	}
	if !want[0].runs() || want[2].runs() || want[3].runs() {
		t.Error("what runs is another thing")
	}
	for _, wrong := range []string{"```\nx\n```\n", "```sh\nx\n"} {
		if _, err := parse("p", wrong); err == nil {
			t.Errorf("%q is fine", wrong)
		}
	}
	if got := (block{language: "sh", text: "X=$(aws x)\ncurl y | python -c z\n"}).tools(); !slices.Equal(got, []string{"aws", "curl", "python"}) {
		t.Errorf("it needs %v", got)
	}
}
