// This test is the map of the house: who may import whom. It reads the import
// clauses of every Go file in the repository and compares them with the table
// below, storey by storey:
//
//	words ──▶ tools ──▶ guards ──▶ rooms ──▶ doors ──▶ roof
//
// A row may name only rows above it, so there is no arrow up and no circle.
// What is not listed is forbidden. When a flow needs an arrow that is not here,
// change the table together with a dated page in docs/design that says why.
package onbehalf_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module  = "github.com/onbehalf/onbehalf"
	longest = 800 // lines of a file that a person wrote; most are near 150
)

// row says what the Go files of one folder may import of ours. A folder without
// a row of its own has the row of the nearest folder above it, and may import
// the packages of that room as well. A name that ends in /* stands for the
// folders right below, which are rooms of their own.
type row struct {
	folder   string
	imports  string // folders, without internal/; "*" is every row above
	anything bool   // test support: may import whatever of ours it tests, and stands outside the nevers
}

var table = []row{
	// words: the standard library and each other
	{folder: "internal/fault"},
	{folder: "internal/secret"},
	{folder: "internal/demoidp"},
	{folder: "internal/principal", imports: "secret"},
	{folder: "internal/api", imports: "secret fault"},
	{folder: "internal/leaktest", anything: true},
	// tools: know no domain
	{folder: "internal/memo"},
	{folder: "internal/store", imports: "memo fault"},
	{folder: "internal/store/storetest", anything: true},
	{folder: "internal/egress", imports: "fault"},
	{folder: "internal/sigv4", imports: "secret fault"},
	{folder: "internal/seal", imports: "store secret egress sigv4 fault"},
	{folder: "internal/oauth", imports: "memo egress secret fault"},
	{folder: "internal/metrics"},
	{folder: "internal/notify", imports: "store egress secret fault"},
	{folder: "internal/external", imports: "memo egress sigv4 secret fault"},
	// guards
	{folder: "internal/auth", imports: "api principal store seal sigv4 oauth secret fault"},
	{folder: "internal/policy", imports: "api principal store fault memo"},
	{folder: "internal/audit", imports: "api principal store seal secret fault"},
	{folder: "internal/gate", imports: "auth policy audit principal fault"},
	// rooms: the product
	{folder: "internal/identity", imports: "api auth principal store seal oauth secret fault"},
	{folder: "internal/vault", imports: "api principal store seal secret fault"},
	{folder: "internal/broker", imports: "api auth gate principal identity vault oauth external egress sigv4 seal store secret fault"},
	{folder: "internal/gateway", imports: "api auth principal broker identity gate store seal secret fault"},
	{folder: "internal/gateway/*", imports: "gateway api principal egress sigv4 secret fault"},
	{folder: "internal/runtime", imports: "api auth principal identity gate store seal egress secret fault"},
	{folder: "internal/runtime/drivertest", anything: true},
	{folder: "internal/runtime/*", imports: "runtime egress secret fault"},
	// doors
	{folder: "internal/wire", imports: "api gate principal seal secret fault"},
	{folder: "internal/consent", imports: "api auth broker gate principal secret fault"},
	{folder: "internal/console", imports: "api gate principal fault"},
	// roof
	{folder: "internal/server", imports: "*"},
	{folder: "internal/servertest", anything: true},
	// what stands beside the house
	{folder: "client"},
	{folder: "agent", imports: "client"},
	{folder: "examples/sayhello", imports: "agent client server demoidp"},
	{folder: "examples/openaiagent", imports: "agent"}, // a module of its own: its model client is large
	{folder: "cmd/onbehalf", imports: "server agent client"},
	{folder: "e2e", anything: true},
	{folder: "bench", anything: true},
	{folder: "docs", anything: true}, // tests alone: they run the pages' commands
	{folder: ".", anything: true},    // this test
}

// testSupport is what any _test.go file may import besides its own row, what the
// packages of that row may import themselves (a test of gate assembles auth,
// seal and store), and the kinds or drivers below its own room. Stories that
// need a whole server live in e2e.
var testSupport = []string{"internal/store/storetest", "internal/runtime/drivertest", "internal/leaktest", "internal/demoidp", "e2e/chatmodel"}

// serverTests are the folders whose tests may start a whole server.
var serverTests = []string{"client", "agent", "cmd/onbehalf", "examples/sayhello", "examples/openaiagent", "internal/server"}

// never is a rule about packages that are not ours.
type never struct {
	prefixes []string // import paths, and everything below them
	only     []string // folders that may, with everything below them
	tests    bool     // _test.go files may, too
	reason   string
}

var nevers = []never{
	{
		prefixes: []string{"crypto/aes", "crypto/cipher", "crypto/des", "crypto/rc4", "golang.org/x/crypto/chacha20", "golang.org/x/crypto/chacha20poly1305"},
		only:     []string{"internal/seal"},
		reason:   "only seal uses a cipher: one place decides on keys, nonces and what a ciphertext is bound to",
	},
	{
		prefixes: []string{"modernc.org/sqlite", "github.com/jackc/pgx", "github.com/lib/pq", "github.com/mattn/go-sqlite3"},
		only:     []string{"internal/store"},
		reason:   "only store names a SQL driver: every other room speaks one SQL to two engines",
	},
	{
		prefixes: []string{"github.com/maypok86/otter"},
		only:     []string{"internal/memo"},
		reason:   "only memo names otter: each kind of cache compiles it anew, half a megabyte of program",
	},
	{
		prefixes: []string{"net/http/httputil"},
		only:     []string{"internal/egress"},
		tests:    true,
		reason:   "only egress builds an HTTP client for outside hosts: a reverse proxy brings its own, without the guard against private addresses",
	},
	{
		prefixes: []string{"github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go"},
		only:     []string{"client", "agent", "examples", "cmd"},
		tests:    true,
		reason:   "the server never uses the AWS SDK: it is what the SDK talks to; in tests the SDK is the oracle",
	},
}

// neverOurs are pairs that the table forbids already. They are spelt out because
// their reason is not obvious, and because they must outlive a change of the table.
var neverOurs = []struct{ from, to, reason string }{
	{"internal/gateway", "internal/runtime", "gateway and runtime do not know each other: either may be left out of a deployment"},
	{"internal/runtime", "internal/gateway", "gateway and runtime do not know each other: either may be left out of a deployment"},
	{"internal/demoidp", "internal", "demoidp knows none of ours, so it cannot be a back door"},
	{"internal/identity", "internal/wire", "no room imports wire: rooms know requests, not HTTP"},
	{"internal/vault", "internal/wire", "no room imports wire: rooms know requests, not HTTP"},
	{"internal/broker", "internal/wire", "no room imports wire: rooms know requests, not HTTP"},
	{"internal/gateway", "internal/wire", "no room imports wire: rooms know requests, not HTTP"},
	{"internal/runtime", "internal/wire", "no room imports wire: rooms know requests, not HTTP"},
}

// drawers are names that say nothing about what is inside, so everything ends up there.
var drawers = []string{"util", "utils", "common", "helper", "helpers", "misc", "pkg", "shared"}

// outward are the standard library's ways to reach another host. A *http.Client
// in a signature is fine: it is how egress hands out its own.
var outward = map[string][]string{
	"net/http":   {"DefaultClient", "DefaultTransport", "Get", "Post", "PostForm", "Head"},
	"net":        {"Dial", "DialTimeout", "DialTCP", "DialUDP", "Dialer"},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer"},
}

// made are types that nobody but egress may have by value or make with new.
var made = map[string][]string{"net/http": {"Client", "Transport"}}

// file is what the rules need to know about one Go file.
type file struct {
	path      string // from the root, with slashes
	name      string // of the package
	imports   []string
	reaches   []string // uses of outward and made, "http.DefaultClient at line 12"
	lines     int
	generated bool
}

func (f file) folder() string { return path.Dir(f.path) }
func (f file) test() bool     { return strings.HasSuffix(f.path, "_test.go") }

// TestArchitecture applies every rule to every Go file of the repository.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	for _, complaint := range checkTable(table) {
		t.Error(complaint)
	}
	files, err := readTree(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d Go files: the walk does not see the repository", len(files))
	}
	for _, f := range files {
		for _, complaint := range check(f) {
			t.Error(complaint)
		}
	}
}

// check applies every rule to one file. A complaint names the file, the import and the rule.
func check(f file) []string {
	complaints := slices.Concat(checkNames(f), checkOurs(f), checkNevers(f), checkReaches(f))
	if !f.generated && f.lines > longest {
		complaints = append(complaints, fmt.Sprintf("%s has %d lines: files written by hand end at %d; split it by what its parts do", f.path, f.lines, longest))
	}
	return complaints
}

func checkNames(f file) []string {
	var complaints []string
	for _, name := range append(strings.Split(f.folder(), "/"), strings.TrimSuffix(f.name, "_test")) {
		if slices.Contains(drawers, name) {
			complaints = append(complaints, fmt.Sprintf("%s lies in %q: no folder or package is called %s; name it after what it holds", f.path, name, strings.Join(drawers, ", ")))
			break
		}
	}
	return complaints
}

func checkOurs(f file) []string {
	var complaints []string
	at, found := rowOf(f.folder())
	if !found {
		return []string{fmt.Sprintf("%s: the folder %s has no row in the table of arch_test.go: add one, with a dated page in docs/design", f.path, f.folder())}
	}
	for _, imported := range f.imports {
		target, ours := strings.CutPrefix(imported, module+"/")
		if !ours {
			continue
		}
		for _, n := range neverOurs {
			if within(f.folder(), n.from) && within(target, n.to) && !within(target, n.from) && !f.test() {
				complaints = append(complaints, fmt.Sprintf("%s imports %s: %s", f.path, target, n.reason))
			}
		}
		if !may(at, f, target) {
			complaints = append(complaints, fmt.Sprintf("%s imports %s: %s", f.path, target, at.rule()))
		}
	}
	return complaints
}

// may answers the table's question for one import.
func may(at row, f file, target string) bool {
	if at.anything {
		return true
	}
	to, found := rowOf(target)
	if !found {
		return false
	}
	if to.folder == at.folder && sameRoom(at.folder, f.folder(), target) || slices.Contains(at.allowed(), to.folder) {
		return true
	}
	if !f.test() {
		return false
	}
	if to.folder == "internal/servertest" {
		return slices.Contains(serverTests, at.folder)
	}
	return slices.Contains(testSupport, to.folder) || slices.Contains(at.reachable(), to.folder) || within(target, at.folder)
}

// sameRoom keeps the folders of a starred row apart: each is a room of its own.
func sameRoom(folder, from, to string) bool {
	parent, starred := strings.CutSuffix(folder, "/*")
	if !starred {
		return true
	}
	depth := strings.Count(parent, "/") + 2
	first := func(p string) string { return strings.Join(strings.SplitN(p, "/", depth+1)[:depth], "/") }
	return first(from) == first(to)
}

func checkNevers(f file) []string {
	var complaints []string
	if at, found := rowOf(f.folder()); found && at.anything {
		return nil
	}
	for _, imported := range f.imports {
		for _, n := range nevers {
			allowed := n.tests && f.test() || slices.ContainsFunc(n.only, func(folder string) bool { return within(f.folder(), folder) })
			if !allowed && slices.ContainsFunc(n.prefixes, func(prefix string) bool { return within(imported, prefix) }) {
				complaints = append(complaints, fmt.Sprintf("%s imports %s: %s", f.path, imported, n.reason))
			}
		}
	}
	return complaints
}

// inward are the files that reach an agent, and nothing else: in its session's
// own network, or through a channel that leads nowhere but there.
var inward = []string{"internal/runtime/agent.go", "internal/runtime/process/inside/init.go", "internal/runtime/plain/driver.go"}

// checkReaches looks at the server's own code: public packages, commands and
// examples are clients, and tests talk to themselves.
func checkReaches(f file) []string {
	var complaints []string
	at, found := rowOf(f.folder())
	if f.test() || !within(f.folder(), "internal") || within(f.folder(), "internal/egress") || found && at.anything || slices.Contains(inward, f.path) {
		return nil
	}
	for _, use := range f.reaches {
		complaints = append(complaints, fmt.Sprintf("%s uses %s: only egress builds an HTTP client for outside hosts, because only its dialer refuses private addresses", f.path, use))
	}
	return complaints
}

// checkTable proves that the table itself has no arrow up, no circle and no unknown name.
func checkTable(rows []row) []string {
	var complaints []string
	for i, at := range rows {
		for _, name := range strings.Fields(at.imports) {
			if name == "*" {
				continue
			}
			above := slices.ContainsFunc(rows[:i], func(other row) bool { return other.folder == folderOf(name) })
			if !above {
				complaints = append(complaints, fmt.Sprintf("arch_test.go: the row of %s names %s, which is not a row above it: arrows point down only, so that there is no circle", at.folder, name))
			}
		}
	}
	return complaints
}

// rowOf finds the row of a folder: its own, a starred one, or that of the nearest folder above.
func rowOf(folder string) (row, bool) {
	for at := folder; at != "."; at = path.Dir(at) {
		for _, r := range table {
			if r.folder == at || r.folder == path.Dir(at)+"/*" {
				return r, true
			}
		}
	}
	if folder == "." {
		return table[slices.IndexFunc(table, func(r row) bool { return r.folder == "." })], true
	}
	return row{}, false
}

// allowed lists the rows that this row may import.
func (r row) allowed() []string {
	var folders []string
	for _, name := range strings.Fields(r.imports) {
		if name != "*" {
			folders = append(folders, folderOf(name))
			continue
		}
		for _, above := range table {
			if above.folder == r.folder {
				break
			}
			if !above.anything {
				folders = append(folders, above.folder)
			}
		}
	}
	return folders
}

// reachable lists the rows that this row's packages bring with them.
func (r row) reachable() []string {
	folders := r.allowed()
	for i := 0; i < len(folders); i++ {
		below, _ := rowOf(folders[i])
		for _, folder := range below.allowed() {
			if !slices.Contains(folders, folder) {
				folders = append(folders, folder)
			}
		}
	}
	return folders
}

func (r row) rule() string {
	if r.imports == "" {
		return fmt.Sprintf("%s may import nothing of ours (table of arch_test.go)", r.folder)
	}
	return fmt.Sprintf("%s may import only %s (table of arch_test.go)", r.folder, strings.Join(strings.Fields(r.imports), ", "))
}

// folderOf turns a name of the table into a folder: rooms lie in internal, public packages do not.
func folderOf(name string) string {
	if name == "client" || name == "agent" {
		return name
	}
	return "internal/" + name
}

// within reports whether a path is the folder or lies below it.
func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// readTree reads every Go file of the module; hidden folders, testdata and
// modules of their own are not part of it.
func readTree(tree fs.FS) ([]file, error) {
	var files []file
	err := fs.WalkDir(tree, ".", func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if p == "." {
				return nil
			}
			_, nested := fs.Stat(tree, path.Join(p, "go.mod"))
			if strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_") || entry.Name() == "testdata" || entry.Name() == "node_modules" || nested == nil {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(p) != ".go" {
			return nil
		}
		source, err := fs.ReadFile(tree, p)
		if err != nil {
			return err
		}
		f, err := readFile(p, source)
		files = append(files, f)
		return err
	})
	return files, err
}

// readFile parses the import clauses, and the whole file only where these say
// that it could reach another host.
func readFile(p string, source []byte) (file, error) {
	positions := token.NewFileSet()
	parsed, err := parser.ParseFile(positions, p, source, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return file{}, err
	}
	f := file{path: p, name: parsed.Name.Name, lines: bytes.Count(source, []byte("\n")), generated: ast.IsGenerated(parsed)}
	suspicious := false
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, imported)
		suspicious = suspicious || outward[imported] != nil
	}
	if suspicious && !f.generated {
		if parsed, err = parser.ParseFile(positions, p, source, parser.SkipObjectResolution); err != nil {
			return file{}, err
		}
		f.reaches = reaches(positions, parsed)
	}
	return f, nil
}

// reaches finds the uses of outward and made in a parsed file.
func reaches(positions *token.FileSet, parsed *ast.File) []string {
	local := map[string]string{} // package name in this file -> import path
	for _, spec := range parsed.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		if outward[imported] == nil {
			continue
		}
		local[path.Base(imported)] = imported
		if spec.Name != nil {
			local[spec.Name.Name] = imported
		}
	}
	var uses []string
	report := func(node ast.Node, names map[string][]string) {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return
		}
		pkg, ok := selector.X.(*ast.Ident)
		if ok && slices.Contains(names[local[pkg.Name]], selector.Sel.Name) {
			uses = append(uses, fmt.Sprintf("%s.%s at line %d", pkg.Name, selector.Sel.Name, positions.Position(selector.Pos()).Line))
		}
	}
	ast.Inspect(parsed, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.SelectorExpr:
			report(n, outward)
		case *ast.CompositeLit:
			report(n.Type, made)
		case *ast.ValueSpec:
			report(n.Type, made)
		case *ast.Field:
			report(n.Type, made)
		case *ast.CallExpr:
			if name, ok := n.Fun.(*ast.Ident); ok && name.Name == "new" && len(n.Args) == 1 {
				report(n.Args[0], made)
			}
		}
		return true
	})
	return uses
}
