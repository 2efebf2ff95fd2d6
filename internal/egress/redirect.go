package egress

import (
	"net/http"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const maxRedirects = 3

// neverRedirect hands the 3xx answer to the caller.
func neverRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// checkRedirect is the policy for requests without a body. The new address is
// judged by the dialer as any other; here is what only the chain knows.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first, last := via[0], via[len(via)-1]
	if first.Method != http.MethodGet && first.Method != http.MethodHead || hasBody(first) ||
		first.Header.Get("Authorization") != "" || first.Header.Get("Cookie") != "" {
		return http.ErrUseLastResponse
	}
	if len(via) > maxRedirects {
		return fault.New(fault.Upstream, "%s redirects more than %d times.", first.URL.Host, maxRedirects)
	}
	if last.URL.Scheme == "https" && next.URL.Scheme != "https" {
		return fault.New(fault.Upstream, "%s redirects from https to %s, which is not followed.", last.URL.Host, next.URL.Scheme)
	}
	next.Header.Del("Referer") // net/http puts the previous URL there, query and all
	if next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host {
		// An API key may sit in any header: another origin gets what says nothing.
		for name := range next.Header {
			if name != "Accept" && name != "User-Agent" {
				next.Header.Del(name)
			}
		}
	}
	return nil
}
