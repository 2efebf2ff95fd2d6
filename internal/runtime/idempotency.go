package runtime

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// tokenLifetime is how long a client token gives its first result again. SDKs
// retry for minutes.
const tokenLifetime = 24 * time.Hour

// claim is a client token in use for one act. A nil claim has no token.
type claim struct {
	account, operation, token string
	request                   []byte
}

// claim makes one of a token and the request that came with it, told apart by a
// keyed MAC: the request holds secrets.
func (s *Service) claim(tx *store.Tx, account, operation string, token *string, request []byte) (*claim, error) {
	if token == nil || *token == "" {
		return nil, nil
	}
	key, err := s.keeper.Derive(tx.Context(), account, seal.Secrets, "agent runtime client token")
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(request)
	return &claim{account, operation, *token, mac.Sum(nil)}, nil
}

// earlier is what the token made before; found is false when it is new. The
// same token with another request is refused.
func (c *claim) earlier(tx *store.Tx) (runtime, result string, found bool, err error) {
	if c == nil {
		return "", "", false, nil
	}
	var request []byte
	var created int64
	var of *string
	err = tx.QueryRow("SELECT request, runtime_id, result, created FROM agent_runtime_client_tokens WHERE account = $1 AND operation = $2 AND token = $3",
		c.account, c.operation, c.token).Scan(&request, &of, &result, &created)
	switch {
	case errors.Is(err, store.ErrNoRows):
		return "", "", false, nil
	case err != nil:
		return "", "", false, fault.Wrap(err, "looking a client token up")
	case tx.Now.Sub(store.Time(created)) > tokenLifetime:
		return "", "", false, nil
	case !hmac.Equal(request, c.request):
		return "", "", false, &fault.Error{Kind: fault.Invalid, Reason: fault.ReasonIdempotentMismatch,
			Message: "The client token was used before, with another request.",
			Fields:  []fault.Field{{Name: "clientToken", Message: "used before, with another request"}}}
	}
	if of != nil {
		runtime = *of
	}
	return runtime, result, true, nil
}

// keep remembers what the token made, and forgets tokens that are too old. A
// deletion is remembered without its runtime, which may be gone.
func (c *claim) keep(tx *store.Tx, runtime, result string) error {
	if c == nil {
		return nil
	}
	if _, err := tx.Exec("DELETE FROM agent_runtime_client_tokens WHERE created < $1", store.Micros(tx.Now.Add(-tokenLifetime))); err != nil {
		return fault.Wrap(err, "forgetting client tokens")
	}
	var of *string
	if runtime != "" {
		of = &runtime
	}
	_, err := tx.Exec("INSERT INTO agent_runtime_client_tokens (account, operation, token, request, runtime_id, result, created) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		c.account, c.operation, c.token, c.request, of, result, store.Micros(tx.Now))
	return fault.Wrap(err, "keeping a client token")
}
