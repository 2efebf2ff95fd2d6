package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// clock is a Client's time that tests move by hand.
type clock struct{ nanos atomic.Int64 }

func (c *clock) now() time.Time        { return time.Unix(0, c.nanos.Load()) }
func (c *clock) move(by time.Duration) { c.nanos.Add(int64(by)) }

func withClock(c *Client) *clock {
	k := &clock{}
	k.nanos.Store(time.Now().UnixNano())
	c.now = k.now
	return k
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	for path, issuer := range map[string]string{
		"/.well-known/openid-configuration":              p.URL,
		"/.well-known/oauth-authorization-server":        p.URL,
		"/tenant/.well-known/openid-configuration":       p.URL + "/tenant",
		"/.well-known/oauth-authorization-server/tenant": p.URL + "/tenant",
	} {
		m, err := c.Discover(t.Context(), p.URL+path)
		if err != nil || m.Issuer != issuer || m.TokenEndpoint != p.URL+"/token" || m.JWKSURI != p.URL+"/keys" || !m.IssuerInResponse || len(m.ScopesSupported) != 1 {
			t.Errorf("%s: %+v, %v", path, m, err)
		}
	}
}

func TestDiscoveryURLs(t *testing.T) {
	t.Parallel()
	for discoveryURL, want := range map[string]string{
		"https://a.example/.well-known/openid-configuration":             "https://a.example",
		"https://A.example:8443/x/y/.well-known/openid-configuration":    "https://a.example:8443/x/y",
		"https://a.example/.well-known/oauth-authorization-server/x/y":   "https://a.example/x/y",
		"https://a.example/.well-known/openid-configuration/x/":          "https://a.example/x",
		"https://a.example//.well-known/openid-configuration":            "https://a.example",
		"https://a.example/.well-known/openid-configuration?x=1":         "",
		"https://a.example/.well-known/openid-configuration?":            "",
		"https://a.example/.well-known/openid-configuration#x":           "",
		"https://u:p@a.example/.well-known/openid-configuration":         "",
		"https://a.example/openid-configuration":                         "",
		"https://a.example/.well-known/openid-configuration-of-somebody": "",
		"/.well-known/openid-configuration":                              "",
		"https:///.well-known/openid-configuration":                      "",
		"%": "",
	} {
		got, err := impliedIssuer(discoveryURL)
		if got != want || (err == nil) != (want != "") || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %q, %v; want %q", discoveryURL, got, err, want)
		}
	}
}

func TestDiscoverRefuses(t *testing.T) {
	t.Parallel()
	set := func(name string, value any) func(map[string]any) {
		return func(document map[string]any) { document[name] = value }
	}
	for name, test := range map[string]struct {
		change  func(map[string]any)
		message string
	}{
		"another issuer":             {set("issuer", "https://evil.example"), "for another issuer"},
		"an issuer below":            {set("issuer", "ISSUER/tenant"), "for another issuer"},
		"no issuer":                  {set("issuer", nil), "for another issuer"},
		"private token endpoint":     {set("token_endpoint", "https://10.0.0.1/token"), "private"},
		"keys at the metadata":       {set("jwks_uri", "https://169.254.169.254/keys"), "reserved"},
		"plain keys":                 {set("jwks_uri", "http://idp.example/keys"), "must be https"},
		"keys from a file":           {set("jwks_uri", "file:///etc/passwd"), "not an absolute URL"},
		"password in an endpoint":    {set("revocation_endpoint", "https://u:canary@idp.example/"), "user name"},
		"script as an authorization": {set("authorization_endpoint", "javascript:canary"), "authorization endpoint"},
		"wrong type":                 {set("token_endpoint", 7), "not what RFC 8414 describes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			p.setDocument(func(document map[string]any) {
				test.change(document)
				if issuer, ok := document["issuer"].(string); ok {
					document["issuer"] = strings.Replace(issuer, "ISSUER", p.URL, 1)
				}
			})
			_, err := p.client().Discover(t.Context(), p.discoveryURL())
			wantFault(t, err, fault.Upstream, test.message)
		})
	}

	p := newProvider(t)
	p.setDocument(set("issuer", p.URL+"/"))
	if m, err := p.client().Discover(t.Context(), p.discoveryURL()); err != nil || m.Issuer != p.URL+"/" {
		t.Errorf("an issuer with a trailing slash: %v, %v", m.Issuer, err)
	}

	c, other := p.client(), newProvider(t)
	_, err := c.Discover(t.Context(), "https://localhost:"+other.port()+"/.well-known/openid-configuration")
	wantFault(t, err, fault.Invalid, "private and not allowed")
	_, err = c.Discover(t.Context(), strings.Replace(p.discoveryURL(), "https", "http", 1))
	wantFault(t, err, fault.Invalid, "https")
}

// Answers that are no documents, each from a server of its own kind of trouble.
func TestDiscoverFromTroubledServers(t *testing.T) {
	t.Parallel()
	elsewhere := newProvider(t)
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		kind    fault.Kind
		message string
		calls   int32
	}{
		"page":   {func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>canary")) }, fault.Upstream, "RFC 8414", 1},
		"empty":  {func(w http.ResponseWriter, r *http.Request) {}, fault.Upstream, "RFC 8414", 1},
		"list":   {func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("[]")) }, fault.Upstream, "RFC 8414", 1},
		"404":    {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, fault.Upstream, "status 404", 1},
		"500":    {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, fault.Unavailable, "status 500", 3},
		"429":    {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) }, fault.Throttled, "status 429", 1},
		"10 MB":  {func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 10<<20)) }, fault.Upstream, "larger than", 1},
		"drops":  {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, fault.Unavailable, "failed", 3},
		"inside": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, fault.Upstream, "private", 1},
		"by name": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://localhost:"+elsewhere.port(), http.StatusFound)
		}, fault.Upstream, "The address of localhost is private", 1},
		"slow": {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fault.Unavailable, "in time", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			p := newProvider(t)
			p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				test.answer(w, r)
			})
			c := p.client(func(o *egress.Options) { o.Timeout = patienceWith(name) })
			for range 2 { // the second is answered from the cache of failures
				_, err := c.Discover(t.Context(), p.discoveryURL())
				wantFault(t, err, test.kind, test.message)
			}
			if calls.Load() != test.calls {
				t.Errorf("%d calls, want %d", calls.Load(), test.calls)
			}
		})
	}
}

// A provider that hangs has failed when it is given up, not when it was asked.
func TestDiscoverRemembersAFailureThatTookLong(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	k := withClock(c)
	var calls atomic.Int32
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		k.move(2 * failureLifetime)
		w.WriteHeader(http.StatusNotFound)
	})
	for range 2 {
		_, err := c.Discover(t.Context(), p.discoveryURL())
		wantFault(t, err, fault.Upstream, "status 404")
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls, want 1", calls.Load())
	}
	k.move(failureLifetime)
	if _, err := c.Discover(t.Context(), p.discoveryURL()); err == nil || calls.Load() != 2 {
		t.Errorf("after %d calls: %v", calls.Load(), err)
	}
}

func TestDiscoverIsCached(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	k := withClock(c)
	want := func(calls int32, ok bool) {
		t.Helper()
		_, err := c.Discover(t.Context(), p.discoveryURL())
		if (err == nil) != ok || p.discoveries.Load() != calls {
			t.Errorf("%v after %d calls; want ok %v and %d", err, p.discoveries.Load(), ok, calls)
		}
	}
	p.broken.Store(404)
	want(1, false)
	want(1, false) // the failure is remembered
	p.broken.Store(0)
	k.move(failureLifetime)
	want(2, true)
	k.move(metadataLifetime - time.Second)
	want(2, true)
	k.move(time.Second)
	want(3, true)

	k.move(metadataLifetime)
	p.broken.Store(503)
	want(6, true) // three tries, then what was known
	want(6, true)
	k.move(metadataLifetime)
	want(9, false) // too old
	p.broken.Store(0)
	k.move(failureLifetime)
	want(10, true)
	k.move(metadataLifetime)
	p.broken.Store(404)
	want(11, false) // a plain no is believed at once
}

func TestDiscoverIsOneFlight(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	release := make(chan struct{})
	p.setDocument(func(map[string]any) { <-release })
	c := p.client()

	// Who gives up gets its answer at once, and does not spoil the others'.
	impatient, giveUp := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := c.Discover(impatient, p.discoveryURL())
		first <- err
	}()
	for p.discoveries.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	var group sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		group.Go(func() { _, errs[i] = c.Discover(t.Context(), p.discoveryURL()) })
	}
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Unavailable) {
		t.Errorf("the impatient one got %v", err)
	}
	close(release)
	group.Wait()
	if err := errors.Join(errs...); err != nil || p.discoveries.Load() != 1 {
		t.Errorf("%d calls, %v", p.discoveries.Load(), err)
	}
}

// A shared failure must be each caller's own: rooms attach causes to it.
func TestSharedFailuresAreNotShared(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.broken.Store(404)
	c := p.client()
	_, a := c.Discover(t.Context(), p.discoveryURL())
	_, b := c.Discover(t.Context(), p.discoveryURL())
	fault.Of(a).Because(errors.New("mine"))
	if fault.Of(b).Cause != nil {
		t.Error("two callers share one error")
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://idp.example","token_endpoint":"https://idp.example/t","jwks_uri":"https://idp.example/k"}`))
	f.Add([]byte(`{"issuer":"https://idp.example/","authorization_endpoint":"javascript:x"}`))
	f.Add([]byte(`{"issuer":"https://idp.example","jwks_uri":"http://127.0.0.1/"}`))
	e, _ := egress.New(egress.Options{})
	c := New(e)
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := c.readMetadata(body, "https://idp.example")
		if err != nil {
			return
		}
		if strings.TrimSuffix(m.Issuer, "/") != "https://idp.example" {
			t.Errorf("issuer %q", m.Issuer)
		}
		for _, endpoint := range []string{m.TokenEndpoint, m.JWKSURI, m.RevocationEndpoint} {
			if endpoint != "" && e.CheckURL(endpoint) != nil {
				t.Errorf("endpoint %q", endpoint)
			}
		}
		if _, err := json.Marshal(m); err != nil {
			t.Error(err)
		}
	})
}

func FuzzImpliedIssuer(f *testing.F) {
	f.Add("https://a.example/x/.well-known/openid-configuration")
	f.Add("https://a.example/.well-known/oauth-authorization-server/x")
	f.Fuzz(func(t *testing.T, raw string) {
		issuer, err := impliedIssuer(raw)
		if err != nil {
			return
		}
		if again, err := impliedIssuer(issuer + wellKnown[0]); err != nil || again != strings.TrimSuffix(issuer, "/") {
			t.Errorf("%q implies %q, which implies %q, %v", raw, issuer, again, err)
		}
	})
}
