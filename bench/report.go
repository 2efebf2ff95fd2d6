package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

const (
	document = "docs/benchmarks.md"
	begin    = "<!-- measured: begin -->"
	end      = "<!-- measured: end -->"
)

// report prints the table and, if asked to, puts it into the document.
func report(results []result, s settings) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Measured %s, commit %s, on %s, %d CPUs, %s, %s; %d rounds of %s, medians.\n\n",
		time.Now().UTC().Format("2006-01-02"), commit(), processor(), runtime.NumCPU(), memory(), runtime.Version(), s.rounds, s.duration)
	fmt.Fprintln(&b, "| what | aim | measured | met |\n|---|---|---|---|")
	for _, r := range results {
		met := "yes"
		if !r.met {
			met = "**no**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.what, r.aim, r.measured, met)
	}
	for _, r := range results {
		if len(r.notes) > 0 {
			fmt.Fprintf(&b, "\n%s, CPU time by stage: %s.\n", r.what, strings.Join(r.notes, "; "))
		}
	}
	fmt.Print(b.String())
	if !s.write {
		return nil
	}
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(old, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		return fmt.Errorf("%s has no %s … %s", document, begin, end)
	}
	return os.WriteFile(document, []byte(string(before)+begin+"\n"+b.String()+end+string(after)), 0o644)
}

func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func processor() string { return field("/proc/cpuinfo", "model name") }

func memory() string {
	var kib int
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib); err != nil {
		return "unknown memory"
	}
	return fmt.Sprintf("%d GB", kib/1000/1000)
}

func field(path, name string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(content)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
