// Package identity holds workload identities (who an agent is) and workload
// access tokens (the agent speaking for itself, or for one user).
//
//	CreateWorkloadIdentity ──▶ row: immutable id, name, return URLs
//	GetWorkloadAccessToken* ─▶ sealed token: workload id, user, authorizer, 1 h
//	gateway, runtime ────────▶ Mint, for the identities they own
//	token ── Open ───────────▶ Caller with Workload, User, UserToken, Authorizer
//	a user's JWT ─ VerifyUser ▶ the workload's trusted issuers, else the operator's ──▶ User
//
// Invariant: a token opens only for a Caller of its own account, while the very
// workload it was issued to exists (a re-created name is another one), until it
// expires or is revoked. Nothing in it was ever chosen by whoever presents it.
package identity

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Options says what the room cannot find out by itself.
type Options struct {
	Region string // stands in ARNs
}

// Service is the room; safe for concurrent use.
type Service struct {
	db     *store.DB
	keeper *seal.Keeper
	auth   *auth.Authenticator
	region string
	known  *store.Cache[standing, stands]

	trusted *store.Cache[trusting, trusts]
}

// New opens the room. Run, in the background, keeps it swept.
func New(db *store.DB, k *seal.Keeper, a *auth.Authenticator, o Options) *Service {
	return &Service{
		db: db, keeper: k, auth: a, region: o.Region,
		known: store.NewCache[standing, stands](db, mostKnown), trusted: store.NewCache[trusting, trusts](db, mostKnown),
	}
}

// Identity is a workload identity as stored.
type Identity struct {
	principal.Workload
	Account    string
	ReturnURLs []string // where a browser may be sent after consent: equal byte for byte, or not at all
	Tags       map[string]string
	Created    time.Time
	Updated    time.Time
}

const identityColumns = `SELECT id, account, name, owner, return_urls, tags, created, updated FROM workload_identities `

// Get reads an identity by its immutable id; fault.NotFound when it is gone.
func (s *Service) Get(tx *store.Tx, account, workloadID string) (Identity, error) {
	found, err := s.scan(tx.QueryRow(identityColumns+`WHERE id = $1 AND account = $2`, workloadID, account))
	if errors.Is(err, store.ErrNoRows) {
		return Identity{}, fault.New(fault.NotFound, "The workload identity does not exist any more.")
	}
	return found, fault.Wrap(err, "reading a workload identity")
}

// named reads an identity by the name callers use.
func (s *Service) named(tx *store.Tx, account, name string) (Identity, error) {
	found, err := s.scan(tx.QueryRow(identityColumns+`WHERE account = $1 AND name = $2`, account, name))
	if errors.Is(err, store.ErrNoRows) {
		return Identity{}, fault.New(fault.NotFound, "WorkloadIdentity %s not found.", name)
	}
	return found, fault.Wrap(err, "reading a workload identity")
}

type scanner interface{ Scan(...any) error }

func (s *Service) scan(row scanner) (Identity, error) {
	var i Identity
	var urls, tags string
	var created, updated int64
	if err := row.Scan(&i.ID, &i.Account, &i.Name, &i.Owner, &urls, &tags, &created, &updated); err != nil {
		return Identity{}, err
	}
	if err := json.Unmarshal([]byte(urls), &i.ReturnURLs); err != nil {
		return Identity{}, err
	}
	if err := json.Unmarshal([]byte(tags), &i.Tags); err != nil {
		return Identity{}, err
	}
	i.ARN = api.WorkloadIdentityARN(s.region, i.Account, i.Name)
	i.Created, i.Updated = store.Time(created), store.Time(updated)
	return i, nil
}

// insert writes a new identity; fault.Conflict when the name is taken.
func (s *Service) insert(tx *store.Tx, i Identity) error {
	urls, tags, err := encode(i.ReturnURLs, i.Tags)
	if err != nil {
		return err
	}
	now := store.Micros(tx.Now)
	added, err := tx.Exec(`INSERT INTO workload_identities (id, account, name, owner, return_urls, tags, created, updated)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (account, name) DO NOTHING`,
		i.ID, i.Account, i.Name, i.Owner, urls, tags, now)
	if err != nil {
		return fault.Wrap(err, "storing a workload identity")
	}
	if added == 0 {
		return fault.New(fault.Conflict, "WorkloadIdentity with name %s already exists.", i.Name)
	}
	return nil
}

func encode(urls []string, tags map[string]string) (string, string, error) {
	if urls == nil {
		urls = []string{}
	}
	if tags == nil {
		tags = map[string]string{}
	}
	encodedURLs, err := json.Marshal(urls)
	if err != nil {
		return "", "", fault.Wrap(err, "encoding return URLs")
	}
	encodedTags, err := json.Marshal(tags)
	return string(encodedURLs), string(encodedTags), fault.Wrap(err, "encoding tags")
}

func (s *Service) setReturnURLs(tx *store.Tx, account, workloadID string, urls []string) error {
	encoded, _, err := encode(urls, nil)
	if err != nil {
		return err
	}
	changed, err := tx.Exec(`UPDATE workload_identities SET return_urls = $1, updated = $2 WHERE id = $3 AND account = $4`,
		encoded, store.Micros(tx.Now), workloadID, account)
	return gone(changed, err, "storing return URLs")
}

// remove deletes an identity; its grants, sessions and tokens go with it.
func (s *Service) remove(tx *store.Tx, account, workloadID string) error {
	deleted, err := tx.Exec(`DELETE FROM workload_identities WHERE id = $1 AND account = $2`, workloadID, account)
	return gone(deleted, err, "deleting a workload identity")
}

func gone(rows int64, err error, doing string) error {
	if err == nil && rows == 0 {
		return fault.New(fault.NotFound, "The workload identity does not exist any more.")
	}
	return fault.Wrap(err, doing)
}
