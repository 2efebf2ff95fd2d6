package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// ignoreFile names what else is left out, in the manner of .gitignore.
const ignoreFile = ".agentignore"

// junk is left out unless .agentignore says otherwise (!name).
const junk = `
.git/
.hg/
.svn/
.onbehalf/
.agentignore
.agentcore.json
.bedrock_agentcore.yaml
.bedrock_agentcore/
__pycache__/
*.py[co]
.pytest_cache/
.mypy_cache/
.ruff_cache/
.tox/
.nox/
.venv/
venv/
*.egg-info/
.coverage
node_modules/
.idea/
.vscode/
.DS_Store
Thumbs.db
`

// secrets are left out whatever anybody says, and named, in small letters or large
// ones. What may hold a key, or the password of a package index, is looked into as well.
const secrets = `
.env
.env.*
!.env.example
!.env.sample
!.env.template
.envrc
.netrc
_netrc
.npmrc
.pypirc
.git-credentials
.htpasswd
.pgpass
.my.cnf
.vault-token
.s3cfg
.boto
.dockercfg
pip.conf
.aws/
.azure/
.ssh/
.gnupg/
.kube/
.config/gcloud/
.docker/config.json
id_rsa
id_dsa
id_ecdsa
id_ed25519
id_ecdsa_sk
id_ed25519_sk
*.key
*.p12
*.pfx
*.jks
*.keystore
*.kdbx
*.ppk
*.tfstate
*.tfvars
credentials
credentials.json
client_secret*.json
service-account*.json
service_account*.json
application_default_credentials.json
secrets.json
secrets.toml
secrets.y*ml
`

// pattern is one line of such a list.
type pattern struct {
	expression *regexp.Regexp
	negated    bool
	folders    bool // and nothing else
}

type patterns []pattern

// anyCase is put before an expression for which large and small letters are one.
const anyCase = "(?i)"

// parsePatterns reads a list: the syntax of .gitignore. mode is that of the expressions: none, or anyCase.
func parsePatterns(text, mode string) (list patterns, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var p pattern
		line, p.negated = strings.CutPrefix(line, "!")
		line = strings.TrimPrefix(line, `\`) // before a # or ! that is meant
		line, p.folders = strings.CutSuffix(line, "/")
		expression := translate(strings.TrimPrefix(line, "/"))
		if !strings.Contains(line, "/") { // a name, at any depth
			expression = "(?:.*/)?" + expression
		}
		if p.expression, err = regexp.Compile(mode + "^" + expression + "$"); err != nil {
			return nil, fmt.Errorf("%s: the line %q is no pattern", ignoreFile, line)
		}
		list = append(list, p)
	}
	return list, nil
}

// translate makes a regular expression of a glob.
func translate(glob string) string {
	var out strings.Builder
	for i := 0; i < len(glob); i++ {
		rest := glob[i:]
		switch c := glob[i]; {
		case strings.HasPrefix(rest, "**/"):
			out.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(rest, "**"):
			out.WriteString(".*")
			i++
		case c == '*':
			out.WriteString("[^/]*")
		case c == '?':
			out.WriteString("[^/]")
		case c == '[' && strings.IndexByte(rest, ']') > 1:
			end := strings.IndexByte(rest, ']')
			class := rest[1:end]
			if after, negated := strings.CutPrefix(class, "!"); negated {
				class = "^" + after
			}
			out.WriteString("[" + strings.ReplaceAll(class, `\`, `\\`) + "]")
			i += end
		default:
			out.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return out.String()
}

// match reports what the list says of a path from the folder; the last line that fits counts.
func (l patterns) match(name string, folder bool) (matched bool) {
	for _, p := range l {
		if (folder || !p.folders) && p.expression.MatchString(name) {
			matched = !p.negated
		}
	}
	return matched
}

// exclusions is what stays out of an archive.
type exclusions struct {
	junk, secrets patterns
	settings      string // the agent's own file, from the folder
	names         bool   // judge by names alone, because nothing is taken anywhere
}

func (a *Agent) exclusions() (exclusions, error) {
	own, err := readOwn(filepath.Join(a.Folder(), ignoreFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return exclusions{}, err
	}
	x := exclusions{settings: filepath.Base(a.file)}
	if x.junk, err = parsePatterns(junk+string(own), ""); err != nil {
		return x, err
	}
	x.secrets, err = parsePatterns(secrets, anyCase)
	return x, err
}

// verdict is what becomes of a file or folder.
type verdict int

const (
	taken verdict = iota
	ignored
	secret // left out, and told
)

// judge looks at a file, or at a folder: what is in one that is left out is not looked at.
func (x exclusions) judge(root, name string, folder bool) verdict {
	switch {
	case x.secrets.match(name, folder):
		return secret
	case name == x.settings || name == File || x.junk.match(name, folder):
		return ignored
	case folder && isFile(filepath.Join(root, name, "pyvenv.cfg")):
		return ignored // a virtual environment, whatever its name
	case folder && isFile(filepath.Join(root, name, "endpoint.json")) && isFile(filepath.Join(root, name, "credentials")):
		return secret // a platform's data folder: its keys and its database
	case !folder && !x.names && holdsSecret(filepath.Join(root, name)):
		return secret
	}
	return taken
}

// Files that tools read at a build, which may hold the password of a package index.
var ofBuilds = regexp.MustCompile(`(?i)^(requirements.*\.(txt|in)|constraints.*\.txt|pyproject\.toml|uv\.toml|(uv|poetry|pdm)\.lock)$`)

// withPassword is a URL with one in it; $ begins a variable, which holds it instead.
var withPassword = regexp.MustCompile(`https?://[^/\s@"'$]+@`)

// largestLookedInto is more than any key has; what is larger is data.
const largestLookedInto = 1 << 20

// holdsSecret looks into what may be a key, as a file of its own or in the JSON of a
// cloud's, and into what may hold a password for the build.
func holdsSecret(file string) bool {
	ofBuild := ofBuilds.MatchString(filepath.Base(file))
	switch strings.ToLower(path.Ext(file)) {
	case "", ".pem", ".crt", ".cer", ".cert", ".asc", ".json", ".txt":
	default:
		if !ofBuild {
			return false
		}
	}
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > largestLookedInto {
		return false // a pipe or a device would be read without end
	}
	content, err := os.ReadFile(file)
	return err == nil && (bytes.Contains(content, []byte("PRIVATE KEY-----")) || ofBuild && withPassword.Match(content))
}
