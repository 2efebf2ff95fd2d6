package runtime

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// describeAuthorization makes what a client without a token is told: where the
// metadata is (RFC 9728), and there, whose tokens count and which scopes to ask for.
func (s *Service) describeAuthorization(at *served) {
	if at.authorizer == nil {
		return
	}
	base, query := s.options.PublicURL+invocationsPath(at.arn), "?qualifier="+url.QueryEscape(at.endpoint)
	at.challenge = at.authorizer.Challenge(base + strings.TrimPrefix(pathMetadata, pathInvocations) + query)
	out := api.AppendString([]byte(`{"authorization_servers":[`), at.authorizer.Issuer())
	out = api.AppendString(append(out, `],"resource":`...), base+query)
	if scopes := at.authorizer.Advertised(); len(scopes) > 0 {
		out = append(out, `,"scopes_supported":[`...)
		for i, scope := range scopes {
			if i > 0 {
				out = append(out, ',')
			}
			out = api.AppendString(out, scope)
		}
		out = append(out, ']')
	}
	at.metadata = append(out, `,"bearer_methods_supported":["header"]}`...)
}

// serveMetadata answers the protected-resource metadata of an endpoint. It is
// public: who has no token yet must be able to read it. Runtimes that are not
// there and those for signed requests look the same.
func (s *Service) serveMetadata(w http.ResponseWriter, r *http.Request, named reference) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions {
		notAllowed(w, "GET, HEAD")
		return
	}
	at, err := s.shelf.Find(r.Context(), named)
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		s.options.Refuse(w, r, api.InvokeAgentRuntime.Info, err)
		return
	case err != nil || at.metadata == nil:
		auth.WriteMetadata(w, nil)
		return
	}
	shareWithPages(w.Header())
	if r.Method == http.MethodOptions {
		preflight(w, "GET, HEAD, OPTIONS")
		return
	}
	auth.WriteMetadata(w, at.metadata)
}

// Pages of any site may call runtimes that take bearer tokens, as at AWS: a
// token is in the page's own hands, no browser adds it by itself, and there are no
// cookies here. Runtimes for signed requests say nothing of the kind: a page has no keys.
func shareWithPages(header http.Header) {
	header["Access-Control-Allow-Origin"] = everyOrigin
	header["Access-Control-Expose-Headers"] = exposed
}

var (
	everyOrigin = []string{"*"}
	exposed     = []string{"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id, Mcp-Session-Id, Mcp-Protocol-Version, traceparent, tracestate, X-Amzn-Trace-Id, x-amzn-ErrorType, x-amzn-RequestId, WWW-Authenticate"}
)

// preflight answers a browser that asks whether it may.
func preflight(w http.ResponseWriter, methods string) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", methods)
	// Authorization is named because "*" does not cover it.
	header.Set("Access-Control-Allow-Headers", "Authorization, *")
	header.Set("Access-Control-Max-Age", "172800")
	w.WriteHeader(http.StatusOK)
}

// notAllowed answers a method that a path does not have.
func notAllowed(w http.ResponseWriter, allow string) {
	header := w.Header()
	header.Set("Allow", allow)
	header.Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusMethodNotAllowed)
	_, _ = io.WriteString(w, `{"message":"Method Not Allowed"}`)
}
