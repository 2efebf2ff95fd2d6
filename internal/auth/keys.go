package auth

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// NewKey is an access key at the one moment when its secret is known in clear.
type NewKey struct {
	ID     string // 20 characters, AKIA…
	Secret secret.Text
}

// EnsureRoot makes the account, where it is new, and its root key, where it has
// none; created says whether it made a key. A root key that exists and is
// disabled counts as one: a restart must not undo what an operator did.
//
// save puts the key where its owner will find it (the server writes the
// credentials file). It runs last before the commit: if it fails nothing is
// stored, and if the process dies between the two, the next start makes another
// key and saves over the first, so that no crash leaves an account whose key
// nobody has. It must do no harm when called again with the same key.
func (a *Authenticator) EnsureRoot(ctx context.Context, account string, save func(NewKey) error) (created bool, err error) {
	if err := checkAccount(account); err != nil {
		return false, err
	}
	if err := a.keeper.EnsureAccount(ctx, account); err != nil {
		return false, err
	}
	key := newKey("AKIA")
	sealed, err := a.keeper.SealText(ctx, sealContext(account, key.ID), key.Secret)
	if err != nil {
		return false, err
	}
	saved := false
	err = a.db.Update(ctx, func(tx *store.Tx) error {
		created = false
		if err := a.makeAccount(tx, account); err != nil {
			return err
		}
		var roots int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM access_keys WHERE account = $1 AND root = 1`, account).Scan(&roots); err != nil {
			return fault.Wrap(err, "looking for the root key")
		}
		if roots > 0 {
			return nil
		}
		if err := insertKey(tx, account, "arn:aws:iam::"+account+":root", true, key.ID, sealed); err != nil {
			return err
		}
		if err := save(key); err != nil {
			return fault.Wrap(err, "saving the root key")
		}
		saved, created = true, true
		return nil
	})
	switch {
	case err != nil:
		return false, err
	case saved && !created:
		// The commit clashed after the save, and by the second run another
		// replica had made the key.
		return false, fault.New(fault.Internal, "Another replica made the root key of account %s at the same moment. The key that was saved here is not valid: take the one saved there.", account)
	}
	return created, nil
}

func checkAccount(account string) error {
	if len(account) != 12 {
		return fault.New(fault.Invalid, "An account is 12 digits.")
	}
	for _, c := range account {
		if c < '0' || c > '9' {
			return fault.New(fault.Invalid, "An account is 12 digits.")
		}
	}
	return nil
}

// newKey has the shape that AWS tools check: AKIA (ASIA for temporary credentials) and 16 characters of base 32
// (80 random bits: an id is public and only has to be unique), and 40
// characters of base 64 (240 random bits).
func newKey(prefix string) NewKey {
	var id [10]byte
	var key [30]byte
	_, _ = rand.Read(id[:]) // never fails: it stops the process instead
	_, _ = rand.Read(key[:])
	defer clear(key[:])
	return NewKey{ID: prefix + base32.StdEncoding.EncodeToString(id[:]), Secret: secret.New(base64.StdEncoding.EncodeToString(key[:]))}
}

// sealContext binds a sealed secret to its row. Keys never change their secret, so the version is always 1.
func sealContext(account, keyID string) seal.Context {
	return seal.Context{Account: account, Purpose: seal.Secrets, Kind: "access-key-secret", Row: keyID, Version: 1}
}

// keyRow is an access key as the database has it, its secret sealed.
type keyRow struct {
	id      string
	account string
	arn     string
	root    bool
	sealed  []byte
}

// readKey finds a live key; nil when there is none by that id or it is disabled.
func readKey(tx *store.Tx, id string) (*keyRow, error) {
	row := keyRow{id: id}
	var root int
	var state string
	err := tx.QueryRow(`SELECT account, arn, root, state, secret FROM access_keys WHERE id = $1`, id).
		Scan(&row.account, &row.arn, &root, &state, &row.sealed)
	switch {
	case errors.Is(err, store.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fault.Wrap(err, "reading an access key")
	case state != KeyActive:
		return nil, nil
	}
	row.root = root == 1
	return &row, nil
}
