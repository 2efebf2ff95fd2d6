package identity

import (
	"crypto/rand"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// CreateOwned makes the identity of a gateway or runtime, in the transaction
// that makes its owner. Its name is the owner's id; nobody but the owner, through
// Mint, gets tokens for it.
func (s *Service) CreateOwned(tx *store.Tx, account, name, ownerARN string, returnURLs []string, tags map[string]string) (principal.Workload, error) {
	if ownerARN == "" {
		return principal.Workload{}, fault.New(fault.Internal, "An owned workload identity needs an owner.")
	}
	if err := checkReturnURLs(returnURLs); err != nil {
		return principal.Workload{}, err
	}
	workload := principal.Workload{ID: rand.Text(), Name: name, ARN: api.WorkloadIdentityARN(s.region, account, name), Owner: ownerARN}
	return workload, s.insert(tx, Identity{Workload: workload, Account: account, ReturnURLs: returnURLs, Tags: tags})
}

// SetReturnURLs replaces the allow-list of an owned identity: a gateway's is
// the union of its targets' defaultReturnUrl.
func (s *Service) SetReturnURLs(tx *store.Tx, account, workloadID string, urls []string) error {
	if err := checkReturnURLs(urls); err != nil {
		return err
	}
	return s.setReturnURLs(tx, account, workloadID, urls)
}

// DeleteOwned deletes the identity in the transaction that deletes its owner.
func (s *Service) DeleteOwned(tx *store.Tx, account, workloadID string) error {
	return s.remove(tx, account, workloadID)
}
