package runtime

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
)

const (
	credentialsPath = "/credentials"
	// credentialsLife is that of the role credentials that an agent fetches.
	credentialsLife = time.Hour
)

// inward is what a session reaches of the platform: its own credentials, the API
// and the gateways. Requests come over the session's own socket, and carry its
// name and an address of its own from here on.
func (s *Service) inward(n *session, token string) http.Handler {
	address := netip.AddrPortFrom(addressOf(n.name), 1).String()
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: PlatformPort}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == credentialsPath {
			s.serveCredentials(w, r, n, token)
			return
		}
		ctx := principal.WithRequest(r.Context(), principal.Request{Session: n.name})
		r = r.WithContext(context.WithValue(ctx, http.LocalAddrContextKey, local))
		r.RemoteAddr = address
		n.secrets.watch(w, r, s.options.Platform)
	})
}

// addressOf is the address that stands for a session in limits per address and in
// audit records: of a network of its own, in the range for private use, so that no
// session is held back for what another does, and no policy takes it for a machine.
func addressOf(name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	raw := [16]byte{0: 0xfd, 15: 1}
	copy(raw[1:8], sum[:])
	return netip.AddrFrom16(raw)
}

// serveCredentials answers as the container-credentials endpoint of AWS does. The
// credentials are the role's, and good in requests over this session's socket alone.
func (s *Service) serveCredentials(w http.ResponseWriter, r *http.Request, n *session, token string) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(token)) != 1 {
		refuseCredentials(w, http.StatusForbidden, "AccessDenied", "The endpoint wants GET with the token in AWS_CONTAINER_AUTHORIZATION_TOKEN as Authorization.")
		return
	}
	c, err := s.credentials(principal.WithRequest(r.Context(), principal.Request{ID: newName(), Session: n.name, Address: addressOf(n.name)}), n)
	if err != nil {
		slog.ErrorContext(r.Context(), "an agent's credentials could not be made", "runtime", n.key.runtime, "error", err)
		refuseCredentials(w, http.StatusServiceUnavailable, "Unavailable", "The credentials of the agent's role could not be made.")
		return
	}
	n.secrets.add(c.Secret.Reveal())
	n.secrets.add(c.SessionToken.Reveal())
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"AccessKeyId": c.KeyID, "SecretAccessKey": c.Secret.Reveal(), "Token": c.SessionToken.Reveal(), "Expiration": c.Expires.UTC().Format(time.RFC3339),
		"RoleArn": n.version.settings.RoleArn,
	})
}

// refuseCredentials words an error as the SDKs' credential providers read it.
func refuseCredentials(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "message": message})
}

// actionCredentials is how records name it that a session was given its role's credentials.
const actionCredentials = "onbehalf:IssueAgentCredentials"

// credentials makes the role's, as an act of the platform's own that is recorded.
// For half of their life the same ones are given again: whoever asks in a loop
// fills no log, and SDKs, which come again in the last minutes, find new ones.
func (s *Service) credentials(ctx context.Context, n *session) (c auth.Credentials, err error) {
	n.issuing.Lock()
	defer n.issuing.Unlock()
	if s.now().Before(n.issued.Expires.Add(-credentialsLife / 2)) {
		return n.issued, nil
	}
	role := n.version.settings.RoleArn
	account := n.runtime.account
	err = s.gate.Do(ctx, gate.System(account), []gate.Check{{Action: actionCredentials, Resource: s.arn(account, n.runtime.id)}}, func(ctx context.Context) error {
		gate.Detail(ctx, "session", n.key.id)
		gate.Detail(ctx, "role", role)
		c, err = s.auth.IssueSessionAt(ctx, account, role[strings.LastIndex(role, "/")+1:], n.runtime.id, n.name, credentialsLife)
		return err
	})
	if err == nil {
		n.issued = c
	}
	return c, err
}
