package runtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// sessions are those of this process. Each is in the table from its first call to
// the moment when nothing of it is left.
type sessions struct {
	mu       sync.Mutex
	all      map[sessionKey]*session
	arrivals arrivals
}

// acquire finds a session or begins one, and counts a call in; release counts it
// out. It waits for a session that starts, and leaves it to the others when ctx
// ends; one that is stopping is fault.Concurrent.
func (s *Service) acquire(ctx context.Context, caller principal.Caller, at *served, id string) (_ *session, release func(), err error) {
	key, who := sessionKey{at.runtime.id, id}, ownerOf(caller)
	var found *session
	for {
		if _, err := s.own(ctx, key, who); err != nil {
			return nil, nil, err
		}
		s.live.mu.Lock()
		if found = s.live.all[key]; found == nil || found.owner == who || s.options.SharedSessions {
			break // with the lock
		}
		s.live.mu.Unlock()
	}
	if found == nil {
		err := s.admit(who)
		if s.ends() {
			err = fault.New(fault.Unavailable, "The platform stops. Try again in a moment.")
		}
		if err != nil {
			s.live.mu.Unlock()
			return nil, nil, err
		}
		found = s.newSession(key, who, caller.User, at)
		s.live.all[key] = found
		s.work.Go(func() { s.run(context.WithoutCancel(ctx), found) })
	}
	release, err = found.enter(s.now)
	s.live.mu.Unlock()
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

// own is the session of a name that runs here; nil where there is none, and
// errForeign where it is another's. A session is nobody's before it is written down:
// until then it may be another replica's, and whoever began it here has no claim to it.
func (s *Service) own(ctx context.Context, key sessionKey, who owner) (*session, error) {
	for {
		s.live.mu.Lock()
		found := s.live.all[key]
		s.live.mu.Unlock()
		if found == nil || found.owner == who || s.options.SharedSessions {
			return found, nil
		}
		select {
		case <-found.decided:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if found.enrolled() {
			return nil, errForeign()
		}
		select {
		case <-found.over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func errForeign() error {
	return fault.New(fault.Denied, "The session belongs to another caller or user. Use a session id of your own.")
}

func (s *Service) newSession(key sessionKey, who owner, user principal.User, at *served) *session {
	n := &session{
		key: key, name: newName(), owner: who, user: user, endpoint: at.endpoint, version: at.version, runtime: at.runtime, host: at.host, path: at.path,
		secrets: &secrets{}, started: s.now(), decided: make(chan struct{}), ready: make(chan struct{}), over: make(chan struct{}), lastUsed: s.now(),
	}
	n.until, n.end = context.WithCancel(context.Background())
	return n
}

// find is a session that runs, of the caller: fault.Denied where it is another's,
// fault.Concurrent where another replica has it, fault.NotFound where it is not.
func (s *Service) find(ctx context.Context, caller principal.Caller, runtime, id string) (*session, error) {
	n, err := s.own(ctx, sessionKey{runtime, id}, ownerOf(caller))
	if err != nil {
		return nil, err
	}
	if n == nil {
		if err := s.elsewhere(ctx, sessionKey{runtime, id}, ownerOf(caller)); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.NotFound, "There is no session %s: it has ended, or never was.", id)
	}
	return n, nil
}

// endSessions ends a runtime's sessions, or those of one version, and does not wait.
func (s *Service) endSessions(runtime string, version int64, text string) {
	for _, n := range s.sessionsOf(runtime, version) {
		n.finish(endedDeleted, text)
	}
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	if !s.ends() {
		s.work.Go(func() {
			if err := fault.Contain("removing files", func() error { s.removeFiles(runtime, version); return nil }); err != nil {
				slog.Error("the files of ended sessions were left behind", "runtime", runtime, "error", err)
			}
		})
	}
}

// sessionsOf are a runtime's sessions, or those of one version.
func (s *Service) sessionsOf(runtime string, version int64) []*session {
	return s.those(func(n *session) bool {
		return n.key.runtime == runtime && (version == 0 || n.version.version == version)
	})
}

// removeFiles removes what is kept of a deleted runtime's sessions, or of a deleted
// version's, once they have ended.
func (s *Service) removeFiles(runtime string, version int64) {
	for _, n := range s.sessionsOf(runtime, version) {
		<-n.over
	}
	s.removeStorage(runtime, version)
	if version == 0 {
		s.removeLogs(runtime)
	}
}

// endEndpoint ends the sessions that were opened through an endpoint, and does not wait.
func (s *Service) endEndpoint(runtime, endpoint, text string) {
	for _, n := range s.those(func(n *session) bool { return n.key.runtime == runtime && n.endpoint == endpoint }) {
		n.finish(endedDeleted, text)
	}
}

// those are the sessions of this process that are asked for.
func (s *Service) those(asked func(*session) bool) (found []*session) {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	for _, n := range s.live.all {
		if asked(n) {
			found = append(found, n)
		}
	}
	return found
}

// run is a session's life, from its start to the moment when nothing is left. One
// that breaks off in the midst, by a fault of ours, is that session's end alone.
func (s *Service) run(ctx context.Context, n *session) {
	defer s.forget(n)
	err := fault.Contain("looking after a session", func() error { s.course(ctx, n); return nil })
	if err == nil {
		return
	}
	slog.ErrorContext(ctx, "a session broke off", "runtime", n.key.runtime, "session", n.name, "error", err)
	n.finish(endedFailed, "It broke off.")
	closeOnce(n.decided)
	if !closed(n.ready) {
		n.failure = err
		close(n.ready)
	}
}

// closed reports whether a channel that nobody sends to is closed. Of a session's
// channels run alone asks, which alone closes them.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// closeOnce closes a channel that may be closed already.
func closeOnce(c chan struct{}) {
	if !closed(c) {
		close(c)
	}
}

// course is run without its net.
func (s *Service) course(ctx context.Context, n *session) {
	if err := s.enroll(ctx, n); err != nil {
		close(n.decided)
		n.fail(err)
		return
	}
	defer s.strike(ctx, n)
	l := s.openLog(n)
	defer l.close()
	n.written(l)
	close(n.decided)
	process, err := s.start(ctx, n)
	if err != nil {
		n.log.note("The session did not start.")
		n.fail(err)
		return
	}
	stopped := false
	stop := func(grace time.Duration) { stopped = true; process.Stop(grace) }
	defer func() {
		if !stopped { // it breaks off: nothing of the agent outlives its session's row
			stop(0)
		}
	}()
	n.process, n.agent = process, n.transport()
	defer n.agent.CloseIdleConnections()
	if err := s.awaitReady(n); err != nil {
		stop(0)
		n.fail(err)
		return
	}
	s.options.Watch.started(s.now().Sub(n.started))
	if n.storage != nil {
		n.storage.hold(false)
	}
	close(n.ready)
	s.attend(n)
	stop(stopGrace)
	n.log.note("The session ended. " + n.stopped())
}

// fail ends a session that never answered. Whoever waits for it is told why.
func (n *session) fail(err error) {
	n.finish(endedFailed, "It did not start.")
	n.failure = err
	close(n.ready)
}

// forget takes a session out of the table: its id is free.
func (s *Service) forget(n *session) {
	s.live.mu.Lock()
	delete(s.live.all, n.key)
	s.live.mu.Unlock()
	n.end()
	s.options.Watch.ended(n.reason())
	close(n.over)
}

// Watch hears of sessions, for metrics.
type Watch struct {
	Started func(took time.Duration)
	Ended   func(reason string)
}

func (w Watch) started(took time.Duration) {
	if w.Started != nil {
		w.Started(took)
	}
}

func (w Watch) ended(why reason) {
	if w.Ended != nil {
		w.Ended(string(why))
	}
}

// Running counts this process's sessions and the calls under way in them.
func (s *Service) Running() (sessions, calls int) {
	all := s.those(func(*session) bool { return true })
	for _, n := range all {
		n.mu.Lock()
		calls += n.calls
		n.mu.Unlock()
	}
	return len(all), calls
}
