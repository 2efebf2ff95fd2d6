package e2e

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is a headless Chromium with a profile of its own: one person's.
type browser struct {
	t       testing.TB
	ctx     context.Context
	screens string // folder of the screenshots

	mu       sync.Mutex
	problems []string // what the console and the page's policy complained about
}

// openBrowser starts Chromium with a fresh profile, and skips the test where there is none.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	chromium := lookPath("chromium", "chromium-browser", "google-chrome")
	need(t, "Chromium", chromium != "")
	allocated, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("allow-pre-commit-input", true), // else a key or a click before a page's first picture is thrown away
		chromedp.WSURLReadTimeout(90*time.Second))     // of a start, several of which may be under way
	ctx, closeTab := chromedp.NewContext(allocated)
	b := &browser{t: t, ctx: ctx, screens: screenshots(t)}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the process, so that its profile can be removed
		closeTab()
		stop()
	})
	if err := chromedp.Listen(ctx, b.hear); err != nil { // starts it
		t.Fatalf("Chromium does not start: %v", err)
	}
	perform(b, audits.Enable, cdp.Empty{})
	return b
}

// screenshots is where screenshots go: ONBEHALF_SCREENSHOTS, or the test's artifacts (go test -artifacts).
func screenshots(t testing.TB) string {
	folder := os.Getenv("ONBEHALF_SCREENSHOTS")
	if folder == "" {
		return t.ArtifactDir()
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return folder
}

// hear notes what a page does wrong: console errors, exceptions, violations of its own policy.
func (b *browser) hear(event any) {
	var problem string
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			problem = fmt.Sprintf("%s %s: %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text, withoutQuery(e.Entry.URL))
		}
	case *runtime.EventConsoleAPICalled:
		problem = "console." + string(e.Type)
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Text
	case *audits.EventIssueAdded:
		// Chromium notes, ten seconds after, whom a person was sent on by: that is what consent is.
		if e.Issue.Code != "BounceTrackingIssue" {
			problem = "issue: " + string(e.Issue.Code)
		}
	}
	if problem != "" {
		b.mu.Lock()
		b.problems = append(b.problems, problem)
		b.mu.Unlock()
	}
}

func withoutQuery(url string) string {
	path, _, _ := strings.Cut(url, "?")
	return path
}

// flawless wants no complaint since the last time. A page that says that
// something is wrong has such a status, which Chromium takes for an error of loading: status allows it.
func (b *browser) flawless(status ...int) {
	b.t.Helper()
	time.Sleep(50 * time.Millisecond) // complaints come by another way than the page
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		expected := false
		for _, code := range status {
			expected = expected || strings.Contains(problem, fmt.Sprintf("the server responded with a status of %d", code))
		}
		if !expected {
			b.t.Errorf("the browser complains: %s", problem)
		}
	}
	b.problems = nil
}

// act runs one action, for at most a minute.
func act[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		after, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		defer cancel()
		at, _ := chromedp.Run(after, chromedp.Location())
		text, _ := chromedp.Run(after, chromedp.Evaluate[string](`document.body.innerText`))
		b.t.Fatalf("%v, at %s, which shows:\n%s", err, withoutQuery(at), text)
	}
	return result
}

// perform is a command of the browser's protocol.
func perform[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return act(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// evaluate asks the page. It works where the page's own scripts may not run, too.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	return act(b, chromedp.Evaluate[T](expression))
}

// open goes to a URL and waits for the page.
func (b *browser) open(url string) {
	b.t.Helper()
	act(b, chromedp.Navigate(url))
}

// reads waits until the page's heading matches.
func (b *browser) reads(heading string) {
	b.t.Helper()
	expression := regexp.MustCompile(heading)
	act(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		for {
			is, err := chromedp.Evaluate[string](headingScript)(ctx, t)
			if err == nil && expression.MatchString(is) {
				return chromedp.Void{}, nil
			}
			select {
			case <-ctx.Done():
				return chromedp.Void{}, fmt.Errorf("the heading is %q and never %q", is, heading)
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
}

// headingScript is the page's heading, once its styles are there.
const headingScript = `document.readyState !== "loading" && document.querySelector("h1") && [...document.querySelectorAll("link[rel=stylesheet]")].every(l => l.sheet) ? document.querySelector("h1").innerText : ""`

// text is what the page shows.
func (b *browser) text() string {
	b.t.Helper()
	return evaluate[string](b, `document.body.innerText`)
}

// click presses what the selector finds, with the mouse.
func (b *browser) click(selector string) {
	b.t.Helper()
	act(b, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// press reaches what the selector finds with Tab alone, wants to see where the focus is, and presses Enter.
func (b *browser) press(selector string) {
	b.t.Helper()
	for range 12 {
		act(b, chromedp.KeyEvent(kb.Tab))
		if !evaluate[bool](b, fmt.Sprintf(`document.activeElement.matches(%q)`, selector)) {
			continue
		}
		if !evaluate[bool](b, `document.activeElement.matches(":focus-visible") && (s => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2)(getComputedStyle(document.activeElement))`) {
			b.t.Errorf("whoever uses the keyboard does not see that %s is focused", selector)
		}
		act(b, chromedp.KeyEvent(kb.Enter))
		return
	}
	b.t.Fatalf("Tab never reaches %s", selector)
}

// The sizes of screenshots. 320 points is the narrowest that WCAG 1.4.10 asks for.
var screens = []struct {
	name          string
	width, height int64
	scale         float64
	mobile        bool
}{{"desktop", 1280, 800, 1, false}, {"phone", 390, 844, 2, true}, {"narrow", 320, 568, 2, true}}

// look takes a screenshot of the page at each size, light and dark, and wants nothing cut off and enough contrast.
func (b *browser) look(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for _, s := range screens {
			perform(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
			perform(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: s.width, Height: s.height, DeviceScaleFactor: s.scale, Mobile: s.mobile})
			if width := evaluate[float64](b, `document.documentElement.scrollWidth`); int64(width) > s.width {
				b.t.Errorf("%s is %v points wide on a screen of %d", name, width, s.width)
			}
			for _, text := range evaluate[[]string](b, faintScript) {
				b.t.Errorf("%s, %s: too little contrast: %s", name, scheme, text)
			}
			if s.name == "narrow" {
				continue
			}
			beyond := true
			picture := perform(b, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &beyond}).Data
			if err := os.WriteFile(filepath.Join(b.screens, fmt.Sprintf("%s-%s-%s.png", name, s.name, scheme)), picture, 0o644); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	perform(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
	perform(b, emulation.ClearDeviceMetricsOverride, cdp.Empty{})
}

// faintScript lists the texts whose contrast with what is behind them is below
// that of WCAG AA: 4.5, or 3 for large ones.
//
//go:embed testdata/contrast.js
var faintScript string
