// Package e2e tells the product's stories on the real binary: separate
// processes, real sockets, the official clients, a real browser. Each story has
// its negative twin.
//
//	main_test.go       builds the binaries once
//	platform_test.go   one `onbehalf serve` on a temporary folder
//	provider_test.go   a demo provider in the test's own process, with its levers
//	scene_test.go      a platform with an agent and a credential provider
//	hello_test.go      one run of sayhello
//	chromium_test.go   one person's Chromium
//	journey_test.go    the main story, one step at a time
//	canary_test.go     the secrets of a story, and where they are looked for
//	fleet_test.go      what replicas share: a database, a balancer, a PostgreSQL that may stop
//	hostile_test.go    providers that misbehave
//	servers_test.go    providers that others wrote
//	runtime_test.go    a platform that hosts agents, and what calls them
//	runtime_agents_test.go  the tutorial's agents, packaged
//	agents/            the agents that are hosted, hostile ones among them
//	*_story_test.go    the stories
package e2e

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The binaries under test, built by TestMain with the race detector off, as users build them.
var onbehalfBinary, sayhelloBinary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "onbehalf-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	slog.SetDefault(slog.New(slog.DiscardHandler)) // of the rooms that a test opens from beside the platform
	onbehalfBinary, sayhelloBinary = filepath.Join(dir, "onbehalf"), filepath.Join(dir, "sayhello")
	for binary, source := range map[string]string{onbehalfBinary: "../cmd/onbehalf", sayhelloBinary: "../examples/sayhello"} {
		build := exec.Command("go", "build", "-o", binary, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: %s does not build: %v\n%s", source, err, out)
			return 1
		}
	}
	return m.Run()
}

// need skips a story on a machine that lacks what it is told with. In `make
// test`, which installs it all, a missing piece is a failure.
func need(t *testing.T, what string, there bool) {
	t.Helper()
	if there {
		return
	}
	if os.Getenv("ONBEHALF_REQUIRE_ALL") != "" {
		t.Fatalf("%s is missing: make deps installs it", what)
	}
	t.Skipf("skipped: %s is missing here; make deps installs it", what)
}

// long skips a story that takes minutes, unless ONBEHALF_LONG asks for it.
func long() bool { return os.Getenv("ONBEHALF_LONG") != "" }
