package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// routes is all that the callback server answers.
func (s *OAuth2CallbackServer) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathPing, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"ok"}`))
	})
	mux.HandleFunc("POST "+pathIdentifier, s.storeIdentifier)
	mux.HandleFunc("GET "+pathCallback, s.callback)
	mux.HandleFunc("GET "+pathSignIn, s.signInStep)
	return s.guard(mux)
}

// guard refuses what has no business here before any handler sees it.
func (s *OAuth2CallbackServer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		header := w.Header()
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Cache-Control", "no-store")
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		switch {
		case err != nil || !s.allowed(peer.Addr().Unmap()):
			http.Error(w, "this address may not use the callback server", http.StatusForbidden)
		case !s.ownHost(r.Host):
			http.Error(w, "this is not the host you are looking for", http.StatusMisdirectedRequest)
		case !s.limiter.Allow():
			header.Set("Retry-After", "1")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
		case r.Method == http.MethodHead: // the mux takes it for a GET, and a look must not complete anything
			header.Set("Allow", http.MethodGet)
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxCallbackBody)
			next.ServeHTTP(w, r)
		}
		// The path alone: sessions, states and codes are in the query.
		s.options.Log.Debug("callback server", "method", r.Method, "path", r.URL.Path, "duration", time.Since(started).Round(time.Millisecond))
	})
}

func (s *OAuth2CallbackServer) allowed(address netip.Addr) bool {
	for _, prefix := range s.options.Allow {
		if prefix.Contains(address) {
			return true
		}
	}
	return len(s.options.Allow) == 0
}

// ownHost keeps pages of other origins from reaching a server on loopback by a
// name of theirs (DNS rebinding): a name of this machine is nobody else's. A
// notebook's proxy calls us localhost on whichever port it likes.
func (s *OAuth2CallbackServer) ownHost(host string) bool {
	if strings.EqualFold(host, s.base.Host) {
		return true
	}
	name, port, err := net.SplitHostPort(host)
	return err == nil && isLoopbackHost(strings.ToLower(name)) && (port == fmt.Sprint(s.port) || s.behindStudio())
}

func (s *OAuth2CallbackServer) behindStudio() bool { return strings.Contains(s.base.Path, "/proxy/") }
