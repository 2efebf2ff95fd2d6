package demoidp

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func bearerOf(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// userInfo is OpenID Connect's. Any access token with the scope openid opens it.
func (p *Provider) userInfo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	raw := bearerOf(r)
	if raw == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="userinfo"`)
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_request", "error_description": "A bearer token is needed."})
		return
	}
	claims, err := p.openAccess(raw)
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="userinfo", error="invalid_token"`)
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token", "error_description": "The token is not valid, or no longer."})
		return
	}
	person, known := p.person(claims.Subject)
	if !known || !claims.allows("openid") {
		w.Header().Set("WWW-Authenticate", `Bearer realm="userinfo", error="insufficient_scope", scope="openid"`)
		writeJSON(w, http.StatusForbidden, map[string]string{"error": "insufficient_scope", "error_description": "The scope openid is needed."})
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Subject string `json:"sub"`
		profile
	}{person.ID, profileOf(person, strings.Fields(claims.Scope))})
}

// peopleAPI is GET /v1/people/me in the shape of Google's People API, errors included.
func (p *Provider) peopleAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "private")
	p.mu.Lock()
	p.levers.peopleCalls++
	fail, retryAfter := p.levers.failPeople, p.levers.retryAfter
	p.mu.Unlock()
	if fail != 0 {
		if retryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int((retryAfter+time.Second-1)/time.Second)))
		}
		googleError(w, fail, "RATE_LIMIT_EXCEEDED", "Quota exceeded for quota metric 'People API requests' of the demo provider.")
		return
	}
	raw := bearerOf(r)
	if raw == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+p.issuer+`/"`)
		googleError(w, http.StatusUnauthorized, "CREDENTIALS_MISSING", "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid authentication credential.")
		return
	}
	claims, err := p.openAccess(raw)
	if err != nil || !slices.Contains(claims.Audience, p.issuer) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+p.issuer+`/", error="invalid_token"`)
		googleError(w, http.StatusUnauthorized, "ACCESS_TOKEN_INVALID", "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.")
		return
	}
	person, known := p.person(claims.Subject)
	if !known || !claims.allows("profile") {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+p.issuer+`/", error="insufficient_scope", scope="profile"`)
		googleError(w, http.StatusForbidden, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Request had insufficient authentication scopes.")
		return
	}
	fields := strings.FieldsFunc(r.URL.Query().Get("personFields"), func(c rune) bool { return c == ',' })
	if len(fields) == 0 {
		googleError(w, http.StatusBadRequest, "", "personFields mask is required. Please specify one or more valid paths.")
		return
	}
	answer := map[string]any{"resourceName": "people/" + person.ID, "etag": etagOf(person)}
	for _, field := range fields {
		switch strings.TrimSpace(field) {
		case "names":
			answer["names"] = []any{map[string]any{
				"metadata":             fromProfile(person),
				"displayName":          person.Name(),
				"familyName":           person.FamilyName,
				"givenName":            person.GivenName,
				"displayNameLastFirst": person.FamilyName + ", " + person.GivenName,
				"unstructuredName":     person.Name(),
			}}
		case "emailAddresses":
			if claims.allows("email") { // Google leaves out what the scopes do not open
				answer["emailAddresses"] = []any{map[string]any{"metadata": fromProfile(person), "value": person.Email}}
			}
		default:
			googleError(w, http.StatusBadRequest, "", "Invalid personFields mask path: "+strconv.Quote(field)+".")
			return
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

func fromProfile(person Person) map[string]any {
	return map[string]any{
		"primary": true, "sourcePrimary": true,
		"source": map[string]string{"type": "PROFILE", "id": person.ID},
	}
}

func etagOf(person Person) string {
	hash := sha256.Sum256([]byte(person.ID + "\x00" + person.Name() + "\x00" + person.Email))
	return "%" + base64.StdEncoding.EncodeToString(hash[:12])
}

// googleError is google.rpc.Status as Google's JSON APIs write it.
func googleError(w http.ResponseWriter, status int, reason, message string) {
	names := map[int]string{
		http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusUnauthorized: "UNAUTHENTICATED", http.StatusForbidden: "PERMISSION_DENIED",
		http.StatusTooManyRequests: "RESOURCE_EXHAUSTED", http.StatusServiceUnavailable: "UNAVAILABLE",
	}
	name := names[status]
	if name == "" {
		name = "INTERNAL"
	}
	body := map[string]any{"code": status, "message": message, "status": name}
	if reason != "" {
		body["details"] = []any{map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}}
	}
	writeJSON(w, status, map[string]any{"error": body})
}
