package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// The pages of a consent, by their headings, and the controls on them.
const (
	pageAsks     = `^Sayhello wants to use your Demo ID account$`
	pageSignIn   = `^Choose an account$`
	pageAllow    = `wants access to your account$`
	pageWorked   = `^It worked$`
	pageSaidNo   = `^You said no$`
	pageStranger = `^You are signed in as someone else$`

	controlContinue = `a.button`
	controlAda      = `button[name=person][value=` + demoidp.Ada + `]`
	controlGrace    = `button[name=person][value=` + demoidp.Grace + `]`
	controlCancel   = `form[action="/signin"] button[name=decision][value=deny]`
	controlAllow    = `button[name=decision][value=allow]`
	controlDeny     = `form[action="/consent"] button[name=decision][value=deny]`
)

// A person clicks through the real pages in a real browser, and is greeted.
func TestBrowserConsent(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	h := startHello(t, nil, "--auto-consent=false")
	link := h.link()

	b.open(link)
	b.reads(pageAsks)
	for _, want := range []string{"openid", "profile", "localhost", "Didn’t ask for this?"} {
		if !strings.Contains(b.text(), want) {
			t.Errorf("the first page does not say %q:\n%s", want, b.text())
		}
	}
	b.look("1-asks")
	b.flawless()

	b.click(controlContinue)
	b.reads(pageSignIn)
	b.look("2-sign-in")
	b.flawless()

	b.click(controlAda)
	b.reads(pageAllow)
	b.look("3-allow")
	b.flawless()

	b.click(controlAllow)
	b.reads(pageWorked)
	if text := b.text(); !strings.Contains(text, "close this window") || !strings.Contains(text, "Ada Lovelace") {
		t.Errorf("the last page does not say who is signed in, and that it is over:\n%s", text)
	}
	b.look("4-worked")
	b.flawless()
	h.greets("Ada Lovelace")

	// Nothing that would open anything is left in the address bar's history but what the protocol puts there.
	at := act(b, chromedp.Location())
	if landed, err := url.Parse(at); err != nil || landed.Query().Get("code") != "" {
		t.Errorf("the last page's address has the code in it")
	}
}

// A person who says no is told that it was heard, and the agent as well.
func TestBrowserDenial(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	for _, where := range []struct{ name, control string }{{"at the sign-in", controlCancel}, {"at the consent", controlDeny}} {
		h := startHello(t, nil, "--auto-consent=false")
		b.open(h.link())
		b.reads(pageAsks)
		b.click(controlContinue)
		b.reads(pageSignIn)
		if where.control == controlDeny {
			b.click(controlAda)
			b.reads(pageAllow)
		}
		b.click(where.control)
		b.reads(pageSaidNo)
		if where.control == controlDeny {
			b.look("5-said-no")
		}
		b.flawless()
		h.fails(1, "did not allow", "Nothing was shared")
	}
}

// Links that lead nowhere say so, and what to do.
func TestBrowserDeadLinks(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	p := startPlatform(t, "--dev")
	h := startHello(t, p.program(), "--backend", p.url, "--demo-provider", p.demoURL, "--auto-consent=false", "--keep")
	link := h.link()
	b.open(borrowCallback(t, p.demoURL, link)) // what the provider answered another browser
	b.reads(`^This began in another browser$`)
	b.look("8-other-browser")
	b.flawless(403)

	b.consent(link, controlAda)
	b.reads(pageWorked)
	h.greets("Ada Lovelace")
	b.flawless()

	b.open(link)
	b.reads(`^This link was already used$`)
	b.look("6-link-used")
	b.flawless(409)

	b.open(p.url + "/identities/oauth2/authorize?request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aunknown")
	b.reads(`^This link doesn’t work$`)
	b.look("7-link-unknown")
	b.flawless(404)

	// The application's page, for a session that it never asked for.
	waiting := startHello(t, p.program(), "--backend", p.url, "--demo-provider", p.demoURL, "--auto-consent=false", "--name", "other")
	waiting.link()
	b.open("http://localhost:" + waiting.port + "/oauth2/callback?session_id=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aunknown")
	b.reads(`^This link is not known here$`)
	b.look("9-session-unknown")
	b.flawless(400)
	waiting.interrupt()
	waiting.fails(130, "cancelled", "")
}

// borrowCallback is the address to which the provider sends a person who
// allowed, taken from their browser before it goes there.
func borrowCallback(t *testing.T, provider, link string) (callback string) {
	t.Helper()
	person := servertest.NewPerson(provider, demoidp.Ada)
	person.HTTP.Transport = beforeCallback(func(url string) { callback = url; panic(http.ErrAbortHandler) })
	func() {
		defer func() { _ = recover() }()
		_, _ = person.Visit(t.Context(), link, "allow")
	}()
	if callback == "" {
		t.Fatal("the person never came as far as the callback")
	}
	return callback
}

// consent opens a link and goes through to the end, signing in as the person
// whose button is given. The browser is signed in nowhere yet.
func (b *browser) consent(link, person string) {
	b.t.Helper()
	b.open(link)
	b.reads(pageAsks)
	b.click(controlContinue)
	b.reads(pageSignIn)
	b.click(person)
	b.reads(pageAllow)
	b.click(controlAllow)
}

// Without JavaScript everything works: there is none.
func TestBrowserWithoutJavaScript(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	perform(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open("data:text/html,<!doctype html><h1>off</h1><script>document.querySelector('h1').innerText='on'</script>")
	b.reads("^off$")
	h := startHello(t, nil, "--auto-consent=false")
	b.consent(h.link(), controlAda)
	b.reads(pageWorked)
	b.flawless()
	h.greets("Ada Lovelace")
}

// With the keyboard alone, Tab and Enter, on a phone's screen.
func TestBrowserByKeyboard(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	perform(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 390, Height: 844, DeviceScaleFactor: 2, Mobile: true})
	h := startHello(t, nil, "--auto-consent=false")
	b.open(h.link())
	b.reads(pageAsks)
	b.press(controlContinue)
	b.reads(pageSignIn)
	b.press(controlAda)
	b.reads(pageAllow)
	b.press(controlAllow)
	b.reads(pageWorked)
	b.flawless()
	h.greets("Ada Lovelace")
}

// What the other tests take for a complaint is one: a page that breaks its own
// policy, logs an error, runs over the edge and can hardly be read.
func TestBrowserFindsFlaws(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	b.open(`data:text/html,<meta name="viewport" content="width=device-width"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"><h1>flawed</h1><img src="http://127.0.0.1:1/x.png"><p style="color:%23bbb;width:2000px">faint</p>`)
	b.reads("^flawed$")
	found := &recorder{TB: t}
	b.t, b.screens = found, t.TempDir()
	b.look("flawed")
	b.flawless()
	b.t = t
	for _, want := range []string{"points wide on a screen", "too little contrast", "Content Security Policy", "ContentSecurityPolicyIssue"} {
		if !strings.Contains(found.errors.String(), want) {
			t.Errorf("a flaw is not found: %s\n%s", want, found.errors.String())
		}
	}
}

// recorder takes failures down instead of failing.
type recorder struct {
	testing.TB
	errors strings.Builder
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors.WriteString(strings.TrimSpace(fmt.Sprintf(format, args...)) + "\n")
}
