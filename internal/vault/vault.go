// Package vault holds the sealed grants. (Unfinished: signatures first.)
package vault

import (
	"context"
	"errors"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

var errUnfinished = errors.New("vault: unfinished")

// Vault is the room.
type Vault struct {
	db     *store.DB
	keeper *seal.Keeper
}

// New opens the room.
func New(db *store.DB, k *seal.Keeper) *Vault { return &Vault{db: db, keeper: k} }

// Run flushes last-used times until ctx ends.
func (v *Vault) Run(ctx context.Context) error { return errUnfinished }
