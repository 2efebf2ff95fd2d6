// Package runtime hosts agents: it keeps their code and configurations, runs a
// process for each session, and hands each call to it.
//
//	control plane   CreateAgentRuntime … ListAgentRuntimeEndpoints ─▶ rows; versions never change
//	code            PutAgentCode ─▶ archive by its SHA-256 ─▶ a folder, unpacked once on each machine
//	data plane      POST /runtimes/{arn}/invocations
//	                  who calls (gate) ─▶ endpoint, version ─▶ session: theirs? running? started, awaited
//	                  ─▶ workload token for the caller's user ─▶ the agent ─▶ its answer, as it comes
//	a session       starting ─▶ active ⇄ idle ─▶ ended: by itself, idle, too old, stopped, or with the platform
//	its storage     unpacked at its start, packed while it runs and at its end: a file for each session and owner
//
// What runs a session is a [Driver]; the room knows no process.
//
// Invariants: a session is used by the account, principal and user that opened it,
// and by nobody else (unless --agent-sessions-shared is set: then, as at AWS, by
// whoever may invoke the runtime and names the session). What an agent is handed
// (its role's credentials, its user's workload token) reaches its session alone.
// When the platform ends, however it ends, no agent goes on.
package runtime

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Options are what the room cannot find out by itself.
type Options struct {
	Region    string
	PublicURL string // scheme and host of every URL that is minted, without a trailing slash
	Folder    string // for unpacked code and logs

	// Driver answers what runs sessions. Its error is for people: runtimes that are
	// made without one are CREATE_FAILED, and say it. It may take a moment when it is asked first.
	Driver func() (Driver, error)

	Limits         Limits // of each session
	MaxSessions    int    // that run at once; 0 is 1,000
	NewSessions    int    // that a principal may begin in a minute; 0 is 600
	SharedSessions bool   // AWS's behaviour: whoever may invoke may use anybody's session id

	Watch Watch // for metrics

	// Platform is what sessions reach of the platform itself: the API and the
	// gateways, and nothing else. Proxy is their way out.
	Platform http.Handler
	Proxy    http.Handler

	// Refuse renders an error as AWS does. The room knows no wire.
	Refuse func(http.ResponseWriter, *http.Request, *api.Info, error)

	// CheckRole refuses a role that the account does not have, or that does not
	// let the platform take it on for the runtime.
	CheckRole func(tx *store.Tx, account, roleARN, runtimeARN string) error
	// Deleted takes away what other rooms keep with a runtime, in the transaction
	// that deletes it.
	Deleted func(tx *store.Tx, account, runtimeARN string) error
}

// Service is the room; safe for concurrent use.
type Service struct {
	db       *store.DB
	keeper   *seal.Keeper
	identity *identity.Service
	auth     *auth.Authenticator
	gate     *gate.Gate
	options  Options
	public   *url.URL
	now      func() time.Time
	patience time.Duration // with an agent that starts: startLimit, but for tests
	mcp      conversations // of MCP
	logTime  logClock

	shelf *store.Shelf[reference, *served] // what calls find

	node      machine
	leasing   sync.Mutex
	leased    time.Time // when this node last said that it lives
	unpacking unpacking
	live      sessions
	unstruck  atomic.Bool    // a session has ended whose row is left behind
	work      sync.WaitGroup // the lives of sessions
	closing   chan struct{}
	close     sync.Once
}

// New opens the room. Close ends what runs in it.
func New(db *store.DB, k *seal.Keeper, i *identity.Service, a *auth.Authenticator, g *gate.Gate, o Options) *Service {
	if o.MaxSessions == 0 {
		o.MaxSessions = defaultSessions
	}
	if o.NewSessions == 0 {
		o.NewSessions = defaultArrivals
	}
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		public = &url.URL{}
	}
	s := &Service{db: db, keeper: k, identity: i, auth: a, gate: g, options: o, public: public, now: time.Now, patience: startLimit,
		node: openNode(o.Folder), live: sessions{all: map[sessionKey]*session{}}, closing: make(chan struct{})}
	s.shelf = newShelf(s)
	return s
}

// Close ends all sessions, at once and side by side, and returns when nothing of
// them is left: after fifteen seconds at most, and what it takes to save their
// storage and to kill the rest.
func (s *Service) Close() {
	s.close.Do(func() {
		s.live.mu.Lock() // no session begins from here on
		close(s.closing)
		s.live.mu.Unlock()
		for _, n := range s.those(func(*session) bool { return true }) {
			n.finish(endedPlatform, "The platform stopped.")
		}
	})
	s.work.Wait()
}

// ends reports whether the room is being closed.
func (s *Service) ends() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// AWS's quotas.
const (
	maxRuntimes  = 1000
	maxVersions  = 1000 // of a runtime
	maxEndpoints = 10   // of a runtime
	pageSize     = 100  // of a list that does not say
)

// DefaultEndpoint is the one that every runtime has, and that follows its newest version.
const DefaultEndpoint = "DEFAULT"
