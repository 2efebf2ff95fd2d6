//go:build linux

package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/drivertest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "agent" { // the agent of these tests is this program
		agent()
		return
	}
	if len(os.Args) > 3 && os.Args[1] == "platform" {
		doomedPlatform(os.Args[2], os.Args[3])
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "bomb" {
		bomb(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

// agent answers on 127.0.0.1:8080 by doing what the path says.
func agent() {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello from ", os.Getpid(), " ", os.Getenv("GREETING"))
	})
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile(r.FormValue("path"))
		fmt.Fprint(w, string(content), err)
	})
	mux.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, os.WriteFile(r.FormValue("path"), make([]byte, 1<<20), 0o600))
	})
	mux.HandleFunc("/list", func(w http.ResponseWriter, r *http.Request) {
		entries, err := os.ReadDir(r.FormValue("path"))
		fmt.Fprint(w, entries, err)
	})
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		response, err := (&http.Client{Timeout: 20 * time.Second}).Get(r.FormValue("url"))
		if err != nil {
			fmt.Fprint(w, "error: ", err)
			return
		}
		defer response.Body.Close()
		_, _ = io.Copy(w, response.Body)
	})
	mux.HandleFunc("/fill", func(w http.ResponseWriter, r *http.Request) {
		var all [][]byte
		for len(all) < ceiling/(8<<20) {
			all = append(all, bytes.Repeat([]byte{1}, 8<<20))
			time.Sleep(time.Millisecond)
		}
	})
	mux.HandleFunc("/attack", attack)
	mux.HandleFunc("/core", core)
	mux.HandleFunc("/flood", flood)
	mux.HandleFunc("/take", take)
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { fmt.Println("good bye"); os.Exit(3) })
	fmt.Println("listening")
	fmt.Println(http.ListenAndServe("127.0.0.1:8080", mux))
}

func query(pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values.Encode()
}

type output = drivertest.Output

// shared is a driver that saves storage at the end of sessions, and when a test does.
var shared = sync.OnceValues(func() (*Driver, error) {
	d, err := New(context.Background())
	if err == nil {
		d.saveEvery = time.Hour
	}
	return d, err
})

// names tells sessions apart: an earlier one's control groups may not be quite gone.
var names atomic.Int64

type running struct{ *drivertest.Session }

func start(t *testing.T, change ...func(*runtime.Launch)) *running {
	t.Helper()
	d, err := shared()
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	code := t.TempDir()
	for folder := code; folder != "/"; folder = filepath.Dir(folder) {
		_ = os.Chmod(folder, 0o755)
		if filepath.Dir(folder) == os.TempDir() {
			break
		}
	}
	place(t, filepath.Join(code, "agent"))
	l := runtime.Launch{
		Name: fmt.Sprint(strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())), "-", names.Add(1)), Code: code, Command: []string{"./agent", "agent"}, Port: 8080,
		Environment: []string{"GREETING=a secret word", "PATH=/usr/bin:/bin", "HOME=/home/agent"},
		Platform:    http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the platform, asked for ", r.URL.Path) }),
	}
	for _, change := range change {
		change(&l)
	}
	return &running{drivertest.Start(t, d, l)}
}

// place puts this program somewhere: by a link where that can be, since one that was
// just written is busy while another test starts something.
func place(t *testing.T, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if os.Link(self, path) == nil {
		return
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestASession(t *testing.T) {
	t.Parallel()
	r := start(t)
	if got := r.Ask(t, "/hello"); !strings.HasPrefix(got, "hello from ") || !strings.HasSuffix(got, "a secret word") {
		t.Error(got)
	}
	if got := r.Ask(t, "/get?url=http://127.0.0.1:7079/some/path"); got != "the platform, asked for /some/path" {
		t.Error(got)
	}
	if got := r.Ask(t, "/write?path=/tmp/x"); got != "<nil>" {
		t.Error(got)
	}
	var stdout, stderr bytes.Buffer
	code, err := r.Run(t.Context(), runtime.Command{Line: "ls /tmp; echo oops >&2; echo $GREETING; exit 5", Timeout: time.Minute, Stdout: &stdout, Stderr: &stderr})
	if err != nil || code != 5 || stdout.String() != "x\na secret word\n" || stderr.String() != "oops\n" {
		t.Errorf("%d %v %q %q", code, err, stdout.String(), stderr.String())
	}
	begun := time.Now()
	if _, err := r.Run(t.Context(), runtime.Command{Line: "sleep 60", Timeout: 100 * time.Millisecond, Stdout: io.Discard, Stderr: io.Discard}); err != context.DeadlineExceeded || time.Since(begun) > 30*time.Second {
		t.Errorf("a command that takes long: %v", err)
	}
	if got := r.Ask(t, "/exit"); got != "ended: The agent ended with exit code 3." {
		t.Error(got)
	}
	if said := r.Said.String(); said != "listening\ngood bye\n" {
		t.Errorf("it said %q", said)
	}
}

// What is not the session's is not there.
func TestIsolation(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of the platform"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	other := start(t, func(l *runtime.Launch) { l.Name += "-other" })
	r := start(t)
	other.Ask(t, "/write?path=/tmp/x")
	for request, want := range map[string]string{
		"/read?path=" + secret:                             "no such file",
		"/read?path=/etc/shadow":                           "no such file",
		"/read?path=/tmp/x":                                "no such file",
		"/read?path=/proc/1/environ":                       "permission denied",
		"/list?path=/proc/1/cwd/":                          "permission denied",
		"/write?path=/app/agent":                           "read-only file system",
		"/write?path=/usr/bin/ls":                          "read-only file system",
		"/write?path=/new":                                 "read-only file system",
		"/get?url=http://" + listener.Addr().String():      "connection refused",
		"/get?url=http://169.254.169.254/latest/meta-data": "network is unreachable",
		"/get?url=http://192.0.2.1/":                       "network is unreachable",
		"/get?url=http://127.0.0.1:7078/":                  "404",
	} {
		if got := r.Ask(t, request); !strings.Contains(got, want) {
			t.Errorf("%s: %.300s; want %q", request, got, want)
		}
	}
	stdout := &output{}
	line := `id -u; ls /root /var /home /sys 2>&1; unshare -Ur id 2>&1; mount -t tmpfs none /tmp 2>&1; kill -9 1; cat /proc/self/status | grep -E 'CapEff|CapBnd|NoNewPrivs'; ps aux 2>/dev/null | wc -l`
	if _, err := r.Run(t.Context(), runtime.Command{Line: line, Timeout: time.Minute, Stdout: stdout, Stderr: stdout}); err != nil {
		t.Error(err)
	}
	t.Log(stdout.String())
	for _, want := range []string{"CapEff:\t0000000000000000", "NoNewPrivs:\t1", "agent"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in %s", want, stdout.String())
		}
	}
	if strings.Contains(stdout.String(), "uid=0") {
		t.Error("it became root")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	small := func(l *runtime.Launch) { l.Limits = runtime.Limits{Memory: 200 << 20, Processes: 64, Disk: 4 << 20} }
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		r := start(t, small)
		if got := r.Ask(t, "/fill"); !strings.HasPrefix(got, "ended: The agent took more memory than its limit") {
			t.Error(got)
		}
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		r := start(t, small)
		r.Ask(t, "/hello")
		out := &output{}
		_, _ = r.Run(t.Context(), runtime.Command{Line: "head -c 100000000 /dev/zero > /tmp/full", Timeout: time.Minute, Stdout: out, Stderr: out})
		if !strings.Contains(out.String(), "No space left") {
			t.Error(out.String())
		}
		if got := r.Ask(t, "/hello"); !strings.HasPrefix(got, "hello") {
			t.Error(got)
		}
	})
	t.Run("processes", func(t *testing.T) {
		t.Parallel()
		r := start(t, small)
		r.Ask(t, "/hello")
		out := &output{}
		_, _ = r.Run(t.Context(), runtime.Command{Line: "for i in $(seq 200); do sleep 30 & done; wait", Timeout: time.Minute, Stdout: out, Stderr: out})
		if !strings.Contains(out.String(), "annot fork") {
			t.Error(out.String())
		}
		if got := r.Ask(t, "/hello"); !strings.HasPrefix(got, "hello") {
			t.Error(got)
		}
	})
}

func TestStop(t *testing.T) {
	t.Parallel()
	polite := start(t, func(l *runtime.Launch) {
		l.Command = []string{"sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"}
	})
	stubborn := start(t, func(l *runtime.Launch) {
		l.Command = []string{"sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"}
		l.Name += "-stubborn"
	})
	for _, r := range []*running{polite, stubborn} {
		for !strings.Contains(r.Said.String(), "up") {
			time.Sleep(10 * time.Millisecond)
		}
	}
	drivertest.Stops(t, polite.Session, stubborn.Session)
}

func TestBadLaunches(t *testing.T) {
	t.Parallel()
	r := start(t, func(l *runtime.Launch) { l.Command = []string{"nothing-of-that-name"} })
	<-r.Ended()
	if r.End() != "The agent ended with exit code 127." || !strings.Contains(r.Said.String(), "there is no nothing-of-that-name in PATH") {
		t.Errorf("%s %s", r.End(), r.Said)
	}
	d, _ := shared()
	if _, err := d.Start(t.Context(), runtime.Launch{Name: "nowhere", Code: "/nowhere", Command: []string{"true"}, Output: io.Discard}); err == nil || !strings.Contains(err.Error(), "the agent's code") {
		t.Errorf("no code: %v", err)
	}
}
