// Package vault holds grants: what a person has allowed one workload to do at
// one provider, with the sealed tokens that carry it out.
//
//	consent ──▶ Put ─────────▶ grants row: tokens sealed, bound to id and version
//	caller ───▶ Find ──Covers─▶ OpenAccess ──▶ the answer
//	expired ──▶ Lease ▶ OpenRefresh ▶ (provider) ▶ PutRefreshed | MarkNeedsConsent | Failed
//	operator ─▶ List ─────────▶ Get ▶ Delete: gone for good, whatever is under way
//
// Beside them lie cached tokens, for which nobody has to be asked:
//
//	caller ──▶ FindCached ─Fresh▶ OpenCached ──▶ the answer
//	else ────▶ LeaseCached ▶ (provider) ▶ PutCached | ReleaseCached
//
// Invariant: a grant opens for its whole Key and nothing less; its tokens are
// only ever replaced by newer ones of the same fence, never deleted because
// something failed; what leaves here in clear leaves through OpenAccess,
// OpenRefresh and OpenCached alone.
package vault

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Vault is the room; safe for concurrent use.
type Vault struct {
	db     *store.DB
	keeper *seal.Keeper

	mu   sync.Mutex
	used map[string]time.Time // by grant id: reads not written down yet
}

// New opens the room. Run, in the background, writes down when grants were used.
func New(db *store.DB, k *seal.Keeper) *Vault {
	return &Vault{db: db, keeper: k, used: make(map[string]time.Time)}
}

// State of a grant.
type State string

const (
	Active       State = "active"        // usable, and refreshable where it has a refresh token
	NeedsConsent State = "needs-consent" // its tokens are kept and not used: the person is asked again
)

// Grant is a row, its secrets apart.
type Grant struct {
	ID string
	Key
	Asked       Scopes // what the person was asked for
	Granted     Scopes // what the provider says it gave; nil where it said nothing
	State       State
	Expiry      time.Time // of the access token; zero where the provider did not say
	HasRefresh  bool
	Version     int64 // of the tokens; grows with consent and refresh
	Created     time.Time
	RefreshedAt time.Time // when the tokens came
	LastUsed    time.Time // to within a minute; zero: never

	// Of refreshes that failed for a passing reason, in a row; zero after a good one.
	Failures    int
	FailedAt    time.Time
	NextRefresh time.Time // not before then is the provider asked again

	access []byte // sealed
	origin int64
}

// Covers reports whether the grant answers a request for these scopes. What was
// asked for counts although the provider may have renamed it (Google answers
// "profile" with a URL) or given less: asking the person again would give the same.
func (g *Grant) Covers(wanted Scopes) bool {
	return g.Asked.Cover(wanted) || g.Asked.Union(g.Granted).Cover(wanted)
}

// Lacks are the scopes that keep the grant from covering a request.
func (g *Grant) Lacks(wanted Scopes) (lacking Scopes) {
	has := g.Asked.Union(g.Granted)
	for _, scope := range wanted {
		if !has.Cover(Scopes{scope}) {
			lacking = append(lacking, scope)
		}
	}
	return lacking
}

const (
	refreshMargin    = 30 * time.Second // before expiry, so that a token does not expire on its way
	marginOfShortest = 10               // but at most this part of the token's lifetime
)

// Fresh reports whether the access token can be handed out as it is.
func (g *Grant) Fresh(now time.Time) bool { return fresh(now, g.Expiry, g.RefreshedAt) }

func fresh(now, expiry, since time.Time) bool {
	margin := max(0, min(refreshMargin, expiry.Sub(since)/marginOfShortest))
	return expiry.IsZero() || now.Before(expiry.Add(-margin))
}

const (
	ahead        = 5 * time.Minute // before expiry a token is renewed although it still serves,
	partForAhead = 5               // but not in more than this part of its lifetime
)

// Aging reports whether it is time to renew an access token in the background.
func (g *Grant) Aging(now time.Time) bool {
	return g.HasRefresh && !g.Expiry.IsZero() && !now.Before(g.Expiry.Add(-min(ahead, g.Expiry.Sub(g.RefreshedAt)/partForAhead)))
}

// Expired reports whether the access token is of no use any more.
func (g *Grant) Expired(now time.Time) bool { return !g.Expiry.IsZero() && !now.Before(g.Expiry) }

// grantColumns are what Find and Get read; the columns of the key come before them.
const grantColumns = `id, asked, granted, state, origin, access_token, refresh_token IS NOT NULL, expires, version, created, refreshed, last_used,
	refresh_failures, refresh_failed, next_refresh FROM grants `

// scanGrant reads grantColumns, after the columns that the caller scans into key.
func scanGrant(row interface{ Scan(...any) error }, g *Grant, key ...any) error {
	var asked, granted string
	var expires, created, refreshed, used, failed, next int64
	err := row.Scan(append(key, &g.ID, &asked, &granted, &g.State, &g.origin, &g.access, &g.HasRefresh, &expires, &g.Version, &created, &refreshed, &used,
		&g.Failures, &failed, &next)...)
	if err != nil {
		return err
	}
	g.Asked, g.Granted = parseScopes(asked), parseScopes(granted)
	g.Expiry, g.Created, g.RefreshedAt, g.LastUsed = store.Time(expires), store.Time(created), store.Time(refreshed), store.Time(used)
	g.FailedAt, g.NextRefresh = store.Time(failed), store.Time(next)
	return nil
}

// Find reads the grant of a key; nil when there is none. It stands on the way
// of every token request: the columns of the key, which the caller has, are not read again.
func (v *Vault) Find(tx *store.Tx, key Key) (*Grant, error) {
	return findGrant(key, tx.QueryRow(`SELECT `+grantColumns+`WHERE lookup = $1 AND account = $2`, key.Lookup(), key.Account))
}

// FindNamed is Find for a key whose provider was known to have this name: nil
// also when it has not any more. It is one query, where finding the provider first makes two.
func (v *Vault) FindNamed(tx *store.Tx, key Key, provider string) (*Grant, error) {
	return findGrant(key, tx.QueryRow(`SELECT `+grantColumns+`WHERE lookup = $1 AND account = $2 AND provider_id = $3`+providerNamed,
		key.Lookup(), key.Account, key.ProviderID, provider))
}

func findGrant(key Key, row interface{ Scan(...any) error }) (*Grant, error) {
	g := &Grant{Key: key}
	err := scanGrant(row, g)
	if errors.Is(err, store.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(err, "finding a grant")
	}
	return g, nil
}

// providerNamed narrows a query on an account and a provider, $2 and $3, to when that provider has the name $4.
const providerNamed = ` AND EXISTS (SELECT 1 FROM oauth2_providers p WHERE p.id = $3 AND p.account = $2 AND p.name = $4)`

const keyColumns = `SELECT account, workload_id, user_issuer, user_subject, user_id, provider_id, label, resources, audiences, `

// scanWhole reads keyColumns and grantColumns.
func scanWhole(row interface{ Scan(...any) error }) (*Grant, error) {
	var g Grant
	var resources, audiences string
	err := scanGrant(row, &g, &g.Account, &g.WorkloadID, &g.User.Issuer, &g.User.Subject, &g.User.ID, &g.ProviderID, &g.Label, &resources, &audiences)
	if err != nil {
		return nil, err
	}
	if g.Resources, err = decodeSet(resources); err != nil {
		return nil, err
	}
	g.Audiences, err = decodeSet(audiences)
	return &g, err
}

// Get reads a grant by its id; nil when there is none.
func (v *Vault) Get(tx *store.Tx, account, id string) (*Grant, error) {
	g, err := scanWhole(tx.QueryRow(keyColumns+grantColumns+`WHERE id = $1 AND account = $2`, id, account))
	if errors.Is(err, store.ErrNoRows) {
		return nil, nil
	}
	return g, fault.Wrap(err, "reading a grant")
}

// OpenAccess opens the access token for the answer that carries it, and remembers that the grant was used.
func (v *Vault) OpenAccess(ctx context.Context, g *Grant, now time.Time) (secret.Text, error) {
	token, err := v.keeper.OpenText(ctx, bound(g.Account, g.ID, accessToken, g.Version), g.access)
	if err == nil {
		v.touch(g.ID, now)
	}
	return token, err
}

// OpenRefresh opens the refresh token for the one request that redeems it; empty
// when the provider gave none, when the grant has changed since it was read, or
// when somebody else has leased it since: no two send the same one.
func (v *Vault) OpenRefresh(tx *store.Tx, g *Grant, fence int64) (secret.Text, error) {
	var sealed []byte
	err := tx.QueryRow(`SELECT refresh_token FROM grants WHERE id = $1 AND account = $2 AND version = $3 AND fence = $4`, g.ID, g.Account, g.Version, fence).Scan(&sealed)
	if errors.Is(err, store.ErrNoRows) || err == nil && sealed == nil {
		return secret.Text{}, nil
	}
	if err != nil {
		return secret.Text{}, fault.Wrap(err, "reading a refresh token")
	}
	return v.keeper.OpenText(tx.Context(), bound(g.Account, g.ID, refreshToken, g.Version), sealed)
}

// The sealed columns of a grant, each of which is the Kind of its seal.
const (
	accessToken  = "access_token"
	refreshToken = "refresh_token"
)

func bound(account, id, column string, version int64) seal.Context {
	return seal.Context{Account: account, Kind: "grant." + column, Row: id, Version: version}
}

func (v *Vault) sealColumn(ctx context.Context, account, id, column string, version int64, token secret.Text) ([]byte, error) {
	if token.Empty() {
		return nil, nil
	}
	return v.keeper.SealText(ctx, bound(account, id, column, version), token)
}
