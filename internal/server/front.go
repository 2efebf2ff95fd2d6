package server

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/runtime"
)

// front is the outermost handler: it names the request, finds out who is at the
// other end of the connection, keeps a panic from ending the process, and tells
// the doors apart by the path's beginning. Paths are compared as they came,
// before any decoding, so that no two doors disagree on what a path means.
type front struct {
	ping, wire, mcp, metadata, consent http.Handler
	query                              http.Handler // IAM and STS
	agents                             http.Handler // calls of hosted agents
	code                               http.Handler // their code, which is put
	proxies                            []netip.Prefix
	proxied                            bool   // the trusted proxies end TLS
	within                             bool   // requests come from agents' sessions
	region                             string // of this server
	log                                *slog.Logger
}

// Prefixes of the doors. What matches none is an AWS path.
const (
	pathPing      = "/ping"
	pathQuery     = "/"
	pathGateway   = "/gateway/"
	pathMetadata  = "/.well-known/oauth-protected-resource/gateway/"
	pathAuthorize = "/identities/oauth2/authorize"
	pathCallback  = "/identities/oauth2/callback/"
	pathConnect   = "/connect/"
)

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := principal.Request{ID: api.NewUUID(), Address: f.address(r), Secure: f.secure(r), Region: f.region}
	if f.within {
		request.Session, request.Secure = principal.RequestOf(r.Context()).Session, true // no network saw it
	}
	r = r.WithContext(principal.WithRequest(r.Context(), request))
	w.Header().Set("x-amzn-RequestId", request.ID)
	if f.log.Enabled(r.Context(), slog.LevelDebug) {
		started := time.Now()
		recorder := &statusRecorder{ResponseWriter: w}
		w = recorder
		defer func() {
			f.log.Debug("request", "request_id", request.ID, "method", r.Method, "path", pathOf(r), "status", recorder.status, "duration", time.Since(started), "address", request.Address)
		}()
	}
	defer func() {
		if problem := recover(); problem != nil {
			if problem == http.ErrAbortHandler {
				panic(problem)
			}
			f.log.Error("a handler panicked", "request_id", request.ID, "method", r.Method, "path", pathOf(r), "panic", problem, "stack", string(debug.Stack()))
			http.Error(w, `{"__type":"InternalServerException","message":"An internal error occurred."}`, http.StatusInternalServerError)
		}
	}()
	if f.stranger(r) {
		http.Error(w, "This listener is for the proxy in front of it. Use the platform's public URL.", http.StatusMisdirectedRequest)
		return
	}
	door := f.door(r)
	if door == nil || f.within && !loopback(hostOf(r.Host)) { // a page in an agent's browser, under a name of its own
		http.Error(w, "Agents reach the API and the gateways here, and nothing else.", http.StatusNotFound)
		return
	}
	door.ServeHTTP(w, r)
}

// stranger reports whether a request came around the proxy that ends TLS: in
// clear, from neither a trusted proxy nor this machine itself, which may look
// whether the platform is well.
func (f *front) stranger(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return f.proxied && r.TLS == nil && err == nil && !peer.Addr().Unmap().IsLoopback() && !f.trusted(peer.Addr().Unmap())
}

func (f *front) door(r *http.Request) http.Handler {
	path := r.URL.EscapedPath()
	switch {
	case path == pathPing:
		return f.ping
	case path == pathQuery && r.Method == http.MethodPost:
		return f.query
	case path == runtime.PathCode && r.Method == http.MethodPost:
		return f.code
	case runtime.Serves(path):
		return f.agents
	case strings.HasPrefix(path, pathGateway):
		return f.mcp
	case strings.HasPrefix(path, pathMetadata):
		return f.metadata
	case path == pathAuthorize, strings.HasPrefix(path, pathCallback), strings.HasPrefix(path, pathConnect):
		return f.consent
	default:
		return f.wire
	}
}

// address is the client's. X-Forwarded-For is believed from the right, and only
// as long as the hop that wrote it is a trusted proxy.
func (f *front) address(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap()
	if len(f.proxies) == 0 || !f.trusted(address) {
		return address
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		if host, _, err := net.SplitHostPort(hop); err == nil {
			hop = host
		}
		next, err := netip.ParseAddr(hop)
		if err != nil {
			break
		}
		address = next.Unmap()
		if !f.trusted(address) {
			break
		}
	}
	return address
}

// secure reports whether the request came through TLS: ended here, or by a
// trusted proxy in front of an https public URL.
func (f *front) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && f.proxied && f.trusted(peer.Addr().Unmap())
}

func (f *front) trusted(address netip.Addr) bool {
	for _, prefix := range f.proxies {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// pathOf is a path fit for logs: callback ids and ARNs are no secrets, queries may be.
func pathOf(r *http.Request) string { return r.URL.EscapedPath() }

// statusRecorder remembers the status for the debug log and passes flushes on.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (s *statusRecorder) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusRecorder) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }
