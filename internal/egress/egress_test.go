package egress

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Exit(m.Run()) }

// serve starts a TLS server and a client that trusts it; the client may reach what allow lists, PORT standing for the server's port.
func serve(t *testing.T, h http.HandlerFunc, allow ...string) (*httptest.Server, *Client) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, clientFor(t, server, Options{Allow: allow})
}

func clientFor(t *testing.T, server *httptest.Server, o Options) *Client {
	t.Helper()
	for i, entry := range o.Allow {
		o.Allow[i] = strings.Replace(entry, "PORT", portText(server), 1)
	}
	if server.TLS != nil {
		o.Roots = x509.NewCertPool()
		o.Roots.AddCert(server.Certificate())
	}
	client, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func portText(server *httptest.Server) string {
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	return port
}

func get(t *testing.T, c *Client, target string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

func wantFault(t *testing.T, err error, kind fault.Kind, message string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(fault.Of(err).Message, message) {
		t.Errorf("error = %v; want kind %v with %q", err, kind, message)
	}
}

func TestPrivateAddressesNeedAllow(t *testing.T) {
	t.Parallel()
	hello := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }
	for _, test := range []struct {
		name, host string
		allow      []string
		want       string // of the refusal; empty: reached
	}{
		{"literal, nothing allowed", "127.0.0.1", nil, "The address of 127.0.0.1 is private and not allowed; an operator can allow it with --egress-allow 127.0.0.1:PORT"},
		{"name of loopback, nothing allowed", "localhost", nil, "The address of localhost is private and not allowed; an operator can allow it with --egress-allow localhost:PORT"},
		{"mapped literal", "[::ffff:127.0.0.1]", nil, "private and not allowed"},
		{"NAT64 literal", "[64:ff9b::7f00:1]", nil, "private and not allowed"},
		{"unspecified", "0.0.0.0", nil, "reserved"},
		{"metadata", "169.254.169.254", nil, "reserved"},
		{"another name is allowed", "127.0.0.1", []string{"localhost:PORT"}, "private and not allowed"},
		{"another port is allowed", "127.0.0.1", []string{"127.0.0.1:1"}, "private and not allowed"},
		{"another range is allowed", "127.0.0.1", []string{"127.0.1.0/24:PORT"}, "private and not allowed"},
		{"address allowed", "127.0.0.1", []string{"127.0.0.1:PORT"}, ""},
		{"range allowed, any port", "127.0.0.1", []string{"127.0.0.0/8:*"}, ""},
		{"mapped, range allowed", "[::ffff:127.0.0.1]", []string{"127.0.0.0/8:PORT"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server, client := serve(t, hello, test.allow...)
			resp, err := get(t, client, "https://"+test.host+":"+portText(server)+"/path?code=CANARY")
			switch {
			case test.want != "":
				wantFault(t, err, fault.Upstream, strings.Replace(test.want, "PORT", portText(server), 1))
			case test.host != "127.0.0.1" && strings.Contains(fmt.Sprint(err), "certificate"):
				// reached; the certificate of httptest is for 127.0.0.1 alone
			case err != nil:
				t.Error(err)
			default:
				if body, err := ReadAll(resp, 5); string(body) != "hello" || err != nil {
					t.Errorf("body = %q, %v", body, err)
				}
			}
			if strings.Contains(fmt.Sprint(err), "CANARY") {
				t.Errorf("the query is in the error: %v", err)
			}
		})
	}
}

func TestNameAllowed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	t.Cleanup(server.Close)
	client := clientFor(t, server, Options{Allow: []string{"LocalHost:PORT"}, LoopbackHTTP: true})
	if _, err := get(t, client, "http://localhost:"+portText(server)); err != nil {
		t.Error(err)
	}
	_, err := get(t, client, "http://127.0.0.1:"+portText(server))
	wantFault(t, err, fault.Upstream, "private")
}

// TestForbiddenURL: behind a proxy, the platform is not at its listener's address.
func TestForbiddenURL(t *testing.T) {
	t.Parallel()
	client, err := New(Options{Allow: []string{"0.0.0.0/0:*"}})
	if err != nil {
		t.Fatal(err)
	}
	public, _ := url.Parse("https://agents.example.com")
	client.ForbidURL(public)
	for _, target := range []string{"https://agents.example.com/gateway/x/mcp", "https://AGENTS.example.com:443/", "https://agents.example.com./"} {
		wantFault(t, client.CheckURL(target), fault.Invalid, "leads back to this server")
		_, err := get(t, client, target)
		wantFault(t, err, fault.Upstream, "leads back to this server")
	}
	for _, other := range []string{"https://agents.example.com:8443/", "https://login.agents.example.com/", "https://example.com/"} {
		if err := client.CheckURL(other); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
}

func TestForbiddenListener(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		listener string
		hosts    []string
	}{
		{"127.0.0.1", []string{"127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::]"}},
		{"0.0.0.0", []string{"127.0.0.1", "127.0.0.9", "localhost", "0.0.0.0", "[::1]", "OWN"}},
		{"::", []string{"127.0.0.1", "localhost", "OWN"}},
	} {
		t.Run(test.listener, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
			t.Cleanup(server.Close)
			port := netip.MustParseAddrPort(server.Listener.Addr().String()).Port()
			client := clientFor(t, server, Options{Allow: []string{"0.0.0.0/0:*", "::/0:*", "localhost:*"}, LoopbackHTTP: true})
			if _, err := get(t, client, "http://127.0.0.1:"+portText(server)); err != nil {
				t.Fatal("before Forbid: ", err)
			}
			client.Forbid(netip.AddrPortFrom(netip.MustParseAddr(test.listener), port))
			for _, host := range test.hosts {
				if host == "OWN" {
					if host = ownAddress(); host == "" {
						continue
					}
				}
				scheme := "https"
				if isLoopbackHost(strings.Trim(host, "[]")) {
					scheme = "http"
				}
				target := fmt.Sprintf("%s://%s:%d/", scheme, host, port)
				_, err := get(t, client, target)
				if fault.Is(err, fault.Unavailable) && (strings.Contains(host, ":")) {
					continue // no IPv6 on this machine
				}
				wantFault(t, err, fault.Upstream, "leads back to this server")
			}
			if calls.Load() != 1 {
				t.Errorf("%d calls arrived; want only the one before Forbid", calls.Load())
			}
			wantFault(t, client.CheckURL("http://127.0.0.1:"+portText(server)), fault.Invalid, "leads back to this server")
		})
	}
}

func ownAddress() string {
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && p.Addr().Is4() {
			return p.Addr().String()
		}
	}
	return ""
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	client := clientFor(t, server, Options{Allow: []string{"127.0.0.1:PORT"}})
	_, err := get(t, client, server.URL)
	wantFault(t, err, fault.Upstream, "only https is allowed")

	client = clientFor(t, server, Options{Allow: []string{"127.0.0.1:PORT"}, LoopbackHTTP: true})
	if _, err = get(t, client, server.URL); err != nil {
		t.Error(err)
	}
	_, err = get(t, client, "http://example.com")
	wantFault(t, err, fault.Upstream, "only https is allowed")
	_, err = get(t, client, "http://user:CANARY@"+server.Listener.Addr().String())
	wantFault(t, err, fault.Upstream, "user name or password")
	if strings.Contains(err.Error(), "CANARY") {
		t.Error("the password is in the error")
	}
}

func TestRelay(t *testing.T) {
	t.Parallel()
	server, client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/zipped":
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("Relay asked for compression by itself")
			}
		}
	}, "127.0.0.1:PORT")
	for _, path := range []string{"/redirect", "/zipped"} {
		resp, err := client.Relay().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if path == "/redirect" && resp.StatusCode != http.StatusFound {
			t.Errorf("status %d; the redirect was followed", resp.StatusCode)
		}
		if resp.ProtoMajor != 2 {
			t.Errorf("HTTP/%d; want 2 over TLS", resp.ProtoMajor)
		}
	}
	_, err := client.Relay().Get("https://127.0.0.1:1/x?code=CANARY")
	err = Safe(err)
	wantFault(t, err, fault.Upstream, "private")
	if strings.Contains(err.Error(), "CANARY") {
		t.Error("the query is in the error")
	}
}

func TestReadAllLimits(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	var zeros bytes.Buffer
	zip := gzip.NewWriter(&zeros)
	zip.Write(make([]byte, 10<<20))
	zip.Close()
	server, client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/declared":
			w.Write(make([]byte, 10<<20))
		case "/streamed":
			for range 10 << 4 {
				w.Write(make([]byte, 1<<16))
				w.(http.Flusher).Flush()
			}
		case "/bomb": // 10 KB that inflate to 10 MB
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(zeros.Bytes())
		case "/exact":
			w.Write(make([]byte, limit))
		}
	}, "127.0.0.1:PORT")
	for _, path := range []string{"/declared", "/streamed", "/bomb"} {
		resp, err := get(t, client, server.URL+path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ReadAll(resp, limit)
		wantFault(t, err, fault.Upstream, "larger than 1048576 bytes")
	}
	resp, err := get(t, client, server.URL+"/exact")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := ReadAll(resp, limit); len(body) != limit || err != nil {
		t.Errorf("%d bytes, %v; want the whole limit", len(body), err)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hijack := func(answer string) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, answer)
			conn.Close()
		}
		switch r.URL.Path {
		case "/slow":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "/slow-body":
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "/drop":
			hijack("")
		case "/cut":
			hijack("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		case "/status":
			hijack("HTTP/1.1 CANARY\r\n\r\n")
		case "/header":
			hijack("HTTP/1.1 200 OK\r\nCANARY\r\n\r\n")
		case "/location":
			hijack("HTTP/1.1 302 Found\r\nLocation: https://a b/%zz?CANARY\r\nContent-Length: 0\r\n\r\n")
		case "/headers":
			hijack("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("CANARY", 100_000) + "\r\n\r\n")
		}
	}))
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	allow := func() []string { return []string{"127.0.0.1:PORT", "nowhere.invalid:*"} }
	client := clientFor(t, server, Options{Allow: allow()})
	impatient := clientFor(t, server, Options{Allow: allow(), Timeout: 300 * time.Millisecond})

	for _, test := range []struct {
		path    string
		kind    fault.Kind
		message string
	}{
		{"/slow", fault.Unavailable, "did not answer in time"},
		{"/slow-body", fault.Unavailable, "did not answer in time"},
		{"/drop", fault.Unavailable, "failed"},
		{"/cut", fault.Unavailable, "failed"},
		{"/status", fault.Unavailable, "failed"},
		{"/header", fault.Unavailable, "failed"},
		{"/headers", fault.Unavailable, "failed"},
	} {
		with := client
		if strings.HasPrefix(test.path, "/slow") {
			with = impatient
		}
		resp, err := get(t, with, server.URL+test.path+"?code=CANARY")
		if err == nil {
			_, err = ReadAll(resp, 1<<20)
		}
		wantFault(t, err, test.kind, test.message)
		if strings.Contains(fmt.Sprint(err), "CANARY") {
			t.Errorf("%s: the error quotes the other side: %v", test.path, err)
		}
	}

	resp, err := get(t, client, server.URL+"/location?code=CANARY")
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Errorf("an unreadable Location: %v; want the 302 as it is", err)
	}

	untrusting, _ := New(Options{Allow: []string{server.Listener.Addr().String()}})
	t.Cleanup(untrusting.Close)
	_, err = get(t, untrusting, server.URL)
	wantFault(t, err, fault.Upstream, "certificate")

	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	client = clientFor(t, plain, Options{Allow: []string{"127.0.0.1:PORT"}})
	_, err = get(t, client, "https://"+plain.Listener.Addr().String()+"/")
	wantFault(t, err, fault.Upstream, "does not speak TLS")
}

func TestCancellation(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	server, client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}, "127.0.0.1:PORT")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/?code=CANARY", nil)
	_, err := client.Do(req)
	wantFault(t, err, fault.Unavailable, "cancelled")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap context.Canceled", err)
	}
	if strings.Contains(err.Error(), "CANARY") {
		t.Error("the query is in the error")
	}
}

// A request with a body must arrive once: a kept connection that the server has
// dropped is not used for it, and a dropped answer does not repeat it.
func TestBodiesAreSentOnce(t *testing.T) {
	t.Parallel()
	var posts, connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		if r.URL.Path == "/drop" {
			io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		}
	}))
	server.Config.ErrorLog = discardLog()
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	client := clientFor(t, server, Options{Allow: []string{"127.0.0.1:PORT"}})
	post := func(path string) error {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, strings.NewReader("code=x"))
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	for range 2 {
		if err := post("/"); err != nil {
			t.Fatal(err)
		}
	}
	wantFault(t, post("/drop"), fault.Unavailable, "failed")
	if posts.Load() != 3 || connections.Load() != 3 {
		t.Errorf("%d posts over %d connections; want 3 and 3", posts.Load(), connections.Load())
	}
}

// A server that notices our leaving ends its answer properly, half of it unsaid.
func TestAnswersAfterTheEndDoNotCount(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}))
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	t.Cleanup(server.Close)
	client := clientFor(t, server, Options{Allow: []string{"127.0.0.1:PORT"}, Timeout: 50 * time.Millisecond})
	for range 10 {
		for _, path := range []string{"/", "/body"} {
			resp, err := get(t, client, server.URL+path)
			if err == nil {
				_, err = ReadAll(resp, 1<<20)
			}
			wantFault(t, err, fault.Unavailable, "did not answer in time")
		}
	}
}

func TestSafeLeavesNothingOfTheURL(t *testing.T) {
	t.Parallel()
	err := Safe(&url.Error{Op: "Get", URL: "https://u:CANARY@example.com/CANARY?CANARY", Err: fmt.Errorf("strange: %q", "CANARY")})
	wantFault(t, err, fault.Unavailable, "The connection to example.com failed.")
	if strings.Contains(err.Error(), "CANARY") {
		t.Error(err)
	}
	if Safe(nil) != nil {
		t.Error("Safe(nil) is an error")
	}
}
