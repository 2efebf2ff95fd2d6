package auth

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Issuer is whose tokens the authorizer takes: its discovery URL without what
// RFC 8414 and OpenID Connect put behind an issuer.
func (z Authorizer) Issuer() string {
	issuer, _, _ := strings.Cut(z.DiscoveryURL, "/.well-known/")
	return issuer
}

// Challenge is what somebody without a token is told: where the metadata of the
// protected resource is (RFC 9728) and which scopes to ask for. It is the
// parameters of WWW-Authenticate that are the same for every refusal.
func (z Authorizer) Challenge(metadataURL string) string {
	challenge := `resource_metadata="` + metadataURL + `"`
	if scopes := z.Advertised(); len(scopes) > 0 {
		challenge += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	return challenge
}

// SetChallenge adds WWW-Authenticate (RFC 6750) to the refusal err where a
// token, or another one, would help. presented says that the request had one. The
// empty challenge is that of a resource that takes no tokens, and adds nothing.
func SetChallenge(header http.Header, challenge string, err error, presented bool) {
	switch {
	case challenge == "":
	case errors.Is(err, ErrInsufficientScope):
		header.Set("Www-Authenticate", `Bearer error="insufficient_scope", `+challenge)
	case fault.Is(err, fault.Unauthenticated) && presented:
		header.Set("Www-Authenticate", `Bearer error="invalid_token", `+challenge)
	case fault.Is(err, fault.Unauthenticated):
		header.Set("Www-Authenticate", "Bearer "+challenge)
	}
}

// WriteMetadata answers with the metadata of a protected resource. Without any it
// answers for resources that are not there and for those that take no tokens
// alike, in the words that clients parse.
func WriteMetadata(w http.ResponseWriter, metadata []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	if metadata == nil {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"not_found","error_description":"There is no protected resource of this name."}`)
		return
	}
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(metadata)
}
