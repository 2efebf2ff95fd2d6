// Package broker gets agents their credentials: tokens from OAuth providers, with
// the consent of the person whose account it is, and API keys.
//
//	GetResourceOauth2Token, gateway ─▶ UserToken
//	    a grant covers it ─▶ fresh: its access token; soon to expire: refreshed in the background as well
//	                       └ expired: refreshed, once, whoever else waits
//	    else ─▶ authorization session: a link, good for ten minutes
//	browser: Authorize (an attempt) ─▶ provider ─▶ Callback (parks the code) ─▶ the application's page
//	application: CompleteResourceTokenAuth ─▶ same person? ─▶ code redeemed ─▶ grant
//	    or the platform's own page: Connect ─▶ the user's issuer ─▶ SignedIn ─▶ the same
//	GetResourceOauth2Token, M2M ─▶ ClientToken ─▶ cached, or fetched, once, whoever else waits
//	GetResourceOauth2Token, on behalf of ─▶ ExchangedToken ─▶ the same, for the user's own sign-in token
//	GetResourceApiKey ─▶ the sealed key of an API-key credential provider
//	ListGrants, GetResourceTokenState ─▶ what there is, without touching it
//	RevokeGrant, RevokeUserGrants ─▶ deleted with all that is under way for it ─▶ the provider is told
//
// Invariants: a code is redeemed only for the person who asked, only with the
// PKCE verifier of its own attempt, and at most once; a refresh token goes only
// to where its grant was made; nothing a failure does loses a good grant. What
// has an effect outside is written down (gate.Intent) before it happens.
package broker

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/external"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// Paths of the front channel, below the public URL.
const (
	AuthorizePath = "/identities/oauth2/authorize"
	CallbackPath  = "/identities/oauth2/callback/" // and the provider's callback id
)

const (
	// sessionLifetime is AWS's: the link, and the time a person has to go through with it.
	sessionLifetime = 10 * time.Minute
	// providerTimeout bounds one request to a token endpoint, with the waits around it.
	providerTimeout = 30 * time.Second
	// leaseLifetime is how long a dead process keeps others from a session that it was redeeming. It is longer
	// than providerTimeout, so that nobody living loses its lease while it waits for a provider. (For refreshes see holding.)
	leaseLifetime = 60 * time.Second
	// pollInterval is how often another process's refresh or redemption is looked at.
	pollInterval = 100 * time.Millisecond
)

// Options are what the broker cannot find out by itself.
type Options struct {
	Region        string            // stands in ARNs
	PublicURL     string            // scheme and host of every URL that is minted, without a trailing slash
	Custodian     *seal.Custodian   // moves and resets token vaults
	Secrets       *external.Secrets // where secrets may lie; nil: nowhere but here
	Keys          *external.Keys    // what clients may sign with; nil: nothing
	ProviderLimit int               // of each kind, per account; 0 is mostProviders
	SignIns       []SignIn          // the platform's own clients, for the hosted page

	// Tell is told of what operators hear of at once, in the transaction that makes it true. nil: nobody is.
	Tell func(*store.Tx, Event) error
}

// Broker is the room; safe for concurrent use.
type Broker struct {
	db       *store.DB
	keeper   *seal.Keeper
	identity *identity.Service
	vault    *vault.Vault
	oauth    *oauth.Client
	egress   *egress.Client
	auth     *auth.Authenticator
	gate     *gate.Gate
	options  Options

	holder     string // names this process in leases
	holding    holding
	background *background
	refreshes  singleflight.Group
	completing singleflight.Group
	obtains    singleflight.Group
	found      *store.Cache[finding, found]
	cached     *store.Cache[obtainable, obtained]
	keys       *store.Cache[keyName, *apiKeyProvider]
	hints      hints
}

// New opens the room. Run, in the background, keeps it swept.
func New(db *store.DB, k *seal.Keeper, i *identity.Service, v *vault.Vault, o *oauth.Client, e *egress.Client, a *auth.Authenticator, g *gate.Gate, options Options) *Broker {
	return &Broker{db: db, keeper: k, identity: i, vault: v, oauth: o, egress: e, auth: a, gate: g, options: options, holder: rand.Text(), holding: usualHolding, background: newBackground(),
		found: store.NewCache[finding, found](db, mostFound), cached: store.NewCache[obtainable, obtained](db, mostFound),
		keys: store.NewCache[keyName, *apiKeyProvider](db, mostKeys), hints: hints{ids: make(map[hintKey]string)}}
}

// hashed is how values that a stranger might present are kept: enough to
// recognise one, nothing to present. They all have 256 random bits, so no salt is needed.
func hashed(value string) string {
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// unguessable makes such a value: 256 random bits in 43 URL-safe characters.
func unguessable() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(raw[:])
}
