// Package egress holds the only HTTP client for outside hosts.
package egress

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Options configures a Client; the zero Options refuses every private address.
type Options struct {
	Allow        []string      // HOST-OR-CIDR:PORT that may be reached although private; PORT may be *
	LoopbackHTTP bool          // http provider URLs on loopback that Allow names pass CheckURL
	Timeout      time.Duration // of a whole exchange through Do and HTTP; 0 is 15 s
}

// Client is the guarded way out.
type Client struct{}

// New reads the options; a malformed Allow entry is a fault.Invalid.
func New(o Options) (*Client, error) { return &Client{}, nil }

// Forbid refuses an address of the platform itself, always.
func (c *Client) Forbid(addr netip.AddrPort) {}

// CheckURL judges a URL when it is stored, before anything is dialled.
func (c *Client) CheckURL(raw string) error { return nil }

// Do sends one request.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	return nil, fault.New(fault.NotBuilt, "not built")
}

// HTTP is the guard as an *http.Client, for libraries.
func (c *Client) HTTP() *http.Client { return &http.Client{} }

// Relay is the client for gateway targets.
func (c *Client) Relay() *http.Client { return &http.Client{} }

// ReadAll reads a body up to limit bytes and closes it.
func ReadAll(r *http.Response, limit int64) ([]byte, error) {
	return nil, fault.New(fault.NotBuilt, "not built")
}
