package consent_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/broker"
)

func TestConsentFromEndToEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.ask(t)
	ada := newBrowser(t)
	page := ada.get(asked.AuthorizationURL.Reveal())
	for _, want := range []string{"Mail agent wants to use your Demo provider account", "app.example", strings.TrimPrefix(w.demo.Issuer(), "http://"), "<code>profile</code>"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	cookie := page.header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=" + broker.CallbackPath, "Max-Age="} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q lacks %s", cookie, want)
		}
	}
	callback := ada.decide(w, ada.open(asked.AuthorizationURL.Reveal()), "allow")
	landed := ada.get(callback)
	back, err := url.Parse(landed.header.Get("Location"))
	if err != nil || landed.status != http.StatusSeeOther || !strings.HasPrefix(back.String(), returnURL+"?") || !strings.HasPrefix(back.Query().Get("session_id"), asked.SessionURI+".") || back.Query().Has("error") {
		t.Fatalf("landed at %d %s", landed.status, back)
	}
	if !strings.Contains(landed.header.Get("Set-Cookie"), "Max-Age=0") || landed.header.Get("Referrer-Policy") != "no-referrer" || landed.body != "" {
		t.Errorf("the redirect has %v and body %q", landed.header, landed.body)
	}

	// The callback works once. The link does until the application has completed: who else came through it may not have been the one.
	if again := ada.get(callback); again.status != http.StatusConflict || again.header.Get("Location") != "" || !strings.Contains(again.body, "already used") {
		t.Errorf("the callback worked twice: %d", again.status)
	}
	newBrowser(t).open(asked.AuthorizationURL.Reveal())

	user := "ada"
	if _, err := w.broker.CompleteResourceTokenAuth(t.Context(), w.caller, &api.CompleteResourceTokenAuthRequest{SessionUri: back.Query().Get("session_id"), UserIdentifier: &api.UserIdentifier{UserId: &user}}); err != nil {
		t.Fatal(err)
	}
	if again := ada.get(asked.AuthorizationURL.Reveal()); again.status != http.StatusConflict || !strings.Contains(again.body, "already used") {
		t.Errorf("the used link answers %d", again.status)
	}
	if got := w.ask(t); got.Access.Empty() {
		t.Error("after the consent there is no token")
	}
	w.nothingLeaked(t, asked.SessionURI, callback)

	seen := map[string]int{}
	records, _, err := w.records.List(t.Context(), audit.Query{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.PrincipalKind == "browser" {
			seen[strings.TrimPrefix(r.Action, "onbehalf:")+" "+r.Outcome]++
		}
	}
	if seen["Authorize ok"] != 3 || seen["Callback ok"] != 1 || seen["Authorize conflict"] != 1 {
		t.Errorf("the audit has %v", seen)
	}
}

// nothingLeaked looks for what must not be in a log.
func (w *world) nothingLeaked(t *testing.T, sessionURI, callback string) {
	t.Helper()
	u, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"session": sessionURI, "state": u.Query().Get("state"), "code": u.Query().Get("code")} {
		if value != "" && strings.Contains(w.logs.String(), value) {
			t.Errorf("the log has the %s", name)
		}
	}
}

func TestDenial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := w.ask(t, func(r *broker.TokenRequest) { r.Force = true })
	ada := newBrowser(t)
	landed := ada.get(ada.decide(w, ada.open(asked.AuthorizationURL.Reveal()), "deny"))
	back, err := url.Parse(landed.header.Get("Location"))
	if err != nil || landed.status != http.StatusSeeOther || back.Query().Get("error") != "access_denied" || back.Query().Get("session_id") != asked.SessionURI || back.Query().Has("code") {
		t.Fatalf("landed at %d %s", landed.status, back)
	}
	if again := ada.get(asked.AuthorizationURL.Reveal()); again.status != http.StatusGone || !strings.Contains(again.body, "no longer works") {
		t.Errorf("the denied link answers %d", again.status)
	}
}

// TestProgramsAreRedirected is AWS's own behaviour, which its samples rely on.
func TestProgramsAreRedirected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := w.link(t)
	for _, accept := range []string{"", "*/*", "application/json"} {
		b := newBrowser(t)
		got := b.do("GET", link, accept, nil)
		if got.status != http.StatusFound || !strings.HasPrefix(got.header.Get("Location"), w.demo.Issuer()+"/authorize?") || got.header.Get("Set-Cookie") == "" {
			t.Fatalf("Accept %q: %d %v", accept, got.status, got.header)
		}
		if accept == "application/json" {
			if landed := b.get(b.decide(w, got.header.Get("Location"), "allow")); !strings.HasPrefix(landed.header.Get("Location"), returnURL) {
				t.Errorf("landed at %d %s", landed.status, landed.header.Get("Location"))
			}
		}
	}
}

// TestPreviewsSpoilNothing: chats and mail scanners open links before people do.
func TestPreviewsSpoilNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := w.link(t)
	ada := newBrowser(t)
	location := ada.open(link)
	for range 5 {
		newBrowser(t).get(link)
	}
	if head := newBrowser(t).do("HEAD", link, "", nil); head.status != http.StatusOK || head.header.Get("Set-Cookie") != "" || head.header.Get("Location") != "" {
		t.Errorf("HEAD answers %d %v", head.status, head.header)
	}
	callback := ada.decide(w, location, "allow")
	if head := ada.do("HEAD", callback, "", nil); head.status != http.StatusMethodNotAllowed {
		t.Errorf("HEAD of the callback answers %d", head.status)
	}
	if landed := ada.get(callback); landed.status != http.StatusSeeOther {
		t.Errorf("after the previews the callback answers %d", landed.status)
	}
}

// TestCallbackRefuses: each refusal is a page with nothing of the request in it,
// and the right callback still works after all of them.
func TestCallbackRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := newBrowser(t)
	callback := ada.decide(w, ada.open(w.link(t)), "allow")
	query := func(change func(url.Values)) string {
		u, err := url.Parse(callback)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		change(q)
		u.RawQuery = q.Encode()
		return u.String()
	}
	stranger := newBrowser(t)
	stranger.open(w.link(t))
	for _, test := range []struct {
		name    string
		browser browser
		address string
		status  int
		title   string
	}{
		{"no cookie", newBrowser(t), callback, http.StatusForbidden, "another browser"},
		{"another browser's cookie", stranger, callback, http.StatusForbidden, "another browser"},
		{"unknown state", ada, query(func(q url.Values) { q.Set("state", "guessed") }), http.StatusForbidden, "can’t be matched"},
		{"no state", ada, query(func(q url.Values) { q.Del("state") }), http.StatusBadRequest, "incomplete"},
		{"two states", ada, query(func(q url.Values) { q.Add("state", "x") }), http.StatusBadRequest, "incomplete"},
		{"two codes", ada, query(func(q url.Values) { q.Add("code", "x") }), http.StatusBadRequest, "incomplete"},
		{"code and error", ada, query(func(q url.Values) { q.Set("error", "access_denied") }), http.StatusBadRequest, "incomplete"},
		{"neither", ada, query(func(q url.Values) { q.Del("code") }), http.StatusBadRequest, "incomplete"},
		{"another issuer", ada, query(func(q url.Values) { q.Set("iss", "https://evil.example") }), http.StatusForbidden, "somewhere else"},
		{"no issuer", ada, query(func(q url.Values) { q.Del("iss") }), http.StatusForbidden, "somewhere else"},
		{"endless state", ada, query(func(q url.Values) { q.Set("state", strings.Repeat("s", 5000)) }), http.StatusBadRequest, "incomplete"},
		{"damaged query", ada, callback + "&x=%zz", http.StatusBadRequest, "incomplete"},
		{"unknown provider", ada, w.url + broker.CallbackPath + "00000000-0000-0000-0000-000000000000?state=s&code=c", http.StatusNotFound, "nothing here"},
	} {
		got := test.browser.get(test.address)
		if got.status != test.status || got.header.Get("Location") != "" || !strings.Contains(got.body, test.title) {
			t.Errorf("%s: %d %s, want %d %s:\n%s", test.name, got.status, got.header.Get("Location"), test.status, test.title, got.body)
		}
		u, _ := url.Parse(callback)
		for _, secret := range []string{u.Query().Get("state"), u.Query().Get("code"), "evil.example"} {
			if strings.Contains(got.body, secret) {
				t.Errorf("%s: the page repeats %s", test.name, secret)
			}
		}
	}
	if landed := ada.get(callback); landed.status != http.StatusSeeOther {
		t.Errorf("after the refusals the right callback answers %d:\n%s", landed.status, landed.body)
	}
	w.nothingLeaked(t, "", callback)
}

// Whoever makes states up fills no disk: they are counted, and one of them is recorded.
func TestMadeUpStatesAreNotRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := newBrowser(t)
	callback, err := url.Parse(ada.decide(w, ada.open(w.link(t)), "allow"))
	if err != nil {
		t.Fatal(err)
	}
	recorded := func() int {
		records, _, err := w.records.List(t.Context(), audit.Query{Account: account, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return len(records)
	}
	before := recorded()
	for i := range 50 {
		forged := *callback
		query := forged.Query()
		query.Set("state", "made-up-"+strconv.Itoa(i))
		forged.RawQuery = query.Encode()
		if got := newBrowser(t).get(forged.String()); got.status != http.StatusForbidden {
			t.Fatalf("status %d", got.status)
		}
	}
	if n := recorded() - before; n != 1 {
		t.Errorf("%d records were written", n)
	}
	// What is known and does not pass is an act: somebody has an attempt's state and not its cookie.
	if got := newBrowser(t).get(callback.String()); got.status != http.StatusForbidden || recorded()-before != 2 {
		t.Errorf("status %d, %d records", got.status, recorded()-before)
	}
}

func TestLinksThatLeadNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := w.link(t)
	ada := newBrowser(t)
	callback := ada.decide(w, ada.open(link), "allow")
	for _, test := range []struct {
		name, address string
		status        int
	}{
		{"no request_uri", w.url + broker.AuthorizePath, http.StatusBadRequest},
		{"an empty one", w.url + broker.AuthorizePath + "?request_uri=", http.StatusBadRequest},
		{"two", link + "&request_uri=x", http.StatusBadRequest},
		{"an endless one", w.url + broker.AuthorizePath + "?request_uri=" + strings.Repeat("x", 5000), http.StatusBadRequest},
		{"a guess", link[:len(link)-1], http.StatusNotFound},
		{"not ours", w.url + broker.AuthorizePath + "?request_uri=https%3A%2F%2Fevil.example", http.StatusNotFound},
	} {
		if got := ada.get(test.address); got.status != test.status || got.header.Get("Set-Cookie") != "" || strings.Contains(got.body, "Mail agent") {
			t.Errorf("%s: %d, want %d", test.name, got.status, test.status)
		}
	}
	w.late.Store(int64(10 * time.Minute))
	if got := ada.get(link); got.status != http.StatusGone || !strings.Contains(got.body, "has expired") || strings.Contains(got.body, "Mail agent") {
		t.Errorf("after 10 minutes the link answers %d", got.status)
	}
	if got := ada.get(callback); got.status != http.StatusGone || got.header.Get("Location") != "" {
		t.Errorf("after 10 minutes the callback answers %d", got.status)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	far := netip.MustParseAddr("203.0.113.7")
	w.address.Store(&far)
	b := newBrowser(t)
	for _, address := range []string{w.url + broker.AuthorizePath, w.url + broker.CallbackPath + "x"} {
		var last answer
		for range 100 {
			if last = b.get(address); last.status == http.StatusTooManyRequests {
				break
			}
		}
		if last.status != http.StatusTooManyRequests || last.header.Get("Retry-After") == "" || !strings.Contains(last.body, "Too many tries") {
			t.Errorf("%s: 100 requests end with %d", address, last.status)
		}
	}
	near := netip.MustParseAddr("203.0.113.8")
	w.address.Store(&near)
	if got := b.get(w.link(t)); got.status != http.StatusOK {
		t.Errorf("another address is limited too: %d", got.status)
	}
}
