package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
)

// tutorialAgents are the tutorial's agent in each language, packaged as one
// would by hand; the commands package them by themselves.
var tutorialAgents = map[string]func(t testing.TB) code{
	"Go":         func(t testing.TB) code { return goAgent(t, "../examples/openaiagent") },
	"Python":     pythonAgent,
	"TypeScript": typescriptAgent,
}

// pythonAgent has the published packages beside it: as AWS wants it, what
// requirements.txt names is in the archive.
func pythonAgent(t testing.TB) code {
	t.Helper()
	needAgentPackages(t)
	folder, err := pythonPackages()
	if err != nil {
		t.Fatal(err)
	}
	return code{archive: folder, runtime: pythonRuntime(t), entry: []string{"strands_agents_openai.py"}}
}

// needAgentPackages wants what make deps fetches for the agents.
func needAgentPackages(t testing.TB) {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		need(test, "what the tutorial's agents are packaged with", exists(filepath.Join("agents", ".wheels")) && exists(filepath.Join("agents", "typescript", "node_modules")))
	}
}

// pythonPackages installs the wheels into a folder and packs it: once, for it takes
// seconds. What the agents load of them is compiled, as launch does it with all: else
// each session would compile it at its start, which may take half a minute and no more.
var pythonPackages = sync.OnceValues(func() ([]byte, error) {
	folder := filepath.Join(filepath.Dir(onbehalfBinary), "strands")
	install := exec.Command(filepath.Join("clients", ".venv", "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-index", "--find-links", "agents/.wheels",
		"--no-compile", "--target", folder, "-r", "agents/strands/requirements.txt")
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pip: %w\n%s", err, out)
	}
	compile := exec.Command(filepath.Join("clients", ".venv", "bin", "python"), "-c", compileLoaded, folder)
	compile.Env = append(os.Environ(), "PYTHONPATH="+folder, "PYTHONDONTWRITEBYTECODE=1")
	if out, err := compile.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compiling: %w\n%s", err, out)
	}
	return pack(map[string]string{"": folder, "strands_agents_openai.py": "agents/strands/strands_agents_openai.py"})
})

// compileLoaded loads what the agents do, and compiles it.
const compileLoaded = `
import py_compile, sys
import bedrock_agentcore, strands.models.litellm
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if file.startswith(sys.argv[1]) and file.endswith(".py"):
        py_compile.compile(file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
`

// pythonRuntime is the version that python3 is here.
func pythonRuntime(t testing.TB) control.AgentManagedRuntimeType {
	t.Helper()
	out, err := exec.Command("python3", "-c", "import sys; print('PYTHON_%d_%d' % sys.version_info[:2])").Output()
	if err != nil {
		t.Fatal(err)
	}
	return control.AgentManagedRuntimeType(strings.TrimSpace(string(out)))
}

// needNode wants Node.js 20, which the published packages ask for, and which Debian
// has since its release 13: where make deps found an older one, it stays.
func needNode(t testing.TB) {
	t.Helper()
	said, _ := exec.Command("node", "--version").Output()
	major, _, _ := strings.Cut(strings.TrimPrefix(string(said), "v"), ".")
	if version, err := strconv.Atoi(major); err != nil || version < 20 {
		t.Skipf("skipped: Node.js 20 is not here, but %q", said)
	}
}

// typescriptAgent is built, and has the packages that it runs with beside it.
func typescriptAgent(t testing.TB) code {
	t.Helper()
	needAgentPackages(t)
	needNode(t)
	archive, err := typescriptPackages()
	if err != nil {
		t.Fatal(err)
	}
	return code{archive: archive, runtime: control.AgentManagedRuntimeTypeNode22, entry: []string{"agent.mjs"}}
}

var typescriptPackages = sync.OnceValues(func() ([]byte, error) {
	folder := filepath.Join(filepath.Dir(onbehalfBinary), "typescript")
	if err := os.CopyFS(folder, os.DirFS(filepath.Join("agents", "typescript"))); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	for _, step := range [][]string{{"run", "--silent", "build"}, {"prune", "--omit=dev", "--no-audit", "--no-fund", "--offline", "--loglevel=error"}} {
		npm := exec.Command("npm", step...)
		npm.Dir = folder
		if out, err := npm.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm %s: %w\n%s", step, err, out)
		}
	}
	return pack(map[string]string{"": folder})
})

// missingPython is a version that this machine does not have; "" where it has them all.
func missingPython() control.AgentManagedRuntimeType {
	for _, minor := range []string{"14", "10", "12", "13"} {
		if _, err := exec.LookPath("python3." + minor); err != nil {
			return control.AgentManagedRuntimeType("PYTHON_3_" + minor)
		}
	}
	return ""
}
