package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// defaultPython is taken where neither the folder nor this machine says one.
const defaultPython = "3.12"

// buildPython packages the folder with what its requirements name. Modules are found
// beside the entry point, because that is where Python looks first.
func (a *Agent) buildPython(ctx context.Context, progress progress, z *archive) (kind string, entryPoint []string, err error) {
	version := a.Python
	if version == "" {
		version = defaultPython
	}
	packages := ""
	if a.Requirements != "" {
		if packages, err = a.installPython(ctx, progress, version); err != nil {
			return "", nil, err
		}
	}
	if err := a.addOwn(z); err != nil {
		return "", nil, err
	}
	if packages != "" {
		if err := z.addTree(packages, path.Dir(a.Entrypoint)); err != nil {
			return "", nil, err
		}
	}
	return "PYTHON_" + strings.ReplaceAll(version, ".", "_"), []string{a.Entrypoint}, nil
}

// installPython installs the requirements into a folder of their own, for the
// version that will run them, and compiles them: a session cannot write beside its
// code, so it would compile all of it at each start.
func (a *Agent) installPython(ctx context.Context, progress progress, version string) (string, error) {
	folder, known, err := a.cache("python", version, a.requirementFiles())
	if err != nil {
		return "", err
	}
	packages := filepath.Join(folder, "packages")
	if known {
		progress.say("packages", "as before: "+a.Requirements+" has not changed")
		return packages, nil
	}
	file := filepath.Join(a.Folder(), a.Requirements)
	python, pythonErr := findPython(version)
	var line []string
	if uv, err := exec.LookPath("uv"); err == nil {
		line = []string{uv, "pip", "install", "--quiet", "--target", packages, "--link-mode", "copy", "-r", file}
		if pythonErr == nil {
			line = append(line, "--python", python)
		} else { // uv would fetch that Python from elsewhere; wheels for it are chosen without, and nothing is built for another one
			line = append(line, "--python-version", version, "--only-binary", ":all:")
		}
		progress.say("packages", "uv pip install -r "+a.Requirements+" for Python "+version)
	} else {
		if pythonErr != nil {
			return "", pythonErr
		}
		if path.Ext(a.Requirements) == ".toml" { // which uv reads and pip does not
			if file, err = dependenciesOf(ctx, python, file, folder); err != nil {
				return "", err
			}
		}
		line = []string{
			python, "-m", "pip", "install", "--quiet", "--target", packages, "--no-compile", "--disable-pip-version-check", "--no-input",
			"--root-user-action=ignore", "-r", file,
		}
		progress.say("packages", "pip install -r "+a.Requirements+" for Python "+version)
	}
	if err := os.MkdirAll(packages, 0o700); err != nil {
		return "", err
	}
	if err := a.run(ctx, progress, command{folder: a.Folder(), line: line}); err != nil {
		return "", err
	}
	if err := os.Remove(filepath.Join(packages, ".lock")); err != nil && !errors.Is(err, os.ErrNotExist) { // of uv, which has ended
		return "", err
	}
	if pythonErr == nil {
		// What cannot be compiled is of another version and is not loaded either.
		compile := exec.CommandContext(ctx, python, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", packages, "-p", "/app", packages)
		compile.Env = append(os.Environ(), "PYTHONHASHSEED=0")
		_ = compile.Run()
	}
	return packages, markDone(folder)
}

// findPython is an interpreter of the version, on this machine.
func findPython(version string) (string, error) {
	for _, name := range []string{"python" + version, "python3", "python"} {
		if file, err := exec.LookPath(name); err == nil && versionOf(file) == version {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is no Python %s on this machine to install the requirements with: install it, or uv, or name another version (python: in %s)", version, File)
}

// pythonHere is the version that this machine has; "" where it has none.
func pythonHere() string {
	for _, name := range []string{"python3", "python"} {
		if file, err := exec.LookPath(name); err == nil {
			if version := versionOf(file); version != "" {
				return version
			}
		}
	}
	return ""
}

// versionOf asks an interpreter: the name of one says little.
func versionOf(python string) string {
	out, err := exec.Command(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// dependenciesOf makes a requirements file of a pyproject.toml.
func dependenciesOf(ctx context.Context, python, project, folder string) (string, error) {
	const program = "import sys, tomllib; print('\\n'.join(tomllib.load(open(sys.argv[1], 'rb')).get('project', {}).get('dependencies', [])))"
	out, err := exec.CommandContext(ctx, python, "-c", program, project).Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) && strings.Contains(string(failed.Stderr), "No module named 'tomllib'") {
			return "", fmt.Errorf("the dependencies of %s are read by Python 3.11 or newer, or by uv: install one, or write a requirements.txt", project)
		}
		return "", fmt.Errorf("%s cannot be read: %w", project, err)
	}
	file := filepath.Join(folder, "requirements.txt")
	return file, os.WriteFile(file, out, 0o600)
}

var included = regexp.MustCompile(`(?m)^\s*(?:-r|--requirement|-c|--constraint)[ =]?\s*(\S+)`)

// requirementFiles are the file, and those that it includes.
func (a *Agent) requirementFiles() []string {
	names := []string{a.Requirements}
	for i := 0; i < len(names) && len(names) < 100; i++ {
		content, err := readOwn(filepath.Join(a.Folder(), names[i]))
		if err != nil {
			continue
		}
		for _, found := range included.FindAllSubmatch(content, -1) {
			names = append(names, path.Join(path.Dir(names[i]), string(found[1])))
		}
	}
	return names
}
