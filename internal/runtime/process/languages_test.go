//go:build linux

package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// interpreterOf finds a program as the room does, with the folder that it needs.
func interpreterOf(t *testing.T, name string) (path string, also []string) {
	t.Helper()
	out, err := exec.Command("sh", "-c", name+" -c 'import sys; print(sys.executable)' 2>/dev/null || command -v "+name).Output()
	if path = strings.TrimSpace(string(out)); err != nil || path == "" {
		t.Skipf("skipped: no %s here", name)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(path, "/usr/") {
		also = []string{filepath.Dir(filepath.Dir(path))}
	}
	return path, also
}

// What Python and Node do on an ordinary machine works behind the filter: threads,
// children, pipes, shared memory, locks, TLS, names of hosts. The interpreter may
// lie in root's own home, which no session can walk to.
func TestLanguages(t *testing.T) {
	t.Parallel()
	programs := map[string]string{
		"python3": `
import asyncio, concurrent.futures, ctypes, getpass, multiprocessing, os, resource, socket, ssl, sqlite3, subprocess, tempfile, threading, uuid
def square(n): return n * n
if __name__ == "__main__":
    assert subprocess.run(["sh", "-c", "exit 3"]).returncode == 3
    with multiprocessing.Pool(2) as pool: assert pool.map(square, [1, 2, 3]) == [1, 4, 9]
    with multiprocessing.get_context("spawn").Pool(1) as pool: assert pool.map(square, [2]) == [4]
    with concurrent.futures.ThreadPoolExecutor(8) as pool: assert list(pool.map(square, [4])) == [16]
    from multiprocessing import shared_memory
    block = shared_memory.SharedMemory(create=True, size=100); block.close(); block.unlink()
    async def child():
        p = await asyncio.create_subprocess_exec("echo", "hi", stdout=asyncio.subprocess.PIPE)
        return (await p.communicate())[0]
    assert asyncio.run(child()) == b"hi\n"
    server = socket.create_server(("0.0.0.0", 8080)); socket.create_connection(("127.0.0.1", 8080)).close()
    assert socket.gethostbyname("localhost") == "127.0.0.1"
    a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
    assert len(ssl.create_default_context().get_ca_certs()) >= 0
    sqlite3.connect(tempfile.mktemp()).execute("create table t (x)")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    assert getpass.getuser() and uuid.uuid4() and os.cpu_count() > 0
    print("all is well", flush=True)
`,
		"node": `
const { Worker } = require("worker_threads"), { execSync } = require("child_process"), fs = require("fs"), os = require("os"), http = require("http"), crypto = require("crypto"), zlib = require("zlib"), dns = require("dns");
if (execSync("echo hi").toString() !== "hi\n") throw 1;
fs.writeFileSync("/tmp/x", zlib.gzipSync(crypto.randomBytes(100000)));
fs.readFile("/tmp/x", () => new Worker("require('worker_threads').parentPort.postMessage(os = require('os').cpus().length)", { eval: true }).on("message", () =>
  dns.lookup("localhost", (e) => { if (e) throw e;
    const server = http.createServer((q, s) => s.end("x")).listen(8080, () => fetch("http://localhost:8080").then(r => r.text()).then(() => { console.log("all is well"); server.close(); process.exit(0); }));
  })));
`,
	}
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, also := interpreterOf(t, name)
			r := start(t, func(l *runtime.Launch) {
				if err := os.WriteFile(filepath.Join(l.Code, "program"), []byte(program), 0o644); err != nil {
					t.Fatal(err)
				}
				l.Command, l.Also = []string{path, "program"}, also
			})
			select {
			case <-r.Ended():
			case <-time.After(3 * time.Minute):
				t.Error("it hangs")
			}
			if !strings.Contains(r.Said.String(), "all is well") || !strings.HasSuffix(r.End(), "code 0.") {
				t.Errorf("%s %s", r.End(), r.Said)
			}
		})
	}
}

// An interpreter is found by each of its names, with its libraries, also where only
// root can walk to it. The folder of everything is no interpreter's.
func TestInterpretersElsewhere(t *testing.T) {
	t.Parallel()
	hidden := filepath.Join(t.TempDir(), "hidden")
	real := filepath.Join(hidden, "language-1.2.3")
	linked := filepath.Join(hidden, "language")
	if err := os.MkdirAll(filepath.Join(real, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho I am $0\ncat \"$(dirname $0)\"/../lib/library\n"
	for path, content := range map[string]string{"bin/language": script, "lib/library.1": "and my library\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(real, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(real, path), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{linked: "language-1.2.3", filepath.Join(real, "lib/library"): "library.1"} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{real, linked} {
		r := start(t, func(l *runtime.Launch) {
			l.Also = []string{folder, "/not/there"}
			l.Command = []string{filepath.Join(folder, "bin/language")}
		})
		<-r.Ended()
		if said := r.Said.String(); said != "I am "+folder+"/bin/language\nand my library\n" {
			t.Errorf("%s %s", r.End(), said)
		}
	}
	d, err := shared()
	if err != nil {
		return
	}
	home, _ := os.UserHomeDir()
	for _, folder := range []string{"/", "/home", "/tmp", home} {
		_, err := d.Start(t.Context(), runtime.Launch{Name: "all", Code: t.TempDir(), Also: []string{folder}, Command: []string{"true"}, Output: &output{}})
		if err == nil || !strings.Contains(err.Error(), "Install the interpreter in a folder of its own") {
			t.Errorf("%s: %v", folder, err)
		}
	}
}

// Node is one file, in a folder that may have anything else, as nvm and npm install
// it: the session sees the file, and not its neighbours.
func TestInterpreterOfOneFile(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "bin")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "language")
	for path, content := range map[string]string{program: "#!/bin/sh\necho I am $0\nls ${0%/*}\n", filepath.Join(folder, "neighbour"): ""} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, func(l *runtime.Launch) { l.Command, l.Also = []string{program}, []string{program} })
	<-r.Ended()
	if said := r.Said.String(); said != "I am "+program+"\nlanguage\n" {
		t.Errorf("%s %s", r.End(), said)
	}
}

// The code may lie where only the platform can go.
func TestCodeWithinTheDataFolder(t *testing.T) {
	t.Parallel()
	r := start(t, func(l *runtime.Launch) {
		if err := os.Chmod(filepath.Dir(l.Code), 0o700); err != nil {
			t.Fatal(err)
		}
	})
	if got := r.Ask(t, "/hello"); !strings.HasPrefix(got, "hello") {
		t.Error(got)
	}
}
