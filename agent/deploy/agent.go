package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// File is where an agent's settings lie, in its folder: in sight, to be read and
// committed. What launching found out lies in .onbehalf, which Git ignores.
const File = "onbehalf-agent.yaml"

// Language is what an agent is written in.
type Language string

// The languages. Command is anything else: a command that serves the agent contract.
const (
	Python  Language = "python"
	Node    Language = "node"
	Go      Language = "go"
	Command Language = "command"
)

// Languages are all of them.
var Languages = []Language{Python, Node, Go, Command}

// Agent is what the settings file says. Paths are relative to its folder.
type Agent struct {
	Name        string   `yaml:"name"`
	Description string   `yaml:"description,omitempty"`
	Language    Language `yaml:"language"`
	// Entrypoint is a file for Python and Node, a package for Go, a command line for the rest.
	Entrypoint   string            `yaml:"entrypoint"`
	Requirements string            `yaml:"requirements,omitempty"` // of Python: requirements.txt or pyproject.toml
	Python       string            `yaml:"python,omitempty"`       // version, such as 3.12
	Build        string            `yaml:"build,omitempty"`        // command that runs in the folder before it is packaged
	Platform     string            `yaml:"platform,omitempty"`     // of Go: GOOS/GOARCH where that is not this machine's
	Role         string            `yaml:"role,omitempty"`         // name or ARN; none: Launch makes agent-NAME
	Protocol     string            `yaml:"protocol,omitempty"`     // HTTP (default), MCP, A2A or AGUI
	Environment  map[string]string `yaml:"environment,omitempty"`
	IdleTimeout  time.Duration     `yaml:"idle-timeout,omitempty"`
	MaxLifetime  time.Duration     `yaml:"max-lifetime,omitempty"`
	Headers      []string          `yaml:"headers,omitempty"`         // of callers that go on to the agent
	Storage      []string          `yaml:"session-storage,omitempty"` // folders such as /mnt/data, whose files outlive a session
	Authorizer   *Authorizer       `yaml:"authorizer,omitempty"`

	file string // where it was read, or will be written
}

// Authorizer says whose JSON Web Tokens may call the agent, instead of signed requests.
type Authorizer struct {
	DiscoveryURL string   `yaml:"discovery-url" json:"discoveryUrl"`
	Audiences    []string `yaml:"audiences,omitempty" json:"allowedAudience,omitempty"`
	Clients      []string `yaml:"clients,omitempty" json:"allowedClients,omitempty"`
	Scopes       []string `yaml:"scopes,omitempty" json:"allowedScopes,omitempty"`
}

// New is an agent without settings in a folder. file may be empty: [File].
func New(folder, file string) *Agent {
	if file == "" {
		file = File
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(folder, file)
	}
	if whole, err := filepath.Abs(file); err == nil { // builds run elsewhere
		file = whole
	}
	return &Agent{file: file}
}

// Folder is the agent's: that of its settings file.
func (a *Agent) Folder() string { return filepath.Dir(a.file) }

// Settings is the settings file.
func (a *Agent) Settings() string { return a.file }

// ErrNotConfigured is a folder without a settings file.
var ErrNotConfigured = errors.New("no agent is configured here")

// Load reads a settings file. A key that it does not know is an error that shows the line.
func Load(file string) (*Agent, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	content, err := readSettings(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", ErrNotConfigured, file)
	}
	if err != nil {
		return nil, err
	}
	a := &Agent{file: file}
	if err := yaml.NewDecoder(bytes.NewReader(content), yaml.Strict()).Decode(a); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if err := a.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return a, nil
}

// mostTokens are many times what settings have: a file of more is somebody's joke, over which the parser would sit for minutes.
const mostTokens = 10_000

// readSettings reads a settings file that is safe to parse. An alias of aliases grows
// without bound when it is decoded, and settings have no use for one.
func readSettings(file string) ([]byte, error) {
	content, err := readOwn(file)
	if err != nil {
		return nil, err
	}
	tokens := lexer.Tokenize(string(content[:min(len(content), 1<<20)]))
	if len(tokens) > mostTokens || len(content) > 1<<20 {
		return nil, fmt.Errorf("%s is too long for an agent's settings", file)
	}
	for _, t := range tokens {
		if t.Type == token.AnchorType || t.Type == token.AliasType {
			return nil, fmt.Errorf("%s: line %d: anchors and aliases have no place in an agent's settings", file, t.Position.Line)
		}
	}
	return content, nil
}

// heading is the first line of a new file.
const heading = " An agent for `onbehalf agent launch`. Commit this file: it holds no secrets."

// Configure finds out what the settings leave open, and writes them: Detect, then
// Save. The error is an [*Undecided] where only a person can say.
func (a *Agent) Configure() error {
	if err := a.Detect(); err != nil {
		return err
	}
	return a.Save()
}

// Save writes the file. Comments that a person put into it stay.
func (a *Agent) Save() error {
	if err := a.Check(); err != nil {
		return err
	}
	comments := yaml.CommentMap{}
	before, err := readSettings(a.file)
	switch {
	case err == nil:
		if err := yaml.UnmarshalWithOptions(before, &Agent{}, yaml.CommentToMap(comments)); err != nil {
			comments = yaml.CommentMap{} // a file that cannot be read is replaced
		}
	case errors.Is(err, fs.ErrNotExist):
		comments["$.name"] = []*yaml.Comment{yaml.HeadComment(heading)}
	default:
		return err
	}
	content, err := yaml.MarshalWithOptions(a, yaml.WithComment(comments))
	if err != nil {
		return err
	}
	return writeFile(a.file, append(bytes.TrimRight(content, "\n"), '\n'), 0o644)
}

// largestOwn is the largest file that is read as settings: a lock file of Node may be long.
const largestOwn = 32 << 20

// readOwn reads a file that says something about the agent. The folder may be
// anybody's: a pipe or a device in the place of a file is not read without end.
func readOwn(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > largestOwn {
		return nil, fmt.Errorf("%s is no file of at most %s", file, bytesText(largestOwn))
	}
	return os.ReadFile(file)
}

// writeFile replaces a file as a whole: a reader never sees half of it.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	draft, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name())
	_, err = draft.Write(content)
	if err = errors.Join(err, draft.Chmod(mode), draft.Close()); err != nil {
		return err
	}
	return os.Rename(draft.Name(), path)
}

var (
	namePattern   = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]{0,47}$`)
	pythonPattern = regexp.MustCompile(`^3\.1[0-4]$`)
	targetPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`)
	mountPattern  = regexp.MustCompile(`^/mnt/[a-zA-Z0-9._-]+/?$`)
)

// protocols are those of the contracts, each with the port of its agents.
var protocols = map[string]int{"HTTP": 8080, "MCP": 8000, "A2A": 9000, "AGUI": 8080}

// port is where the agent listens.
func (a *Agent) port() int {
	if a.Protocol == "" {
		return protocols["HTTP"]
	}
	return protocols[a.Protocol]
}

// Check says what is wrong with the settings.
func (a *Agent) Check() error {
	switch {
	case a.Name == "":
		return errors.New("name is missing")
	case !namePattern.MatchString(a.Name):
		return fmt.Errorf("the name %q has to begin with a letter and consist of at most 48 letters, digits and underscores", a.Name)
	case !slices.Contains(Languages, a.Language):
		return fmt.Errorf("the language %q is none of python, node, go and command", a.Language)
	case a.Entrypoint == "":
		return errors.New("entrypoint is missing")
	case a.Language == Python && a.Python != "" && !pythonPattern.MatchString(a.Python):
		return fmt.Errorf("python %q is none of 3.10 to 3.14", a.Python)
	case a.Protocol != "" && protocols[a.Protocol] == 0:
		return fmt.Errorf("the protocol %q is none of HTTP, MCP, A2A and AGUI", a.Protocol)
	case a.Platform != "" && !targetPattern.MatchString(a.Platform):
		return fmt.Errorf("the platform %q is not like linux/arm64", a.Platform)
	case outside(a.IdleTimeout) || outside(a.MaxLifetime):
		return errors.New("idle-timeout and max-lifetime are of 1m to 336h")
	case !mountable(a.Storage):
		return fmt.Errorf("session-storage %q is not at most %d different folders right below /mnt, such as /mnt/data", a.Storage, mostStorage)
	case a.Authorizer != nil && a.Authorizer.DiscoveryURL == "":
		return errors.New("authorizer needs discovery-url")
	case a.Authorizer != nil && len(a.Authorizer.Audiences)+len(a.Authorizer.Clients)+len(a.Authorizer.Scopes) == 0:
		return errors.New("authorizer needs audiences, clients or scopes: else whoever has a token of the provider, for whatever it is, could call")
	}
	if a.Language != Command && (!local(a.Entrypoint) || strings.HasPrefix(a.Entrypoint, "-")) {
		return fmt.Errorf("the entry point %s is not in the agent's folder", a.Entrypoint)
	}
	return nil
}

// mostStorage is how many file systems a runtime may have.
const mostStorage = 5

// mountable reports whether a runtime can have storage at all these paths.
func mountable(paths []string) bool {
	taken := map[string]bool{"/mnt/.": true, "/mnt/..": true}
	for _, path := range paths {
		folder := strings.TrimSuffix(path, "/")
		if taken[folder] || len(path) > 200 || !mountPattern.MatchString(path) {
			return false
		}
		taken[folder] = true
	}
	return len(paths) <= mostStorage
}

// outside reports whether a time of sessions is one that no runtime may have; 0 is none.
func outside(d time.Duration) bool { return d != 0 && (d < time.Minute || d > 14*24*time.Hour) }

// local reports whether a path stays within the folder.
func local(path string) bool { return filepath.IsLocal(filepath.FromSlash(path)) }

var secretName = regexp.MustCompile(`(?i)(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)($|_)|API_?KEY`)

// Suspicious names the variables of the environment that look like secrets: these
// belong into the vault, where the agent gets them at run time.
func (a *Agent) Suspicious() (names []string) {
	for name, value := range a.Environment {
		if value != "" && secretName.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
