package deploy

import (
	"archive/zip"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// folder makes one with files in it: name, content.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "my-agent")
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDetect(t *testing.T) {
	t.Parallel()
	const program = "package main\n\nfunc main() {}\n"
	for name, test := range map[string]struct {
		files map[string]string
		given Agent
		want  Agent
		fails string // part of the error
	}{
		"python by requirements": {
			files: map[string]string{"requirements.txt": "", "main.py": "", "test_main.py": "", ".python-version": "3.12.4\n"},
			want:  Agent{Name: "my_agent", Language: Python, Entrypoint: "main.py", Requirements: "requirements.txt", Python: "3.12"},
		},
		"python by pyproject": {
			files: map[string]string{"pyproject.toml": "[project]\nrequires-python = \">=3.14,<4\"\n", "only.py": ""},
			want:  Agent{Name: "my_agent", Language: Python, Entrypoint: "only.py", Requirements: "pyproject.toml", Python: "3.14"},
		},
		"python by a file": {
			files: map[string]string{"app.py": "", "other.py": "", ".python-version": "3.11"},
			want:  Agent{Name: "my_agent", Language: Python, Entrypoint: "app.py", Python: "3.11"},
		},
		"the tutorial's words": {
			files: map[string]string{"strands_agents_openai.py": "", "requirements.txt": "", "package.json": "{}", ".python-version": "3.13"},
			given: Agent{Name: "strands_agents_openai", Entrypoint: "strands_agents_openai.py", Requirements: "requirements.txt"},
			want:  Agent{Name: "strands_agents_openai", Language: Python, Entrypoint: "strands_agents_openai.py", Requirements: "requirements.txt", Python: "3.13"},
		},
		"which python file": {files: map[string]string{"requirements.txt": "", "one.py": "", "two.py": ""}, fails: "the entrypoint may be one.py, two.py"},
		"node by main":      {files: map[string]string{"package.json": `{"main": "src/server.js"}`, "src/server.js": ""}, want: Agent{Name: "my_agent", Language: Node, Entrypoint: "src/server.js"}},
		"node by start": {
			files: map[string]string{"package.json": `{"scripts": {"start": "node agent.mjs"}}`, "agent.mjs": ""}, want: Agent{Name: "my_agent", Language: Node, Entrypoint: "agent.mjs"},
		},
		"node by index":       {files: map[string]string{"package.json": `{}`, "index.js": "", "eslint.config.js": ""}, want: Agent{Name: "my_agent", Language: Node, Entrypoint: "index.js"}},
		"node without a main": {files: map[string]string{"package.json": `{"main": "gone.js"}`}, fails: "the entrypoint cannot be found out"},
		"go":                  {files: map[string]string{"go.mod": "module m\n", "main.go": program}, want: Agent{Name: "my_agent", Language: Go, Entrypoint: "."}},
		"go in a command":     {files: map[string]string{"go.mod": "module m\n", "m.go": "package m\n", "cmd/agent/main.go": program}, want: Agent{Name: "my_agent", Language: Go, Entrypoint: "./cmd/agent"}},
		"go by its file": {
			files: map[string]string{"go.mod": "module m\n", "cmd/agent/main.go": program}, given: Agent{Entrypoint: "cmd/agent/main.go"},
			want: Agent{Name: "my_agent", Language: Go, Entrypoint: "./cmd/agent"},
		},
		"go without its own module": {files: map[string]string{"main.go": program}, want: Agent{Name: "my_agent", Language: Go, Entrypoint: "."}},
		"no go program":             {files: map[string]string{"go.mod": "module m\n", "m.go": "package m\n"}, given: Agent{Language: Go, Entrypoint: "."}, fails: "is no Go program"},
		"two languages":             {files: map[string]string{"go.mod": "", "package.json": "{}"}, fails: "the language may be node, go"},
		"nothing":                   {files: map[string]string{"README": ""}, fails: "the language cannot be found out"},
		"a command":                 {files: map[string]string{"agent.rb": ""}, given: Agent{Entrypoint: "ruby agent.rb"}, want: Agent{Name: "my_agent", Language: Command, Entrypoint: "ruby agent.rb"}},
		"a command of a script":     {files: map[string]string{"agent.py": ""}, given: Agent{Entrypoint: "python3 agent.py"}, want: Agent{Name: "my_agent", Language: Command, Entrypoint: "python3 agent.py"}},
		"a file with a space":       {files: map[string]string{"my agent.mjs": ""}, given: Agent{Entrypoint: "my agent.mjs"}, want: Agent{Name: "my_agent", Language: Node, Entrypoint: "my agent.mjs"}},
		"an option":                 {files: map[string]string{"-x.js": ""}, given: Agent{Entrypoint: "-x.js"}, fails: "not in the agent's folder"},
		"a file that is not there":  {files: map[string]string{"main.py": ""}, given: Agent{Entrypoint: "agent.py"}, fails: "agent.py is not in"},
		"a file elsewhere":          {files: map[string]string{"main.py": ""}, given: Agent{Language: Python, Entrypoint: "../../agent.py"}, fails: "is not in"},
		"requirements elsewhere":    {files: map[string]string{"main.py": ""}, given: Agent{Requirements: "requirement.txt"}, fails: "the requirements requirement.txt are not in"},
		"a name that is none":       {files: map[string]string{"main.py": ""}, given: Agent{Name: "my-agent"}, fails: "letters, digits and underscores"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := test.given
			a.file = filepath.Join(folder(t, test.files), File)
			err := a.Detect()
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("got %v, want an error with %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, a, cmpopts.IgnoreUnexported(Agent{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is saved is read back, a person can read it, and their comments stay.
func TestSettings(t *testing.T) {
	t.Parallel()
	root := folder(t, map[string]string{"main.py": ""})
	a := New(root, "")
	*a = Agent{
		file: a.file, Name: "weather", Description: "Says: \"sunny\"", Language: Python, Entrypoint: "main.py", Requirements: "requirements.txt", Python: "3.10", Build: "make",
		Platform: "linux/arm64", Role: "arn:aws:iam::000000000000:role/mine", Protocol: "MCP", Environment: map[string]string{"LOG_LEVEL": "debug", "EMPTY": "", "YES": "yes"},
		IdleTimeout: time.Minute, MaxLifetime: 14 * 24 * time.Hour, Headers: []string{"X-Team"},
		Authorizer: &Authorizer{DiscoveryURL: "https://id.example.com/.well-known/openid-configuration", Audiences: []string{"app"}, Clients: []string{"c"}, Scopes: []string{"s"}},
	}
	if err := a.Save(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(a.Settings())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"# An agent for `onbehalf agent launch`", "name: weather\n", "python: \"3.10\"\n", "idle-timeout: 1m0s\n", "max-lifetime: 336h0m0s\n", "  discovery-url: https://id.example.com"} {
		if !strings.Contains(string(content), line) {
			t.Errorf("%q is not in\n%s", line, content)
		}
	}
	back, err := Load(a.Settings())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, back, cmp.AllowUnexported(Agent{})); diff != "" {
		t.Error(diff)
	}
	if !strings.HasSuffix(string(content), "\n") || strings.HasSuffix(string(content), "\n\n") {
		t.Errorf("the last line is not ended once: %q", content)
	}
	commented := strings.Replace(string(content), "python:", "# as in production\npython:", 1)
	if err := os.WriteFile(a.Settings(), []byte(commented), 0o644); err != nil {
		t.Fatal(err)
	}
	if back, err = Load(a.Settings()); err != nil {
		t.Fatal(err)
	}
	back.Python = "3.11"
	if err := back.Save(); err != nil {
		t.Fatal(err)
	}
	content, err = os.ReadFile(a.Settings())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), "# as in production\npython: \"3.11\"\n") || !strings.Contains(string(content), "# An agent for") {
		t.Errorf("a comment is lost:\n%s", content)
	}
	for name, wrong := range map[string]string{
		"unknown key": "name: a\nlanguage: python\nentrypoint: m.py\nenvironmnt: {}\n", "no name": "language: python\nentrypoint: m.py\n",
		"language": "name: a\nlanguage: cobol\nentrypoint: m\n", "python": "name: a\nlanguage: python\nentrypoint: m.py\npython: 3.9\n",
		"a second": "name: a\nlanguage: python\nentrypoint: m.py\nidle-timeout: 1s\n", "more than a fortnight": "name: a\nlanguage: python\nentrypoint: m.py\nmax-lifetime: 337h\n", "less than none": "name: a\nlanguage: python\nentrypoint: m.py\nmax-lifetime: -5m\n",
		"whose tokens": "name: a\nlanguage: python\nentrypoint: m.py\nauthorizer: {discovery-url: https://id.example.com}\n",
		"aliases":      "name: a\nlanguage: python\nentrypoint: m.py\nheaders: &a [x]\nenvironment: {A: *a}\n", "depth": strings.Repeat("[", 200_000), "length": "# " + strings.Repeat("x", 2<<20),
	} {
		if err := os.WriteFile(a.Settings(), []byte(wrong), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(a.Settings()); err == nil || !strings.Contains(err.Error(), File) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Load(filepath.Join(root, "none.yaml")); !errors.Is(err, ErrNotConfigured) {
		t.Errorf("got %v", err)
	}
}

// Configure is what one call finds out and writes; what only a person can say is written nowhere.
func TestConfigure(t *testing.T) {
	t.Parallel()
	a := New(folder(t, map[string]string{"main.js": "", "package.json": "{}"}), "")
	if err := a.Configure(); err != nil {
		t.Fatal(err)
	}
	read, err := Load(a.Settings())
	if err != nil || read.Language != Node || read.Entrypoint != "main.js" {
		t.Errorf("%+v %v", read, err)
	}
	open := New(folder(t, map[string]string{"package.json": "{}", "go.mod": ""}), "")
	if u, undecided := IsUndecided(open.Configure()); !undecided || u.Setting != "language" || isFile(open.Settings()) {
		t.Errorf("%+v", u)
	}
}

func TestSuspicious(t *testing.T) {
	t.Parallel()
	a := &Agent{Environment: map[string]string{"OPENAI_API_KEY": "sk-1", "MY_TOKEN": "t", "MONKEY": "x", "DB_PASSWORD": "p", "APIKEY": "k", "EMPTY_SECRET": "", "LOG_LEVEL": "debug"}}
	if got, want := a.Suspicious(), []string{"APIKEY", "DB_PASSWORD", "MY_TOKEN", "OPENAI_API_KEY"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// packaged is what is in an agent's package.
func packaged(t *testing.T, a *Agent) (names []string, built artifact, said []Progress) {
	t.Helper()
	built, err := a.build(t.Context(), func(p Progress) { said = append(said, p) })
	if err != nil {
		t.Fatal(err)
	}
	reader, err := zip.OpenReader(built.file)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, f := range reader.File {
		names = append(names, f.Name)
	}
	return names, built, said
}

func contentOf(t *testing.T, file, name string) (content string, mode os.FileMode) {
	t.Helper()
	reader, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	f, err := reader.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return string(text), info.Mode()
}

// No secret, no rubbish, and nothing of elsewhere is in a package; what was left out as a secret is told.
func TestWhatIsPackaged(t *testing.T) {
	t.Parallel()
	const key = "-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----\n"
	files := map[string]string{
		"agent.sh": "#!/bin/sh\n", "data/words.txt": "a", "certs/ca.pem": "-----BEGIN CERTIFICATE-----\n", ".env.example": "KEY=\n", "notes/.keep": "",
		".agentignore": "# ours\n*.log\n!kept.log\n/data/big/\n!venv/\n!.env\n", "run.log": "", "kept.log": "", "data/big/x": "", "deep/data/big/x": "",
		".env": "OPENAI_API_KEY=sk-1\n", "sub/.env.local": "", ".netrc": "", ".npmrc": "", "tls.key": "", "sub/tls.pem": key, "id_rsa": "", ".aws/credentials": "", "client_secret_1.json": "{}",
		".git/config": "", "venv/x.py": "", "myenv/pyvenv.cfg": "", "myenv/bin/python": "", "__pycache__/a.pyc": "", "b.pyc": "", "node_modules/x/index.js": "", File: "name: x\n", ".agentcore.json": "{}",
		"platform/endpoint.json": "{}", "platform/credentials": "", "platform/onbehalf.db": "",
		".ENV": "", "TLS.Key": "", "server.PEM": key, "deploy_key": key, "firebase.json": `{"private_key": "-----BEGIN PRIVATE KEY-----\nMII"}`, ".pgpass": "", "sub/Credentials.json": "{}",
		"requirements.txt": "--extra-index-url https://bob:hunter2@pypi.example.com/simple\n", "requirements-dev.txt": "x @ git+https://ghp_1@github.com/x/y\n",
		"requirements/base.txt": "x\n", "constraints.txt": "--index-url https://${USER}:${PASSWORD}@pypi.example.com\nx @ https://example.com/x@1.zip\n", "notes.txt": "https://bob:hunter2@example.com",
	}
	a := New(folder(t, files), "")
	a.Name, a.Language, a.Entrypoint = "agent", Command, "./agent.sh --serve"
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(a.Folder(), name)); err != nil {
			t.Fatal(err)
		}
	}
	link("data/words.txt", "link.txt")
	link("/etc/passwd", "outside.txt")
	link("../elsewhere", "dangling")
	link("data", "folder")
	link(".env", "innocent.txt")
	link(".aws/credentials", "innocent2.txt")
	if err := os.Chmod(filepath.Join(a.Folder(), "agent.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	names, built, said := packaged(t, a)
	want := []string{
		".env.example", "agent.sh", "certs/ca.pem", "constraints.txt", "data/words.txt", "deep/data/big/x", "kept.log", "link.txt", "notes.txt", "notes/.keep", "onbehalf-start",
		"requirements/base.txt", "venv/x.py",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	notes := ""
	for _, p := range said {
		if p.Step == "left out" {
			notes += p.Text + "\n"
		}
	}
	for _, name := range []string{".env", ".netrc", "sub/tls.pem", "platform", "firebase.json", "requirements.txt"} {
		if !strings.Contains(notes, name) {
			t.Errorf("nobody is told that %s was left out:\n%s", name, notes)
		}
	}
	if !strings.Contains(notes, "outside.txt") || strings.Contains(notes, "sk-1") {
		t.Error(notes)
	}
	if text, mode := contentOf(t, built.file, "onbehalf-start"); text != "#!/bin/sh\nexec ./agent.sh --serve\n" || mode.Perm() != 0o755 {
		t.Errorf("%q %v", text, mode)
	}
	if _, mode := contentOf(t, built.file, "agent.sh"); mode.Perm() != 0o755 {
		t.Errorf("the program has mode %v", mode)
	}
	if _, mode := contentOf(t, built.file, "data/words.txt"); mode.Perm() != 0o644 {
		t.Errorf("the file has mode %v", mode)
	}
	if text, _ := contentOf(t, built.file, "link.txt"); text != "a" {
		t.Errorf("%q", text)
	}
	if got := readFile(t, filepath.Join(a.Folder(), ".onbehalf", ".gitignore")); got != "*\n" {
		t.Errorf("%q", got)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// The same files make the same bytes, whenever and wherever.
func TestPackagesAreReproducible(t *testing.T) {
	t.Parallel()
	files := map[string]string{"run.sh": "#!/bin/sh\n", "b/c.txt": strings.Repeat("text ", 1000), "a.txt": "a"}
	build := func() artifact {
		a := New(folder(t, files), "")
		a.Name, a.Language, a.Entrypoint = "agent", Command, "sh run.sh"
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(a.Folder(), "a.txt"), long, long); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(a.Folder(), "a.txt"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, built, _ := packaged(t, a)
		return built
	}
	one, two := build(), build()
	if one.sha256 != two.sha256 || one.sha256 == "" {
		t.Errorf("%s and %s", one.sha256, two.sha256)
	}
	files["a.txt"] = "b"
	if three := build(); three.sha256 == one.sha256 {
		t.Error("another agent has the same sum")
	}
}

func TestGoAgentIsOneProgram(t *testing.T) {
	t.Parallel()
	files := map[string]string{"go.mod": "module example.com/agent\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(\"hello\") }\n", "secret.txt": "x"}
	sums := map[string]bool{}
	for range 2 {
		a := New(folder(t, files), "")
		if err := a.Detect(); err != nil {
			t.Fatal(err)
		}
		names, built, _ := packaged(t, a)
		if !slices.Equal(names, []string{"agent"}) || built.runtime != "EXECUTABLE" || !slices.Equal(built.entryPoint, []string{"agent"}) {
			t.Errorf("%v %s %v", names, built.runtime, built.entryPoint)
		}
		sums[built.sha256] = true
	}
	if len(sums) != 1 {
		t.Errorf("two folders make two programs: %v", slices.Collect(maps.Keys(sums)))
	}
}

// A build that fails shows what it printed, and keeps it.
func TestBuildFailure(t *testing.T) {
	t.Parallel()
	a := New(folder(t, map[string]string{"go.mod": "module example.com/agent\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { undefined() }\n"}), "")
	a.Name, a.Language, a.Entrypoint = "agent", Go, "."
	var printed []string
	_, err := a.build(t.Context(), func(p Progress) {
		if p.Output {
			printed = append(printed, p.Text)
		}
	})
	var failed *BuildError
	if !errors.As(err, &failed) || !strings.Contains(failed.Output, "undefined: undefined") || !strings.HasPrefix(failed.Error(), "go build") {
		t.Fatalf("%#v", err)
	}
	if !slices.ContainsFunc(printed, func(line string) bool { return strings.Contains(line, "undefined: undefined") }) {
		t.Errorf("%q", printed)
	}
	if log := readFile(t, failed.Log); !strings.Contains(log, "undefined: undefined") {
		t.Errorf("%q", log)
	}
	// Who stops a launch does not wait for what a build has left behind.
	ctx, stop := context.WithCancel(t.Context())
	a.Build = "sleep 60 & echo $!; wait"
	began, child := time.Now(), ""
	if _, err := a.build(ctx, func(p Progress) {
		if p.Output {
			child = p.Text
			stop()
		}
	}); !errors.Is(err, context.Canceled) || time.Since(began) > 30*time.Second {
		t.Errorf("%v, after %v", err, time.Since(began))
	}
	if pid, err := strconv.Atoi(child); err != nil {
		t.Errorf("it printed %q", child)
	} else if left, err := os.FindProcess(pid); err == nil {
		_ = left.Kill()
	}
	a.Build = "echo words; exit 3"
	if _, err := a.build(t.Context(), nil); !errors.As(err, &failed) || failed.Output != "words\n" || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%v", err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	z := newArchive()
	if err := z.check(); err == nil {
		t.Error("an empty package is fine")
	}
	z.entries["model/weights.bin"] = entry{size: largestUnpacked}
	if err := z.check(); err != nil {
		t.Error(err)
	}
	z.entries["a.txt"] = entry{size: 1}
	if err := z.check(); err == nil || !strings.Contains(err.Error(), "750.0 MB") || !strings.Contains(err.Error(), "model") {
		t.Errorf("got %v", err)
	}
	z = newArchive()
	for i := range mostEntries + 1 {
		z.entries["pictures/"+time.Duration(i).String()] = entry{}
	}
	z.entries["movie.mp4"] = entry{size: 1 << 20}
	if err := z.check(); err == nil || !strings.Contains(err.Error(), "100000\n  100001 files pictures\n") {
		t.Errorf("got %v", err)
	}
	if err := newArchive().addFile(`a\b`, "x"); err == nil {
		t.Error("a name with a backslash is fine")
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"prompt": "x"}`: `{"prompt": "x"}`, `[1]`: `[1]`, `How much is 2X2?`: `{"prompt":"How much is 2X2?"}`, `say "hi" <b>`: `{"prompt":"say \"hi\" <b>"}`, ``: `{"prompt":""}`,
	} {
		if got := string(Payload(text)); got != want {
			t.Errorf("%q becomes %s, want %s", text, got, want)
		}
	}
}

func TestCustomHeader(t *testing.T) {
	t.Parallel()
	a := &Agent{Headers: []string{"x-team", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Color"}}
	for name, want := range map[string]struct {
		name   string
		passes bool
	}{
		"X-Team": {"X-Team", true}, "color": {"X-Amzn-Bedrock-Agentcore-Runtime-Custom-Color", true}, "Size": {"X-Amzn-Bedrock-Agentcore-Runtime-Custom-Size", false},
		"x-amzn-bedrock-agentcore-runtime-custom-size": {"X-Amzn-Bedrock-Agentcore-Runtime-Custom-Size", false},
	} {
		if got, passes := a.CustomHeader(name); got != want.name || passes != want.passes {
			t.Errorf("%s becomes %s, %v", name, got, passes)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	answer := Answer{ContentType: "text/event-stream; charset=utf-8", Body: io.NopCloser(strings.NewReader("data: {\"a\":1}\n\n: comment\nevent: x\ndata:two\ndata: lines\n\ndata: cut"))}
	var got []string
	for event, err := range answer.Events() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, event)
	}
	if want := []string{`{"a":1}`, "two\nlines", "cut"}; !answer.Streams() || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzPatterns(f *testing.F) {
	f.Add("*.py[co]\n!/a/**/b\n\\#x\n[!a]\n[", "a/x/b")
	f.Fuzz(func(t *testing.T, list, name string) {
		parsed, err := parsePatterns(list, "")
		if err != nil {
			return
		}
		parsed.match(name, false)
		parsed.match(name, true)
	})
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		list, name    string
		folder, match bool
	}{
		{"*.log", "a/b.log", false, true},
		{"*.log", "a/b.logs", false, false},
		{"/b.log", "a/b.log", false, false},
		{"a/*.log", "a/b/c.log", false, false},
		{"a/**/c.log", "a/c.log", false, true},
		{"a/**", "a/b/c", false, true},
		{"build/", "build", false, false},
		{"build/", "x/build", true, true},
		{"*\n!keep", "keep", false, false},
		{"file.[ch]", "file.c", false, true},
		{"file.[!ch]", "file.c", false, false},
		{`\!odd`, "!odd", false, true},
		{"# no", "# no", false, false},
	} {
		list, err := parsePatterns(test.list, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := list.match(test.name, test.folder); got != test.match {
			t.Errorf("%q on %q: %v", test.list, test.name, got)
		}
	}
	if _, err := parsePatterns("[z-a]", ""); err == nil {
		t.Error("a class that goes backwards is fine")
	}
}
