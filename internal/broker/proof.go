package broker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
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

// proof is made when an attempt comes back, and can be made again while its code waits.
func (b *Broker) proof(ctx context.Context, account, sessionID, attemptID string) (string, error) {
	key, err := b.proofKey(ctx, account)
	if err != nil {
		return "", err
	}
	return proofOf(key, sessionID, attemptID), nil
}

func (b *Broker) proofKey(ctx context.Context, account string) ([]byte, error) {
	return b.keeper.Derive(ctx, account, seal.Sessions, "authorization session proof")
}

func proofOf(key []byte, sessionID, attemptID string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(sessionID + "/" + attemptID)) // both of fixed length
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// provenAttempt finds the attempt that a proof is of, among those whose codes
// wait; empty where there is none.
func (b *Broker) provenAttempt(tx *store.Tx, s *session, proof string) (string, error) {
	if proof == "" {
		return "", nil
	}
	key, err := b.proofKey(tx.Context(), s.key.Account)
	if err != nil {
		return "", err
	}
	parked, err := parkedAttempts(tx, s.id)
	for _, id := range parked {
		if hmac.Equal([]byte(proof), []byte(proofOf(key, s.id, id))) {
			return id, nil
		}
	}
	return "", err
}

// parkedAttempts lists the attempts whose codes wait.
func parkedAttempts(tx *store.Tx, sessionID string) (ids []string, err error) {
	rows, err := tx.Query(`SELECT id FROM authorization_attempts WHERE session_id = $1 AND code IS NOT NULL`, sessionID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
