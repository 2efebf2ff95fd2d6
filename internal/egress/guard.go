package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// guard decides which addresses may be connected to.
type guard struct {
	rules        []rule
	loopbackHTTP bool
	resolver     *net.Resolver // nil is the system's; tests bring a DNS server

	mu  sync.RWMutex
	own []netip.AddrPort // the platform's own listeners
	url *url.URL         // under which the platform is reached, perhaps through a proxy; nil is unknown
}

func (g *guard) forbid(addr netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own = append(g.own, netip.AddrPortFrom(canonical(addr.Addr()), addr.Port()))
}

// isOwnURL reports whether a URL is one of the platform's own, by host and port.
func (g *guard) isOwnURL(u *url.URL) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.url == nil || hostName(u.Hostname()) != hostName(g.url.Hostname()) {
		return false
	}
	own, ownErr := portOf(g.url)
	asked, err := portOf(u)
	return err != nil || ownErr != nil || own == asked
}

// permit judges the resolved address of a host that was asked for by name.
func (g *guard) permit(name string, dialled netip.AddrPort) error {
	addr, port := canonical(dialled.Addr()), dialled.Port()
	if g.isOwn(addr, port) {
		return fault.New(fault.Upstream, "%s leads back to this server, which is never reached from inside.", name)
	}
	class := reachOf(addr)
	if class == public || g.allowsAddress(dialled.Addr(), port) {
		return nil
	}
	if class == private && g.allowsName(name, port) {
		return nil
	}
	return refusal(name, port, class)
}

func refusal(name string, port uint16, class reach) error {
	if class == special {
		return fault.New(fault.Upstream, "The address of %s is reserved (link-local, metadata, multicast or the like) and not allowed; an operator can allow it by its address alone, with --egress-allow ADDRESS:%d", name, port)
	}
	if addr, err := netip.ParseAddr(name); err == nil && addr.Is6() {
		name = "[" + name + "]"
	}
	return fault.New(fault.Upstream, "The address of %s is private and not allowed; an operator can allow it with --egress-allow %s:%d", name, name, port)
}

func (g *guard) allowsName(name string, port uint16) bool {
	return slices.ContainsFunc(g.rules, func(r rule) bool { return r.names(name, port) })
}

func (g *guard) allowsAddress(addr netip.Addr, port uint16) bool {
	plain, end := addr.Unmap().WithZone(""), canonical(addr)
	return slices.ContainsFunc(g.rules, func(r rule) bool { return r.covers(plain, port) || r.covers(end, port) })
}

// isOwn reports whether a listener of the platform answers at the address. A
// listener on 0.0.0.0 or :: answers on all addresses of the machine; and
// connecting to 0.0.0.0 or :: reaches the machine itself.
func (g *guard) isOwn(addr netip.Addr, port uint16) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, own := range g.own {
		if own.Port() != port {
			continue
		}
		if own.Addr() == addr || addr.IsUnspecified() || own.Addr().IsUnspecified() && isLocal(addr) {
			return true
		}
	}
	return false
}

// isLocal reports whether the address belongs to this machine. It asks the
// system each time, since addresses come and go; it is asked only for the
// listeners' own ports, and before a dial, which costs far more.
func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return true // not knowing, refuse
	}
	return slices.ContainsFunc(local, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && canonical(prefix.Addr()) == addr
	})
}

type nameKey struct{}

// dialer resolves and connects, asking permit about each address in between.
func (g *guard) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	dial := judged(g.resolver, g.permit)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		name, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fault.New(fault.Upstream, "The host cannot be read.")
		}
		return dial(ctx, name, network, address)
	}
}

// judged connects on behalf of whoever asked for name. permit hears each address
// after its resolution and right before a socket connects to it.
func judged(resolver *net.Resolver, permit func(name string, dialled netip.AddrPort) error) func(ctx context.Context, name, network, address string) (net.Conn, error) {
	d := &net.Dialer{
		Timeout:   5 * time.Second,
		KeepAlive: 30 * time.Second,
		Resolver:  resolver,
		ControlContext: func(ctx context.Context, network, address string, _ syscall.RawConn) error {
			dialled, err := netip.ParseAddrPort(address)
			if err != nil || (network != "tcp4" && network != "tcp6") {
				return fault.New(fault.Upstream, "Only TCP addresses can be reached.")
			}
			name, _ := ctx.Value(nameKey{}).(string)
			return permit(name, dialled)
		},
	}
	return func(ctx context.Context, name, network, address string) (net.Conn, error) {
		return d.DialContext(context.WithValue(ctx, nameKey{}, name), network, address)
	}
}

func newTransport(g *guard, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // a proxy would resolve and connect in our place, unguarded
		DialContext:            g.dialer(),
		ForceAttemptHTTP2:      true,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(256)},
		TLSHandshakeTimeout:    5 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// guarded is the RoundTripper of every client that this package hands out. Its
// errors are safe. Its timeout is a deadline of the request's context, and not
// http.Client's, so that whether it has passed can be told from the context.
type guarded struct {
	guard     *guard
	transport *http.Transport
	timeout   time.Duration // until the body is read; 0 is none
}

func (t *guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.guard.judge(req.URL); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	cancel := func() {}
	if t.timeout > 0 {
		ctx, stop := context.WithTimeout(req.Context(), t.timeout)
		req, cancel = req.WithContext(ctx), stop
	}
	resp, err := t.transport.RoundTrip(req)
	if err == nil && req.Context().Err() != nil {
		// A server may notice that we are leaving and end its answer early;
		// net/http takes it for the answer if it arrives while the connection closes.
		_ = resp.Body.Close()
		err = req.Context().Err()
	}
	if err != nil {
		cancel()
		return nil, explain(err, req.URL.Host)
	}
	if t.timeout > 0 {
		resp.Body = &timedBody{resp.Body, cancel}
	}
	// http.Client would quote a Location that it cannot parse in its error.
	if location := resp.Header.Get("Location"); location != "" {
		if _, err := url.Parse(location); err != nil {
			resp.Header.Del("Location")
		}
	}
	return resp, nil
}

// timedBody frees the timeout's timer when the body is closed.
type timedBody struct {
	io.ReadCloser
	cancel func()
}

func (b *timedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// CloseIdleConnections is what http.Client looks for.
func (t *guarded) CloseIdleConnections() { t.transport.CloseIdleConnections() }

// judge looks at a URL of a request under way: one that was stored under other
// options, discovered, or redirected to.
func (g *guard) judge(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return fault.New(fault.Upstream, "The URL is not an https URL with a host.")
	case u.User != nil:
		return fault.New(fault.Upstream, "A URL of %s carries a user name or password, which is not allowed.", u.Host)
	case u.Scheme == "http" && !(g.loopbackHTTP && isLoopbackHost(u.Hostname())):
		return fault.New(fault.Upstream, "%s is to be reached by http, and only https is allowed.", u.Host)
	case g.isOwnURL(u):
		return fault.New(fault.Upstream, "%s leads back to this server, which is never reached from inside.", u.Host)
	}
	return nil
}
