package onbehalf_test

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestArchitectureCanFail feeds each rule of arch_test.go a file that breaks it
// and one beside it that does not: a rule that cannot fail guards nothing.
func TestArchitectureCanFail(t *testing.T) {
	t.Parallel()
	importing := func(paths ...string) string {
		return "package x\nimport (\n_ \"" + strings.Join(paths, "\"\n_ \"") + "\"\n)\n"
	}
	ours := func(folder string) string { return importing(module + "/" + folder) }
	for _, test := range []struct {
		name, path, source string
		want               string // part of the one complaint; empty for none
	}{
		{"a listed import", "internal/gate/a.go", ours("internal/audit"), ""},
		{"an unlisted import", "internal/policy/a.go", ours("internal/seal"), "internal/policy/a.go imports internal/seal: internal/policy may import only api, principal, store, fault"},
		{"an arrow up", "internal/store/a.go", ours("internal/vault"), "internal/store/a.go imports internal/vault"},
		{"a room that imports wire", "internal/vault/a.go", ours("internal/wire"), "no room imports wire"},
		{"gateway knows runtime", "internal/gateway/a.go", ours("internal/runtime"), "do not know each other"},
		{"a driver knows gateway", "internal/runtime/process/a.go", ours("internal/gateway"), "do not know each other"},
		{"demoidp knows us", "internal/demoidp/a.go", ours("internal/secret"), "so it cannot be a back door"},
		{"a word imports a word", "internal/principal/a.go", ours("internal/secret"), ""},
		{"a word that may not", "internal/fault/a.go", ours("internal/secret"), "may import nothing of ours"},
		{"console imports a room", "internal/console/a.go", ours("internal/broker"), "internal/console may import only"},
		{"server imports every room", "internal/server/a.go", importing(module+"/internal/gateway/openapi", module+"/internal/wire", module+"/internal/demoidp"), ""},
		{"server imports test support", "internal/server/a.go", ours("internal/servertest"), "imports internal/servertest"},
		{"the root of a room imports its kind of target", "internal/gateway/a.go", ours("internal/gateway/openapi"), "imports internal/gateway/openapi"},
		{"a kind of target imports its room", "internal/gateway/openapi/a.go", ours("internal/gateway"), ""},
		{"a kind of target imports its own folder", "internal/gateway/openapi/a.go", ours("internal/gateway/openapi/schema"), ""},
		{"a kind of target imports another", "internal/gateway/openapi/a.go", ours("internal/gateway/lambda"), "imports internal/gateway/lambda"},
		{"a kind of target imports the store", "internal/gateway/openapi/a.go", ours("internal/store"), "imports internal/store"},
		{"a folder inside a room", "internal/wire/query/a.go", importing(module+"/internal/wire", module+"/internal/api"), ""},
		{"a folder nobody listed", "internal/novelty/a.go", ours("internal/fault"), "internal/novelty has no row"},
		{"a public package imports the inside", "client/a.go", ours("internal/api"), "client may import nothing of ours"},
		{"the command imports a room", "cmd/onbehalf/a.go", ours("internal/store"), "cmd/onbehalf may import only server, agent, client"},

		{"a test imports what its row brings", "internal/gate/a_test.go", ours("internal/seal"), ""},
		{"a file that is no test does not", "internal/gate/a.go", ours("internal/seal"), "internal/gate/a.go imports internal/seal"},
		{"a test imports storetest", "internal/audit/a_test.go", ours("internal/store/storetest"), ""},
		{"a file that is no test imports storetest", "internal/audit/a.go", ours("internal/store/storetest"), "imports internal/store/storetest"},
		{"a room's test imports its kind of target", "internal/gateway/a_test.go", ours("internal/gateway/openapi"), ""},
		{"a kind's test imports another kind", "internal/gateway/openapi/a_test.go", ours("internal/gateway/lambda"), "imports internal/gateway/lambda"},
		{"a test looks up", "internal/store/a_test.go", ours("internal/gate"), "imports internal/gate"},
		{"a room's test starts a server", "internal/broker/a_test.go", ours("internal/servertest"), "imports internal/servertest"},
		{"a client's test starts a server", "client/a_test.go", ours("internal/servertest"), ""},
		{"storetest may import anything", "internal/store/storetest/a.go", ours("internal/gate"), ""},

		{"seal uses a cipher", "internal/seal/a.go", importing("crypto/cipher"), ""},
		{"vault uses a cipher", "internal/vault/a.go", importing("crypto/cipher"), "internal/vault/a.go imports crypto/cipher: only seal uses a cipher"},
		{"a test uses a cipher", "internal/vault/a_test.go", importing("crypto/aes"), "only seal uses a cipher"},
		{"store names a driver", "internal/store/a.go", importing("modernc.org/sqlite"), ""},
		{"audit names a driver", "internal/audit/a.go", importing("github.com/jackc/pgx/v5/stdlib"), "only store names a SQL driver"},
		{"a neighbour in name only", "internal/audit/a.go", importing("modernc.org/sqlitelike"), ""},
		{"the server uses the AWS SDK", "internal/wire/a.go", importing("github.com/aws/aws-sdk-go-v2/config"), "never uses the AWS SDK"},
		{"a test uses the AWS SDK", "internal/wire/a_test.go", importing("github.com/aws/aws-sdk-go-v2/config"), ""},
		{"the command uses the AWS SDK", "cmd/onbehalf/a.go", importing("github.com/aws/aws-sdk-go-v2/config"), ""},
		{"memo names otter", "internal/memo/a.go", importing("github.com/maypok86/otter/v2"), ""},
		{"a room names otter", "internal/oauth/a.go", importing("github.com/maypok86/otter/v2"), "only memo names otter"},
		{"a reverse proxy", "internal/gateway/a.go", importing("net/http/httputil"), "a reverse proxy brings its own"},

		{"a client by value", "internal/broker/a.go", "package x\nimport \"net/http\"\nvar c = &http.Client{}\n", "uses http.Client at line 3: only egress"},
		{"a client by new", "internal/broker/a.go", "package x\nimport \"net/http\"\nvar c = new(http.Client)\n", "uses http.Client at line 3"},
		{"a client as a variable", "internal/broker/a.go", "package x\nimport \"net/http\"\nvar c http.Client\n", "uses http.Client at line 3"},
		{"a client as a member", "internal/broker/a.go", "package x\nimport \"net/http\"\ntype s struct{ c http.Client }\n", "uses http.Client at line 3"},
		{"the default client, renamed", "internal/broker/a.go", "package x\nimport web \"net/http\"\nvar c = web.DefaultClient\n", "uses web.DefaultClient at line 3"},
		{"a bare get", "internal/oauth/a.go", "package x\nimport \"net/http\"\nvar _, _ = http.Get(\"\")\n", "uses http.Get at line 3"},
		{"a bare dial", "internal/oauth/a.go", "package x\nimport \"net\"\nvar _, _ = net.Dial(\"\", \"\")\n", "uses net.Dial at line 3"},
		{"a client of somebody else's", "internal/oauth/a.go", "package x\nimport \"net/http\"\nfunc f(c *http.Client) {}\n", ""},
		{"a dial into a session", "internal/runtime/process/inside/init.go", "package x\nimport \"net\"\nvar _, _ = net.Dial(\"\", \"\")\n", ""},
		{"a dial beside it", "internal/runtime/process/driver.go", "package x\nimport \"net\"\nvar _, _ = net.Dial(\"\", \"\")\n", "uses net.Dial at line 3"},
		{"a client in egress", "internal/egress/a.go", "package x\nimport \"net/http\"\nvar c = &http.Client{}\n", ""},
		{"a client in a test", "internal/broker/a_test.go", "package x\nimport \"net/http\"\nvar c = &http.Client{}\n", ""},
		{"a client in a public package", "client/a.go", "package x\nimport \"net/http\"\nvar c = &http.Client{}\n", ""},

		{"a drawer as a folder", "internal/store/util/a.go", "package x\n", `internal/store/util/a.go lies in "util"`},
		{"a drawer as a package", "internal/store/a.go", "package helpers\n", `lies in "helpers"`},
		{"a drawer's test", "internal/store/a_test.go", "package common_test\n", `lies in "common"`},
		{"a long file", "internal/store/a.go", "package x\n" + strings.Repeat("\n", longest), "has 801 lines"},
		{"a file as long as allowed", "internal/store/a.go", "package x\n" + strings.Repeat("\n", longest-1), ""},
		{"a long file that was generated", "internal/store/a.go", "// Code generated by x. DO NOT EDIT.\n\npackage x\n" + strings.Repeat("\n", longest), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f, err := readFile(test.path, []byte(test.source))
			if err != nil {
				t.Fatal(err)
			}
			complaints := check(f)
			switch {
			case test.want == "" && len(complaints) > 0:
				t.Errorf("unexpected complaints %q", complaints)
			case test.want != "" && !strings.Contains(strings.Join(complaints, "\n"), test.want):
				t.Errorf("complaints %q lack %q", complaints, test.want)
			}
		})
	}
}

// TestTableCanFail proves that the table cannot grow an arrow up or a circle.
func TestTableCanFail(t *testing.T) {
	t.Parallel()
	for name, rows := range map[string][]row{
		"an arrow up":     {{folder: "internal/fault", imports: "secret"}, {folder: "internal/secret"}},
		"an own arrow":    {{folder: "internal/fault", imports: "fault"}},
		"an unknown name": {{folder: "internal/fault", imports: "elsewhere"}},
	} {
		if complaints := checkTable(rows); len(complaints) != 1 || !strings.Contains(complaints[0], "arrows point down only") {
			t.Errorf("%s: complaints %q", name, complaints)
		}
	}
	if complaints := checkTable([]row{{folder: "client"}, {folder: "agent", imports: "client"}, {folder: "internal/server", imports: "*"}}); len(complaints) > 0 {
		t.Errorf("a good table: complaints %q", complaints)
	}
}

// TestTreeSkips proves which files the walk sees, and that it stops at one it cannot read.
func TestTreeSkips(t *testing.T) {
	t.Parallel()
	goFile := &fstest.MapFile{Data: []byte("package x\n")}
	tree := fstest.MapFS{
		"go.mod": &fstest.MapFile{}, "a.go": goFile, "internal/b.go": goFile, "internal/c.txt": &fstest.MapFile{},
		".git/d.go": goFile, "_old/e.go": goFile, "internal/testdata/f.go": goFile, "node_modules/g.go": goFile,
		"examples/own/go.mod": &fstest.MapFile{}, "examples/own/h.go": goFile,
	}
	files, err := readTree(tree)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range files {
		paths = append(paths, f.path)
	}
	if got, want := strings.Join(paths, " "), "a.go internal/b.go"; got != want {
		t.Errorf("walked %q, want %q", got, want)
	}
	tree["internal/broken.go"] = &fstest.MapFile{Data: []byte("not Go")}
	if _, err := readTree(tree); err == nil {
		t.Error("a file that does not parse was passed over")
	}
}
