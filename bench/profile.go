package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// The stages of a request, each by the function under which its time is spent.
// They are disjoint: audit's writer runs in a goroutine of its own.
var stageFunctions = []struct{ stage, function string }{
	{"signature", "internal/auth.(*Authenticator).Signed"},
	{"signature", "internal/auth.(*Authenticator).Spooled"}, // of calls of agents
	{"bearer token", "internal/auth.(*Authenticator).Bearer"},
	{"policy", "internal/policy.(*Engine).Decide"},
	{"audit, in the request", "internal/audit.(*Log).Append"},
	{"audit, group commit", "internal/audit.(*Log).write"},
	{"store, reads", "internal/store.(*DB).View"},
	{"unseal", "internal/seal.(*Keeper).Open"},
	{"target call", "internal/egress.(*Client)"},
	{"sending to the agent", "net/http.(*persistConn).writeLoop"},
	{"decode and encode", "internal/api."},
	{"HTTP: read, write, schedule", "net/http.(*conn).serve"},
}

var topLine = regexp.MustCompile(`^\s*[\d.]+\w*\s+[\d.]+%\s+[\d.]+%\s+([\d.]+)(\w+)\s+[\d.]+%\s+(.+)$`)

// stagesOf reads a CPU profile with the Go tool and says what each stage costs a request.
func stagesOf(path string, requests float64) ([]string, error) {
	out, err := exec.Command("go", "tool", "pprof", "-top", "-cum", "-nodecount=4000", "-nodefraction=0", path).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w: %s", err, out)
	}
	cumulative := map[string]time.Duration{}
	var total time.Duration
	for line := range strings.Lines(string(out)) {
		if samples, found := strings.CutPrefix(line, "Duration: "); found {
			if _, after, ok := strings.Cut(samples, "Total samples = "); ok {
				total, _ = time.ParseDuration(strings.TrimSpace(strings.Fields(after)[0]))
			}
		}
		match := topLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if match == nil {
			continue
		}
		d, err := time.ParseDuration(match[1] + match[2])
		if err == nil {
			cumulative[strings.TrimPrefix(match[3], "github.com/onbehalf/onbehalf/")] = d
		}
	}
	var lines []string
	for _, s := range stageFunctions {
		var most time.Duration
		for function, d := range cumulative {
			if strings.Contains(function, s.function) && d > most {
				most = d
			}
		}
		if most > 0 {
			lines = append(lines, fmt.Sprintf("%s %.1f µs", s.stage, float64(most.Microseconds())/requests))
		}
	}
	return append([]string{fmt.Sprintf("CPU a request %.1f µs in all", float64(total.Microseconds())/requests)}, lines...), nil
}
