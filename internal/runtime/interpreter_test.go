package runtime

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// machineWith is what is found on a machine: programs in its PATH, each a script.
func machineWith(t *testing.T, programs map[string]string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", folder)
	t.Setenv("HOME", t.TempDir())
	return folder
}

func says(path, prefix, version string) string {
	return `echo '{"Path":"` + path + `","Prefix":"` + prefix + `","Version":"` + version + `"}'`
}

func unpackedOf(t *testing.T, files map[string]string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, content := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func config(language api.AgentManagedRuntimeType, entry ...string) *api.CodeConfiguration {
	return &api.CodeConfiguration{Runtime: language, EntryPoint: entry}
}

// An entry point's forms, and how each is started.
func TestEntryPoints(t *testing.T) {
	place := machineWith(t, map[string]string{
		// As pyenv's: what is in PATH is a script, the program lies elsewhere.
		"python3.14": says("/opt/pyenv/versions/3.14.0/bin/python3.14", "/opt/pyenv/versions/3.14.0", "3.14"),
		"node":       says("/opt/node/bin/node", "/opt/node/bin/node", "22"),
	})
	folder := unpackedOf(t, map[string]string{"main.py": "", "src/app.py": "", "index.js": "", "bin/opentelemetry-instrument": "#!/builder/python\n", "run": "#!/bin/sh\n", "plain": "data"})
	const python, node = "/opt/pyenv/versions/3.14.0/bin/python3.14", "/opt/node/bin/node"
	three := api.AgentManagedRuntimeTypePython314
	for name, test := range map[string]struct {
		of   *api.CodeConfiguration
		want []string
		says string
	}{
		"script":            {config(three, "main.py"), []string{python, "main.py"}, ""},
		"script in folder":  {config(three, "src/app.py", "--fast"), []string{python, "src/app.py", "--fast"}, ""},
		"module":            {config(three, "-m", "app"), []string{python, "-m", "app"}, ""},
		"instrumented":      {config(three, "opentelemetry-instrument", "main.py"), []string{python, "bin/opentelemetry-instrument", python, "main.py"}, ""},
		"another's tool":    {config(three, "uvicorn", "main:app"), nil, "nor a program in the archive's folder bin"},
		"no such script":    {config(three, "other.py"), nil, `no file "other.py"`},
		"no such second":    {config(three, "opentelemetry-instrument", "other.py"), nil, `no file "other.py"`},
		"outside":           {config(three, "../main.py"), nil, "no path within"},
		"absolute":          {config(three, "/etc/x.py"), nil, "no path within"},
		"folder":            {config(api.AgentManagedRuntimeTypeNode22, "src"), nil, "no file"},
		"node":              {config(api.AgentManagedRuntimeTypeNode22, "index.js"), []string{node, "index.js"}, ""},
		"executable":        {config(api.AgentManagedRuntimeTypeExecutable, "run", "serve"), []string{"./run", "serve"}, ""},
		"executable dotted": {config(api.AgentManagedRuntimeTypeExecutable, "./run"), []string{"./run"}, ""},
		"no executable":     {config(api.AgentManagedRuntimeTypeExecutable, "plain"), nil, "neither an executable nor a script"},
		"no entry point":    {config(three), nil, "is empty"},
		"missing Python":    {config(api.AgentManagedRuntimeTypePython313, "main.py"), nil, "Python 3.13 is not on this machine. Install it"},
	} {
		if name == "missing Python" && there("/usr/bin") {
			if _, err := os.Stat("/usr/bin/python3.13"); err == nil {
				continue
			}
		}
		p, err := launched(t.Context(), test.of, folder)
		var not *notRunnable
		switch {
		case test.says != "" && (!errors.As(err, &not) || !strings.Contains(not.why, test.says)):
			t.Errorf("%s: %v, want %q", name, err, test.says)
		case test.says == "" && (err != nil || !cmp.Equal(p.command, test.want)):
			t.Errorf("%s: %v, %v, want %v", name, p.command, err, test.want)
		}
	}
	p, err := launched(t.Context(), config(three, "main.py"), folder)
	if err != nil || !cmp.Equal(p.also, []string{"/opt/pyenv/versions/3.14.0"}) || p.environment[0] != "PYTHONPATH=/app" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := launched(t.Context(), config(api.AgentManagedRuntimeTypePython312, "main.py"), folder); err == nil || !strings.Contains(err.Error(), "3.14") {
		t.Errorf("what is there instead is not told: %v", err)
	}

	s := &Service{options: Options{Folder: "/opt/pyenv/versions/3.14.0/data"}}
	if _, err := s.program(t.Context(), config(three, "main.py"), folder); err == nil || !strings.Contains(err.Error(), "platform's own data") {
		t.Errorf("an interpreter whose folder holds the platform's data: %v", err)
	}
	if err := os.WriteFile(filepath.Join(place, "node"), []byte("#!/bin/sh\necho nonsense\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if i, err := asked(t.Context(), filepath.Join(place, "node")); err == nil {
		t.Errorf("an interpreter that answers nonsense is %+v", i)
	}
}

// The interpreters of this machine, whatever they are, are found and run what is packed beside them.
func TestInterpretersOfThisMachine(t *testing.T) {
	t.Parallel()
	folder := unpackedOf(t, map[string]string{"main.py": "import sys, vendored; print(vendored.x, *sys.version_info[:2])", "vendored.py": "x = 'beside'", "index.js": "console.log('beside', process.versions.node.split('.')[0] >= 20)"})
	tried := 0
	for _, language := range []api.AgentManagedRuntimeType{api.AgentManagedRuntimeTypePython310, api.AgentManagedRuntimeTypePython311, api.AgentManagedRuntimeTypePython312, api.AgentManagedRuntimeTypePython313, api.AgentManagedRuntimeTypePython314, api.AgentManagedRuntimeTypeNode22} {
		entry, want := "main.py", "beside "+strings.ReplaceAll(strings.TrimPrefix(string(language), "PYTHON_"), "_", " ")
		if language == api.AgentManagedRuntimeTypeNode22 {
			entry, want = "index.js", "beside true"
		}
		p, err := launched(t.Context(), config(language, entry), folder)
		if err != nil {
			t.Logf("%s: %v", language, err)
			continue
		}
		tried++
		if head, err := os.ReadFile(p.command[0]); err != nil || bytes.HasPrefix(head, []byte("#!")) {
			t.Errorf("%s is a script that chooses an interpreter, and not one: %v", p.command[0], err)
		}
		command := exec.Command(p.command[0], p.command[1:]...)
		command.Dir, command.Env = folder, []string{"HOME=/nonexistent"}
		out, err := command.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%v prints %q, %v, want %q", p.command, got, err, want)
		}
	}
	if tried == 0 {
		t.Skip("no interpreter is on this machine")
	}
}

// What cannot be run here is made all the same, and says why.
func TestRuntimesThatCannotRun(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		put := func(entries ...entry) *api.S3Location {
			bucket, prefix, err := h.PutCode(t.Context(), testAccount, bytes.NewReader(zipped(t, entries...)))
			if err != nil {
				t.Fatal(err)
			}
			return &api.S3Location{Bucket: bucket, Prefix: prefix}
		}
		code := func(at *api.S3Location, language api.AgentManagedRuntimeType, entry ...string) *api.AgentRuntimeArtifact {
			c := config(language, entry...)
			c.Code = &api.Code{S3: at}
			return &api.AgentRuntimeArtifact{CodeConfiguration: c}
		}
		foreign := bytes.Clone(elfHead)
		foreign[18] = 8 // MIPS
		none := &api.S3Location{Bucket: bucket(testAccount), Prefix: codePrefix + strings.Repeat("0", 64) + ".zip"}
		for name, test := range map[string]struct {
			artifact *api.AgentRuntimeArtifact
			says     string
		}{
			"image":             {image(), "no containers yet"},
			"a bucket of AWS":   {code(&api.S3Location{Bucket: "my-bucket", Prefix: "agent.zip"}, api.AgentManagedRuntimeTypePython311, "main.py"), "must name what PutAgentCode answered"},
			"another account's": {code(&api.S3Location{Bucket: bucket("111111111111"), Prefix: none.Prefix}, api.AgentManagedRuntimeTypePython311, "main.py"), "must name what PutAgentCode answered"},
			"never put":         {code(none, api.AgentManagedRuntimeTypePython311, "main.py"), "There is no code 0000"},
			"no entry point":    {code(put(entry{"other.py", "", 0}), api.AgentManagedRuntimeTypeExecutable, "agent"), `no file "agent"`},
			"another processor": {code(put(entry{"agent", string(foreign), 0}), api.AgentManagedRuntimeTypeExecutable, "agent"), "built for another processor (number 8 of ELF's) than this machine's (" + goruntime.GOARCH + ")"},
		} {
			made, err := h.CreateAgentRuntime(t.Context(), h.admin(), &api.CreateAgentRuntimeRequest{AgentRuntimeName: strings.ReplaceAll(strings.ReplaceAll(name, " ", "_"), "'", ""), RoleArn: testRole, AgentRuntimeArtifact: test.artifact})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			got := h.get(t, made.AgentRuntimeId)
			e, err := h.GetAgentRuntimeEndpoint(t.Context(), h.admin(), &api.GetAgentRuntimeEndpointRequest{AgentRuntimeId: made.AgentRuntimeId, EndpointName: secret.New(DefaultEndpoint)})
			if err != nil || e.Status != api.AgentRuntimeEndpointStatusCreateFailed || e.LiveVersion != nil || e.FailureReason == nil || !strings.Contains(*e.FailureReason, test.says) {
				t.Errorf("%s: the endpoint is %+v, %v", name, e, err)
			}
			if made.Status != api.AgentRuntimeStatusCreateFailed || got.Status != made.Status || got.FailureReason == nil || !strings.Contains(*got.FailureReason, test.says) {
				t.Errorf("%s: %s", name, got.AppendJSON(nil))
			}
		}
		h.options.Driver = func() (Driver, error) { return nil, errors.New("This machine has no namespaces.") }
		made, err := h.CreateAgentRuntime(t.Context(), h.admin(), &api.CreateAgentRuntimeRequest{AgentRuntimeName: "nowhere", RoleArn: testRole, AgentRuntimeArtifact: h.artifact(t)})
		if err != nil || made.Status != api.AgentRuntimeStatusCreateFailed {
			t.Errorf("%+v, %v", made, err)
		} else if got := h.get(t, made.AgentRuntimeId); *got.FailureReason != "This machine has no namespaces." {
			t.Errorf("%s", *got.FailureReason)
		}
	})
}

// elfHead is the header of an ELF file of 64 bits, and nothing after it.
var elfHead = append([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0}, make([]byte, 40)...)
