package runtime

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// sessionKey names a session: its id is the caller's choice, within one runtime.
type sessionKey struct{ runtime, id string }

// owner is whose a session is. Another owner's use of its id is refused. The
// principal is compared whole, a role's session name included: whoever takes on a
// role under another name may be another person.
type owner struct{ account, principal, user string }

func ownerOf(c principal.Caller) owner {
	o := owner{account: c.Account, principal: c.ARN, user: c.User.String()}
	if o.principal == "" {
		o.principal = o.user
	}
	return o
}

// reason is why a session ends, in the words of metrics.
type reason string

// The reasons. There are no others: they are a metric's label.
const (
	endedIdle      reason = "idle"
	endedLifetime  reason = "lifetime"
	endedStopped   reason = "stopped" // by StopRuntimeSession
	endedCrashed   reason = "crashed" // by itself
	endedUnhealthy reason = "unhealthy"
	endedDeleted   reason = "deleted" // its runtime, version or endpoint was
	endedPlatform  reason = "platform"
	endedLost      reason = "lost"   // to another replica
	endedFailed    reason = "failed" // it never answered
)

// Reasons are those for which a session can end.
var Reasons = []string{string(endedIdle), string(endedLifetime), string(endedStopped), string(endedCrashed), string(endedUnhealthy), string(endedDeleted), string(endedPlatform), string(endedLost), string(endedFailed)}

// session is one conversation's agent on this machine.
type session struct {
	key      sessionKey
	name     string // of it on this machine, for the driver and the log's file
	owner    owner
	user     principal.User
	endpoint string
	version  *versionRow
	runtime  *runtimeRow
	host     string // that its agent is called by: its version's, whatever is served meanwhile
	path     string // that calls go to
	log      *sessionLog
	secrets  *secrets // handed to it
	storage  *Archive // that outlives it; nil where its runtime has none. Of run alone
	started  time.Time

	decided chan struct{}   // closed when it is written down, or will not be
	ready   chan struct{}   // closed when the agent answers, or never will
	failure error           // why it never will; set before ready is closed
	process Process         // set before ready is closed without a failure
	agent   *http.Transport // reaches it
	over    chan struct{}   // closed when nothing is left of it

	until context.Context // ends the moment that the session is to end, for whatever reason
	end   context.CancelFunc

	issuing sync.Mutex
	issued  auth.Credentials // the last that it was given

	mu        sync.Mutex
	calls     int       // under way
	lastUsed  time.Time // when the last of them ended, or the agent was last at work
	busy      bool      // the agent says that work goes on
	busySince time.Time // when it last said so
	stopping  string    // why it is being ended, in words; "" while it is not
	why       reason
}

// enter counts a call in; release counts it out.
func (n *session) enter(now func() time.Time) (release func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping != "" {
		return nil, errChanging()
	}
	n.calls++
	n.lastUsed = now()
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.calls--
		n.lastUsed = now()
	}), nil
}

// errChanging is AWS's answer while a session stops.
func errChanging() error {
	return fault.New(fault.Concurrent, "Session operation in progress, please retry")
}

// stop ends a session because somebody asked for it.
func (n *session) stop(text string) { n.finish(endedStopped, text) }

// finish says that no call is taken in any more, and that the session is to end;
// the first reason counts.
func (n *session) finish(why reason, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.finishing(why, text)
}

// finishUnused is finish for a session that is ended because nobody uses it, and
// reports whether it ends. A call that was counted in since now was read keeps it: no
// call is cut because the idle time was over at the same moment.
func (n *session) finishUnused(why reason, text string, now time.Time, quiet time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.calls > 0 || now.Sub(n.lastUsed) < quiet {
		return false
	}
	n.finishing(why, text)
	return true
}

// finishing is finish with the lock.
func (n *session) finishing(why reason, text string) {
	if n.stopping == "" {
		n.why, n.stopping = why, text
		n.end()
	}
}

// stopped says why the session ends; "" while it does not.
func (n *session) stopped() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stopping
}

func (n *session) reason() reason {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.why
}

// idleFor is how long nobody has used a session, nor it been busy by its own word.
func (n *session) idleFor(now time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.calls > 0 || n.busy {
		n.lastUsed = now
	}
	return now.Sub(n.lastUsed)
}

// written says that the session is in the database, and where its log is.
func (n *session) written(l *sessionLog) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = l
}

func (n *session) enrolled() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log != nil
}

// used is when the session was last in use.
func (n *session) used(now time.Time) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.calls > 0 || n.busy {
		return now
	}
	return n.lastUsed
}

// state is what a list says of a session.
func (n *session) state() (starting, active, stopping bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.ready:
	default:
		starting = true
	}
	return starting, n.calls > 0 || n.busy, n.stopping != ""
}
