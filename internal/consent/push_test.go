package consent_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// A provider that requires pushed requests is told when the person leaves, and
// the browser carries a reference alone.
func TestPushedRequests(t *testing.T) {
	t.Parallel()
	w := worldWith(t, demoidp.Options{RequirePush: true})
	asked := w.hosted(t, "")
	for range 5 { // programs that preview links
		newBrowser(t).get(asked.AuthorizationURL.Reveal())
	}
	ada := newBrowser(t)
	ours := ada.open(asked.AuthorizationURL.Reveal())
	if n := w.demo.TokenRequests("pushed"); n != 0 || !strings.HasPrefix(ours, w.url+broker.CallbackPath) {
		t.Fatalf("%d requests were pushed before anybody pressed the button, which leads to %s", n, ours)
	}
	first := ada.get(ours)
	sent, err := url.Parse(first.header.Get("Location"))
	if err != nil || first.status != http.StatusSeeOther || sent.Query().Get("request_uri") == "" || len(sent.Query()) != 2 {
		t.Fatalf("the button leads to %d %s", first.status, sent)
	}
	// Back, and pressed again: a new reference. The old one was not used, nor would it help a stranger.
	second := ada.get(ours).header.Get("Location")
	if second == "" || second == sent.String() || w.demo.TokenRequests("pushed") != 2 {
		t.Errorf("pressed again: %s", second)
	}
	if got := newBrowser(t).get(ours); got.status != http.StatusForbidden || !strings.Contains(got.body, "another browser") {
		t.Errorf("another browser's button: %d", got.status)
	}
	if head := ada.do("HEAD", ours, "", nil); head.status != http.StatusMethodNotAllowed || w.demo.TokenRequests("pushed") != 2 {
		t.Errorf("HEAD pushes: %d", head.status)
	}
	page := ada.get(ada.decide(w, second, "allow")).header.Get("Location")
	if done := ada.finish(w, page); done.status != http.StatusOK || !strings.Contains(done.body, "may now use") { // the sign-in was pushed, too
		t.Errorf("the end is %d:\n%s", done.status, done.body)
	}
	if w.ask(t, func(r *broker.TokenRequest) { r.ReturnURL = "" }).Access.Empty() {
		t.Error("there is no token")
	}
	if got := ada.get(ours); got.status < 400 || got.header.Get("Location") != "" {
		t.Errorf("the button works after the end: %d", got.status)
	}
}

// A program that presses without end is stopped, and a provider that does not
// take the request costs the person nothing but another press.
func TestPushesThatFail(t *testing.T) {
	t.Parallel()
	w := worldWith(t, demoidp.Options{RequirePush: true})
	link := w.link(t)
	ada := newBrowser(t)
	ours := ada.open(link)
	w.demo.FailTokens(http.StatusServiceUnavailable)
	got := ada.get(ours)
	again := button.FindStringSubmatch(got.body)
	if got.status != http.StatusBadGateway || !strings.Contains(got.body, "did not take the request") || again == nil || w.url+strings.ReplaceAll(again[1], "&amp;", "&") != ours {
		t.Fatalf("a push that failed: %d:\n%s", got.status, got.body)
	}
	w.demo.FailTokens(0)
	if landed := ada.get(ada.decide(w, ada.get(ours).header.Get("Location"), "allow")); landed.status != http.StatusSeeOther {
		t.Errorf("landed at %d", landed.status)
	}

	eager := newBrowser(t)
	ours = eager.open(link)
	last := answer{}
	for range 12 {
		last = eager.get(ours)
	}
	if before := w.demo.TokenRequests("pushed"); last.status != http.StatusTooManyRequests || before != 12 {
		t.Errorf("after %d pushes: %d", before, last.status)
	}
	for _, address := range []string{strings.Split(ours, "?")[0], ours + "x", strings.Replace(ours, broker.CallbackPath, broker.CallbackPath+"x", 1), ours + "&state=y"} {
		if got := eager.get(address); got.status < 400 || got.header.Get("Location") != "" {
			t.Errorf("%s: %d", address, got.status)
		}
	}
	w.late.Add(int64(11 * time.Minute))
	if got := ada.get(ours); got.status < 400 {
		t.Errorf("the button of a session that is over: %d", got.status)
	}
}
