package egress

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// redirector answers /n by redirecting to /n-1, and anything else to the ?to= address.
func redirector(w http.ResponseWriter, r *http.Request) {
	var n int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &n); err == nil {
		if n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/%d", n-1), http.StatusFound)
		}
		return
	}
	w.Header().Set("Location", r.FormValue("to"))
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func TestRedirectsAreCounted(t *testing.T) {
	t.Parallel()
	server, client := serve(t, redirector, "127.0.0.1:PORT")
	if resp, err := get(t, client, server.URL+"/3"); err != nil || resp.StatusCode != 200 {
		t.Errorf("three redirects: %v, %v", resp, err)
	}
	_, err := get(t, client, server.URL+"/4")
	wantFault(t, err, fault.Upstream, "more than 3 times")
}

func TestRedirectsAreJudged(t *testing.T) {
	t.Parallel()
	var inside atomic.Int32
	private := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) }))
	t.Cleanup(private.Close)
	server, client := serve(t, redirector, "127.0.0.1:PORT")
	for _, test := range []struct{ to, message string }{
		{private.URL + "/CANARY", "private and not allowed"},
		{"https://localhost:" + portText(private) + "/CANARY", "The address of localhost is private and not allowed"},
		{"https://169.254.169.254/latest/CANARY", "reserved"},
		{"https://[::ffff:10.0.0.1]/CANARY", "private"},
		{"http://127.0.0.1:" + portText(server) + "/CANARY", "from https to http"},
		{"ftp://example.com/CANARY", "from https to ftp"},
		{"https://u:CANARY@127.0.0.1:" + portText(server) + "/0", "user name or password"},
	} {
		_, err := get(t, client, server.URL+"/?to="+test.to)
		wantFault(t, err, fault.Upstream, test.message)
		if strings.Contains(fmt.Sprint(err), "CANARY") {
			t.Errorf("the Location is in the error: %v", err)
		}
	}
	if inside.Load() != 0 {
		t.Error("the private server was reached")
	}
}

func TestCredentialsAreNotRedirected(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	server, client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		redirector(w, r)
	}, "127.0.0.1:PORT")
	requests := map[string]func() *http.Request{
		"body": func() *http.Request {
			req, _ := http.NewRequest(http.MethodPost, server.URL+"/1", strings.NewReader("code=x"))
			return req
		},
		"empty post": func() *http.Request {
			req, _ := http.NewRequest(http.MethodPost, server.URL+"/1", nil)
			return req
		},
		"authorization": func() *http.Request {
			req, _ := http.NewRequest(http.MethodGet, server.URL+"/1", nil)
			req.Header.Set("Authorization", "Bearer x")
			return req
		},
		"cookie": func() *http.Request {
			req, _ := http.NewRequest(http.MethodGet, server.URL+"/1", nil)
			req.Header.Set("Cookie", "a=b")
			return req
		},
	}
	for name, request := range requests {
		calls.Store(0)
		resp, err := client.Do(request().WithContext(t.Context()))
		if err != nil {
			t.Fatal(name, err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusFound || calls.Load() != 1 {
			t.Errorf("%s: status %d after %d calls; want the 302 itself", name, resp.StatusCode, calls.Load())
		}
	}
}

func TestRedirectKeepsHeadersWithinOneOrigin(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	other, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	server, client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			seen <- r.Header
			return
		}
		redirector(w, r)
	}, "127.0.0.1:*")
	for _, test := range []struct {
		to   string
		want string
	}{{server.URL + "/end", "CANARY"}, {other.URL, ""}} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/?secret=CANARY&to="+test.to, nil)
		req.Header.Set("X-Api-Key", "CANARY")
		req.Header.Set("Accept", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		header := <-seen
		if header.Get("X-Api-Key") != test.want || header.Get("Referer") != "" || header.Get("Accept") == "" {
			t.Errorf("to %s: headers %v", test.to, header)
		}
	}
}
