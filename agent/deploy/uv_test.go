//go:build unix

package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Where uv is, it installs: for the version that the settings name, which this machine need not have. A stand-in
// does as uv 0.13 does, which leaves its lock behind.
func TestUV(t *testing.T) {
	tools := t.TempDir()
	said := filepath.Join(tools, "said")
	const standIn = `#!/bin/sh
echo "$@" > "${0%/*}/said"
while [ "$1" != --target ]; do shift; done
/bin/mkdir -p "$2/module" && : > "$2/.lock" && : > "$2/module/__init__.py"
`
	if err := os.WriteFile(filepath.Join(tools, "uv"), []byte(standIn), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools) // and no Python
	a := New(folder(t, map[string]string{"agent.py": "", "requirements.txt": "module\n"}), "")
	a.Name, a.Language, a.Entrypoint, a.Requirements, a.Python = "agent", Python, "agent.py", "requirements.txt", "3.14"
	names, built, _ := packaged(t, a)
	if want := []string{"agent.py", "module/__init__.py", "requirements.txt"}; !slices.Equal(names, want) || built.runtime != "PYTHON_3_14" {
		t.Errorf("%q, want %q; %s", names, want, built.runtime)
	}
	line := readFile(t, said)
	for _, part := range []string{"pip install", "--python-version 3.14 --only-binary :all:", "-r " + filepath.Join(a.Folder(), "requirements.txt")} {
		if !strings.Contains(line, part) {
			t.Errorf("%q is not in %q", part, line)
		}
	}
}
