// Package broker gets tokens from OAuth providers. (Unfinished: signatures first.)
package broker

import (
	"context"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

var errUnfinished = errors.New("broker: unfinished")

// Options are what the broker cannot find out by itself.
type Options struct {
	Region    string
	PublicURL string // scheme and host of every URL that is minted, without a trailing slash
}

// Broker is the room.
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
}

// New opens the room.
func New(db *store.DB, k *seal.Keeper, i *identity.Service, v *vault.Vault, o *oauth.Client, e *egress.Client, a *auth.Authenticator, g *gate.Gate, options Options) *Broker {
	return &Broker{db, k, i, v, o, e, a, g, options}
}

// TokenRequest is what GetResourceOauth2Token and the gateway ask.
type TokenRequest struct {
	ProviderName string // or ProviderARN
	ProviderARN  string
	Scopes       []string
	ReturnURL    string
	SessionURI   string // a poll: answered for that session alone
	Force        bool
	Parameters   map[string]string
	State        secret.Text
	Resources    []string
	Audiences    []string
}

// Status of an authorization session under way.
const StatusInProgress = "IN_PROGRESS"

// TokenResult is the access token, or the other three.
type TokenResult struct {
	Access           secret.Text
	AuthorizationURL secret.Text
	SessionURI       string
	Status           string
}

// UserToken answers for the caller's Workload and User.
func (b *Broker) UserToken(ctx context.Context, caller principal.Caller, r TokenRequest) (*TokenResult, error) {
	return nil, errUnfinished
}

// Provider is a credential provider, its secret apart.
type Provider struct {
	ID, Account, Name, ARN, Vendor, CallbackID string
}

// ProviderByARN finds a provider; fault.NotFound.
func (b *Broker) ProviderByARN(tx *store.Tx, account, arn string) (Provider, error) {
	return Provider{}, errUnfinished
}

// Subject is whom a link, a session or a callback concerns: what a guard needs before it lets the act happen.
type Subject struct {
	Account     string
	Workload    principal.Workload // zero for a callback id alone
	ProviderARN string
}

// SubjectOfSession looks a session up by its sessionUri (= request_uri = session_id); fault.Denied when unknown.
func (b *Broker) SubjectOfSession(ctx context.Context, sessionURI string) (Subject, error) {
	return Subject{}, errUnfinished
}

// SubjectOfCallback looks a provider up by the id in its callback path; fault.NotFound when unknown.
func (b *Broker) SubjectOfCallback(ctx context.Context, callbackID string) (Subject, error) {
	return Subject{}, errUnfinished
}

// Attempt is one opening of a consent link.
type Attempt struct {
	Account       string
	WorkloadName  string
	ProviderName  string
	ProviderTitle string // "Google"; the provider's name for custom ones
	ProviderHost  string // where the button leads
	Scopes        []string
	ReturnHost    string
	Expires       time.Time
	Location      string // the provider's authorize URL
	CookieName    string // set HttpOnly, SameSite=Lax, Secure when the public URL is https, until Expires
	CookieValue   string
	CookiePath    string
}

// Authorize begins an attempt; requestURI is the value of request_uri. Consumes nothing.
func (b *Broker) Authorize(ctx context.Context, caller principal.Caller, requestURI string) (*Attempt, error) {
	return nil, errUnfinished
}

// Callback is what the provider sent the browser back with.
type Callback struct {
	ProviderCallbackID string // of the path
	State              string
	Code               secret.Text
	Issuer             string // iss of RFC 9207
	Error              string
	ErrorDescription   string
	Cookie             func(name string) string // the request's cookie, "" when there is none
}

// Landing is where the browser goes next.
type Landing struct {
	ReturnURL    string // with session_id, state, or error
	Denied       bool   // the person or the provider said no: the session has failed
	ProviderName string
	WorkloadName string
	CookieName   string // the attempt's cookie, to be cleared
	CookiePath   string
}

// Callback parks the code of the first attempt to pass.
func (b *Broker) Callback(ctx context.Context, caller principal.Caller, c Callback) (*Landing, error) {
	return nil, errUnfinished
}

// Run sweeps until ctx ends.
func (b *Broker) Run(ctx context.Context) error { return errUnfinished }
