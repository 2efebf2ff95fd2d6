package docs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// blockTime is how long one block may take: some compile a program.
const blockTime = 3 * time.Minute

// shell is one reader's terminal: what a block sets, the next one has. The
// reader's home, ports and temporary folder are the test's.
type shell struct {
	t       *testing.T
	home    string
	rewrite *strings.Replacer
	demoURL string
	link    *regexp.Regexp
	env     []string
	in      io.Writer
	kill    context.CancelFunc
	lines   chan string
	count   int
	opened  sync.Map     // links that were opened
	arrived atomic.Value // the address at which the reader's browser ended, a string
	arrival string       // where the last of them ended; written by the reader, read after they are back
	reader  sync.WaitGroup
}

// prelude runs `onbehalf serve` as in another terminal: behind the scenes, until
// the next one or the end of the page.
const prelude = `set -eo pipefail
stop() { if [ -n "$SERVING" ]; then kill "$SERVING"; wait "$SERVING" || true; SERVING=; fi; }
trap stop EXIT
serve() {
  stop
  onbehalf serve "$@" > "$HOME/serve.log" 2>&1 & SERVING=$!
  for _ in $(seq 900); do
    if grep -q 'is ready on' "$HOME/serve.log"; then return; fi
    if ! kill -0 "$SERVING"; then break; fi
    sleep 0.1
  done
  cat "$HOME/serve.log"; return 1
}
`

var (
	serving = regexp.MustCompile(`(?m)^onbehalf serve\b([^&#\n]*?)[ \t]*&?[ \t]*(#.*)?$`)
	pastes  = regexp.MustCompile(`(?m)^read -r ADDRESS$`)
	making  = regexp.MustCompile(`(?m)^make .*$`) // make test runs this very test
)

func startShell(t *testing.T, p page) *shell {
	t.Helper()
	s := &shell{t: t, home: t.TempDir(), lines: make(chan string, 100)}
	platform, demo, callback := freePort(t), freePort(t), freePort(t)
	s.demoURL = "http://127.0.0.1:" + demo
	s.link = regexp.MustCompile(`http://127\.0\.0\.1:` + platform + `/identities/oauth2/authorize\?request_uri=[^\s"\\]+`)
	s.rewrite = strings.NewReplacer("127.0.0.1:7080", "127.0.0.1:"+platform, "127.0.0.1:7081", "127.0.0.1:"+demo, "localhost:9090", "localhost:"+callback, "/tmp/", s.home+"/")
	s.env = append(environment(t),
		"HOME="+s.home, "TMPDIR="+s.home, "XDG_DATA_HOME="+filepath.Join(s.home, "share"), "GOBIN="+filepath.Join(s.home, "bin"),
		"PATH="+strings.Join([]string{filepath.Join(s.home, "bin"), bin, filepath.Join(root, "e2e/clients/.venv/bin"), os.Getenv("PATH")}, ":"),
		"ONBEHALF_ADDR=127.0.0.1:"+platform, "ONBEHALF_DEMO_ADDR=127.0.0.1:"+demo, "CALLBACK_URL=http://localhost:"+callback+"/oauth2/callback",
		"AWS_EC2_METADATA_DISABLED=true", "PYTHONDONTWRITEBYTECODE=1", "CGO_ENABLED=0",
	)
	ctx, cancel := context.WithCancel(context.Background())
	bash := exec.CommandContext(ctx, "bash", "--noprofile", "--norc")
	bash.Dir, bash.Env = s.home, s.env
	if p.needsRepository() {
		bash.Dir = root
	}
	// What a block has started holds the shell's output open, so all of it goes.
	bash.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	bash.Cancel = func() error { return syscall.Kill(-bash.Process.Pid, syscall.SIGKILL) }
	in, err := bash.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := bash.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	bash.Stderr = bash.Stdout
	if err := bash.Start(); err != nil {
		t.Fatal(err)
	}
	s.in, s.kill = in, cancel
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(s.lines)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			s.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		go func() { // the shell's own end, which stops the platform
			for range s.lines {
			}
		}()
		hurry := time.AfterFunc(20*time.Second, cancel)
		<-read
		_ = bash.Wait()
		hurry.Stop()
		cancel()
		s.reader.Wait()
		if t.Failed() {
			if logs, err := os.ReadFile(filepath.Join(s.home, "serve.log")); err == nil {
				t.Logf("what the platform said:\n%s", logs)
			}
		}
	})
	s.execute("the prelude", prelude, false)
	return s
}

// environment is this process's, with Go's folders (which follow from HOME) and
// without what would change a program's mind.
func environment(t testing.TB) []string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	folders := strings.Fields(string(out))
	env := []string{"GOCACHE=" + folders[0], "GOMODCACHE=" + folders[1], "GOPATH=" + folders[2]}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case strings.HasPrefix(name, "AWS_"), strings.HasPrefix(name, "GOOGLE_"), strings.HasPrefix(name, "INBOUND_"), strings.HasPrefix(name, "ONBEHALF_"):
		case name == "USER_TOKEN", name == "GATEWAY_ROLE_ARN", name == "LOG_LEVEL", name == "DISPLAY", name == "WAYLAND_DISPLAY", name == "HOME", name == "PATH", name == "TMPDIR":
		default:
			env = append(env, v)
		}
	}
	return env
}

// trials are commands that succeed where a program is there and works.
var trials = map[string]string{
	"aws": "aws bedrock-agentcore-control list-gateways --generate-cli-skeleton", "python": "python -c 'import boto3, bedrock_agentcore'", "curl": "curl --version", "openssl": "openssl version",
	"namespaces": "unshare --user --map-root-user --mount --pid --net --fork true",
}

// has reports whether the shell has a program.
func (s *shell) has(tool string) bool {
	look := exec.Command("bash", "--noprofile", "--norc", "-c", trials[tool])
	look.Env = s.env
	return look.Run() == nil
}

// askForAddress is how a page asks its reader for what the browser shows.
const askForAddress = `read -r -p "Address in the browser: " ADDRESS`

// run runs a block to its end. Whoever reads the page opens the links that it
// prints, allows as Ada Lovelace, and is back before the next block.
func (s *shell) run(b block) {
	s.t.Helper()
	s.count++
	text := s.rewrite.Replace(b.text)
	text = strings.ReplaceAll(text, askForAddress, "ADDRESS='"+s.arrival+"'")
	watched := true
	switch b.language {
	case "sh":
		text = serving.ReplaceAllString(making.ReplaceAllString(text, ""), "serve$1")
		watched = !strings.Contains(text, "examples/sayhello") // whose own demo person opens its link
	case "python":
		text = "python " + s.write("program.py", text)
	case "go":
		text = "go run " + s.write("main.go", text)
	}
	s.execute(b.where, text, watched)
	s.reader.Wait()
}

// write puts a program where it is run from.
func (s *shell) write(name, text string) string {
	s.t.Helper()
	folder := filepath.Join(s.home, fmt.Sprint("block", s.count))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *shell) execute(where, text string, watched bool) {
	s.t.Helper()
	const done = "<<the block is done>>"
	pasted := ""
	if address, ok := s.arrived.Load().(string); ok && pastes.MatchString(text) {
		pasted = address + "\n" // the shell reads it from here, as from the keyboard
	}
	if _, err := fmt.Fprintf(s.in, "source %s\n%secho\necho '%s'\n", s.write("block.sh", text), pasted, done); err != nil {
		s.t.Fatal(err)
	}
	var printed strings.Builder
	limit := time.After(blockTime)
	for {
		select {
		case line, more := <-s.lines:
			switch {
			case !more:
				s.t.Fatalf("%s fails:\n%s\n%s", where, text, &printed)
			case line == done:
				s.t.Logf("%s\n%s", where, &printed)
				return
			}
			printed.WriteString(line + "\n")
			if watched {
				for _, link := range s.link.FindAllString(line, -1) {
					s.open(link)
				}
			}
		case <-limit:
			s.kill()
			s.t.Fatalf("%s does not end:\n%s\n%s", where, text, &printed)
		}
	}
}

// open is the reader with a fresh browser. They remember the address at which it
// ends, for a block that asks for it (read -r ADDRESS). Where nobody listens at the page that
// the browser comes back to, they see an error there, as the page says.
func (s *shell) open(link string) {
	if _, again := s.opened.LoadOrStore(link, true); again {
		return
	}
	s.reader.Go(func() {
		person := servertest.NewPerson(s.demoURL, demoidp.Ada)
		arrival, err := person.Visit(s.t.Context(), link, "allow")
		if err != nil {
			s.t.Errorf("the reader cannot go through with the link: %v", err)
			return
		}
		s.arrival = arrival
		s.arrived.Store(arrival)
		if response, err := person.HTTP.Get(arrival); err == nil {
			if response.StatusCode != http.StatusOK {
				s.t.Errorf("the last page has status %d", response.StatusCode)
			}
			_ = response.Body.Close()
		}
	})
}

// ports counts through ports that no outgoing connection is given (below 32768,
// where Linux begins), so that one that is free stays free. Two test processes
// begin at different places.
var ports atomic.Uint32

func init() { ports.Store(uint32(os.Getpid()) * 37) }

// freePort is a port that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := fmt.Sprint(20000 + ports.Add(1)%12000)
		if listener, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}
