package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// seededUser names the people of seeded grants, number 0 to n-1.
func seededUser(number int) principal.User {
	return principal.User{ID: fmt.Sprintf("user-%07d", number)}
}

// Tokens as providers give them: an access token with a few claims, an opaque refresh token.
const (
	seedAccessLength  = 700
	seedRefreshLength = 100
	seedBatch         = 5000 // grants in a transaction
)

// seedGrants stores the grants of people from to to-1 for a workload at a
// provider, both made before through the API, through the vault's own code. The
// platform must not run on the data folder meanwhile.
func seedGrants(ctx context.Context, data, workload, provider string, from, to int) error {
	db, err := store.Open(ctx, store.Options{Path: filepath.Join(data, "onbehalf.db")})
	if err != nil {
		return err
	}
	defer db.Close()
	wrapper, err := seal.OpenFileKey(filepath.Join(data, "key-encryption-key"))
	if err != nil {
		return err
	}
	keeper, err := seal.NewKeeper(ctx, db, wrapper)
	if err != nil {
		return err
	}
	grants := vault.New(db, keeper)
	key := vault.Key{Account: "000000000000"}
	var origin vault.Origin
	if err := db.View(ctx, func(tx *store.Tx) error {
		if err := tx.QueryRow("SELECT id FROM workload_identities WHERE account = $1 AND name = $2", key.Account, workload).Scan(&key.WorkloadID); err != nil {
			return fmt.Errorf("workload %s: %w", workload, err)
		}
		return tx.QueryRow("SELECT id, issuer, token_endpoint, client_id FROM oauth2_providers WHERE account = $1 AND name = $2", key.Account, provider).
			Scan(&key.ProviderID, &origin.Issuer, &origin.TokenEndpoint, &origin.ClientID)
	}); err != nil {
		return err
	}
	access, refresh := strings.Repeat("a", seedAccessLength-7), strings.Repeat("r", seedRefreshLength-7)
	for begin := from; begin < to; begin += seedBatch {
		if err := db.Update(ctx, func(tx *store.Tx) error {
			for number := begin; number < min(begin+seedBatch, to); number++ {
				key.User = seededUser(number)
				if _, err := grants.Put(tx, key, vault.Tokens{
					Access: secret.New(fmt.Sprintf("%07d", number) + access), Refresh: secret.New(fmt.Sprintf("%07d", number) + refresh),
					Expiry: tx.Now.Add(30 * 24 * time.Hour), Asked: vault.ParseScopes("openid profile"), Origin: origin,
				}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
