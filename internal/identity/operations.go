package identity

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// listDefault is the page size of a list that names none: AWS's maximum.
const listDefault = 20

// CreateWorkloadIdentity makes an identity of the caller's own.
func (s *Service) CreateWorkloadIdentity(ctx context.Context, caller principal.Caller, r *api.CreateWorkloadIdentityRequest) (*api.CreateWorkloadIdentityResponse, error) {
	if err := checkReturnURLs(r.AllowedResourceOauth2ReturnUrls); err != nil {
		return nil, err
	}
	made := Identity{
		Workload:   principal.Workload{ID: rand.Text(), Name: r.Name, ARN: api.WorkloadIdentityARN(s.region, caller.Account, r.Name)},
		Account:    caller.Account,
		ReturnURLs: r.AllowedResourceOauth2ReturnUrls,
		Tags:       r.Tags,
	}
	if err := s.db.Update(ctx, func(tx *store.Tx) error { return s.insert(tx, made) }); err != nil {
		return nil, err
	}
	return &api.CreateWorkloadIdentityResponse{
		Name:                            made.Name,
		WorkloadIdentityArn:             made.ARN,
		AllowedResourceOauth2ReturnUrls: made.ReturnURLs,
	}, nil
}

// GetWorkloadIdentity shows one identity, owned ones too.
func (s *Service) GetWorkloadIdentity(ctx context.Context, caller principal.Caller, r *api.GetWorkloadIdentityRequest) (*api.GetWorkloadIdentityResponse, error) {
	var found Identity
	err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		found, err = s.named(tx, caller.Account, r.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.GetWorkloadIdentityResponse{
		Name:                            found.Name,
		WorkloadIdentityArn:             found.ARN,
		AllowedResourceOauth2ReturnUrls: found.ReturnURLs,
		CreatedTime:                     api.Epoch(found.Created),
		LastUpdatedTime:                 api.Epoch(found.Updated),
	}, nil
}

// UpdateWorkloadIdentity replaces the return URLs: all of them when the member
// is present, be it empty, and none when it is absent. A runtime's identity can be
// updated too, a gateway's cannot.
func (s *Service) UpdateWorkloadIdentity(ctx context.Context, caller principal.Caller, r *api.UpdateWorkloadIdentityRequest) (*api.UpdateWorkloadIdentityResponse, error) {
	if err := checkReturnURLs(r.AllowedResourceOauth2ReturnUrls); err != nil {
		return nil, err
	}
	var found Identity
	err := s.db.Update(ctx, func(tx *store.Tx) (err error) {
		if found, err = s.named(tx, caller.Account, r.Name); err != nil {
			return err
		}
		if err := linked(found, "updated"); err != nil && !ofRuntime(found) {
			return err
		}
		if r.AllowedResourceOauth2ReturnUrls == nil {
			return nil
		}
		found.ReturnURLs, found.Updated = r.AllowedResourceOauth2ReturnUrls, tx.Now
		return s.setReturnURLs(tx, caller.Account, found.ID, found.ReturnURLs)
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateWorkloadIdentityResponse{
		Name:                            found.Name,
		WorkloadIdentityArn:             found.ARN,
		AllowedResourceOauth2ReturnUrls: found.ReturnURLs,
		CreatedTime:                     api.Epoch(found.Created),
		LastUpdatedTime:                 api.Epoch(found.Updated),
	}, nil
}

// DeleteWorkloadIdentity deletes an identity with its grants and sessions; its tokens open no more.
func (s *Service) DeleteWorkloadIdentity(ctx context.Context, caller principal.Caller, r *api.DeleteWorkloadIdentityRequest) (*api.DeleteWorkloadIdentityResponse, error) {
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		found, err := s.ownName(tx, caller.Account, r.Name, "deleted")
		if err != nil {
			return err
		}
		return s.remove(tx, caller.Account, found.ID)
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteWorkloadIdentityResponse{}, nil
}

// ListWorkloadIdentities pages by name; the cursor is the last name of the page before.
func (s *Service) ListWorkloadIdentities(ctx context.Context, caller principal.Caller, r *api.ListWorkloadIdentitiesRequest) (*api.ListWorkloadIdentitiesResponse, error) {
	limit, after := api.Page(r.MaxResults, r.NextToken, listDefault)
	var page *api.ListWorkloadIdentitiesResponse
	err := s.db.View(ctx, func(tx *store.Tx) error {
		page = &api.ListWorkloadIdentitiesResponse{WorkloadIdentities: []api.WorkloadIdentityType{}}
		rows, err := tx.Query(`SELECT name FROM workload_identities WHERE account = $1 AND name > $2 ORDER BY name LIMIT $3`, caller.Account, after, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			if len(page.WorkloadIdentities) == limit { // one more than asked for: there is a next page
				page.NextToken = &page.WorkloadIdentities[limit-1].Name
				break
			}
			page.WorkloadIdentities = append(page.WorkloadIdentities, api.WorkloadIdentityType{
				Name: name, WorkloadIdentityArn: api.WorkloadIdentityARN(s.region, caller.Account, name),
			})
		}
		return errors.Join(rows.Err(), rows.Close())
	})
	return page, fault.Wrap(err, "listing workload identities")
}

// ownName is named, for what callers may do only to identities that no gateway or runtime owns.
func (s *Service) ownName(tx *store.Tx, account, name, verb string) (Identity, error) {
	found, err := s.named(tx, account, name)
	if err == nil {
		err = linked(found, verb)
	}
	return found, err
}

func linked(found Identity, verb string) error {
	if found.Owner == "" {
		return nil
	}
	return fault.New(fault.Invalid, "WorkloadIdentity is linked to a service and cannot be %s by the caller. It lives and dies with %s.", verb, found.Owner)
}

// ofRuntime reports whether an agent runtime owns the identity. Where its users
// come back to after consent is no member of a runtime's settings, so it is said
// here, as at AWS; a gateway's list follows from its targets.
func ofRuntime(found Identity) bool {
	owner, err := api.ParseARN(found.Owner)
	return err == nil && owner.Type() == "runtime"
}
