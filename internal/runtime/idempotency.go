package runtime

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

var clientTokens = store.NewClientTokens("agent_runtime_client_tokens", "runtime_id", "result")

// claim makes one of a token and the request that came with it, told apart by a
// keyed MAC: the request holds secrets. A deletion is kept without its runtime,
// which may be gone.
func (s *Service) claim(tx *store.Tx, account, operation string, token *string, request []byte) (*store.Claim, error) {
	if token == nil || *token == "" {
		return nil, nil
	}
	key, err := s.keeper.Derive(tx.Context(), account, seal.Secrets, "agent runtime client token")
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(request)
	return clientTokens.Claim(account, operation, *token, mac.Sum(nil)), nil
}
