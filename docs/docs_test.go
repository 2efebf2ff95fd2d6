// Package docs runs the commands of the documentation, so that what a reader
// copies works: the sh, python and go blocks of README.md, docs/guide and the
// example's README, in the order of the page, in one shell, against the
// platform that the page itself starts.
//
//	page_test.go   finds the blocks and what the page says about them
//	shell_test.go  the shell that they run in, and the person who opens links
//
// A block that cannot run carries a comment with the reason on the line above
// it: <!-- not run: needs a Google account -->
package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// bin is where TestMain puts the command; root is the repository.
var bin, root string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "onbehalf-docs-")
	if err == nil {
		root, err = filepath.Abs("..")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "onbehalf"), "./cmd/onbehalf")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "docs: the command does not build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// pages are the documents whose commands are run, from the root.
func pages(t testing.TB) []string {
	t.Helper()
	guide, err := filepath.Glob(filepath.Join(root, "docs/guide/*.md"))
	if err != nil || len(guide) < 3 {
		t.Fatalf("the guide has %d pages: %v", len(guide), err)
	}
	list := []string{"README.md", "examples/sayhello/README.md", "examples/openaiagent/README.md"}
	for _, path := range guide {
		list = append(list, "docs/guide/"+filepath.Base(path))
	}
	return list
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for _, path := range pages(t) {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			p := readPage(t, path)
			if !slices.ContainsFunc(p.blocks, func(b block) bool { return b.runs() }) {
				return
			}
			need(t, "bash", program("bash") != "")
			s := startShell(t, p)
			for _, b := range p.blocks {
				if !b.runs() {
					continue
				}
				if strings.Contains(b.text, "onbehalf agent launch") && !s.has("namespaces") {
					t.Skip("skipped from here on: this machine's kernel gives no namespaces, and hosts no agents")
				}
				for _, tool := range b.tools() { // a reader without it gets no further
					need(t, tool+", for "+b.where, s.has(tool))
				}
				s.run(b)
			}
		})
	}
}

// Links from page to page, and to files, lead somewhere.
func TestLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, path := range append(pages(t), "docs/rough-edges.md") {
		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(content), -1) {
			target, _, _ := strings.Cut(found[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), target)); err != nil {
				t.Errorf("%s: %s leads nowhere", path, found[1])
			}
		}
	}
}

// need skips on a machine that lacks what a block is run with. In `make test`,
// which installs it all, a missing piece is a failure.
func need(t *testing.T, what string, there bool) {
	t.Helper()
	if there {
		return
	}
	if os.Getenv("ONBEHALF_REQUIRE_ALL") != "" {
		t.Fatalf("%s is missing: make deps installs it", what)
	}
	t.Skipf("skipped from here on: %s is missing; make deps installs it", what)
}

func program(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}
