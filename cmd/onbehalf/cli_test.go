package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/onbehalf/onbehalf/internal/server"
)

// The scripts in testdata read like a user's terminal.
func TestMain(m *testing.M) {
	server.Init()
	testscript.Main(m, map[string]func(){"onbehalf": func() { namesWithin = time.Minute; os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"wait_ready": waitReady, "mode": mode, "many": many, "endpoint": endpoint, "section": section, "code": code},
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
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
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

// many runs a command several times: many N exec ARG…, with %d for the number of the run.
func many(ts *testscript.TestScript, _ bool, args []string) {
	runs, err := strconv.Atoi(args[0])
	ts.Check(err)
	for i := range runs {
		command := slices.Clone(args[2:])
		for j := range command {
			command[j] = strings.ReplaceAll(command[j], "%d", strconv.Itoa(i))
		}
		ts.Check(ts.Exec(command[0], command[1:]...))
	}
}

// endpoint puts the URL of the server on the data folder into a variable: endpoint DIR NAME.
func endpoint(ts *testscript.TestScript, _ bool, args []string) {
	var known struct{ URL string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0]+"/endpoint.json")), &known))
	ts.Setenv(args[1], known.URL)
}

// section makes a credentials file of what `keys create` printed: section PROFILE FILE NEW.
func section(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte("["+args[0]+"]\n"+ts.ReadFile(args[1])), 0o600))
}

// code runs a command that fails in a certain way: code N ARG….
func code(ts *testscript.TestScript, _ bool, args []string) {
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); !errors.As(err, &ended) || strconv.Itoa(ended.ExitCode()) != args[0] {
		ts.Fatalf("%s ends with %v, want exit code %s", strings.Join(args[1:], " "), err, args[0])
	}
}
