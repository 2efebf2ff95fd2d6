package store

import (
	"crypto/hmac"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// tokenLifetime is how long a client token gives its first result again. SDKs
// retry for minutes.
const tokenLifetime = 24 * time.Hour

// ClientTokens is a table in which a room remembers the client tokens of its
// acts. It has the columns account, operation and token, which are its key,
// request, created, and two of the room's own.
type ClientTokens struct {
	find, forget, keep string // statements
}

// NewClientTokens names the table and the room's columns: the owner, with which
// a token is forgotten, and what the act made of it.
func NewClientTokens(table, owner, result string) *ClientTokens {
	return &ClientTokens{
		find:   "SELECT request, " + owner + ", " + result + ", created FROM " + table + " WHERE account = $1 AND operation = $2 AND token = $3",
		forget: "DELETE FROM " + table + " WHERE created < $1",
		keep:   "INSERT INTO " + table + " (account, operation, token, request, " + owner + ", " + result + ", created) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	}
}

// Claim is a client token in use for one act. A nil Claim has no token: it finds
// nothing and keeps nothing.
type Claim struct {
	tokens                    *ClientTokens
	account, operation, token string
	request                   []byte
}

// Claim makes one for a token and a digest of the request that came with it.
func (t *ClientTokens) Claim(account, operation, token string, request []byte) *Claim {
	return &Claim{t, account, operation, token, request}
}

// Earlier is what the token made before; found is false when it is new. The
// same token with another request is refused (fault.Invalid).
func (c *Claim) Earlier(tx *Tx) (owner, result string, found bool, err error) {
	if c == nil {
		return "", "", false, nil
	}
	var request []byte
	var created int64
	var of *string
	err = tx.QueryRow(c.tokens.find, c.account, c.operation, c.token).Scan(&request, &of, &result, &created)
	switch {
	case errors.Is(err, ErrNoRows):
		return "", "", false, nil
	case err != nil:
		return "", "", false, fault.Wrap(err, "looking a client token up")
	case tx.Now.Sub(Time(created)) > tokenLifetime:
		return "", "", false, nil
	case !hmac.Equal(request, c.request):
		return "", "", false, &fault.Error{Kind: fault.Invalid, Reason: fault.ReasonIdempotentMismatch,
			Message: "The client token was used before, with another request.",
			Fields:  []fault.Field{{Name: "clientToken", Message: "used before, with another request"}}}
	}
	if of != nil {
		owner = *of
	}
	return owner, result, true, nil
}

// Keep remembers what the token made, and forgets tokens that are too old. An
// act that leaves nothing behind is remembered without an owner, as "".
func (c *Claim) Keep(tx *Tx, owner, result string) error {
	if c == nil {
		return nil
	}
	if _, err := tx.Exec(c.tokens.forget, Micros(tx.Now.Add(-tokenLifetime))); err != nil {
		return fault.Wrap(err, "forgetting client tokens")
	}
	var of *string
	if owner != "" {
		of = &owner
	}
	_, err := tx.Exec(c.tokens.keep, c.account, c.operation, c.token, c.request, of, result, Micros(tx.Now))
	return fault.Wrap(err, "keeping a client token")
}
