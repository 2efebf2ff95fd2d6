package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// leaves are the commands that do something, with their full names.
func leaves(node *kong.Node, name string) map[string]*kong.Node {
	found := map[string]*kong.Node{}
	for _, child := range node.Children {
		if child.Type != kong.CommandNode || child.Hidden {
			continue
		}
		full := strings.TrimSpace(name + " " + child.Name)
		below := leaves(child, full)
		if len(below) == 0 {
			found[full] = child
		}
		for name, leaf := range below {
			found[name] = leaf
		}
	}
	return found
}

// invocation is a command line of ours in an example, up to a pipe, a remark or the end.
var invocation = regexp.MustCompile(`\b(aws )?onbehalf ((?:[^|;#&<>()"' ]|'[^']*'|"[^"]*"| [^ |;#&<>])*)`)

// Every command shows how it is used. Write the example into the command's tag,
// `example:"onbehalf …"`, or, with more to say, into its Help method.
func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	app := model(t)
	for name, leaf := range leaves(app.Node, "") {
		if !strings.Contains(leaf.Detail, "Example") || !strings.Contains(leaf.Detail, "onbehalf "+name) {
			t.Errorf("onbehalf %s --help has no example: add example:\"onbehalf %s …\" to the tag of its field", name, name)
		}
	}
}

// What examples name is there: no command or flag outlives its renaming in a help text.
func TestExamplesAreTrue(t *testing.T) {
	t.Parallel()
	app := model(t)
	var all func(node *kong.Node) []string
	all = func(node *kong.Node) []string {
		details := []string{node.Detail}
		for _, child := range node.Children {
			details = append(details, all(child)...)
		}
		return details
	}
	checked := 0
	for _, detail := range append(all(app.Node), firstSteps) {
		for line := range strings.Lines(strings.ReplaceAll(detail, "\\\n", " ")) {
			if !strings.HasPrefix(line, "  ") {
				continue
			}
			for _, found := range invocation.FindAllStringSubmatch(line, -1) {
				if found[1] != "" {
					continue // the AWS CLI's service of that name
				}
				words := split(strings.TrimSpace(found[2]))
				at := walk(app.Node, words)
				if len(at.node.Children) > 0 {
					t.Errorf("%q is no command: %s", found[0], line)
				}
				for _, word := range words {
					if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") && at.flag(flag[2:]) == nil {
						t.Errorf("%q has no flag %s: %s", found[0], flag, line)
					}
				}
				if at.wanting != nil || len(at.arguments) > len(at.node.Positional) && !slices.ContainsFunc(at.node.Positional, func(p *kong.Positional) bool { return p.IsCumulative() }) {
					t.Errorf("%q is not complete, or has too much: %q", found[0], at.arguments)
				}
				checked++
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d examples were found", checked)
	}
}

// The overview names every command in 80 columns.
func TestOverview(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if code := run(nil, nil, &out, &out); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, child := range model(t).Children {
		if !child.Hidden && !strings.Contains(out.String(), "\n  "+child.Name+" ") {
			t.Errorf("%s is not in the overview", child.Name)
		}
	}
	for line := range strings.Lines(out.String()) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("wider than 80 columns, make the command's help shorter: %s", line)
		}
	}
}
