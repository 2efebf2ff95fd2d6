package server

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// The client's address is the connection's, unless a proxy that the operator
// named says otherwise; a client cannot write itself another one.
func TestAddressBelievesTrustedProxiesOnly(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, test := range map[string]struct {
		proxies   []netip.Prefix
		peer      string
		forwarded []string
		want      string
	}{
		"no proxies, header ignored":     {nil, "203.0.113.9:1", []string{"198.51.100.1"}, "203.0.113.9"},
		"stranger's header ignored":      {proxies, "203.0.113.9:1", []string{"198.51.100.1"}, "203.0.113.9"},
		"proxy's header believed":        {proxies, "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"client's own entry left of it":  {proxies, "10.0.0.1:1", []string{"127.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		"two proxies":                    {proxies, "10.0.0.1:1", []string{"127.0.0.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		"two headers":                    {proxies, "10.0.0.1:1", []string{"127.0.0.1", "198.51.100.1"}, "198.51.100.1"},
		"with a port":                    {proxies, "10.0.0.1:1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		"nonsense stops the walk":        {proxies, "10.0.0.1:1", []string{"198.51.100.1, nonsense"}, "10.0.0.1"},
		"no header":                      {proxies, "10.0.0.1:1", nil, "10.0.0.1"},
		"IPv6":                           {proxies, "[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv4 in IPv6 is the same proxy": {proxies, "[::ffff:10.0.0.1]:1", []string{"198.51.100.1"}, "198.51.100.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = test.peer
			for _, value := range test.forwarded {
				r.Header.Add("X-Forwarded-For", value)
			}
			if got := (&front{proxies: test.proxies}).address(r); got.String() != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// Behind a proxy that ends TLS, nobody else speaks http to the listener.
func TestStrangersGoThroughTheProxy(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, test := range map[string]struct {
		proxied bool
		peer    string
		tls     bool
		want    int
	}{
		"the proxy":            {true, "10.0.0.1:1", false, http.StatusOK},
		"this machine":         {true, "127.0.0.1:1", false, http.StatusOK},
		"a stranger":           {true, "203.0.113.9:1", false, http.StatusMisdirectedRequest},
		"one by IPv6":          {true, "[2001:db8::1]:1", false, http.StatusMisdirectedRequest},
		"over TLS":             {true, "203.0.113.9:1", true, http.StatusOK},
		"without TLS in front": {false, "203.0.113.9:1", false, http.StatusOK},
	} {
		r := httptest.NewRequest(http.MethodGet, "/ping", nil)
		r.RemoteAddr = test.peer
		r.Header.Set("X-Forwarded-For", "10.0.0.1")
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		(&front{ping: ok, proxies: proxies, proxied: test.proxied, log: slog.New(slog.DiscardHandler)}).ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%s: %d, want %d", name, w.Code, test.want)
		}
	}
}

// Each path has one door, whatever a gateway or a workload is called.
func TestDoors(t *testing.T) {
	t.Parallel()
	door := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(name)) })
	}
	f := &front{ping: door("ping"), wire: door("wire"), mcp: door("mcp"), metadata: door("metadata"), consent: door("consent"), agents: door("agents"), code: door("code"), log: slog.New(slog.DiscardHandler)}
	for path, want := range map[string]string{
		"/ping":                                  "ping",
		"/ping/":                                 "wire",
		"/gateway/g-0123456789/mcp":              "mcp",
		"/gateways/":                             "wire",
		"/gateways/ping/":                        "wire",
		"/identities/oauth2/token":               "wire",
		"/identities/oauth2/authorize":           "consent",
		"/identities/oauth2/authorize/":          "wire",
		"/identities/oauth2/callback/x":          "consent",
		"/identities/oauth2/callback":            "wire",
		"/identities%2Foauth2/authorize":         "wire",
		"/%67ateway/g/mcp":                       "wire",
		"//gateway/g/mcp":                        "wire",
		"/runtimes/arn%3Aaws%3Ax%2Fy/commands":   "agents",
		"/runtimes/a-0123456789/":                "wire",
		"/runtimes/a-0123456789/versions/":       "wire",
		"/runtimes//invocations":                 "wire",
		"/":                                      "wire",
		"/.well-known/oauth-protected-resource/": "wire",
		"/.well-known/oauth-protected-resource/gateway/g/mcp": "metadata",
	} {
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil))
		if got := w.Body.String(); got != want {
			t.Errorf("%s is answered by %s, want %s", path, got, want)
		}
	}
}

// A handler that panics costs one request its answer; it has an id by which the log is found.
func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	f := &front{log: slog.New(slog.NewTextHandler(&log, nil)), wire: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") })}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x", nil))
	id := w.Header().Get("x-amzn-RequestId")
	if w.Code != http.StatusInternalServerError || !strings.Contains(log.String(), id) || !strings.Contains(log.String(), "a bug") {
		t.Errorf("status %d, request id %q, log %q", w.Code, id, log.String())
	}
	if strings.Contains(w.Body.String(), "a bug") {
		t.Errorf("the answer shows the panic: %s", w.Body.String())
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := api.NewUUID()
		if !uuid.MatchString(id) || seen[id] {
			t.Fatalf("%q is no fresh UUID", id)
		}
		seen[id] = true
	}
	var got principal.Request
	f := &front{log: slog.New(slog.DiscardHandler), wire: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = principal.RequestOf(r.Context()) })}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/x", nil)
	r.Header.Set("x-amzn-RequestId", "chosen-by-the-caller")
	f.ServeHTTP(w, r)
	if got.ID == "" || got.ID != w.Header().Get("x-amzn-RequestId") || got.ID == "chosen-by-the-caller" {
		t.Errorf("the request is called %q inside and %q outside", got.ID, w.Header().Get("x-amzn-RequestId"))
	}
}

// TestSecure: only TLS counts, ended here or by a proxy that is trusted.
func TestSecure(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	for _, test := range []struct {
		front  *front
		peer   string
		tls    bool
		secure bool
	}{
		{&front{}, "192.0.2.1:1", false, false},
		{&front{}, "192.0.2.1:1", true, true},
		{&front{proxied: true, proxies: proxies}, "10.0.0.5:1", false, true},
		{&front{proxied: true, proxies: proxies}, "10.0.1.5:1", false, false}, // past the proxy
		{&front{proxies: proxies}, "10.0.0.5:1", false, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.RemoteAddr = test.peer
		r.Header.Set("X-Forwarded-Proto", "https") // nobody is asked
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := test.front.secure(r); got != test.secure {
			t.Errorf("from %s, TLS %t: %t", test.peer, test.tls, got)
		}
	}
}
