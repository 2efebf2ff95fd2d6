package egress

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// CheckURL judges a URL when it is stored, so that whoever configures it hears
// at once what could never work: it must be https (or http on loopback where
// that is allowed), without userinfo and fragment, and a literal private
// address only where it is allowed. A name is not resolved here: its address is
// judged whenever it is dialled. The error is a fault.Invalid.
func (c *Client) CheckURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "" {
		return fault.New(fault.Invalid, "This is not an absolute URL with a host.") // its text may hold a password: not echoed
	}
	host := u.Hostname()
	if u.User != nil {
		return fault.New(fault.Invalid, "The URL of %s must not carry a user name or password.", u.Host)
	}
	if u.Fragment != "" || strings.HasSuffix(raw, "#") {
		return fault.New(fault.Invalid, "The URL of %s must not have a fragment.", u.Host)
	}
	port, err := portOf(u)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !c.guard.loopbackHTTP || !isLoopbackHost(host) {
			return fault.New(fault.Invalid, "The URL of %s must be https; http is for loopback addresses with --dev alone.", u.Host)
		}
	default:
		return fault.New(fault.Invalid, "The URL of %s must be https.", u.Host)
	}
	if c.guard.isOwnURL(u) {
		return fault.New(fault.Invalid, "%s leads back to this server, which is never reached from inside.", u.Host)
	}
	return c.checkLiteral(host, port)
}

// checkLiteral is permit for what is known without asking DNS.
func (c *Client) checkLiteral(host string, port uint16) error {
	var literals []netip.Addr
	if addr, err := netip.ParseAddr(host); err == nil {
		literals = append(literals, addr)
	} else if hostName(host) == "localhost" {
		literals = append(literals, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	}
	var refused error
	for _, addr := range literals {
		err := c.guard.permit(host, netip.AddrPortFrom(addr, port))
		if err == nil {
			return nil // localhost is fine if either of its addresses is
		}
		if refused == nil {
			refused = fault.New(fault.Invalid, "%s", fault.Of(err).Message)
		}
	}
	return refused
}

func portOf(u *url.URL) (uint16, error) {
	text := u.Port()
	switch {
	case text == "" && strings.HasSuffix(u.Host, ":"):
	case text != "":
		port, err := strconv.ParseUint(text, 10, 16)
		if err == nil && port > 0 {
			return uint16(port), nil
		}
	case u.Scheme == "http":
		return 80, nil
	default:
		return 443, nil
	}
	return 0, fault.New(fault.Invalid, "The port of %s is not one from 1 to 65535.", u.Hostname())
}

// isLoopbackHost reports whether a host is loopback by what it is called: plain
// http is let through on that, so it must not depend on DNS.
func isLoopbackHost(host string) bool {
	if hostName(host) == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
