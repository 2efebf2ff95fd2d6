package runtime

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// stopGrace is how long an agent has to end by itself when it is told to.
const stopGrace = 15 * time.Second

// sessionKey names a session: its id is the caller's choice, within one runtime.
type sessionKey struct{ runtime, id string }

// owner is whose a session is. Another owner's use of its id is refused.
type owner struct{ account, principal, user string }

func ownerOf(c principal.Caller) owner {
	o := owner{account: c.Account, principal: c.ARN, user: c.User.String()}
	if o.principal == "" {
		o.principal = o.user
	}
	return o
}

// session is one conversation's agent on this machine.
type session struct {
	key      sessionKey
	name     string // of it on this machine, for the driver and the log's file
	owner    owner
	endpoint string
	version  *versionRow
	runtime  *runtimeRow
	log      *sessionLog
	secrets  *secrets // handed to it
	started  time.Time

	wake    chan struct{}   // somebody said that it stops
	ready   chan struct{}   // closed when the agent answers, or never will
	failure error           // why it never will; set before ready is closed
	process Process         // set before ready is closed without a failure
	agent   *http.Transport // reaches it
	over    chan struct{}   // closed when nothing is left of it

	mu       sync.Mutex
	calls    int       // under way
	lastUsed time.Time // when the last of them ended
	busy     bool      // the agent says that work goes on
	stopping string    // why it is being ended; "" while it is not
}

// sessions are those of this process. Each is in the table from its first call to
// the moment when nothing of it is left.
type sessions struct {
	mu  sync.Mutex
	all map[sessionKey]*session
}

// acquire finds a session or begins one, and counts a call in. release counts it
// out. It waits for a session that starts; one that is stopping is fault.Concurrent.
func (s *Service) acquire(ctx context.Context, caller principal.Caller, at *served, id string) (_ *session, release func(), err error) {
	key, who := sessionKey{at.runtime.id, id}, ownerOf(caller)
	s.live.mu.Lock()
	found := s.live.all[key]
	if found != nil && found.owner != who && !s.options.SharedSessions {
		s.live.mu.Unlock()
		return nil, nil, fault.New(fault.Denied, "The session belongs to another caller or user. Use a session id of your own.")
	}
	if found == nil {
		if len(s.live.all) >= s.options.MaxSessions {
			s.live.mu.Unlock()
			return nil, nil, fault.New(fault.Throttled, "%d sessions are running, which is this server's limit. Try again later, or stop some: StopRuntimeSession.", s.options.MaxSessions)
		}
		found = &session{
			key: key, name: newName(), owner: who, endpoint: at.endpoint, version: at.version, runtime: at.runtime,
			secrets: &secrets{}, started: s.now(), wake: make(chan struct{}, 1), ready: make(chan struct{}), over: make(chan struct{}), lastUsed: s.now(),
		}
		s.live.all[key] = found
		s.work.Go(func() { s.run(context.WithoutCancel(ctx), found) })
	}
	s.live.mu.Unlock()

	release, err = found.enter(s.now)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-found.ready:
	case <-ctx.Done():
		release()
		return nil, nil, ctx.Err()
	}
	if found.failure != nil {
		release()
		return nil, nil, found.failure
	}
	return found, release, nil
}

// enter counts a call in.
func (n *session) enter(now func() time.Time) (release func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping != "" {
		return nil, fault.New(fault.Concurrent, "Session operation in progress, please retry")
	}
	n.calls++
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.calls--
		n.lastUsed = now()
	}), nil
}

// run is a session's life, from its start to the moment when nothing is left.
func (s *Service) run(ctx context.Context, n *session) {
	n.log = s.openLog(n)
	defer func() {
		s.live.mu.Lock()
		delete(s.live.all, n.key)
		s.live.mu.Unlock()
		n.log.close()
		close(n.over)
	}()
	process, err := s.start(ctx, n)
	if err != nil {
		n.fail(err)
		return
	}
	n.process = process
	if err := s.awaitReady(ctx, n); err != nil {
		process.Stop(0)
		n.fail(err)
		return
	}
	close(n.ready)
	why := s.attend(n)
	n.stop(why)
	process.Stop(stopGrace)
	n.log.note("The session ended: " + why)
}

func (n *session) fail(err error) {
	n.stop("it did not start")
	n.failure = err
	close(n.ready)
}

// stop says that no call is taken in any more; the first reason counts.
func (n *session) stop(why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping == "" {
		n.stopping = why
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *session) stopped() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stopping
}

// attend looks after a running session, and returns with the reason why it ends.
func (s *Service) attend(n *session) string {
	idle, life := lifetimes(n.version.settings.LifecycleConfiguration)
	old := time.NewTimer(life)
	defer old.Stop()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	health := newHealth(n)
	for {
		select {
		case <-n.process.Ended():
			return n.process.End()
		case <-s.closing:
			return "The platform stops."
		case <-n.wake:
		case <-old.C:
			return fmt.Sprintf("It reached its maximum lifetime of %v.", life)
		case <-look.C:
			health.look(s.now)
		}
		if why := n.stopped(); why != "" {
			return why
		}
		if n.idleFor(s.now()) >= idle {
			return fmt.Sprintf("It was idle for %v.", idle)
		}
	}
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

// endSessions ends a runtime's sessions, or those of one version, and does not wait.
func (s *Service) endSessions(runtime string, version int64, why string) {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	for key, n := range s.live.all {
		if key.runtime == runtime && (version == 0 || n.version.version == version) {
			n.stop(why)
		}
	}
}

// find is a session that runs here, of the caller; fault.NotFound.
func (s *Service) find(caller principal.Caller, runtime, id string) (*session, error) {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	n := s.live.all[sessionKey{runtime, id}]
	if n == nil {
		return nil, fault.New(fault.NotFound, "There is no session %s: it has ended, or never was.", id)
	}
	if n.owner != ownerOf(caller) && !s.options.SharedSessions {
		return nil, fault.New(fault.Denied, "The session belongs to another caller or user.")
	}
	return n, nil
}
