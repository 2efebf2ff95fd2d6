package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
)

// exchanger stands before a demo provider, which has no token exchange, and adds
// one (RFC 8693) at /exchange: whoever presents a person's JWT is given an access
// token on which is written on whose behalf.
type exchanger struct {
	next  http.Handler
	count atomic.Int64
}

const exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"

func (e *exchanger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/exchange" {
		e.next.ServeHTTP(w, r)
		return
	}
	var claims struct{ Sub string }
	parts := strings.Split(r.FormValue("subject_token"), ".")
	if len(parts) == 3 {
		if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			_ = json.Unmarshal(payload, &claims)
		}
	}
	client, secret, _ := r.BasicAuth()
	switch {
	case client != "trader" || secret != "secret-of-the-trader":
		respond(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
	case r.FormValue("grant_type") != exchangeGrant || claims.Sub == "" || r.FormValue("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt":
		respond(w, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
	default:
		respond(w, http.StatusOK, map[string]any{
			"access_token": fmt.Sprintf("on-behalf-of-%s-%d", claims.Sub, e.count.Add(1)), "token_type": "Bearer", "expires_in": 3600, "scope": r.FormValue("scope"),
			"issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
		})
	}
}
