// Package gateway holds gateways, their targets, and the MCP endpoint through
// which agents call them.
//
//	control plane   CreateGateway … ListGatewayTargets ─▶ rows; a target's document compiled once
//	MCP endpoint    POST /gateway/{id}/mcp
//	                  host and origin ─▶ endpoint (cached) ─▶ who calls (gate) ─▶ message ─▶ revision
//	                  tools/call ─▶ gate.Do ─▶ user's token (broker) ∥ intent ─▶ Target.Call ─▶ result
//	metadata        GET /.well-known/oauth-protected-resource/gateway/{id}/mcp
//
// The MCP side is a relay, not a server built on an SDK: messages are read
// without decoding what is only passed on, so that ids, large numbers, unknown
// members and key order survive (docs/design/2026-11-22-mcp-relay.md).
//
// Invariant: the caller's own token never reaches a target. What a target gets
// is what the broker has for this gateway's workload and this user, or nothing;
// and no target is called before the intent to call it is durable.
package gateway

import (
	"net/url"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Options are what the room cannot find out by itself.
type Options struct {
	Region    string
	PublicURL string        // scheme and host of every URL that is minted, without a trailing slash
	Version   string        // of the software, told to MCP clients; empty is "dev"
	Kinds     []Kind        // of targets, in the order in which they are asked
	Timeout   time.Duration // of one tool call; 0 is 15 minutes, as AWS has it

	// CheckRole refuses a role that the account does not have, or that does not
	// let the platform take it on for the gateway. Nil takes any role.
	CheckRole func(tx *store.Tx, account, roleARN, gatewayARN string) error
	// Deleted takes away what other rooms keep with a gateway, in the transaction
	// that deletes it. Nil takes nothing.
	Deleted func(tx *store.Tx, account, gatewayARN string) error
}

// Service is the room.
type Service struct {
	db       *store.DB
	keeper   *seal.Keeper
	identity *identity.Service
	broker   *broker.Broker
	auth     *auth.Authenticator
	gate     *gate.Gate
	options  Options
	public   *url.URL
	shelf    *store.Shelf[string, *endpoint]
	now      func() time.Time
}

// New opens the room.
func New(db *store.DB, k *seal.Keeper, i *identity.Service, b *broker.Broker, a *auth.Authenticator, g *gate.Gate, o Options) *Service {
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Minute
	}
	o.PublicURL = strings.TrimRight(o.PublicURL, "/")
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		public = &url.URL{} // then no host but loopback is served
	}
	s := &Service{db: db, keeper: k, identity: i, broker: b, auth: a, gate: g, options: o, public: public, now: time.Now}
	s.shelf = newShelf(s)
	return s
}

// kind finds a kind by the type that its targets' rows carry.
func (s *Service) kind(of string) (Kind, bool) {
	for _, k := range s.options.Kinds {
		if string(k.Type) == of {
			return k, true
		}
	}
	return Kind{}, false
}
