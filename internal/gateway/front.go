package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

const (
	mcpPrefix      = "/gateway/"
	mcpSuffix      = "/mcp"
	metadataPrefix = "/.well-known/oauth-protected-resource"
)

// pathID is the gateway id in a path, as it came, undecoded: an id needs no
// escapes, so a path that has some is none of ours.
func pathID(r *http.Request, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix+mcpPrefix)
	if !ok {
		return "", false
	}
	id, ok := strings.CutSuffix(strings.TrimSuffix(rest, "/"), mcpSuffix)
	if !ok || id == "" || len(id) > 128 {
		return "", false
	}
	for i := range len(id) {
		if c := id[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return "", false
		}
	}
	return id, true
}

// hostAllowed keeps DNS rebinding out: a page that has its own name resolve to
// this machine sends that name as Host. The public URL's host is ours, and, on a
// connection that came in over loopback, the loopback names are.
func (s *Service) hostAllowed(r *http.Request) bool {
	if sameAuthority(r.Host, s.public) {
		return true
	}
	return overLoopback(r) && loopbackName(r.Host)
}

// originAllowed refuses other sites' pages. Programs send no Origin.
func (s *Service) originAllowed(r *http.Request) bool {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	origin, err := url.Parse(origins[0])
	if err != nil || origin.Host == "" || origin.Path != "" || origin.RawQuery != "" {
		return false
	}
	if origin.Scheme == s.public.Scheme && sameAuthority(origin.Host, s.public) {
		return true
	}
	return overLoopback(r) && loopbackName(origin.Host)
}

// sameAuthority compares host and port, the scheme's default port included.
func sameAuthority(authority string, public *url.URL) bool {
	if public.Host == "" || authority == "" {
		return false
	}
	return strings.EqualFold(withPort(authority, public.Scheme), withPort(public.Host, public.Scheme))
}

func withPort(authority, scheme string) string {
	if _, _, err := net.SplitHostPort(authority); err == nil {
		return authority
	}
	if scheme == "https" {
		return authority + ":443"
	}
	return authority + ":80"
}

// overLoopback reports whether the connection came in on a loopback address.
func overLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	address, err := netip.ParseAddrPort(local.String())
	return err == nil && address.Addr().Unmap().IsLoopback()
}

func loopbackName(authority string) bool {
	host := authority
	if h, _, err := net.SplitHostPort(authority); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && address.IsLoopback()
}

// acceptsJSON is lenient: every revision asks for both application/json and
// text/event-stream, and clients forget either. Only a client that clearly
// cannot take JSON is told so.
func acceptsJSON(header http.Header) bool {
	values := header["Accept"]
	if len(values) == 0 {
		return true
	}
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			media, _, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "application/json", "application/*", "*/*", "":
				return true
			}
		}
	}
	return false
}

// sendsJSON wants the body declared as JSON: a form, which a foreign page could
// post without asking, is not.
func sendsJSON(header http.Header) bool {
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/json")
}
