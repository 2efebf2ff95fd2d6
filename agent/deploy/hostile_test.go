//go:build unix

package deploy

import (
	"os"
	"path/filepath"
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
	for _, name := range []string{"agent.zip", "build.log", "agent"} {
		a := New(folder(t, map[string]string{"go.mod": "module m\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n", ".onbehalf/.gitignore": "*\n"}), "")
		a.Name, a.Language, a.Entrypoint = "agent", Go, "."
		victim := filepath.Join(t.TempDir(), "victim")
		if err := os.WriteFile(victim, []byte(theirs), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, filepath.Join(a.Folder(), workFolder, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.build(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if got := readFile(t, victim); got != theirs {
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
