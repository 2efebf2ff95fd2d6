package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	// tokenLifetime is short because agents fetch a token per invocation anyway.
	tokenLifetime = time.Hour
	// inlineLimit is the inbound JWT, in bytes, that still travels inside the token.
	inlineLimit = 2048
	// tokenLimit keeps a token inside the header that carries it to an agent, in bytes.
	tokenLimit = 4096
)

var (
	errInvalidToken = fault.New(fault.Unauthenticated, "The workload access token is not valid. Get one with GetWorkloadAccessToken, GetWorkloadAccessTokenForJWT or GetWorkloadAccessTokenForUserId.")
	errExpiredToken = fault.New(fault.Unauthenticated, "The workload access token has expired. Get a new one.")
	errRevokedToken = fault.New(fault.Unauthenticated, "The workload access token has been revoked. Get a new one.")
	errForeignToken = fault.New(fault.Unauthenticated, "The workload access token is for a workload identity that does not exist any more.")
)

// GetWorkloadAccessToken answers a token of the workload alone.
func (s *Service) GetWorkloadAccessToken(ctx context.Context, caller principal.Caller, r *api.GetWorkloadAccessTokenRequest) (*api.GetWorkloadAccessTokenResponse, error) {
	token, err := s.issue(ctx, caller.Account, r.WorkloadName, content{}, time.Time{})
	if err != nil {
		return nil, err
	}
	return &api.GetWorkloadAccessTokenResponse{WorkloadAccessToken: token}, nil
}

// GetWorkloadAccessTokenForJWT answers a token for the user whom the JWT names,
// if an issuer signed it that the workload trusts, or the operator where it names none.
func (s *Service) GetWorkloadAccessTokenForJWT(ctx context.Context, caller principal.Caller, r *api.GetWorkloadAccessTokenForJWTRequest) (*api.GetWorkloadAccessTokenForJWTResponse, error) {
	workloadID, _, err := s.mintable(ctx, caller.Account, r.WorkloadName)
	if err != nil {
		return nil, err
	}
	user, expires, err := s.VerifyUser(ctx, caller.Account, workloadID, "", r.UserToken)
	if err != nil {
		return nil, err
	}
	token, err := s.issue(ctx, caller.Account, r.WorkloadName, content{workloadID: workloadID, user: user, userToken: r.UserToken.Reveal()}, expires)
	if err != nil {
		return nil, err
	}
	return &api.GetWorkloadAccessTokenForJWTResponse{WorkloadAccessToken: token}, nil
}

// GetWorkloadAccessTokenForUserId answers a token for a user whom the application vouches for.
func (s *Service) GetWorkloadAccessTokenForUserId(ctx context.Context, caller principal.Caller, r *api.GetWorkloadAccessTokenForUserIdRequest) (*api.GetWorkloadAccessTokenForUserIdResponse, error) {
	if strings.ContainsRune(r.UserId, 0) {
		return nil, fault.InvalidField("userId", "The userId must not contain a NUL character.") // which PostgreSQL cannot store
	}
	token, err := s.issue(ctx, caller.Account, r.WorkloadName, content{user: principal.User{ID: r.UserId}}, time.Time{})
	if err != nil {
		return nil, err
	}
	return &api.GetWorkloadAccessTokenForUserIdResponse{WorkloadAccessToken: token}, nil
}

// issue is for callers: the identity is theirs by name, and no service owns it.
// The root key is no exception, or it could read every gateway user's grants.
func (s *Service) issue(ctx context.Context, account, name string, c content, userTokenExpires time.Time) (secret.Text, error) {
	id, now, err := s.mintable(ctx, account, name)
	switch {
	case err != nil:
		return secret.Text{}, err
	case c.workloadID != "" && c.workloadID != id: // made anew while the user's token was verified
		return secret.Text{}, errForeignToken
	}
	c.workloadID = id
	return s.seal(ctx, account, c, now, userTokenExpires)
}

// mintable is the id of a workload identity that callers may have tokens of.
func (s *Service) mintable(ctx context.Context, account, name string) (id string, now time.Time, err error) {
	err = s.db.Look(ctx, func(tx *store.Tx) error {
		found, err := s.named(tx, account, name)
		if err == nil && found.Owner != "" {
			return fault.New(fault.Denied, "WorkloadIdentity is linked to a service and cannot retrieve an access token by the caller.")
		}
		id, now = found.ID, tx.Now
		return err
	})
	return id, now, err
}

// Mint is for owners: a token for the Workload, User, UserToken and Authorizer
// of a caller whom the gateway or runtime has authenticated itself.
func (s *Service) Mint(ctx context.Context, caller principal.Caller) (secret.Text, error) {
	var now time.Time
	err := s.db.Look(ctx, func(tx *store.Tx) error {
		found, err := s.Get(tx, caller.Account, caller.Workload.ID)
		if err != nil {
			return err
		}
		if found.Owner == "" || found.Owner != caller.Workload.Owner {
			return fault.New(fault.Denied, "Only its owner mints tokens for a workload identity.")
		}
		now = tx.Now
		return nil
	})
	if err != nil {
		return secret.Text{}, err
	}
	return s.seal(ctx, caller.Account, content{
		workloadID: caller.Workload.ID, user: caller.User, userToken: caller.UserToken.Reveal(), authorizer: caller.Authorizer,
	}, now, time.Time{})
}

func tokenContext(account string) seal.Context {
	return seal.Context{Account: account, Purpose: seal.Tokens, Kind: "workload-access-token"}
}

func (s *Service) seal(ctx context.Context, account string, c content, now, userTokenExpires time.Time) (secret.Text, error) {
	c.issued, c.expires = now, now.Add(tokenLifetime)
	if len(c.userToken) > inlineLimit {
		until := c.expires // beyond which nothing can refer to it
		if !userTokenExpires.IsZero() && userTokenExpires.Before(until) {
			until = userTokenExpires
		}
		id, err := s.keep(ctx, account, c.workloadID, secret.New(c.userToken), until)
		if err != nil {
			return secret.Text{}, err
		}
		c.userToken, c.storedToken = "", id
	}
	plain := c.append(make([]byte, 0, 512+len(c.userToken)))
	defer clear(plain)
	sealed, err := s.keeper.Seal(ctx, tokenContext(account), plain)
	if err != nil {
		return secret.Text{}, err
	}
	if base64.RawURLEncoding.EncodedLen(len(sealed)) > tokenLimit {
		return secret.Text{}, fault.New(fault.Invalid, "The user's issuer and subject are too long for a workload access token.")
	}
	return secret.New(base64.RawURLEncoding.EncodeToString(sealed)), nil
}

// Open tells whom a workload access token speaks for: the caller, enriched with
// Workload, User, UserToken and Authorizer. fault.Unauthenticated when the token
// is not the caller's account's, has expired, was revoked, or its workload is gone.
//
// It stands on the way of every data-plane call: one unsealing, and one read
// where anything was written since the last call of the same workload and user.
func (s *Service) Open(ctx context.Context, caller principal.Caller, token secret.Text) (principal.Caller, error) {
	c, err := s.unseal(ctx, caller.Account, token)
	if err != nil {
		return principal.Caller{}, err
	}
	if !s.db.Now().Before(c.expires) {
		return principal.Caller{}, errExpiredToken
	}
	is, err := s.known.Look(ctx, standing{caller.Account, c.workloadID, c.user.String()}, s.stand(caller.Account, c))
	if err != nil {
		return principal.Caller{}, fault.Wrap(err, "opening a workload access token")
	}
	if store.Micros(c.issued) <= is.notBefore {
		return principal.Caller{}, errRevokedToken
	}
	caller.Workload, caller.User, caller.Authorizer = is.workload, c.user, c.authorizer
	caller.UserToken = secret.New(c.userToken)
	if c.storedToken != "" {
		err = s.db.Look(ctx, func(tx *store.Tx) (err error) {
			caller.UserToken, err = s.kept(tx, caller.Account, c.storedToken)
			return err
		})
	}
	if err != nil {
		return principal.Caller{}, fault.Wrap(err, "opening a workload access token")
	}
	return caller, nil
}

// standing is what a token claims, and stands whether that is so: is there the
// workload still, and since when are the user's tokens good?
type (
	standing struct{ account, workloadID, user string }
	stands   struct {
		workload  principal.Workload
		notBefore int64
	}
)

// mostKnown bounds the workloads and users that are remembered between requests.
const mostKnown = 16384

func (s *Service) stand(account string, c *content) func(*store.Tx) (stands, error) {
	return func(tx *store.Tx) (stands, error) {
		is := stands{workload: principal.Workload{ID: c.workloadID}}
		err := tx.QueryRow(`SELECT w.name, w.owner, COALESCE(c.not_before, 0) FROM workload_identities w
			LEFT JOIN workload_token_cutoffs c ON c.workload_id = w.id AND c.user_key = $3
			WHERE w.id = $1 AND w.account = $2`, c.workloadID, account, c.user.String()).Scan(&is.workload.Name, &is.workload.Owner, &is.notBefore)
		if errors.Is(err, store.ErrNoRows) {
			return is, errForeignToken
		}
		is.workload.ARN = api.WorkloadIdentityARN(s.region, account, is.workload.Name)
		return is, err
	}
}

func (s *Service) unseal(ctx context.Context, account string, token secret.Text) (*content, error) {
	if token.Len() > tokenLimit {
		return nil, errInvalidToken
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token.Reveal())
	if err != nil {
		return nil, errInvalidToken
	}
	plain, err := s.keeper.Open(ctx, tokenContext(account), sealed)
	if fault.Is(err, fault.Undecryptable) {
		return nil, errInvalidToken
	}
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	c, err := parseContent(plain)
	if err != nil {
		return nil, errInvalidToken
	}
	return c, nil
}
