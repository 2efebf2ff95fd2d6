package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The platform is started without the rest of the command line in memory. Nobody
// sees that: what is said and understood is what the whole command line says and understands.
func TestServeWithoutTheOtherCommands(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "onbehalf.yaml")
	if err := os.WriteFile(file, []byte("region: eu-central-1\naddr: 127.0.0.1:7099\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type heard struct {
		Out, Err, Refused string
		Exit              int
	}
	parse := func(grammar any, line *serving, args []string) (heard, serving) {
		var out, errOut bytes.Buffer
		h := heard{Exit: -1}
		parser, err := newParser(t.Context(), grammar, line, &terminal{out: &out, err: &errOut}, func(code int) { h.Exit = code })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(args); err != nil {
			h.Refused = err.Error()
		}
		h.Out, h.Err = out.String(), errOut.String()
		return h, *line
	}
	for _, args := range [][]string{
		{"serve"},
		{"serve", "--help"},
		{"serve", "--addr", "127.0.0.1:7098", "--dev", "--trusted-proxy=10.0.0.0/8", "--trusted-proxy", "10.1.0.0/16"},
		{"serve", "--config", file, "--region=us-west-2"},
		{"serve", "--config", file + ".not"},
		{"serve", "--addr"},
		{"serve", "--dev=perhaps"},
		{"serve", "--adr", "127.0.0.1:7098"},
		{"serve", "--profile", "somebody"}, // a flag of other commands
		{"serve", "workloads", "list"},
		{"serve", "serve"},
	} {
		grammar, line := grammarOf(args)
		if grammar != line {
			t.Fatalf("%q: the whole command line is made", args)
		}
		got, understood := parse(grammar, line, args)
		all := &commands{}
		want, wanted := parse(all, &all.serving, args)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-whole +short):\n%s", args, diff)
		}
		if !reflect.DeepEqual(wanted, understood) {
			t.Errorf("%q was understood as %+v, want %+v", args, understood, wanted)
		}
	}
}
