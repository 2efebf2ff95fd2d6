package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts in testdata read like a user's terminal.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"onbehalf": func() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"wait_ready": waitReady, "mode": mode},
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_DATA_HOME", "")
			return nil
		},
	})
}

// mode checks the permissions of files: mode OCTAL FILE…
func mode(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

// waitReady waits until the server on the data folder answers.
func waitReady(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0] + "/endpoint.json")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var endpoint struct{ URL string }
		ts.Check(json.Unmarshal(content, &endpoint))
		if response, err := http.Get(endpoint.URL + "/ping"); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
	}
	ts.Fatalf("no server is ready on %s", args[0])
}
