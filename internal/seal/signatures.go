// Package seal keeps secrets sealed. (Unfinished: signatures first.)
package seal

import (
	"context"
	"errors"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

var errUnfinished = errors.New("seal: unfinished")

type KeyWrapper interface {
	ID() string
	Wrap(ctx context.Context, dataKey []byte, bound string) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte, bound string) ([]byte, error)
}

func CreateFileKey(path string) error             { return errUnfinished }
func OpenFileKey(path string) (KeyWrapper, error) { return nil, errUnfinished }

type Purpose string

const (
	Vault    Purpose = "vault"
	Tokens   Purpose = "workload-token"
	Pages    Purpose = "page-token"
	Sessions Purpose = "session"
	AuditMAC Purpose = "audit"
)

type Context struct {
	Account string
	Purpose Purpose
	Kind    string
	Row     string
	Version int64
}

type Keeper struct{}

func NewKeeper(ctx context.Context, db *store.DB, w KeyWrapper) (*Keeper, error) {
	return nil, errUnfinished
}
func (k *Keeper) EnsureAccount(ctx context.Context, account string) error { return errUnfinished }
func (k *Keeper) Seal(ctx context.Context, c Context, plaintext []byte) ([]byte, error) {
	return nil, errUnfinished
}
func (k *Keeper) Open(ctx context.Context, c Context, sealed []byte) ([]byte, error) {
	return nil, errUnfinished
}
func (k *Keeper) SealText(ctx context.Context, c Context, text secret.Text) ([]byte, error) {
	return nil, errUnfinished
}
func (k *Keeper) OpenText(ctx context.Context, c Context, sealed []byte) (secret.Text, error) {
	return secret.Text{}, errUnfinished
}
func (k *Keeper) Derive(ctx context.Context, account string, p Purpose, info string) ([]byte, error) {
	return nil, errUnfinished
}
func (k *Keeper) Rotate(ctx context.Context, account string, p Purpose) error { return errUnfinished }
