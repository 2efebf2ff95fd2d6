//go:build unix

package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ends fails the test where something does not come to its end: what it does can hang for ever.
func ends(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal(what, "does not end")
	}
}

// Pipes and devices in the place of files are passed over or refused, and never waited for.
func TestFolderOfPipes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"key.pem", ignoreFile, "data.json", File, "package.json", "main.go", "requirements.txt", ".python-version", "pyproject.toml"} {
		for kind, make := range map[string]func(string) error{
			"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"device": func(path string) error { return os.Symlink("/dev/zero", path) },
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				root := folder(t, map[string]string{"run.sh": "", "agent.py": ""})
				if err := make(filepath.Join(root, name)); err != nil {
					t.Skip(err)
				}
				ends(t, "packaging a folder with "+name, func() {
					a := New(root, "")
					a.Name, a.Language, a.Entrypoint = "agent", Command, "sh run.sh"
					built, err := a.build(t.Context(), nil)
					if name == ignoreFile {
						if err == nil {
							t.Error("nobody is told")
						}
					} else if err != nil || built.files == 0 {
						t.Errorf("%+v %v", built, err)
					}
				})
				ends(t, "looking at a folder with "+name, func() {
					for _, l := range Languages {
						a := New(root, "")
						a.Language = l
						_ = a.Detect()
					}
					_, _ = Load(filepath.Join(root, File))
				})
			})
		}
	}
}

// A working folder that came with somebody's agent leads nobody's writes elsewhere.
func TestWorkingFolderOfLinks(t *testing.T) {
	t.Parallel()
	const theirs = "not to be touched"
	for _, name := range []string{"agent.zip", "build.log", "agent", ".gitignore"} {
		a := New(folder(t, map[string]string{"go.mod": "module m\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n", ".onbehalf/there": ""}), "")
		a.Name, a.Language, a.Entrypoint = "agent", Go, "."
		victim := filepath.Join(t.TempDir(), "victim")
		missing := name == ".gitignore" // a link to what is not there yet: nothing may come to be there
		if !missing {
			if err := os.WriteFile(victim, []byte(theirs), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(victim, filepath.Join(a.Folder(), workFolder, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.build(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if missing {
			if isFile(victim) {
				t.Errorf("%s was written through", name)
			}
		} else if got := readFile(t, victim); got != theirs {
			t.Errorf("%s was written through", name)
		}
	}
	a := New(folder(t, map[string]string{"run.sh": ""}), "")
	a.Name, a.Language, a.Entrypoint = "agent", Command, "sh run.sh"
	if err := os.Symlink(t.TempDir(), filepath.Join(a.Folder(), workFolder)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.build(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("got %v", err)
	}
}

// A build that has ended well has done its work, whatever it leaves running.
func TestBuildLeavesSomethingRunning(t *testing.T) {
	t.Parallel()
	a := New(folder(t, map[string]string{"run.sh": ""}), "")
	a.Name, a.Language, a.Entrypoint, a.Build = "agent", Command, "sh run.sh", "sleep 300 & echo $!"
	child := 0
	ends(t, "a build with a child", func() {
		built, err := a.build(t.Context(), func(p Progress) {
			if p.Output {
				child, _ = strconv.Atoi(p.Text)
			}
		})
		if err != nil || built.files == 0 {
			t.Errorf("%+v %v", built, err)
		}
	})
	if child == 0 || syscall.Kill(child, syscall.SIGKILL) != nil {
		t.Errorf("the child %d is not there", child)
	}
}

// Two launches from one folder come one after the other: they share their package and what they remember.
func TestOneLaunchAtATime(t *testing.T) {
	t.Parallel()
	c, a := clientOf(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") })
	unlock, err := a.lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var said string
	c.progress = func(p Progress) {
		said = p.Text
		stop()
	}
	ends(t, "a launch that is stopped while it waits", func() {
		if _, err := c.Launch(ctx, a, LaunchOptions{}); !errors.Is(err, context.Canceled) || !strings.Contains(said, "another launch") {
			t.Errorf("%v; it said %q", err, said)
		}
	})
	c.progress = func(Progress) { unlock() }
	ends(t, "a launch after another one", func() {
		if _, err := c.Launch(t.Context(), a, LaunchOptions{}); codeOf(err) != "UnknownError" {
			t.Errorf("it went no further: %v", err)
		}
	})
}
