// Package egress holds the only HTTP client for outside hosts: providers'
// endpoints, key sets, gateway targets, whatever a tenant may name.
//
//	request ──▶ URL judged ──▶ name resolved ──▶ address judged ──▶ connected
//	              https            (net)         own listener? never
//	              no userinfo                    public? yes
//	                                             else only what --egress-allow names
//
// The address is judged inside the dialer, after resolution and on the very
// address the socket is about to connect to, so a name that resolves
// differently the second time (DNS rebinding) gains nothing. Each redirect
// passes the same way again.
//
// The operator's own key and secret servers, whose addresses no tenant can say,
// are reached by a client of their own (operator.go), and what agents reach from
// their sessions is the Proxy's to say (proxy.go).
//
// Invariant: no socket of a Client is connected to an address that permit
// (guard.go) has not let through, and no error of Do carries a URL's path, query
// or userinfo.
package egress

import (
	"crypto/x509"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Options configures a Client. The zero Options reaches public addresses over
// https and nothing else.
type Options struct {
	// Allow lists HOST-OR-CIDR:PORT entries that may be reached although they are
	// not public. PORT may be *. A host matches the name that was asked for, a
	// CIDR or address the address that was resolved; IPv6 is written
	// [fd00::1]:443 or fd00::/8:443.
	Allow []string

	// LoopbackHTTP lets plain http through to loopback hosts that Allow names. It is what --dev turns on.
	LoopbackHTTP bool

	// Timeout bounds each exchange of Do and HTTP, from the name's resolution to the
	// body's end; a redirect begins another. 0 is 15 seconds.
	Timeout time.Duration

	// Roots are the certificate authorities to trust; nil is the system's.
	Roots *x509.CertPool
}

// Client is the guarded way out. It is safe for concurrent use.
type Client struct {
	guard  *guard
	pooled *http.Client // requests without a body, and libraries: connections are kept
	single *http.Client // requests with a body: each on a connection of its own
	relay  *http.Client
}

// New reads the options. A malformed Allow entry is a fault.Invalid that says how to write it.
func New(o Options) (*Client, error) {
	rules, err := parseRules(o.Allow)
	if err != nil {
		return nil, err
	}
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = 15 * time.Second
	}
	g := &guard{rules: rules, loopbackHTTP: o.LoopbackHTTP}

	pooled := newTransport(g, o.Roots)
	pooled.MaxIdleConns = 128
	pooled.MaxIdleConnsPerHost = 8
	pooled.IdleConnTimeout = 60 * time.Second

	// What has a body is a token request, a revocation, a registration: it must
	// arrive once. On a kept connection that the server is just closing, it
	// would be lost, or sent again by net/http; a fresh connection has neither.
	single := newTransport(g, o.Roots)
	single.DisableKeepAlives = true

	relay := newTransport(g, o.Roots)
	relay.MaxIdleConns = 0 // no bound but the one per host
	relay.MaxIdleConnsPerHost = 512
	relay.IdleConnTimeout = 90 * time.Second
	relay.DisableCompression = true // a relay passes bodies on as they are

	return &Client{
		guard:  g,
		pooled: &http.Client{Transport: &guarded{g, pooled, timeout}, CheckRedirect: checkRedirect},
		single: &http.Client{Transport: &guarded{g, single, timeout}, CheckRedirect: neverRedirect},
		relay:  &http.Client{Transport: &guarded{g, relay, 0}, CheckRedirect: neverRedirect},
	}, nil
}

// Forbid refuses an address of the platform's own listeners from now on, also
// where Allow matches it: nobody reaches the API through a provider or a
// target. A listener on an unspecified address is forbidden on every address
// of this machine.
func (c *Client) Forbid(addr netip.AddrPort) {
	c.guard.forbid(addr)
	c.Close() // a connection made before this call must not outlive it
}

// ForbidURL is Forbid for the URL under which the platform is reached: behind a
// proxy its host has other addresses than the listener.
func (c *Client) ForbidURL(public *url.URL) {
	c.guard.mu.Lock()
	c.guard.url = public
	c.guard.mu.Unlock()
	c.Close()
}

// Do sends one request. A request with a body goes over a connection of its own,
// is never sent twice and never redirected; so is, on the last count, one with an
// Authorization or Cookie header: the 3xx answer is returned as it is. Other GETs
// and HEADs follow at most three redirects, never from https to http, and take
// their headers along within one origin only.
//
// Errors are fault.Upstream (refused, misbehaving) or fault.Unavailable (a
// timeout, a lost connection); neither names more of the URL than its host.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	client := c.pooled
	if hasBody(req) {
		client = c.single
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, Safe(err)
	}
	return resp, nil
}

// HTTP is the same guard as an *http.Client for libraries that want one. Errors
// of an *http.Client quote the whole URL: pass them through Safe before they
// are logged or shown.
func (c *Client) HTTP() *http.Client { return c.pooled }

// Relay is the client for gateway targets: guarded, never redirected, bodies as
// they come (no transparent decompression), many kept connections, and no
// timeout but the request's context. Errors of its Do need Safe, as those of
// HTTP; those of Relay().Transport are safe as they are.
func (c *Client) Relay() *http.Client { return c.relay }

// Close closes the connections that are kept and idle. The Client stays usable.
func (c *Client) Close() {
	for _, client := range []*http.Client{c.pooled, c.single, c.relay} {
		client.CloseIdleConnections()
	}
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }
