package gateway

import (
	"net/http"

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
	e.challenge = e.authorizer.Challenge(s.options.PublicURL + metadataPrefix + mcpPrefix + e.id + mcpSuffix)
	out := appendText([]byte(`{"resource":`), s.url(e.id))
	out = appendTexts(append(out, `,"authorization_servers":`...), []string{e.authorizer.Issuer()})
	if scopes := e.authorizer.Advertised(); len(scopes) > 0 {
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
			auth.WriteMetadata(w, nil)
			return
		case !s.hostAllowed(r):
			http.Error(w, "Forbidden: this server does not answer for the host of the request.", http.StatusForbidden)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		e, err := s.shelf.Find(r.Context(), id)
		switch {
		case fault.Is(err, fault.NotFound):
			auth.WriteMetadata(w, nil)
		case err != nil:
			s.logged(r, err)
			http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
		default:
			auth.WriteMetadata(w, e.metadata)
		}
	})
}
