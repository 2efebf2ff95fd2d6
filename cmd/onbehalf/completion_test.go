package main

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func model(t testing.TB) *kong.Application {
	t.Helper()
	parser, err := kong.New(&commands{}, kong.Name("onbehalf"))
	if err != nil {
		t.Fatal(err)
	}
	withExamples(parser.Model.Node)
	return parser.Model
}

// offered is what a Tab answers, without the descriptions.
func offered(t testing.TB, shell string, words ...string) []string {
	t.Helper()
	var out bytes.Buffer
	complete(context.Background(), model(t), append([]string{shell}, words...), &out)
	offers := []string{}
	for line := range strings.Lines(out.String()) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), map[string]string{"fish": "\t", "zsh": ":", "bash": " "}[shell])
		if line == filesWanted+"\n" {
			word = filesWanted
		}
		offers = append(offers, word)
	}
	slices.Sort(offers)
	return offers
}

func TestCompletion(t *testing.T) {
	t.Setenv("ONBEHALF_DATA", t.TempDir())
	for _, c := range []struct {
		words string // separated by spaces; the last may be empty
		want  string // all of it, or with … some of it
	}{
		{"", "… serve env workloads providers"},
		{"prov", "providers"},
		{"providers ", "list show create update delete vendors"},
		{"providers create goo", "google"},
		{"providers create a", "api-key atlassian auth0"},
		{"providers create google goo", ""}, // there is no second one
		{"providers list --ty", "--type"},
		{"providers list --type ", "api-key oauth2"},
		{"providers list --type=o", "--type=oauth2"},
		{"providers list --output ", "json table"},
		{"providers list --limit 5 --output j", "json"},
		{"providers list --output json --out", ""}, // given
		{"workloads create x --return-url http://a --return", "--return-url"},
		{"workloads delete --yes --y", ""},
		{"providers create google --client-secret-file ", ":files"},
		{"targets create g n --openapi ", ":files"},
		{"serve --data ", ":files"},
		{"workloads show ", ""}, // no platform: silent
		{"nothing here ", ""},
		{"completion ", "bash fish zsh"},
		{"workloads list -- --out", ""},
		{"keys create --principal ", ""},
	} {
		for _, shell := range []string{"fish", "zsh"} {
			got := offered(t, shell, strings.Split(c.words, " ")...)
			want, some := strings.CutPrefix(c.want, "… ")
			for _, word := range strings.Fields(want) {
				if !slices.Contains(got, word) {
					t.Errorf("%s: %q does not offer %s", shell, c.words, word)
				}
			}
			if !some && len(got) != len(strings.Fields(want)) {
				t.Errorf("%s: %q offers %q", shell, c.words, got)
			}
		}
	}
}

// bash breaks words at = and :, and replaces the last piece alone.
func TestCompletionForBash(t *testing.T) {
	t.Setenv("ONBEHALF_DATA", t.TempDir())
	for line, c := range map[string]struct {
		piece string
		want  []string
	}{
		"onbehalf provi":                                                     {"provi", []string{"providers"}},
		"onbehalf providers list --output=js":                                {"js", []string{"json"}},
		"onbehalf providers list --output js":                                {"js", []string{"json"}},
		"onbehalf workloads create a --return-url http://localhost:1/ --out": {"--out", []string{"--output"}},
		"onbehalf providers create 'goo":                                     {"'goo", []string{"google"}},
		`onbehalf providers create "goo`:                                     {"goo", []string{"google"}},
		"onbehalf providers create $(reboot) goo":                            {"goo", nil},
	} {
		got := offered(t, "bash", line, strconv.Itoa(len(line)), c.piece)
		if !slices.Equal(c.want, got) {
			t.Errorf("%s: %q", line, got)
		}
	}
	if got := offered(t, "bash", "onbehalf providers list", "13", "prov"); !slices.Equal(got, []string{"providers"}) {
		t.Errorf("in the middle of the line: %q", got)
	}
	for _, odd := range [][]string{{}, {"onbehalf"}, {"onbehalf ", "x", ""}, {"onbehalf ", "-5", ""}, {"onbehalf ", "500", ""}, {"", "0", ""}} {
		offered(t, "bash", odd...) // and nothing falls over
	}
}

func FuzzCompletion(f *testing.F) {
	f.Add("onbehalf providers create --name='a b' \\", 12, "x")
	f.Add("onbehalf workloads list --output=", 32, "")
	parser, err := kong.New(&commands{}, kong.Name("onbehalf"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string, point int, piece string) {
		if strings.Contains(line, "--") { // a platform may be named
			t.Skip()
		}
		t.Setenv("ONBEHALF_DATA", t.TempDir())
		var out bytes.Buffer
		complete(context.Background(), parser.Model, []string{"bash", line, strconv.Itoa(point), piece}, &out)
		for word := range strings.Lines(out.String()) {
			if word = strings.TrimSuffix(word, "\n"); word != filesWanted && word != "" && !harmless.MatchString(word) {
				t.Errorf("%q offers %q", line, word)
			}
		}
	})
}
