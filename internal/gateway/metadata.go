package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// describeAuthorization makes what a client without a token is told: where the
// metadata is (RFC 9728), and there, whose tokens count and which scopes to ask
// for. The resource is the MCP URL itself.
func (s *Service) describeAuthorization(e *endpoint) {
	if e.authorizer == nil {
		return
	}
	scopes := e.authorizer.Advertised()
	e.challenge = `resource_metadata="` + s.options.PublicURL + metadataPrefix + mcpPrefix + e.id + mcpSuffix + `"`
	if len(scopes) > 0 {
		e.challenge += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	issuer := e.authorizer.DiscoveryURL
	if i := strings.Index(issuer, "/.well-known/"); i >= 0 {
		issuer = issuer[:i]
	}
	out := appendText([]byte(`{"resource":`), s.url(e.id))
	out = appendTexts(append(out, `,"authorization_servers":`...), []string{issuer})
	if len(scopes) > 0 {
		out = appendTexts(append(out, `,"scopes_supported":`...), scopes)
	}
	out = append(out, `,"bearer_methods_supported":["header"],"resource_name":`...)
	e.metadata = append(appendText(out, e.name), '}')
}

// Metadata serves the protected-resource metadata of gateways (RFC 9728) at
// /.well-known/oauth-protected-resource/gateway/{gatewayId}/mcp.
func (s *Service) Metadata() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := pathID(r, metadataPrefix)
		switch {
		case !ok:
			noMetadata(w)
			return
		case !s.hostAllowed(r):
			http.Error(w, "Forbidden: this server does not answer for the host of the request.", http.StatusForbidden)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		e, err := s.shelf.find(r.Context(), id)
		if err != nil || e.metadata == nil {
			if err != nil && !fault.Is(err, fault.NotFound) {
				s.logged(r, err)
				http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
				return
			}
			noMetadata(w)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "application/json")
		header.Set("Cache-Control", "no-cache")
		header.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(e.metadata)
	})
}

// challenged adds WWW-Authenticate to a refusal.
func (e *endpoint) challenged(header http.Header, err error, presented bool) {
	if e.authorizer == nil {
		return
	}
	switch {
	case errors.Is(err, auth.ErrInsufficientScope):
		header.Set("Www-Authenticate", `Bearer error="insufficient_scope", `+e.challenge)
	case fault.Is(err, fault.Unauthenticated) && presented:
		header.Set("Www-Authenticate", `Bearer error="invalid_token", `+e.challenge)
	case fault.Is(err, fault.Unauthenticated):
		header.Set("Www-Authenticate", "Bearer "+e.challenge)
	}
}

// noMetadata answers for gateways that are not there and for those without inbound
// authorization alike, in the words that clients parse.
func noMetadata(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, `{"error":"not_found","error_description":"There is no protected resource of this name."}`)
}
