// Package principal says who asks: the Caller that every act needs.
//
//	request ── auth ──▶ Caller ── gate ──▶ room
//
// Invariant: a Caller is made by auth (from a signature, a bearer token or a
// browser), by gate for background work, and by nothing else. Rooms believe it.
package principal

import (
	"context"
	"net/netip"

	"github.com/onbehalf/onbehalf/internal/secret"
)

// Kind is the way a Caller proved itself.
type Kind string

// The ways a caller may come in.
const (
	Nobody    Kind = ""          // not authenticated; may do nothing
	Key       Kind = "key"       // an access key's SigV4 signature
	Role      Kind = "role"      // temporary credentials of a role
	Bearer    Kind = "bearer"    // a JWT that a gateway's or runtime's authorizer accepted
	Anonymous Kind = "anonymous" // a gateway without inbound authorization
	Browser   Kind = "browser"   // a person's browser on the OAuth front channel
	System    Kind = "system"    // the platform's own background work
)

// Caller is who asks, for which user, through which workload.
type Caller struct {
	Kind       Kind
	Account    string      // 12 digits; the tenant whose rows may be touched
	ARN        string      // IAM principal ("arn:aws:iam::000000000000:root"); empty for bearers, browsers, anonymous
	KeyID      string      // access key id of a Key or Role
	Root       bool        // the account's root key: policy allows it everything in its account
	User       User        // the person acted for; zero when the workload acts on its own
	UserToken  secret.Text // the JWT that proved User, where there is one
	Workload   Workload    // the workload identity acted through; zero on the control plane
	Authorizer string      // ARN of the gateway or runtime whose authorizer vouched for User; empty for trusted issuers
	Request    Request
}

// User is a person as the outside world names them: either an issuer and its
// subject (from a verified JWT) or an opaque id that the application vouches
// for. The two never equal each other.
type User struct {
	Issuer  string
	Subject string
	ID      string
}

// IsZero reports whether there is no user.
func (u User) IsZero() bool { return u == User{} }

// String is the user's one-line name in records and keys: unambiguous, not secret.
func (u User) String() string {
	switch {
	case u.IsZero():
		return ""
	case u.ID != "":
		return "id:" + u.ID
	default:
		return "jwt:" + u.Issuer + "#" + u.Subject
	}
}

// Workload is a workload identity. ID is immutable: a deleted and re-created
// name has another one, so nothing of the old revives.
type Workload struct {
	ID    string
	Name  string
	ARN   string
	Owner string // ARN of the gateway or runtime that owns it; empty for a caller's own
}

// IsZero reports whether there is no workload.
func (w Workload) IsZero() bool { return w.ID == "" }

// Request is what is known of the HTTP request under way, before anybody is authenticated.
type Request struct {
	ID      string     // x-amzn-RequestId, a UUID
	Address netip.Addr // the client's, through trusted proxies only
	Secure  bool       // it came through TLS, ended here or by a trusted proxy
	Region  string     // of this server, for policies
	Session string     // the hosted agent's session that it came from, by this machine's name of it; "" from outside
}

type requestKey struct{}

// WithRequest puts the request's facts in its context; the server's outermost handler does it.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestOf is the request under way; zero in background work.
func RequestOf(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}
