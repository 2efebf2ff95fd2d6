package gateway

import (
	"crypto/sha256"

	"github.com/onbehalf/onbehalf/internal/store"
)

var clientTokens = store.NewClientTokens("gateway_client_tokens", "gateway_id", "target_id")

// newClaim makes one of a token and the request that came with it.
func newClaim(account, operation string, token *string, request []byte) *store.Claim {
	if token == nil || *token == "" {
		return nil
	}
	digest := sha256.Sum256(request)
	return clientTokens.Claim(account, operation, *token, digest[:])
}
