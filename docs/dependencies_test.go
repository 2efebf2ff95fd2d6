package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every direct dependency says why it is there, and nothing is explained that is gone.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	module, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	explained := explainedModules(string(page))
	required := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(string(module), -1) {
		required[m[1]] = true
		if m[2] == "" && !slices.Contains(explained, m[1]) {
			t.Errorf("go.mod requires %s, and docs/dependencies.md does not say why", m[1])
		}
	}
	for _, path := range explained {
		if !required[path] {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require", path)
		}
	}
	if len(explained) < 20 {
		t.Errorf("found only %q on the page", explained)
	}
}

// explainedModules are the modules in the first column of the page's tables. A
// name without a host is below the module named before it.
func explainedModules(page string) (modules []string) {
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		parent := ""
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			path := name[1]
			if host, _, _ := strings.Cut(path, "/"); strings.Contains(host, ".") {
				parent = path
			} else {
				path = parent + "/" + path
			}
			modules = append(modules, path)
		}
	}
	return modules
}
