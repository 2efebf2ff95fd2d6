package servertest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// mint is an OAuth provider that asks nobody anything: who comes with a browser
// says in a header who they are, and that is written on every token.
type mint struct {
	url, host string
	serial    serial

	mu      sync.Mutex
	secrets map[string]bool   // client.secret; the old ones stay good, as while one is changed
	codes   map[string]string // code -> client.person
	refresh map[string]string // refresh token -> client.person; each good once
	brief   bool              // the next tokens live for some milliseconds
}

const personHeader = "X-Person"

func startMint(t testing.TB) *mint {
	t.Helper()
	m := &mint{secrets: map[string]bool{}, codes: map[string]string{}, refresh: map[string]string{}}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.url, m.host = server.URL, strings.TrimPrefix(server.URL, "http://")
	return m
}

func (m *mint) client(id, secret string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets[id+"."+secret] = true
}

func (m *mint) live(brief bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.brief = brief
}

func (m *mint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r.URL.Path {
	case "/authorize":
		query := r.URL.Query()
		code := fmt.Sprintf("code-%d", m.serial.next())
		m.codes[code] = query.Get("client_id") + "." + r.Header.Get(personHeader)
		http.Redirect(w, r, query.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {query.Get("state")}}.Encode(), http.StatusFound)
	case "/token":
		m.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (m *mint) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	whose, kind := "", "user"
	switch r.FormValue("grant_type") {
	case "authorization_code":
		whose = m.codes[r.FormValue("code")]
		delete(m.codes, r.FormValue("code"))
	case "refresh_token":
		whose = m.refresh[r.FormValue("refresh_token")]
		delete(m.refresh, r.FormValue("refresh_token"))
	case "client_credentials":
		whose, kind = id+"."+r.FormValue("scope"), "machine"
	}
	w.Header().Set("Content-Type", "application/json")
	if !m.secrets[id+"."+secret] {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":"invalid_client"}`))
		return
	}
	if client, _, _ := strings.Cut(whose, "."); client != id {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		return
	}
	answer := map[string]any{"access_token": fmt.Sprintf("%s.%s.%d", kind, whose, m.serial.next()), "token_type": "Bearer", "expires_in": 3600}
	if m.brief {
		answer["expires_in"] = 0.01
	}
	if kind == "user" {
		refresh := fmt.Sprintf("refresh-%d", m.serial.next())
		m.refresh[refresh] = whose
		answer["refresh_token"] = refresh
	}
	_ = json.NewEncoder(w).Encode(answer)
}
