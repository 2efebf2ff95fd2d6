package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// identifierBody is what POST /userIdentifier/token takes.
type identifierBody struct {
	Identifier string `json:"userTokenIdentifier"`
}

// storeIdentifier is POST /userIdentifier/token {"userTokenIdentifier": "…"}:
// whose consent is waited for. Only this program may say so.
func (s *OAuth2CallbackServer) storeIdentifier(w http.ResponseWriter, r *http.Request) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	given, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	media, _, mediaErr := mime.ParseMediaType(r.Header.Get("Content-Type"))
	origin := r.Header.Get("Origin")
	switch {
	case r.TLS == nil && (err != nil || !peer.Addr().Unmap().IsLoopback()):
		http.Error(w, "only from this machine, or over TLS", http.StatusForbidden)
		return
	case origin != "" && origin != s.base.Scheme+"://"+s.base.Host:
		http.Error(w, "not from another page", http.StatusForbidden)
		return
	case !isBearer || subtle.ConstantTimeCompare([]byte(given), []byte(s.secret)) != 1:
		http.Error(w, "the secret of this run is missing", http.StatusUnauthorized)
		return
	case mediaErr != nil || media != "application/json":
		http.Error(w, "JSON only", http.StatusUnsupportedMediaType)
		return
	}
	var body identifierBody
	raw, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil || json.Unmarshal(raw, &body) != nil || body.Identifier == "" {
		http.Error(w, `expected {"userTokenIdentifier": "…"}`, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.identifier = body.Identifier
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// CallbackClient reaches the callback server of this run.
type CallbackClient struct {
	BaseURL string
	secret  string
	http    *http.Client
}

// Client is for the agent's side of this process. It trusts the server's own
// certificate and no other, whoever signed it and for whichever name.
func (s *OAuth2CallbackServer) Client() *CallbackClient {
	transport := &http.Transport{DisableKeepAlives: true}
	if s.certified != nil {
		own := s.certified.Certificate[0]
		transport.TLSClientConfig = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true, // VerifyConnection is stricter
			VerifyConnection: func(state tls.ConnectionState) error {
				if len(state.PeerCertificates) == 0 || !bytes.Equal(state.PeerCertificates[0].Raw, own) {
					return errors.New("this is another server")
				}
				return nil
			},
		}
	}
	return &CallbackClient{
		BaseURL: fmt.Sprintf("%s://localhost:%d", s.scheme(), s.port), secret: s.secret,
		http: &http.Client{Timeout: 10 * time.Second, Transport: transport},
	}
}

// StoreTokenInCallbackServer tells the callback server whom to wait for.
func StoreTokenInCallbackServer(ctx context.Context, client *CallbackClient, userTokenIdentifier string) error {
	if userTokenIdentifier == "" {
		return &IdentityError{Problem{What: "there is no user token identifier", Hint: hintNoIdentifier}}
	}
	body, err := json.Marshal(identifierBody{userTokenIdentifier})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, client.BaseURL+pathIdentifier, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+client.secret)
	response, err := client.http.Do(request)
	if err != nil {
		return &IdentityError{Problem{What: "the callback server does not answer", Cause: err, Hint: "Something else may listen there, or stand between: choose another port with --callback-port."}}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return &IdentityError{Problem{What: "the callback server refused the user token identifier: " + response.Status, Hint: hintNoIdentifier}}
	}
	return nil
}
