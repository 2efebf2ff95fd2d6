package broker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/onbehalf/onbehalf/internal/seal"
)

// The session_id that a browser brings to the application's page is the
// sessionUri and a proof that this very browser went through:
//
//	urn:ietf:params:oauth:request_uri:SESSION.PROOF
//
// The sessionUri alone completes nothing. It is in the link, so whoever asked
// knows it: he could have somebody else go through his link, and complete with
// that person's code before, or instead of, that person's browser.

// proofSeparator is allowed in a sessionUri by the API and is in none of ours.
const proofSeparator = "."

func splitSessionID(text string) (uri, proof string) {
	uri, proof, _ = strings.Cut(text, proofSeparator)
	return uri, proof
}

// proof is made when an attempt comes back, and can be made again while its code is parked.
func (b *Broker) proof(ctx context.Context, account, sessionID, attemptID string) (string, error) {
	key, err := b.keeper.Derive(ctx, account, seal.Sessions, "authorization session proof")
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(sessionID + "/" + attemptID)) // both of fixed length
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// proves reports whether proof is of the attempt whose code is parked.
func (b *Broker) proves(ctx context.Context, s *session, proof string) (bool, error) {
	if proof == "" || s.attemptID == "" {
		return false, nil
	}
	want, err := b.proof(ctx, s.key.Account, s.id, s.attemptID)
	return err == nil && hmac.Equal([]byte(proof), []byte(want)), err
}
