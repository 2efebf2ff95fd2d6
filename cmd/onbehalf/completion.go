package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"iter"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/server"
)

// Shell completion. The scripts that shells load hold no list of commands: at
// each Tab they ask the program,
//
//	shell ── onbehalf __complete SHELL words… ─▶ where on the command line is this?
//	      ◀── one candidate a line ────────────  commands and flags from kong's model, names from the platform
//
// so a script never grows stale. Invariant: nothing that is typed or that
// somebody named is evaluated. Scripts quote every word and expand nothing, and
// a candidate is made of characters that no shell treats in a special way.

type completionCmd struct {
	Shell string `arg:"" name:"shell" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown below the flags.
func (completionCmd) Help() string {
	return `Examples, for this shell alone:
  source <(onbehalf completion bash)
  source <(onbehalf completion zsh)           # after compinit
  onbehalf completion fish | source
For all to come:
  onbehalf completion bash > ~/.local/share/bash-completion/completions/onbehalf
  onbehalf completion zsh > "${fpath[1]}/_onbehalf"
  onbehalf completion fish > ~/.config/fish/completions/onbehalf.fish
Names of workloads, providers, gateways and targets come from the platform, if it answers within a second.`
}

var (
	//go:embed completion/onbehalf.bash
	bashScript string
	//go:embed completion/onbehalf.zsh
	zshScript string
	//go:embed completion/onbehalf.fish
	fishScript string
)

// Run prints the script.
func (c completionCmd) Run(t *terminal) error {
	_, err := io.WriteString(t.out, map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell])
	return err
}

// completeCommand is what the scripts call.
const completeCommand = "__complete"

// filesWanted is answered where the shell completes file names better than anybody.
const filesWanted = ":files"

// namesWithin is how long a Tab may wait for the platform. Tests are more patient than people.
var namesWithin = time.Second

// complete answers one Tab. It never complains: there is nobody to read it.
func complete(ctx context.Context, model *kong.Application, args []string, out io.Writer) {
	if len(args) == 0 {
		return
	}
	shell, words, cut := args[0], args[1:], 0
	if shell == "bash" { // line, cursor, the part of the last word that is being replaced
		if words, cut = fromBash(args[1:]); words == nil {
			return
		}
	}
	if len(words) == 0 {
		words = []string{""}
	}
	current := words[len(words)-1]
	at := walk(model.Node, words[:len(words)-1])
	found, files := at.candidates(ctx, current)
	if files {
		fmt.Fprintln(out, filesWanted)
		return
	}
	for _, c := range found {
		if !strings.HasPrefix(c.word, current) || !harmless.MatchString(c.word) || len(c.word) < cut {
			continue
		}
		switch about := firstLine(plain(c.about)); shell {
		case "zsh":
			fmt.Fprintf(out, "%s:%s\n", strings.ReplaceAll(c.word, ":", `\:`), about)
		case "fish":
			fmt.Fprintf(out, "%s\t%s\n", c.word, about)
		default:
			fmt.Fprintln(out, c.word[cut:])
		}
	}
}

// harmless is a word that no shell expands, splits or takes for an option of its own.
var harmless = regexp.MustCompile(`^[A-Za-z0-9_./:@+=,-]+$`)

// fromBash reads what bash says: the line, the cursor's place in it and the word
// that it will replace, which begins behind the last : or = where we see one word.
func fromBash(args []string) (words []string, cut int) {
	if len(args) != 3 {
		return nil, 0
	}
	point, err := strconv.Atoi(args[1])
	if err != nil {
		return nil, 0
	}
	words = split(args[0][:min(max(point, 0), len(args[0]))])
	if len(words) < 2 {
		return nil, 0
	}
	words = words[1:] // the program itself
	if whole := words[len(words)-1]; strings.HasSuffix(whole, args[2]) {
		cut = len(whole) - len(args[2])
	}
	return words, cut
}

// split takes a command line apart as a shell does, without expanding anything.
// The last word is the one under the cursor; it may be empty.
func split(line string) []string {
	var words []string
	var word strings.Builder
	within, quote, escaped := false, rune(0), false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			within, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			within, quote = true, r
		case unicode.IsSpace(r):
			if within {
				words = append(words, word.String())
				word.Reset()
			}
			within = false
		default:
			within = true
			word.WriteRune(r)
		}
	}
	return append(words, word.String())
}

// place is where on the command line the cursor is.
type place struct {
	node      *kong.Node
	wanting   *kong.Flag // whose value is next
	arguments []string   // of the command, so far
	values    map[string]string
	ended     bool // after --
}

// walk goes through the words before the cursor.
func walk(root *kong.Node, words []string) *place {
	at := &place{node: root, values: map[string]string{}}
	for _, word := range words {
		switch {
		case at.wanting != nil:
			at.values[at.wanting.Name] = word
			at.wanting = nil
		case at.ended || !strings.HasPrefix(word, "-") || word == "-":
			if child := childOf(at.node, word); child != nil && len(at.arguments) == 0 {
				at.node = child
			} else {
				at.arguments = append(at.arguments, word)
			}
		case word == "--":
			at.ended = true
		default:
			name, value, inline := strings.Cut(strings.TrimPrefix(word, "--"), "=")
			flag := at.flag(name)
			switch {
			case flag == nil:
			case inline:
				at.values[name] = value
			case flag.IsBool():
				at.values[name] = "true"
			default:
				at.wanting = flag
			}
		}
	}
	return at
}

func childOf(node *kong.Node, word string) *kong.Node {
	for _, child := range node.Children {
		if child.Type == kong.CommandNode && (child.Name == word || slices.Contains(child.Aliases, word)) {
			return child
		}
	}
	return nil
}

func (at *place) flags() (flags []*kong.Flag) {
	for _, level := range at.node.AllFlags(true) {
		flags = append(flags, level...)
	}
	return flags
}

func (at *place) flag(name string) *kong.Flag {
	for _, flag := range at.flags() {
		if flag.Name == name {
			return flag
		}
	}
	return nil
}

// candidate is a word that may stand at the cursor, and what it means.
type candidate struct{ word, about string }

// candidates are the words that may stand where current is being typed.
func (at *place) candidates(ctx context.Context, current string) (found []candidate, files bool) {
	if at.wanting != nil {
		return at.of(ctx, at.wanting.Value, "")
	}
	if name, _, inline := strings.Cut(current, "="); inline && strings.HasPrefix(name, "--") && !at.ended {
		if flag := at.flag(name[2:]); flag != nil {
			return at.of(ctx, flag.Value, name+"=")
		}
		return nil, false
	}
	if strings.HasPrefix(current, "-") && !at.ended {
		for _, flag := range at.flags() {
			if _, given := at.values[flag.Name]; !given || flag.IsCumulative() {
				found = append(found, candidate{"--" + flag.Name, flag.Help})
			}
		}
		return found, false
	}
	for _, child := range at.node.Children {
		if child.Type == kong.CommandNode && !child.Hidden && len(at.arguments) == 0 {
			found = append(found, candidate{child.Name, child.Help})
		}
	}
	if n := len(at.arguments); n < len(at.node.Positional) {
		return at.of(ctx, at.node.Positional[n], "")
	} else if n > 0 && len(at.node.Positional) > 0 && at.node.Positional[len(at.node.Positional)-1].IsCumulative() {
		return at.of(ctx, at.node.Positional[len(at.node.Positional)-1], "")
	}
	return found, false
}

// of are the values that a flag or an argument may have.
func (at *place) of(ctx context.Context, value *kong.Value, before string) (found []candidate, files bool) {
	for _, word := range value.EnumSlice() {
		if word != "" {
			found = append(found, candidate{before + word, ""})
		}
	}
	kind := value.Tag.Get("complete")
	if kind == "files" || value.Tag.Type == "path" || value.Tag.PlaceHolder == "FILE" || value.Tag.PlaceHolder == "DIR" {
		return nil, true
	}
	if kind == "" {
		return found, false
	}
	ctx, done := context.WithTimeout(ctx, namesWithin)
	defer done()
	for name, err := range at.names(ctx, kind) {
		if err != nil || len(found) == mostNames {
			break
		}
		if !strings.HasPrefix(name, "-") { // a name that would be an option
			found = append(found, candidate{before + name, ""})
		}
	}
	return found, false
}

// mostNames is beyond what anybody reads.
const mostNames = 500

// names asks the platform that the command line means.
func (at *place) names(ctx context.Context, kind string) iter.Seq2[string, error] {
	if kind == "vendors" {
		return func(yield func(string, error) bool) {
			for _, v := range server.Vendors() {
				if !yield(v.Short, nil) {
					return
				}
			}
			yield(kindAPIKey, nil)
		}
	}
	data := firstOf(at.values["data"], os.Getenv("ONBEHALF_DATA"))
	if data != "" {
		data = kong.ExpandPath(data)
	}
	p := platform{Endpoint: at.values["endpoint"], Profile: at.values["profile"], Region: firstOf(at.values["region"], os.Getenv("ONBEHALF_REGION")), Data: data, dataNamed: at.values["data"] != ""}
	c, err := p.connect(ctx, &terminal{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
	if err != nil {
		return none
	}
	switch kind {
	case "workloads":
		return namesOf(c.workloads(ctx), func(w workload) string { return w.Name })
	case "providers":
		return namesOf(c.providers(ctx, at.values["type"]), func(p provider) string { return p.Name })
	case "oauth2":
		return namesOf(c.providers(ctx, kindOAuth2), func(p provider) string { return p.Name })
	case "gateways":
		return namesOf(c.gateways(ctx), func(g gateway) string { return g.Name })
	case "sessions":
		f := agentFile{File: at.values["file"], platform: p}
		if h, err := f.host(ctx, &terminal{in: strings.NewReader(""), out: io.Discard, err: io.Discard}); err == nil {
			return namesOf(h.agents.Sessions(ctx, h.agent), func(s client.AgentRuntimeSession) string { return aws.ToString(s.RuntimeSessionId) })
		}
	case "targets":
		if len(at.arguments) > 0 {
			if g, err := c.gateway(ctx, at.arguments[0]); err == nil {
				return namesOf(c.targets(ctx, g.ID), func(v target) string { return v.Name })
			}
		}
	}
	return none
}

func none(func(string, error) bool) {}

func namesOf[T any](items iter.Seq2[T, error], name func(T) string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for item, err := range items {
			if err != nil || !yield(name(item), nil) {
				return
			}
		}
	}
}
