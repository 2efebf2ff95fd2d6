package runtime

import (
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
)

// Executable is this server's own value of codeConfiguration.runtime: the entry
// point is a program in the archive, a Go agent for instance.
const Executable api.AgentManagedRuntimeType = "EXECUTABLE"

// program is how a version's entry point is started.
type program struct {
	command []string
	also    []string // folders that it needs besides the system's
}

// missingInterpreter says what a machine lacks, and how to get it.
type missingInterpreter struct{ what, hint string }

func (e *missingInterpreter) Error() string {
	return e.what + " is not on this machine. " + e.hint
}

// interpreter finds what runs an entry point.
func interpreter(c *api.CodeConfiguration) (program, error) {
	entry := c.EntryPoint
	switch runtime := c.Runtime; {
	case runtime == Executable:
		return program{command: append([]string{"./" + strings.TrimPrefix(entry[0], "./")}, entry[1:]...)}, nil
	case runtime == api.AgentManagedRuntimeTypeNode22:
		return found("Node.js", "Install it (Debian: apt-get install nodejs), version 22 or newer where the agent needs it.", entry, "node")
	default:
		version := strings.ReplaceAll(strings.TrimPrefix(string(runtime), "PYTHON_"), "_", ".")
		return found("Python "+version, "Install it (Debian: apt-get install python"+version+"), or name another runtime.", entry, "python"+version)
	}
}

// found is the program where its interpreter is on this machine. An entry point of
// two parts is a command with the script as its argument, as at AWS.
func found(what, hint string, entry []string, name string) (program, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return program{}, &missingInterpreter{what, hint}
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return program{}, &missingInterpreter{what, hint}
	}
	p := program{command: append([]string{path}, entry...)}
	if !strings.HasPrefix(path, "/usr/") && !strings.HasPrefix(path, "/bin/") {
		p.also = []string{filepath.Dir(filepath.Dir(path))} // its prefix: bin and lib
	}
	return p, nil
}
