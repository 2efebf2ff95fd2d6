// Package identity holds workload identities and the tokens that speak for them. (Unfinished: signatures first.)
package identity

import (
	"context"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

var errUnfinished = errors.New("identity: unfinished")

// Options names the region that ARNs carry.
type Options struct{ Region string }

// Service is the room.
type Service struct {
	db     *store.DB
	keeper *seal.Keeper
	auth   *auth.Authenticator
	region string
}

// New opens the room.
func New(db *store.DB, k *seal.Keeper, a *auth.Authenticator, o Options) *Service {
	return &Service{db, k, a, o.Region}
}

// Identity is a workload identity as stored.
type Identity struct {
	principal.Workload
	Account          string
	ReturnURLs       []string
	Tags             map[string]string
	Created, Updated time.Time
}

// CreateOwned makes the identity of a gateway or runtime.
func (s *Service) CreateOwned(tx *store.Tx, account, name, ownerARN string, returnURLs []string, tags map[string]string) (principal.Workload, error) {
	return principal.Workload{}, errUnfinished
}

// SetReturnURLs replaces the allow-list of an owned identity.
func (s *Service) SetReturnURLs(tx *store.Tx, account, workloadID string, urls []string) error {
	return errUnfinished
}

// DeleteOwned deletes the identity with its owner.
func (s *Service) DeleteOwned(tx *store.Tx, account, workloadID string) error { return errUnfinished }

// Get reads an identity by its immutable id.
func (s *Service) Get(tx *store.Tx, account, workloadID string) (Identity, error) {
	return Identity{}, errUnfinished
}

// Open opens a workload access token.
func (s *Service) Open(ctx context.Context, caller principal.Caller, token secret.Text) (principal.Caller, error) {
	return principal.Caller{}, errUnfinished
}

// Mint makes a workload access token for the Workload, User, UserToken and Authorizer of a caller that an owner has authenticated.
func (s *Service) Mint(ctx context.Context, caller principal.Caller) (secret.Text, error) {
	return secret.Text{}, errUnfinished
}

// Revoke refuses the tokens minted until now for a workload and a user.
func (s *Service) Revoke(tx *store.Tx, account, workloadID string, user principal.User) error {
	return errUnfinished
}

// Run sweeps until ctx ends.
func (s *Service) Run(ctx context.Context) error { return errUnfinished }
