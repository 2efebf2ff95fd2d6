package demoidp

import (
	"encoding/json"
	"mime"
	"net/http"
)

// register is RFC 7591, the little of it that a demo needs: a program in another
// process registers itself with its redirect URIs. JSON alone is taken, which no
// foreign page can send without asking first.
func (p *Provider) register(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	var asked struct {
		RedirectURIs []string `json:"redirect_uris"`
		Name         string   `json:"client_name"`
		AuthMethod   string   `json:"token_endpoint_auth_method"`
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/json" || p.crossSite.Check(r) != nil || json.NewDecoder(r.Body).Decode(&asked) != nil {
		badRequest("invalid_client_metadata", "The body is not JSON of a client.").write(w)
		return
	}
	c := Client{ID: "client-" + random(), Name: asked.Name, RedirectURIs: asked.RedirectURIs}
	switch asked.AuthMethod {
	case "none":
	case "":
		asked.AuthMethod = "client_secret_basic"
		fallthrough
	case "client_secret_basic", "client_secret_post":
		c.Secret = random()
	default:
		badRequest("invalid_client_metadata", "This authentication method is not supported.").write(w)
		return
	}
	if len(c.RedirectURIs) == 0 || len(c.RedirectURIs) > 20 {
		badRequest("invalid_redirect_uri", "Between 1 and 20 redirect URIs are needed.").write(w)
		return
	}
	if err := p.add(c, p.now()); err != nil {
		badRequest("invalid_redirect_uri", "A redirect URI is not absolute, or there are too many clients.").write(w)
		return
	}
	answer := map[string]any{
		"client_id": c.ID, "client_name": c.Name, "redirect_uris": c.RedirectURIs,
		"token_endpoint_auth_method": asked.AuthMethod, "client_id_issued_at": p.now().Unix(),
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
	}
	if c.Secret != "" {
		answer["client_secret"], answer["client_secret_expires_at"] = c.Secret, 0
	}
	writeJSON(w, http.StatusCreated, answer)
}
