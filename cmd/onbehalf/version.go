package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the release build; a build from source shows its commit.
var version = "dev"

type versionCmd struct {
	Output string `name:"output" enum:"text,json" default:"text" help:"text or json."`
}

// Run prints what a bug report needs.
func (c versionCmd) Run(t *terminal) error {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	if c.Output == "json" {
		return json.NewEncoder(t.out).Encode(map[string]string{"version": version, "commit": commit, "go": runtime.Version()})
	}
	_, err := fmt.Fprintf(t.out, "onbehalf %s (commit %s, %s)\n", version, commit, runtime.Version())
	return err
}
