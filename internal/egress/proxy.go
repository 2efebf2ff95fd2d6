package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// ProxyOptions configures a Proxy. The zero value lets agents reach any public
// address on ports 80 and 443.
type ProxyOptions struct {
	// Allow lists HOST-OR-CIDR:PORT entries, also *.example.com:443 and *:443; PORT
	// may be *. When there are any, nothing else is reached. A private address is
	// opened by a whole host name, an address or a range, never by a star; a
	// reserved one (link-local, metadata) by its address or range.
	Allow []string

	// MaxConnections bounds what all sessions have open at once; 0 is 4,096. The last
	// quarter is not for an asker (AskedBy) that has half of them: nobody takes them all. Each
	// session's own bound is its driver's.
	MaxConnections int

	// Idle ends an exchange in which nothing has moved for so long, either way; 0 is
	// 15 minutes: models think for a while.
	Idle time.Duration
}

// Proxy is the way out of agents' sessions: an HTTP proxy for CONNECT and for
// absolute http URLs.
//
//	agent ─▶ its session's 127.0.0.1:7078 ─▶ Proxy: the name permitted? resolved once; the address permitted? ─▶ dialled
//
// Who is refused reads which flag permits it. What goes through a tunnel is the
// agent's own business: the guard is about where, not what.
//
// Invariant: no socket is connected to an address that permit has not heard.
type Proxy struct {
	guard     *guard // the platform's own listeners and URL
	rules     []proxyRule
	transport *http.Transport
	most      int
	idle      time.Duration

	mu   sync.Mutex
	open int
	by   map[string]int // of each asker
}

type askerKey struct{}

// AskedBy notes whose agents a request to a Proxy comes from.
func AskedBy(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, askerKey{}, who)
}

// enter counts an exchange in, or refuses it; leave counts it out.
func (p *Proxy) enter(ctx context.Context) (leave func(), ok bool) {
	who, _ := ctx.Value(askerKey{}).(string)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= p.most || who != "" && p.open >= p.most-p.most/4 && p.by[who] >= p.most/2 {
		return nil, false
	}
	p.open++
	p.by[who]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open--
		if p.by[who]--; p.by[who] == 0 {
			delete(p.by, who)
		}
	}, true
}

// NewProxy reads the options. A malformed Allow entry is a fault.Invalid that says how to write it.
func NewProxy(o ProxyOptions) (*Proxy, error) {
	rules, err := parseProxyRules(o.Allow)
	if err != nil {
		return nil, err
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 4096
	}
	if o.Idle == 0 {
		o.Idle = 15 * time.Minute
	}
	p := &Proxy{guard: &guard{}, rules: rules, most: o.MaxConnections, idle: o.Idle, by: map[string]int{}}
	p.transport = &http.Transport{
		Proxy:                  nil,
		DialContext:            p.dial,
		DisableKeepAlives:      true, // two sessions never share a connection
		DisableCompression:     true,
		MaxResponseHeaderBytes: 256 << 10,
		ExpectContinueTimeout:  time.Second,
	}
	return p, nil
}

// Forbid refuses an address of the platform's own listeners, whatever is allowed.
func (p *Proxy) Forbid(addr netip.AddrPort) { p.guard.forbid(addr) }

// ForbidURL is Forbid for the URL under which the platform is reached.
func (p *Proxy) ForbidURL(public *url.URL) {
	p.guard.mu.Lock()
	defer p.guard.mu.Unlock()
	p.guard.url = public
}

// About says in a line what agents may reach.
func (p *Proxy) About() string {
	if len(p.rules) == 0 {
		return "agents reach public addresses on ports 80 and 443 (" + proxyFlag + " narrows it)"
	}
	return fmt.Sprintf("agents reach the %d targets of %s", len(p.rules), proxyFlag)
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	leave, ok := p.enter(r.Context())
	if !ok {
		w.Header().Set("Retry-After", "1")
		say(w, r, http.StatusServiceUnavailable, "Agents have too many connections open at the moment")
		return
	}
	defer leave()
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		p.relay(w, r)
	case r.URL.IsAbs():
		say(w, r, http.StatusBadRequest, "This proxy takes http URLs; ask for anything else by CONNECT")
	default:
		say(w, r, http.StatusBadRequest, "This is the way out of the session, an HTTP proxy, and no server")
	}
}

// dial connects to a target that named has let through.
func (p *Proxy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	name, port, err := targetOf(address, "")
	if err != nil {
		return nil, err
	}
	if err := p.named(name, port); err != nil {
		return nil, err
	}
	if name == MachineName {
		address = joined("127.0.0.1", port)
	}
	return judged(p.guard.resolver, p.permit)(ctx, name, network, address)
}

// fail answers with why a target was not reached.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, name string, err error) {
	var refused *fault.Error
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &refused) && refused.Kind == fault.Denied:
		say(w, r, http.StatusForbidden, refused.Message)
	case errors.As(err, &refused):
		say(w, r, http.StatusBadRequest, refused.Message)
	case errors.As(err, &dns) && dns.IsNotFound:
		say(w, r, http.StatusBadGateway, "The name "+name+" does not resolve")
	case errors.As(err, &timeout) && timeout.Timeout():
		say(w, r, http.StatusGatewayTimeout, name+" did not answer in time")
	default:
		say(w, r, http.StatusBadGateway, "The connection to "+name+" failed")
	}
}

// say answers in a sentence. To a CONNECT it stands in the status line as well: that
// is all of an answer that most clients show.
func say(w http.ResponseWriter, r *http.Request, status int, text string) {
	if r.Method == http.MethodConnect {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			body := text + ".\n"
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, text, len(body), body)
			return
		}
	}
	http.Error(w, text+".", status)
}

// hopByHop headers are about one connection, and end with it.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect"}

func strip(h http.Header) {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

// lastAnswer is how long it may take to tell an agent that its time is over.
const lastAnswer = 5 * time.Second

// relay passes one plain request on, and its answer back as it comes.
func (p *Proxy) relay(w http.ResponseWriter, r *http.Request) {
	name, port, err := targetOf(r.URL.Host, "80")
	if err != nil {
		p.fail(w, r, "", err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	control := http.NewResponseController(w)
	quiet := time.AfterFunc(p.idle, func() {
		cancel()
		_ = control.SetWriteDeadline(time.Now().Add(lastAnswer)) // the agent may have stopped reading
	})
	defer func() {
		quiet.Stop()
		_ = control.SetWriteDeadline(time.Time{})
	}()

	out := r.Clone(ctx)
	out.RequestURI, out.Host = "", r.URL.Host
	out.URL.User = nil
	out.URL.Host = joined(name, port)
	out.Close, out.Trailer = false, nil
	strip(out.Header)
	if _, has := out.Header["User-Agent"]; !has {
		out.Header["User-Agent"] = nil // net/http would put its own
	}
	if r.ContentLength == 0 {
		out.Body = nil
	} else {
		// Otherwise net/http closes the request's body with the first byte of the answer, and
		// the transport, which may be about to see its end, takes that for a failure.
		if err := control.EnableFullDuplex(); err != nil {
			say(w, r, http.StatusInternalServerError, "No request with a body can be passed on on this connection")
			return
		}
		defer r.Body.Close()
		out.Body = &moving{out.Body, quiet, p.idle}
	}
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		p.fail(w, r, name, err)
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusSwitchingProtocols {
		say(w, r, http.StatusBadGateway, name+" changed the protocol unasked")
		return
	}
	strip(answer.Header)
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_ = control.Flush()
	buffer := make([]byte, 16<<10)
	body := &moving{answer.Body, quiet, p.idle}
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return
			}
			_ = control.Flush()
		}
		switch {
		case err == io.EOF:
			return
		case err != nil:
			panic(http.ErrAbortHandler) // the agent must not take half of an answer for the whole
		}
	}
}

// moving puts the end of an exchange off whenever something has come.
type moving struct {
	io.ReadCloser
	end  *time.Timer
	idle time.Duration
}

func (m *moving) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	if n > 0 {
		m.end.Reset(m.idle)
	}
	return n, err
}

// isOwnHost reports whether a name is the platform's, on its port.
func (g *guard) isOwnHost(name string, port uint16) bool {
	return g.isOwnURL(&url.URL{Scheme: "http", Host: net.JoinHostPort(name, strconv.Itoa(int(port)))})
}
