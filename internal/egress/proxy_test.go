package egress

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
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
	"testing/synctest"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// behind starts a proxy, and makes a client that goes through it and trusts the server.
func behind(t *testing.T, server *httptest.Server, o ProxyOptions) (*Proxy, *httptest.Server, *http.Client) {
	t.Helper()
	for i, entry := range o.Allow {
		o.Allow[i] = strings.Replace(entry, "PORT", portText(server), 1)
	}
	p, err := NewProxy(o)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	roots := x509.NewCertPool()
	if server.Certificate() != nil {
		roots.AddCert(server.Certificate())
	}
	way, _ := url.Parse(front.URL)
	transport := &http.Transport{Proxy: http.ProxyURL(way), TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
	t.Cleanup(transport.CloseIdleConnections)
	return p, front, &http.Client{Transport: transport, Timeout: time.Minute}
}

func fetch(t *testing.T, c *http.Client, target string) (status int, text string) {
	t.Helper()
	response, err := c.Get(target)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

// Both ways through, and who is refused reads what would permit it.
func TestProxyTargets(t *testing.T) {
	t.Parallel()
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.Host) })
	for _, test := range []struct {
		name, host string
		allow      []string
		want       string // of the refusal; empty: reached
	}{
		{"nothing said", "127.0.0.1", nil, "127.0.0.1:PORT is private; an operator can permit it with --agent-egress-allow 127.0.0.1:PORT (and *:80 and *:443"},
		{"nothing said, a name", "localhost", nil, "localhost:PORT is not among the hosts that agents may reach"},
		{"a star opens nothing private", "127.0.0.1", []string{"*:*"}, "The address of 127.0.0.1:PORT is private"},
		{"metadata", "169.254.169.254", []string{"*:*"}, "is reserved (link-local, metadata"},
		{"metadata in disguise", "[::ffff:169.254.169.254]", []string{"*:*"}, "is reserved"},
		{"this machine in disguise", "[64:ff9b::7f00:1]", []string{"*:*"}, "is private"},
		{"unspecified", "0.0.0.0", []string{"*:*"}, "is reserved"},
		{"another name", "localhost", []string{"other.example:PORT"}, "localhost:PORT is not among the hosts"},
		{"a public address that is not listed", "8.8.8.8", []string{"10.0.0.0/8:*", "*.example.com:443"}, "8.8.8.8:PORT is not among the hosts"},
		{"another port", "127.0.0.1", []string{"127.0.0.1:1"}, "is private"},
		{"the address", "127.0.0.1", []string{"127.0.0.1:PORT"}, ""},
		{"a range", "127.0.0.1", []string{"127.0.0.0/8:*"}, ""},
		{"a range, by name", "localhost", []string{"127.0.0.0/8:PORT", "[::1]:PORT"}, ""},
		{"a name", "LOCALHOST", []string{"localhost:PORT"}, ""},
		{"the machine", MachineName, []string{MachineName + ":PORT"}, ""},
		{"the machine unnamed", MachineName, []string{"*.internal:*"}, "is private; an operator can permit it with --agent-egress-allow host.onbehalf.internal:PORT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, server := range []*httptest.Server{httptest.NewServer(hello), httptest.NewTLSServer(hello)} {
				defer server.Close()
				_, _, client := behind(t, server, ProxyOptions{Allow: append([]string{}, test.allow...)})
				scheme, _, _ := strings.Cut(server.URL, ":")
				target := test.host + ":" + portText(server)
				_, got := fetch(t, client, scheme+"://"+target+"/path")
				want := strings.ReplaceAll(test.want, "PORT", portText(server))
				if want == "" && !strings.EqualFold(got, "hello "+target) || !strings.Contains(got, want) {
					t.Errorf("%s: %q; want %q", scheme, got, want)
				}
			}
		})
	}
}

// The platform's own listeners are closed whatever is allowed.
func TestProxyForbidden(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	p, _, client := behind(t, server, ProxyOptions{Allow: []string{"127.0.0.1:*", "localhost:*", "platform.example:*", MachineName + ":*"}})
	p.Forbid(netip.MustParseAddrPort(server.Listener.Addr().String()))
	p.ForbidURL(&url.URL{Scheme: "https", Host: "Platform.Example"})
	for _, target := range []string{server.URL, "http://localhost:" + portText(server), "http://" + MachineName + ":" + portText(server), "http://platform.example.:443", "https://platform.example"} {
		if _, got := fetch(t, client, target); !strings.Contains(got, "leads to the platform") {
			t.Errorf("%s: %s", target, got)
		}
	}
}

// A name is resolved by the dialer alone, and what it comes out at is judged.
func TestProxyResolvesOnce(t *testing.T) {
	t.Parallel()
	dns := &names{addresses: map[string][]string{"rebound.example.com.": {"127.0.0.1"}, "inner.corp.example.": {"127.0.0.1"}}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "reached") }))
	defer server.Close()
	p, _, client := behind(t, server, ProxyOptions{Allow: []string{"*.example.com:*", "inner.corp.example:PORT"}})
	p.guard.resolver = dns.resolver(t)
	if _, got := fetch(t, client, "http://rebound.example.com:"+portText(server)); !strings.Contains(got, "is private") {
		t.Error(got)
	}
	if _, got := fetch(t, client, "http://inner.corp.example:"+portText(server)); got != "reached" {
		t.Error(got)
	}
	if _, got := fetch(t, client, "http://a.secret.evil.example:"+portText(server)); !strings.Contains(got, "not among the hosts") {
		t.Error(got)
	}
}

func TestProxyRefusesWhatIsNoRequestOfItsKind(t *testing.T) {
	t.Parallel()
	p, err := NewProxy(ProxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(p)
	defer front.Close()
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                              "400 Bad Request",
		"GET https://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n":           "400 Bad Request",
		"GET ftp://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n":             "400 Bad Request",
		"CONNECT example.com HTTP/1.1\r\nHost: x\r\n\r\n":                "400 The target is not",
		"CONNECT example.com:0 HTTP/1.1\r\nHost: x\r\n\r\n":              "400 The target is not",
		"CONNECT [fe80::1%25lo]:80 HTTP/1.1\r\nHost: x\r\n\r\n":          "400",
		"CONNECT 127.1:80 HTTP/1.1\r\nHost: x\r\n\r\n":                   "400 The target is not",
		"CONNECT 2130706433:80 HTTP/1.1\r\nHost: x\r\n\r\n":              "400 The target is not",
		"CONNECT example.com:22 HTTP/1.1\r\nHost: x\r\n\r\n":             "403 example.com:22 is not among the hosts that agents may reach; an operator can permit it with --agent-egress-allow",
		"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n":         "403 The address of 169.254.169.254:80 is reserved",
		"CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n": "403 The address of 10.0.0.1:443 is private",
		"GET http://10.0.0.1/ HTTP/1.1\r\nHost: example.com\r\n\r\n":     "403 Forbidden",
	} {
		conn, err := net.Dial("tcp", front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, request)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 "+want) {
			t.Errorf("%q: %q, %v; want %q", request, line, err, want)
		}
	}
}

// Headers about one connection end with it; the rest, and the body, pass as they are.
func TestProxyRelay(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range append([]string{"X-Private", "X-Forwarded-For", "Via", "User-Agent", "Accept-Encoding"}, hopByHop...) {
			if got := r.Header.Get(name); got != "" && (name != "Connection" || got != "close") { // that one is the proxy's own
				t.Errorf("%s: %s arrived", name, r.Header.Get(name))
			}
		}
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Location", "http://169.254.169.254/")
		w.WriteHeader(http.StatusFound)
		_, _ = io.Copy(w, r.Body)
	}))
	defer server.Close()
	_, front, _ := behind(t, server, ProxyOptions{Allow: []string{"127.0.0.1:PORT"}})
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s/x HTTP/1.1\r\nHost: elsewhere\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\nProxy-Authorization: Basic eDp5\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello", server.URL)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusFound || string(body) != "hello" || response.Header.Get("Keep-Alive") != "" {
		t.Errorf("%d %q %v", response.StatusCode, body, response.Header)
	}
}

func TestProxyStripsWhatConnectionNames(t *testing.T) {
	t.Parallel()
	h := http.Header{"Connection": {"X-Hop, close", "x-other"}, "X-Hop": {"1"}, "X-Other": {"1"}, "X-Kept": {"1"}, "Te": {"trailers"}}
	strip(h)
	if len(h) != 1 || h.Get("X-Kept") != "1" {
		t.Error(h)
	}
}

// An end of one direction reaches the other side, and leaves the other direction open.
func TestProxyHalfClose(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn) // until the agent's side has ended
		fmt.Fprintf(conn, "you said %s", all)
	}()
	p, _ := NewProxy(ProxyOptions{Allow: []string{"127.0.0.1:*"}})
	front := httptest.NewServer(p)
	defer front.Close()
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The first words come right behind the request.
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nfirst, ", listener.Addr())
	reader := bufio.NewReader(conn)
	for line := ""; line != "\r\n"; {
		if line, err = reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.WriteString(conn, "last")
	_ = conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(reader); string(got) != "you said first, last" {
		t.Errorf("%q %v", got, err)
	}
}

// A server may answer at the last byte of a body, before its end has been noticed on
// the way: the answer is passed on whole.
func TestProxyAnswersAtTheLastByte(t *testing.T) {
	t.Parallel()
	noticed := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 5000))
		_, _ = io.WriteString(w, "first, ")
		_ = http.NewResponseController(w).Flush()
		<-noticed
		_, _ = io.WriteString(w, "last")
	}))
	defer server.Close()
	p, err := NewProxy(ProxyOptions{Allow: []string{"127.0.0.1:*"}})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &late{r.Body, 5000, answered, noticed}
		p.ServeHTTP(w, r)
	}))
	defer front.Close()
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n%s", server.URL, strings.Repeat("x", 5000))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	first := make([]byte, len("first, "))
	_, _ = io.ReadFull(response.Body, first)
	close(answered)
	if rest, err := io.ReadAll(response.Body); err != nil || string(first)+string(rest) != "first, last" {
		t.Errorf("%q %q %v", first, rest, err)
	}
}

// late is a body whose end is noticed when the answer has begun.
type late struct {
	io.ReadCloser
	left              int
	answered, noticed chan struct{}
}

func (l *late) Read(b []byte) (int, error) {
	if l.left == 0 {
		<-l.answered
		defer func() {
			select {
			case <-l.noticed:
			default:
				close(l.noticed)
			}
		}()
		return l.ReadCloser.Read(b)
	}
	n, err := l.ReadCloser.Read(b[:min(len(b), l.left)])
	if l.left -= n; err == io.EOF && l.left == 0 {
		err = nil
	}
	return n, err
}

// Half of an answer is never taken for the whole.
func TestProxyBrokenAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	_, _, client := behind(t, server, ProxyOptions{Allow: []string{"127.0.0.1:PORT"}})
	if status, got := fetch(t, client, server.URL); status != 0 {
		t.Errorf("%d %q", status, got)
	}
}

func TestProxyBounds(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1); <-release }))
	defer server.Close()
	defer close(release)
	_, _, client := behind(t, server, ProxyOptions{Allow: []string{"127.0.0.1:PORT"}, MaxConnections: 1})
	go func() { _, _ = fetch(t, client, server.URL) }()
	for calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if status, got := fetch(t, client, server.URL); status != http.StatusServiceUnavailable || !strings.Contains(got, "too many connections") {
		t.Errorf("%d %q", status, got)
	}
}

// Nobody's agents have all connections: the last quarter is for the others.
func TestProxyIsShared(t *testing.T) {
	t.Parallel()
	p, err := NewProxy(ProxyOptions{MaxConnections: 8})
	if err != nil {
		t.Fatal(err)
	}
	enter := func(who string) (leave func(), ok bool) { return p.enter(AskedBy(t.Context(), who)) }
	var leave func()
	for i := range 6 {
		var ok bool
		if leave, ok = enter("greedy"); !ok {
			t.Fatalf("only %d", i)
		}
	}
	if _, ok := enter("greedy"); ok {
		t.Error("one asker has more than three quarters")
	}
	for range 2 {
		if _, ok := enter("modest"); !ok {
			t.Error("nothing is left for another")
		}
	}
	if _, ok := enter("third"); ok {
		t.Error("there are more than there may be")
	}
	leave()
	if _, ok := enter("third"); !ok {
		t.Error("who has left still counts")
	}
}

// An agent that does not read what it has asked for holds an exchange no longer than
// one in which nothing moves.
func TestProxyUnreadAnswerEnds(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for piece := make([]byte, 64<<10); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	p, err := NewProxy(ProxyOptions{Allow: []string{"127.0.0.1:*"}, Idle: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(p)
	front.Config.ErrorLog = discardLog()
	front.Start()
	defer front.Close()
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", server.URL)
	if _, err := io.ReadFull(conn, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	open := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.open
	}
	for deadline := time.Now().Add(time.Minute); open() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is held")
		}
	}
}

func TestProxyIdleTunnelEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		agent, inside := net.Pipe()
		outside, server := net.Pipe()
		begun := time.Now()
		go func() {
			time.Sleep(9 * time.Minute)
			_, _ = io.WriteString(server, "x")
		}()
		go func() { _, _ = io.Copy(io.Discard, agent) }()
		tunnel(inside, bufio.NewReader(inside), outside, 10*time.Minute)
		if took := time.Since(begun); took != 19*time.Minute {
			t.Errorf("it ended after %v", took)
		}
		_, _ = agent.Close(), server.Close()
	})
}

func TestProxyRules(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{"", "*", "*:", "*:0", "*:65536", "*.:443", "*..com:443", "*example.com:443", "a.*.com:443", "*.exa mple:443", "*.10.0.0.0/8:1", "example.com", "fd00::1:443"} {
		_, err := NewProxy(ProxyOptions{Allow: []string{entry}})
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "--agent-egress-allow") {
			t.Errorf("%q: %v", entry, err)
		}
	}
	p, err := NewProxy(ProxyOptions{Allow: []string{"*.Example.com:443", "*:8443", "[fd00::1]:1", "10.0.0.0/8:*"}})
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]bool{
		"a.example.com:443": true, "a.b.EXAMPLE.com.:443": true, "example.com:443": false, "badexample.com:443": false, "a.example.com:80": false,
		"anything.example:8443": true, "8.8.8.8:8443": true, "8.8.8.8:443": false,
	} {
		name, port, err := targetOf(target, "")
		if err != nil {
			t.Fatal(target, err)
		}
		public := netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), port)
		if got := p.permit(name, public) == nil; got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
}

// Whatever is asked for under whatever entry with a star: nothing of ours, nothing private.
func FuzzProxyTarget(f *testing.F) {
	f.Add("*.example.com:443", "a.example.com:443", []byte{10, 0, 0, 1})
	f.Add("*:*", "[::ffff:7f00:1]:80", []byte{169, 254, 169, 254})
	f.Add("*:80", "0x7f.1:80", []byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1})
	f.Fuzz(func(t *testing.T, entry, target string, raw []byte) {
		p, err := NewProxy(ProxyOptions{Allow: []string{entry}})
		if err != nil {
			return
		}
		own := netip.MustParseAddrPort("8.8.4.4:443")
		p.Forbid(own)
		name, port, err := targetOf(target, "80")
		if err != nil {
			return
		}
		if strings.ContainsAny(name, "\r\n \x00/@%") {
			t.Fatalf("%q became the target %q", target, name)
		}
		if p.permit(name, own) == nil {
			t.Fatalf("%q under %q reaches the platform", target, entry)
		}
		addr, ok := netip.AddrFromSlice(raw)
		if !ok || p.permit(name, netip.AddrPortFrom(addr, port)) != nil {
			return
		}
		class := reachOf(canonical(addr))
		wild := strings.HasPrefix(entry, "*")
		if class != public && wild || class == special && !p.rules[0].prefix.IsValid() {
			t.Fatalf("%q under %q reaches %v", target, entry, addr)
		}
	})
}
