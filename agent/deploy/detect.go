package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Undecided is what a folder does not say by itself.
type Undecided struct {
	Setting string   // the key in the settings file
	Choices []string // what it may be; none where nothing fits
}

func (u *Undecided) Error() string {
	if len(u.Choices) == 0 {
		return "the " + u.Setting + " cannot be found out from the folder"
	}
	return fmt.Sprintf("the %s may be %s", u.Setting, strings.Join(u.Choices, ", "))
}

// Detect fills in what the settings leave open, as the folder has it: language,
// entry point, requirements, name. The error is an [*Undecided] where only a person can say.
func (a *Agent) Detect() error {
	if a.Language == "" {
		language, err := a.detectLanguage()
		if err != nil {
			return err
		}
		a.Language = language
	}
	if err := a.detectEntrypoint(); err != nil {
		return err
	}
	if a.Language == Python {
		a.detectPython()
		if a.Requirements != "" && !isFile(filepath.Join(a.Folder(), a.Requirements)) {
			return fmt.Errorf("the requirements %s are not in %s", a.Requirements, a.Folder())
		}
	}
	if a.Name == "" {
		a.Name = nameOf(a.Folder())
	}
	if a.Name == "" {
		return &Undecided{Setting: "name"}
	}
	return a.Check()
}

// languageOf tells a language by the name of a file.
func languageOf(name string) Language {
	switch path.Ext(name) {
	case ".py":
		return Python
	case ".js", ".mjs", ".cjs", ".ts", ".mts":
		return Node
	case ".go":
		return Go
	}
	return ""
}

func (a *Agent) detectLanguage() (Language, error) {
	if a.Entrypoint != "" {
		commandLine := strings.Contains(a.Entrypoint, " ") && !isFile(filepath.Join(a.Folder(), a.Entrypoint)) // python3 agent.py
		if l := languageOf(a.Entrypoint); l != "" && !commandLine {
			return l, nil
		}
		if isMain(filepath.Join(a.Folder(), a.Entrypoint)) {
			return Go, nil
		}
		return Command, nil
	}
	var found []Language
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return isFile(filepath.Join(a.Folder(), name)) })
	}
	if has("requirements.txt", "pyproject.toml") {
		found = append(found, Python)
	}
	if has("package.json") {
		found = append(found, Node)
	}
	if has("go.mod") || isMain(a.Folder()) {
		found = append(found, Go)
	}
	if len(found) == 0 && len(filesOf(a.Folder(), ".py")) > 0 {
		found = append(found, Python)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	undecided := &Undecided{Setting: "language"}
	for _, l := range found {
		undecided.Choices = append(undecided.Choices, string(l))
	}
	return "", undecided
}

// detectEntrypoint finds what is started, or looks whether it is there.
func (a *Agent) detectEntrypoint() error {
	if a.Entrypoint != "" {
		return a.checkEntrypoint()
	}
	var found []string
	switch a.Language {
	case Python:
		found = preferred(filesOf(a.Folder(), ".py"), "agent.py", "main.py", "app.py")
	case Node:
		found = a.nodeEntrypoints()
	case Go:
		found = a.goEntrypoints()
	case Command:
	}
	if len(found) != 1 {
		return &Undecided{Setting: "entrypoint", Choices: found}
	}
	a.Entrypoint = found[0]
	return nil
}

func (a *Agent) checkEntrypoint() error {
	switch a.Language {
	case Python, Node:
		a.Entrypoint = path.Clean(filepath.ToSlash(a.Entrypoint))
		if !isFile(filepath.Join(a.Folder(), a.Entrypoint)) {
			return fmt.Errorf("the entry point %s is not in %s", a.Entrypoint, a.Folder())
		}
	case Go:
		entry := path.Clean(filepath.ToSlash(a.Entrypoint))
		if path.Ext(entry) == ".go" { // of a package, people name the file
			entry = path.Dir(entry)
		}
		if !isMain(filepath.Join(a.Folder(), entry)) {
			return fmt.Errorf("%s is no Go program: its package is not main", a.Entrypoint)
		}
		if a.Entrypoint = entry; entry != "." {
			a.Entrypoint = "./" + entry
		}
	case Command:
	}
	return nil
}

// preferred is the first of the names that is among the files, else the files.
func preferred(files []string, names ...string) []string {
	for _, name := range names {
		if slices.Contains(files, name) {
			return []string{name}
		}
	}
	return files
}

func (a *Agent) nodeEntrypoints() []string {
	var described struct {
		Main    string
		Scripts map[string]string
	}
	content, err := readOwn(filepath.Join(a.Folder(), "package.json"))
	if err == nil {
		err = json.Unmarshal(content, &described)
	}
	if err == nil {
		started, isNode := strings.CutPrefix(strings.TrimSpace(described.Scripts["start"]), "node ")
		for _, name := range []string{described.Main, started} {
			if name = path.Clean(strings.TrimSpace(name)); name != "." && (isNode || name == path.Clean(described.Main)) && isFile(filepath.Join(a.Folder(), name)) {
				return []string{name}
			}
		}
	}
	var files []string
	for _, extension := range []string{".js", ".mjs", ".cjs", ".ts", ".mts"} {
		files = append(files, filesOf(a.Folder(), extension)...)
	}
	return preferred(files, "agent.js", "agent.mjs", "agent.ts", "index.js", "index.mjs", "index.ts", "main.js", "main.mjs", "main.ts")
}

func (a *Agent) goEntrypoints() (found []string) {
	if isMain(a.Folder()) {
		return []string{"."}
	}
	commands, _ := filepath.Glob(filepath.Join(a.Folder(), "cmd", "*"))
	for _, folder := range commands {
		if isMain(folder) {
			found = append(found, "./cmd/"+filepath.Base(folder))
		}
	}
	return found
}

// isMain reports whether a folder holds a Go program.
func isMain(folder string) bool {
	files, _ := filepath.Glob(filepath.Join(folder, "*.go"))
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || !isFile(name) {
			continue
		}
		source, err := os.ReadFile(name)
		return err == nil && packageName(source) == "main"
	}
	return false
}

// packageName is what the package clause of a Go file says.
func packageName(source []byte) string {
	var words scanner.Scanner
	words.Init(token.NewFileSet().AddFile("", -1, len(source)), source, nil, 0)
	if _, word, _ := words.Scan(); word != token.PACKAGE {
		return ""
	}
	_, _, name := words.Scan()
	return name
}

var (
	versionFile    = regexp.MustCompile(`^\s*(3\.\d+)`)
	requiresPython = regexp.MustCompile(`(?m)^\s*requires-python\s*=\s*["'][^"'\n]*?(?:>=|==|~=)\s*(3\.\d+)`)
)

// detectPython finds the requirements, and the version that the folder asks for.
func (a *Agent) detectPython() {
	if a.Requirements == "" {
		for _, name := range []string{"requirements.txt", "pyproject.toml"} {
			if isFile(filepath.Join(a.Folder(), name)) {
				a.Requirements = name
				break
			}
		}
	}
	if a.Python != "" {
		return
	}
	if content, err := readOwn(filepath.Join(a.Folder(), ".python-version")); err == nil {
		if found := versionFile.FindSubmatch(content); found != nil && pythonPattern.Match(found[1]) {
			a.Python = string(found[1])
			return
		}
	}
	here := pythonHere()
	if content, err := readOwn(filepath.Join(a.Folder(), "pyproject.toml")); err == nil {
		if found := requiresPython.FindSubmatch(content); found != nil && pythonPattern.Match(found[1]) && olderPython(here, string(found[1])) {
			here = string(found[1])
		}
	}
	if pythonPattern.MatchString(here) {
		a.Python = here
	}
}

// olderPython compares 3.9 with 3.10.
func olderPython(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }

var notInNames = regexp.MustCompile(`[^a-zA-Z0-9_]+`)

// nameOf makes a runtime's name of a folder's.
func nameOf(folder string) string {
	name := strings.Trim(notInNames.ReplaceAllString(filepath.Base(folder), "_"), "_0123456789")
	if len(name) > 48 {
		name = name[:48]
	}
	return name
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// filesOf are the files right in a folder with an extension; tests are not agents.
func filesOf(folder, extension string) (names []string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		base := strings.TrimSuffix(name, extension)
		switch {
		case !e.Type().IsRegular(), path.Ext(name) != extension, strings.HasPrefix(name, "."):
		case strings.HasPrefix(name, "test_"), strings.HasSuffix(base, "_test"), strings.HasSuffix(base, ".test"), strings.HasSuffix(base, ".config"), strings.HasSuffix(base, ".d"):
		case name == "conftest.py", name == "setup.py", name == "__init__.py":
		default:
			names = append(names, name)
		}
	}
	return names
}

// IsUndecided finds the question that a person has to answer.
func IsUndecided(err error) (*Undecided, bool) {
	var u *Undecided
	ok := errors.As(err, &u)
	return u, ok
}
