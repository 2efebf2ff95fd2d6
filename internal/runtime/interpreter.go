package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
)

// CodeFolder is where an agent sees its code, whatever folder of the machine that is.
const CodeFolder = "/app"

// program is how a version's entry point is started.
type program struct {
	command     []string
	also        []string // folders that it needs besides the system's
	environment []string // NAME=value
}

// notRunnable says, for people, why a machine cannot start an entry point.
type notRunnable struct{ why string }

func (e *notRunnable) Error() string { return e.why }

func cannot(format string, args ...any) error { return &notRunnable{fmt.Sprintf(format, args...)} }

// launched is the program of an entry point, whose code lies in folder:
//
//	PYTHON_3_x  ["main.py"]                          python main.py
//	            ["-m", "app"]                        python -m app
//	            ["opentelemetry-instrument", "x.py"] python bin/opentelemetry-instrument python x.py
//	NODE_22     ["index.js"]                         node index.js
//	EXECUTABLE  ["agent", "serve"]                   ./agent serve
func launched(ctx context.Context, c *api.CodeConfiguration, folder string) (program, error) {
	if len(c.EntryPoint) == 0 {
		return program{}, cannot("codeConfiguration.entryPoint is empty.")
	}
	entry := slices.Clone(c.EntryPoint)
	switch language := c.Runtime; language {
	case api.AgentManagedRuntimeTypeExecutable:
		return executable(folder, entry)
	case api.AgentManagedRuntimeTypeNode22:
		i, err := node(ctx)
		if err != nil {
			return program{}, err
		}
		if err := has(folder, entry[0]); err != nil && !strings.HasPrefix(entry[0], "-") {
			return program{}, err
		}
		return program{command: append([]string{i.Path}, entry...), also: i.also(), environment: []string{"NODE_ENV=production"}}, nil
	default:
		version := strings.ReplaceAll(strings.TrimPrefix(string(language), "PYTHON_"), "_", ".")
		i, err := python(ctx, version)
		if err != nil {
			return program{}, err
		}
		p := program{also: i.also(), environment: []string{"PYTHONPATH=" + CodeFolder, "PYTHONDONTWRITEBYTECODE=1"}}
		switch {
		case strings.HasPrefix(entry[0], "-"):
			p.command = append([]string{i.Path}, entry...)
		case strings.HasSuffix(entry[0], ".py"):
			p.command, err = append([]string{i.Path}, entry...), has(folder, entry[0])
		default: // a program of a package, which pip --target puts into bin, with another's interpreter in its first line
			p.command = []string{i.Path, "bin/" + entry[0]}
			if err = has(folder, "bin/"+entry[0]); err != nil {
				return program{}, cannot("The entry point %.128q is neither a .py file, nor -m and a module, nor a program in the archive's folder bin, where pip install --target puts those of packages.", entry[0])
			}
			if len(entry) > 1 && strings.HasSuffix(entry[1], ".py") {
				err = has(folder, entry[1])
				p.command = append(p.command, i.Path)
			}
			p.command = append(p.command, entry[1:]...)
		}
		return p, err
	}
}

// program is launched's, if sessions may see what it needs.
func (s *Service) program(ctx context.Context, c *api.CodeConfiguration, folder string) (program, error) {
	p, err := launched(ctx, c, folder)
	if err != nil {
		return p, err
	}
	for _, shown := range p.also {
		if within, err := filepath.Rel(shown, s.options.Folder); err == nil && filepath.IsLocal(within) {
			return program{}, cannot("The interpreter's folder %s holds the platform's own data, which no session may see. Install the interpreter elsewhere.", shown)
		}
	}
	return p, nil
}

// has finds a file of the archive.
func has(folder, name string) error {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return cannot("The entry point %.128q is no path within the archive.", name)
	}
	info, err := os.Stat(filepath.Join(folder, filepath.FromSlash(name)))
	if err != nil || !info.Mode().IsRegular() {
		return cannot("The archive has no file %.128q, which is the entry point.", name)
	}
	return nil
}

// executable is a program in the archive. One for another kind of machine is
// told of here: what the kernel says of it is "exec format error".
func executable(folder string, entry []string) (program, error) {
	entry[0] = strings.TrimPrefix(entry[0], "./")
	if err := has(folder, entry[0]); err != nil {
		return program{}, err
	}
	path := filepath.Join(folder, filepath.FromSlash(entry[0]))
	info, err := os.Stat(path)
	if err != nil {
		return program{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return program{}, err
	}
	defer file.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(file, head); err != nil || info.Mode()&0o111 == 0 || !startable(head) {
		return program{}, cannot("The entry point %.128q is neither an executable nor a script whose first line names its interpreter (#!).", entry[0])
	}
	if bytes.HasPrefix(head, []byte("\x7fELF")) {
		if made := foreign(file); made != "" {
			return program{}, cannot("The entry point %.128q is built for another processor (%s) than this machine's (%s). Build it with GOARCH=%s.",
				entry[0], made, goruntime.GOARCH, goruntime.GOARCH)
		}
	}
	return program{command: append([]string{"./" + entry[0]}, entry[1:]...)}, nil
}

// machines are the numbers of processors in ELF's e_machine, by Go's names.
var machines = map[string]uint16{"386": 3, "arm": 40, "amd64": 62, "arm64": 183, "riscv64": 243}

// foreign names the processor that an ELF program is built for, where that is not
// this machine's; else it is empty. It reads the one number that debug/elf would be
// linked for.
func foreign(file io.ReaderAt) string {
	var head [20]byte
	ours, known := machines[goruntime.GOARCH]
	if _, err := file.ReadAt(head[:], 0); err != nil || !known {
		return ""
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if head[5] == 2 {
		order = binary.BigEndian
	}
	made := order.Uint16(head[18:])
	if made == ours {
		return ""
	}
	for name, number := range machines {
		if number == made {
			return name
		}
	}
	return "number " + strconv.Itoa(int(made)) + " of ELF's"
}

// interpreter is one that was found, in its own words: names in PATH may be
// scripts that choose among several, as pyenv's are, or links.
type interpreter struct {
	Path    string // of the program itself
	Prefix  string // all that it needs: a folder, or the program alone
	Version string // 3.11, or 20
}

// also are the folders that a session must be shown: none for an interpreter of the system.
func (i interpreter) also() []string {
	for _, shown := range []string{"/usr", "/bin", "/lib"} {
		if i.Prefix == shown || strings.HasPrefix(i.Prefix, shown+"/") {
			return nil
		}
	}
	return []string{i.Prefix}
}

// python is the interpreter of exactly that version: packages with compiled
// parts, which most agents have, load in no other.
func python(ctx context.Context, version string) (interpreter, error) {
	names := []string{"python" + version, "python3", "python", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"} // the last ones to say what there is instead
	homes := []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"}
	if home, err := os.UserHomeDir(); err == nil {
		for _, pattern := range []string{".pyenv/versions/" + version + "*/bin", ".local/share/uv/python/cpython-" + version + "*/bin"} {
			more, _ := filepath.Glob(filepath.Join(home, pattern))
			homes = append(homes, more...)
		}
	}
	var others []string
	for _, path := range candidates(names, homes) {
		i, err := asked(ctx, path, "-I", "-S", "-c", "import sys, os, json; b = getattr(sys, '_base_executable', None) or sys.executable; "+
			"print(json.dumps({'Path': os.path.realpath(b), 'Prefix': os.path.realpath(sys.base_prefix), 'Version': '%d.%d' % sys.version_info[:2]}))")
		if err != nil {
			continue
		}
		if i.Version == version {
			return i, nil
		}
		if strings.HasPrefix(i.Version, "3.") && !slices.Contains(others, i.Version) {
			others = append(others, i.Version)
		}
	}
	hint := ""
	if len(others) > 0 {
		slices.Sort(others)
		hint = " It has " + strings.Join(others, ", ") + ": name that one in codeConfiguration.runtime, and pack for it."
	}
	return interpreter{}, cannot("Python %s is not on this machine. Install it (Debian: apt-get install python%s; pyenv install %s; uv python install %s).%s", version, version, version, version, hint)
}

// leastNode is the oldest Node.js that runs what asks for NODE_22: JavaScript has
// no compiled parts as a rule, and the published SDK asks for 20.
const leastNode = 20

// node is Node.js 22 if it is here, else the newest there is from 20 on.
func node(ctx context.Context) (interpreter, error) {
	homes := []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"}
	if home, err := os.UserHomeDir(); err == nil {
		more, _ := filepath.Glob(filepath.Join(home, ".nvm/versions/node/v*/bin"))
		homes = append(homes, more...)
	}
	var best interpreter
	newest := 0
	for _, path := range candidates([]string{"node22", "node", "nodejs"}, homes) {
		i, err := asked(ctx, path, "-p", "JSON.stringify({Path: fs.realpathSync(process.execPath), Prefix: fs.realpathSync(process.execPath), Version: process.versions.node.split('.')[0]})")
		if err != nil {
			continue
		}
		major, err := strconv.Atoi(i.Version)
		switch {
		case err != nil || major < leastNode:
		case major == 22:
			return i, nil
		case major > newest:
			best, newest = i, major
		}
	}
	if newest == 0 {
		return interpreter{}, cannot("Node.js is not on this machine, or older than %d. Install it (Debian: apt-get install nodejs; nvm install 22).", leastNode)
	}
	slog.Warn("an agent asks for Node.js 22, and runs on another one", "version", best.Version, "path", best.Path)
	return best, nil
}

// candidates are the programs of these names in PATH and in the folders, each once.
func candidates(names, folders []string) (paths []string) {
	for _, name := range names {
		for _, folder := range slices.Concat(filepath.SplitList(os.Getenv("PATH")), folders) {
			path := filepath.Join(folder, name)
			info, err := os.Stat(path)
			if err == nil && filepath.IsAbs(path) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// answers are what interpreters have said of themselves, for as long as the
// program that was asked is the same. What could not be asked may be mended.
var answers sync.Map // question -> answer

type question struct {
	path    string
	changed time.Time
	size    int64
}

// asked asks a candidate who it is. It runs with no more than it needs to say that.
func asked(ctx context.Context, path string, arguments ...string) (i interpreter, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return i, err
	}
	q := question{path, info.ModTime(), info.Size()}
	if known, found := answers.Load(q); found {
		i = known.(interpreter)
		if _, err := os.Stat(i.Path); err == nil {
			return i, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, path, arguments...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"}
	command.Dir = "/"
	command.WaitDelay = time.Second
	out, err := command.Output()
	if err != nil {
		return i, err
	}
	if err := json.Unmarshal(out, &i); err != nil || !filepath.IsAbs(i.Path) || !filepath.IsAbs(i.Prefix) || i.Prefix == "/" {
		return i, errors.Join(err, fs.ErrInvalid)
	}
	answers.Store(q, i)
	return i, nil
}
