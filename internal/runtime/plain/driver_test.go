package plain

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/leaktest"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/drivertest"
)

func TestMain(m *testing.M) {
	Init()
	switch {
	case len(os.Args) > 1 && os.Args[1] == "agent":
		agent()
	case len(os.Args) > 1 && os.Args[1] == "platform":
		platform()
	default:
		leaktest.Exit(m.Run())
	}
}

// agent is the program of these tests' sessions.
func agent() {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from ", os.Getenv("PORT")) })
	mux.HandleFunc("/environment", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Join(os.Environ(), "\n"))
	})
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		response, err := http.Get(os.Getenv("PLATFORM") + r.FormValue("path"))
		if err != nil {
			fmt.Fprint(w, "error: ", err)
			return
		}
		defer response.Body.Close()
		_, _ = io.Copy(w, response.Body)
	})
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { fmt.Println("good bye"); os.Exit(3) })
	fmt.Println("listening")
	fmt.Println(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), mux))
}

// platform is one that is going to be killed: it starts a session that does all it can to outlive it.
func platform() {
	var out drivertest.Output
	p, err := New().Start(context.Background(), runtime.Launch{Code: "/", Output: &out, Environment: []string{"PATH=/usr/bin:/bin"},
		Command: []string{"sh", "-c", "trap '' TERM HUP; (setsid sh -c 'sleep 1000 & echo pid $!; echo pid $$; wait' &) ; echo pid $$; echo folder $HOME; wait; while :; do sleep 1; done"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for strings.Count(out.String(), "pid") < 3 || !strings.Contains(out.String(), "folder") {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Print(out.String(), "ready\n")
	<-p.Ended()
}

type running = drivertest.Session

func start(t *testing.T, change ...func(*runtime.Launch)) *running {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := runtime.Launch{
		Name: "session", Code: t.TempDir(), Command: []string{self, "agent"}, Port: 8080,
		Environment: []string{"PATH=/usr/bin:/bin", "PORT=8080", "HOME=/home/agent", "PLATFORM=http://127.0.0.1:7079", "HTTP_PROXY=http://127.0.0.1:7078", "NO_PROXY=127.0.0.1,localhost", "OTHER=127.0.0.1:70790"},
		Platform:    http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the platform, asked for ", r.URL.Path) }),
	}
	for _, change := range change {
		change(&l)
	}
	return drivertest.Start(t, drivers, l)
}

var drivers = New()

func TestASession(t *testing.T) {
	t.Parallel()
	r, other := start(t), start(t)
	if a, b := r.Ask(t, "/hello"), other.Ask(t, "/hello"); a == b || !strings.HasPrefix(a, "hello from ") {
		t.Errorf("%s and %s have one port", a, b)
	}
	if got := r.Ask(t, "/get?path=/some/path"); got != "the platform, asked for /some/path" {
		t.Error(got)
	}
	environment := r.Ask(t, "/environment")
	for _, wrong := range []string{"PORT=8080", ":7079\n", ":7078\n", "/home/agent"} {
		if strings.Contains(environment+"\n", wrong) {
			t.Errorf("%s in %s", wrong, environment)
		}
	}
	if !strings.Contains(environment, "OTHER=127.0.0.1:70790") {
		t.Error(environment)
	}
	var stdout, stderr bytes.Buffer
	code, err := r.Run(t.Context(), runtime.Command{Line: "touch $HOME/x; ls $HOME; echo oops >&2; exit 5", Timeout: time.Minute, Stdout: &stdout, Stderr: &stderr})
	if err != nil || code != 5 || stdout.String() != "x\n" || stderr.String() != "oops\n" {
		t.Errorf("%d %v %q %q", code, err, stdout.String(), stderr.String())
	}
	begun := time.Now()
	if _, err := r.Run(t.Context(), runtime.Command{Line: "setsid sleep 60", Timeout: 100 * time.Millisecond, Stdout: io.Discard, Stderr: io.Discard}); err != context.DeadlineExceeded || time.Since(begun) > 30*time.Second {
		t.Errorf("a command that takes long: %v", err)
	}
	if got := r.Ask(t, "/exit"); got != "ended: The agent ended with exit code 3." {
		t.Error(got)
	}
	if said := r.Said.String(); said != "listening\ngood bye\n" {
		t.Errorf("it said %q", said)
	}
	if _, err := r.Run(t.Context(), runtime.Command{Line: "true", Timeout: time.Minute}); err == nil {
		t.Error("a command ran in a session that had ended")
	}
}

// pids are the processes that somebody named.
func pids(t *testing.T, said string) (all []int) {
	t.Helper()
	for line := range strings.Lines(said) {
		if text, is := strings.CutPrefix(strings.TrimSpace(line), "pid "); is {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pid)
		}
	}
	return all
}

func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

// A stop is polite, then not; what has left its process group ends as well.
func TestStop(t *testing.T) {
	t.Parallel()
	polite := start(t, func(l *runtime.Launch) {
		l.Command = []string{"sh", "-c", "trap 'echo bye; exit 0' TERM; echo pid $$; while :; do sleep 0.05; done"}
	})
	stubborn := start(t, func(l *runtime.Launch) {
		l.Command = []string{"sh", "-c", "trap '' TERM; (setsid sh -c 'sleep 1000 & echo pid $!; wait' &); echo pid $$; while :; do sleep 0.05; done"}
	})
	for want, r := range []*running{polite, stubborn} {
		for strings.Count(r.Said.String(), "pid") <= want {
			time.Sleep(10 * time.Millisecond)
		}
	}
	drivertest.Stops(t, polite, stubborn)
	if stubborn.End() != "The agent was ended." {
		t.Error(stubborn.End())
	}
	for _, pid := range pids(t, stubborn.Said.String()) {
		if !gone(pid) {
			t.Errorf("process %d goes on", pid)
		}
	}
}

// A platform that is killed leaves nothing behind.
func TestKilledPlatform(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self, "platform")
	out := &drivertest.Output{}
	command.Stdout, command.Stderr = out, out
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Process.Kill()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(), "ready"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(out.String())
		}
	}
	_ = command.Process.Kill()
	_ = command.Wait()
	_, folder, _ := strings.Cut(out.String(), "folder ")
	folder, _, _ = strings.Cut(folder, "\n")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		left := 0
		for _, pid := range pids(t, out.String()) {
			if !gone(pid) {
				left++
			}
		}
		if _, err := os.Stat(filepath.Dir(folder)); left == 0 && os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d processes, or their folder %s, are left: %s", left, folder, out)
		}
	}
}

func TestBadLaunches(t *testing.T) {
	t.Parallel()
	r := start(t, func(l *runtime.Launch) { l.Command = []string{"nothing-of-that-name"} })
	<-r.Ended()
	if r.End() != "The agent ended with exit code 127." || !strings.Contains(r.Said.String(), "nothing-of-that-name") {
		t.Errorf("%s %s", r.End(), r.Said)
	}
	for why, l := range map[string]runtime.Launch{
		"session storage": {Code: t.TempDir(), Command: []string{"true"}, Mounts: []string{"/mnt/data"}, Output: io.Discard},
		"no such file":    {Code: "/nowhere", Command: []string{"true"}, Output: io.Discard},
	} {
		if _, err := drivers.Start(t.Context(), l); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if !strings.Contains(drivers.About(), "NOTHING is isolated") {
		t.Error(drivers.About())
	}
}
