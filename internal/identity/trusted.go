package identity

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// lookLimit bounds the look at all issuers of one call together.
const lookLimit = 20 * time.Second

// PutTrustedIssuers says whose tokens name users for this workload identity. The
// list stands in place of the operator's: a tenant with an issuer of its own need
// not take everybody else's people, and whoever wants both names both. An empty
// list goes back to the operator's.
//
// Each issuer is looked at now, so that a wrong address shows here and not with
// the first user. Tokens made before stay good for their hour; RevokeWorkloadTokens ends them.
func (s *Service) PutTrustedIssuers(ctx context.Context, caller principal.Caller, r *api.PutTrustedIssuersRequest) (*api.PutTrustedIssuersResponse, error) {
	looking, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	var issuers []auth.TrustedIssuer
	for i, given := range r.Issuers {
		issuer := auth.TrustedIssuer{URL: given.Issuer, Audiences: given.Audiences}
		if slices.ContainsFunc(issuers, func(other auth.TrustedIssuer) bool { return other.URL == issuer.URL }) {
			return nil, fault.InvalidField("issuers", "The issuer %s is named twice.", issuer.URL)
		}
		if err := s.auth.CheckIssuer(looking, issuer); err != nil {
			return nil, fault.InvalidField("issuers["+strconv.Itoa(i)+"]", "%s", fault.Of(err).Message).Because(err)
		}
		issuers = append(issuers, issuer)
	}
	encoded, err := json.Marshal(issuers)
	if err != nil {
		return nil, fault.Wrap(err, "encoding trusted issuers")
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		found, err := s.ownName(tx, caller.Account, r.WorkloadName, "given trusted issuers")
		if err != nil {
			return err
		}
		if len(issuers) == 0 {
			_, err = tx.Exec(`DELETE FROM workload_trusted_issuers WHERE workload_id = $1`, found.ID)
			return err
		}
		_, err = tx.Exec(`INSERT INTO workload_trusted_issuers (workload_id, account, issuers, updated) VALUES ($1, $2, $3, $4)
			ON CONFLICT (workload_id) DO UPDATE SET issuers = excluded.issuers, updated = excluded.updated`,
			found.ID, caller.Account, string(encoded), store.Micros(tx.Now))
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, "storing trusted issuers")
	}
	return &api.PutTrustedIssuersResponse{WorkloadName: r.WorkloadName, Issuers: r.Issuers}, nil
}

// GetTrustedIssuers answers the workload identity's own issuers; none means that
// the operator's are trusted, which are not a tenant's to read.
func (s *Service) GetTrustedIssuers(ctx context.Context, caller principal.Caller, r *api.GetTrustedIssuersRequest) (*api.GetTrustedIssuersResponse, error) {
	response := &api.GetTrustedIssuersResponse{WorkloadName: r.WorkloadName, Issuers: []api.TrustedIssuer{}}
	err := s.db.View(ctx, func(tx *store.Tx) error {
		found, err := s.named(tx, caller.Account, r.WorkloadName)
		if err != nil {
			return err
		}
		own, err := ownIssuers(tx, found.ID)
		response.Issuers = response.Issuers[:0]
		for _, issuer := range own {
			response.Issuers = append(response.Issuers, api.TrustedIssuer{Issuer: issuer.URL, Audiences: issuer.Audiences})
		}
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, "reading trusted issuers")
	}
	return response, nil
}

// RevokeWorkloadTokens ends the workload access tokens that were made until now
// for one user, or for nobody; whoever may make tokens can make new ones.
func (s *Service) RevokeWorkloadTokens(ctx context.Context, caller principal.Caller, r *api.RevokeWorkloadTokensRequest) (*api.RevokeWorkloadTokensResponse, error) {
	var user principal.User
	if r.User != nil {
		var err error
		if user, err = UserOf(r.User); err != nil {
			return nil, err
		}
	}
	response := &api.RevokeWorkloadTokensResponse{}
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		found, err := s.named(tx, caller.Account, r.WorkloadName) // a gateway's too: nobody else could
		if err != nil {
			return err
		}
		response.RevokedBefore = api.ISO(tx.Now)
		return s.Revoke(tx, caller.Account, found.ID, user)
	})
	if err != nil {
		return nil, fault.Wrap(err, "revoking workload access tokens")
	}
	return response, nil
}

// UserOf reads the two forms in which operations of ours name a user.
func UserOf(u *api.EndUser) (principal.User, error) {
	switch {
	case u.UserId != nil && u.Issuer == nil && u.Subject == nil:
		return principal.User{ID: *u.UserId}, nil
	case u.UserId == nil && u.Issuer != nil && u.Subject != nil:
		return principal.User{Issuer: *u.Issuer, Subject: *u.Subject}, nil
	}
	return principal.User{}, fault.InvalidField("user", "A user is either a userId, or an issuer and a subject.")
}

// ownIssuers are those that PutTrustedIssuers has stored; nil: the operator's count.
func ownIssuers(tx *store.Tx, workloadID string) (issuers []auth.TrustedIssuer, err error) {
	var encoded string
	err = tx.QueryRow(`SELECT issuers FROM workload_trusted_issuers WHERE workload_id = $1`, workloadID).Scan(&encoded)
	if errors.Is(err, store.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(encoded), &issuers)
	}
	return issuers, fault.Wrap(err, "reading trusted issuers")
}

// trusting is the key of what is remembered of a workload between requests, and
// trusts what that is: whose tokens name users for it.
type (
	trusting struct{ account, workloadID string }
	trusts   struct{ issuers []auth.TrustedIssuer }
)

func (s *Service) trustedBy(ctx context.Context, account, workloadID string) ([]auth.TrustedIssuer, error) {
	found, err := s.trusted.Look(ctx, trusting{account, workloadID}, func(tx *store.Tx) (trusts, error) {
		own, err := ownIssuers(tx, workloadID)
		return trusts{own}, err
	})
	if err != nil {
		return nil, fault.Wrap(err, "reading trusted issuers")
	}
	if found.issuers == nil {
		return s.auth.TrustedIssuers(), nil
	}
	return found.issuers, nil
}

// VerifyUser is the person whom a JWT proves to this workload, and until when:
// under the authorizer of the gateway or runtime that vouches for its users, else
// by the issuers that the workload trusts. Errors are those of auth.VerifyUser.
func (s *Service) VerifyUser(ctx context.Context, account, workloadID, authorizer string, token secret.Text) (principal.User, time.Time, error) {
	if authorizer != "" {
		return s.auth.VerifyUser(ctx, account, authorizer, token)
	}
	trusted, err := s.trustedBy(ctx, account, workloadID)
	if err != nil {
		return principal.User{}, time.Time{}, err
	}
	return s.auth.VerifyUserOf(ctx, trusted, token)
}

// Trusts reports whether an issuer's people are users of this workload still.
func (s *Service) Trusts(ctx context.Context, account, workloadID, issuer string) (bool, error) {
	trusted, err := s.trustedBy(ctx, account, workloadID)
	return slices.ContainsFunc(trusted, func(t auth.TrustedIssuer) bool { return t.URL == issuer }), err
}
