// Command bench measures the product beside the floor it is compared with: both
// in one run, on one machine, driven by one load generator that signs the
// requests of both. It prints a table and, with --write, rewrites the measured
// part of docs/benchmarks.md.
//
//	load generator (this process) ──▶ platform process      ─┐
//	                              └─▶ floor process          ─┴─ ratio of medians
//
// Each number is the median of several rounds, and the rounds of product and
// floor alternate, so that a noisy neighbour meets both.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

// settings of one run.
type settings struct {
	rounds      int
	duration    time.Duration
	connections int
	write       bool
	only        string
	grants      int    // of the large installation
	profiles    string // folder that keeps the CPU profiles
}

func main() {
	server.Init() // a session's first process is this executable again
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "child-platform":
			os.Exit(childPlatform(os.Args[2:]))
		case "child-floor":
			os.Exit(childFloor())
		case "child-target":
			os.Exit(childTarget())
		case "child-proxy":
			os.Exit(childProxy(os.Args[2:]))
		}
	}
	var s settings
	flag.IntVar(&s.rounds, "rounds", 5, "rounds per number; the median counts")
	flag.DurationVar(&s.duration, "duration", 3*time.Second, "length of a round")
	flag.IntVar(&s.connections, "connections", 32, "connections of the load generator")
	flag.BoolVar(&s.write, "write", false, "rewrite the measured part of docs/benchmarks.md")
	flag.StringVar(&s.only, "only", "", "one of token, key, grants, vault, storm, postgres, tool, agents, start, sayhello")
	flag.IntVar(&s.grants, "grants", 1_000_000, "grants of the large installation")
	flag.StringVar(&s.profiles, "profiles", "", "keep the CPU profiles of the platform in this folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// result is one line of the table.
type result struct {
	what, aim, measured string
	met                 bool
	notes               []string
}

func run(ctx context.Context, s settings) error {
	var results []result
	for _, b := range []struct {
		name string
		run  func(context.Context, settings) ([]result, error)
	}{
		{"token", benchToken}, {"key", benchKey}, {"grants", benchGrants}, {"vault", benchKeys}, {"storm", benchStorm}, {"postgres", benchPostgres},
		{"tool", benchTool}, {"agents", benchAgents}, {"start", benchStart}, {"sayhello", benchSayHello},
	} {
		if s.only != "" && s.only != b.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s …\n", b.name)
		rows, err := b.run(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		results = append(results, rows...)
	}
	return report(results, s)
}
