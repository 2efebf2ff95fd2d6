package e2e

import (
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// What the README shows is what is printed, to the letter.
func TestSayHello(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			temporary := t.TempDir()
			h := sayHello(t, append(bareEnvironment(t), "TMPDIR="+temporary), "--mcp-version", version)
			const address = `http://127\.0\.0\.1:\d+`
			want := []string{
				`[1/7] configuration        embedded platform on ` + address + `, demo provider in place of Google`,
				`[2/7] callback server      http://localhost:` + h.port,
				`[3/7] workload identity    sayhello`,
				`[4/7] gateway              ` + address + `/gateway/sayhello-[a-z0-9]{10}/mcp with tool google___get_profile`,
				`[5/7] agent                connected, protocol ` + version + `, 1 tool`,
				`[6/7] greeting             the agent needs your consent. Open: ` + address + `/identities/oauth2/authorize\?request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3A[\w-]{43}`,
				`      --auto-consent: ada-lovelace signs in at the demo provider and allows it`,
				`      waiting for you \(10 minutes\) … authorized`,
				`      Hello, Ada Lovelace!`,
				`      Hello, Ada Lovelace! \(again, without asking\)`,
				`      the agent's own identity cannot use this consent: it was given to the gateway`,
				`[7/7] cleaned up`,
			}
			if code := h.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			got := strings.Split(strings.TrimSuffix(h.out.String(), "\n"), "\n")
			for i := range max(len(got), len(want)) {
				switch {
				case i >= len(got):
					t.Errorf("line %d is missing: %s", i+1, want[i])
				case i >= len(want):
					t.Errorf("line %d is one too many: %s", i+1, got[i])
				case !regexp.MustCompile(`^` + strings.NewReplacer("[", `\[`, "/7]", `/7\]`).Replace(want[i][:6]) + want[i][6:] + `$`).MatchString(got[i]):
					t.Errorf("line %d\ngot  %q\nwant %q", i+1, got[i], want[i])
				}
			}
			if text := h.errOut.String(); text != "" {
				t.Errorf("on standard error: %s", text)
			}
			emptyFolder(t, temporary)
		})
	}
	t.Run("a version that is not spoken", func(t *testing.T) {
		t.Parallel()
		sayHello(t, nil, "--mcp-version", "2024-11-05").fails(2, "2024-11-05", "2025-11-25")
	})
}

// Consent is asked for once, also across runs and restarts of the platform, until what was kept is removed.
func TestSayHelloKeepsConsent(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	asks := func(args ...string) bool {
		t.Helper()
		h := sayHello(t, nil, append([]string{"--data", data}, args...)...)
		h.greets("Ada Lovelace")
		return strings.Contains(h.out.String(), "needs your consent")
	}
	if !asks("--keep") {
		t.Fatal("the first run does not ask for consent")
	}
	for range 2 {
		if asks("--keep") {
			t.Fatal("a run after one that kept everything asks for consent again")
		}
	}
	if asks() {
		t.Error("the run that does not keep asks for consent again")
	}
	p := startPlatformIn(t, data, "--dev")
	if left := p.inventory(); len(left) > 0 {
		t.Errorf("the last run was to clean up, and left %v", left)
	}
	p.stop()
	if !asks("--keep") {
		t.Error("after everything was removed, nobody is asked for consent")
	}
	p.start()
	kept, wanted := p.inventory(), []string{"credential provider Demo-ID", "gateway sayhello", "workload identity sayhello", "workload identity sayhello-"}
	if !slices.EqualFunc(kept, wanted, strings.HasPrefix) { // the last one is the gateway's own
		t.Errorf("kept is %v", kept)
	}
}

// The platform may as well be a process of its own, which sayhello knows by a
// URL and by what `onbehalf env` prints.
func TestSayHelloToARunningPlatform(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, "--dev")
	env := p.program()
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		h := sayHello(t, env, "--backend", p.url, "--demo-provider", p.demoURL, "--mcp-version", version)
		h.greets("Ada Lovelace")
		if !strings.HasPrefix(h.out.String(), "[1/7] configuration        platform on "+p.url+", demo provider in place of Google\n") {
			t.Errorf("the first line is not about that platform:\n%s", h.out)
		}
		if left := p.inventory(); len(left) > 0 {
			t.Fatalf("it leaves %v", left)
		}
	}
	kept := sayHello(t, env, "--backend", p.url, "--demo-provider", p.demoURL, "--keep", "--name", "keeper")
	kept.greets("Ada Lovelace")
	if len(p.inventory()) == 0 {
		t.Error("--keep keeps nothing")
	}
	again := sayHello(t, env, "--backend", p.url, "--demo-provider", p.demoURL, "--name", "keeper")
	again.greets("Ada Lovelace")
	if strings.Contains(again.out.String(), "needs your consent") {
		t.Error("what was kept is not used")
	}
	p.nothingLeft("keeper")

	for what, wrong := range map[string]struct {
		env           []string
		args          []string
		code          int
		message, hint string
	}{
		"no demo provider":  {env, []string{"--backend", p.url}, 2, "no provider", "--demo-provider"},
		"no credentials":    {bareEnvironment(t), []string{"--backend", p.url, "--demo-provider", p.demoURL}, 1, "credentials", "onbehalf env"},
		"wrong credentials": {append(bareEnvironment(t), "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=wrong"), []string{"--backend", p.url, "--demo-provider", p.demoURL}, 1, "UnrecognizedClientException", "onbehalf env"},
		"nobody there":      {env, []string{"--backend", "http://127.0.0.1:" + freePort(t), "--demo-provider", p.demoURL}, 1, "refused", "--backend"},
		"no URL":            {env, []string{"--backend", "somewhere"}, 2, "somewhere", "--backend http://"},
		"consent of others": {append(env, "GOOGLE_CLIENT_ID=a", "GOOGLE_CLIENT_SECRET=b"), []string{"--backend", p.url, "--demo-provider", p.demoURL, "--auto-consent"}, 2, "--auto-consent", "Google"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := sayHello(t, wrong.env, wrong.args...)
			h.fails(wrong.code, wrong.message, wrong.hint)
		})
	}
}

// A taken port is named, with the flag that changes it.
func TestSayHelloNamesATakenPort(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())

	sayHello(t, nil, "--callback-port", port).fails(2, port, "--callback-port")
	sayHello(t, nil, "--addr", listener.Addr().String()).fails(2, port, "--addr")
	p := startPlatform(t, "--dev")
	sayHello(t, p.program(), "--backend", p.url, "--demo-provider", p.demoURL, "--callback-port", port).fails(2, port, "--callback-port")
	if left := p.inventory(); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}

// However a run ends, it cleans up, and says in one line why and in another what to do.
func TestSayHelloCleansUpAfterABadEnd(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, "--dev")
	env := p.program()
	start := func(t *testing.T, name string, args ...string) *hello {
		return startHello(t, env, append([]string{"--backend", p.url, "--demo-provider", p.demoURL, "--auto-consent=false", "--name", name}, args...)...)
	}
	cleaned := func(t *testing.T, h *hello, name string) {
		t.Helper()
		if !strings.HasSuffix(h.out.String(), "\n[7/7] cleaned up\n") {
			t.Errorf("the last line does not say that it cleaned up:\n%s", h.out)
		}
		p.nothingLeft(name)
	}
	t.Run("denial", func(t *testing.T) {
		t.Parallel()
		h := start(t, "denied")
		arrival, err := servertest.NewPerson(p.demoURL, demoidp.Ada).Visit(t.Context(), h.link(), "deny")
		if err != nil {
			t.Fatal(err)
		}
		page := get(t, arrival)
		if !strings.Contains(page, "You said no") {
			t.Errorf("the last page does not say what happened:\n%s", page)
		}
		h.fails(1, "did not allow", "Nothing was shared")
		cleaned(t, h, "denied")
	})
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		h := start(t, "late", "--timeout", "1s")
		h.fails(1, "no consent within 1s", "--callback-port")
		cleaned(t, h, "late")
	})
	for _, step := range []string{`\[1/7\]`, `\[2/7\]`, `\[3/7\]`, `\[4/7\]`, `\[5/7\]`, `waiting for you`} {
		name := "stopped-" + strings.Trim(strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
				return r
			}
			return '-'
		}, step), "-")
		t.Run("Ctrl-C at "+step, func(t *testing.T) {
			t.Parallel()
			h := start(t, name)
			h.await(step)
			h.interrupt()
			h.fails(130, "", "")
			if !strings.Contains(h.errOut.String(), "cancelled") && !strings.Contains(h.errOut.String(), "stopped") {
				t.Errorf("it does not say that it was stopped: %s", h.errOut)
			}
			cleaned(t, h, name)
		})
	}
	t.Run("the provider fails", func(t *testing.T) {
		t.Parallel()
		idp := startProvider(t)
		other := startPlatform(t, idp.flags()...)
		idp.FailPeople(403, 0)
		h := sayHello(t, other.program(), "--backend", other.url, "--demo-provider", idp.url)
		h.fails(1, "403", "People API")
		if left := other.inventory(); len(left) > 0 {
			t.Errorf("it leaves %v", left)
		}
	})
}

// At debug, each step and request can be followed, and nothing that opens anything is said.
func TestSayHelloDebugs(t *testing.T) {
	t.Parallel()
	h := startHello(t, append(bareEnvironment(t), "LOG_LEVEL=DEBUG"))
	link, err := url.Parse(h.link())
	if err != nil {
		t.Fatal(err)
	}
	h.greets("Ada Lovelace")
	text := h.errOut.String()
	if got := len(regexp.MustCompile(`operation=\w+ request_id=[0-9a-f-]{36}`).FindAllString(text, -1)); got < 10 {
		t.Errorf("%d calls are logged with their request ids", got)
	}
	session := link.Query().Get("request_uri")
	for what, secret := range map[string]string{
		"the request_uri": session, "the session": session[strings.LastIndexByte(session, ':')+1:], "the link": link.RawQuery,
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is logged", what)
		}
	}
	for _, shape := range []string{`eyJ[\w-]{10,}\.`, `(?i)bearer [\w.-]{8,}`, `\b(code|state|code_verifier|client_secret|refresh_token|access_token)=[\w-]{8,}`} {
		if found := regexp.MustCompile(shape).FindString(text); found != "" {
			t.Errorf("something like a secret is logged: %.12s…", found)
		}
	}
}

// At a terminal a person is waited for, and Enter lets the demo person consent.
func TestSayHelloAtATerminal(t *testing.T) {
	t.Parallel()
	script := lookPath("script")
	need(t, "script (util-linux)", script != "" && runtime.GOOS == "linux")
	at := func(t *testing.T, args ...string) *terminal {
		return startTerminal(t, script, bareEnvironment(t), append([]string{sayhelloBinary, "--callback-port", freePort(t)}, args...)...)
	}
	t.Run("Enter", func(t *testing.T) {
		t.Parallel()
		s := at(t)
		s.await(`Enter lets the demo person consent`)
		s.press("\n")
		if code := s.wait(); code != 0 || !strings.Contains(s.text(), "\n      ada-lovelace signs in at the demo provider and allows it … authorized\n      Hello") || !strings.Contains(s.text(), "Hello, Ada Lovelace!\n") {
			t.Errorf("exit code %d\n%s", code, s.text())
		}
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		t.Parallel()
		s := at(t)
		s.await(`Enter lets the demo person consent`)
		s.press("\x03")
		if code := s.wait(); code != 130 || !strings.Contains(s.text(), "[7/7] cleaned up\n") || !strings.Contains(s.text(), "\nhint: ") || strings.Contains(s.text(), "Hello, ") {
			t.Errorf("exit code %d\n%s", code, s.text())
		}
	})
	t.Run("nobody presses anything", func(t *testing.T) {
		t.Parallel()
		s := at(t, "--timeout", "1s")
		if code := s.wait(); code != 1 || !strings.Contains(s.text(), "no consent within 1s") {
			t.Errorf("exit code %d\n%s", code, s.text())
		}
	})
}
