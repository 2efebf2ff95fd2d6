package runtime

import (
	"context"
	"fmt"
	"time"
)

// stopGrace is how long an agent has to end by itself when it is told to.
const stopGrace = 15 * time.Second

// attend looks after a running session, and returns when it is to end: finish has
// then been called.
func (s *Service) attend(n *session) {
	idle, life := lifetimes(n.version.settings.LifecycleConfiguration)
	old := time.NewTimer(life - s.now().Sub(n.started))
	defer old.Stop()
	look := time.NewTimer(lookOften)
	defer look.Stop()
	var h health
	for {
		wait := lookOften
		select {
		case <-n.process.Ended():
			n.finish(endedCrashed, n.process.End())
		case <-n.until.Done():
		case <-old.C:
			n.finish(endedLifetime, fmt.Sprintf("It reached its maximum lifetime of %v.", life))
		case <-look.C:
			wait = s.examine(n, &h, idle)
		}
		if n.stopped() != "" {
			return
		}
		look.Reset(wait)
	}
}

// examine asks an agent how it is, ends the session where that, or its idle time,
// says so, and answers when to look again.
func (s *Service) examine(n *session, h *health, idle time.Duration) time.Duration {
	ctx, cancel := context.WithTimeout(n.until, pingLimit)
	defer cancel()
	said := n.ask(ctx)
	now := s.now()
	if n.until.Err() != nil {
		return 0
	}
	n.heard(said, now)
	if working, busy := n.load(); h.judge(said, working, busy) &&
		n.finishUnused(endedUnhealthy, fmt.Sprintf("It did not answer /ping %d times, and no call was under way.", h.misses), now, 0) {
		return 0
	}
	quiet := n.idleFor(now)
	if quiet >= idle && n.finishUnused(endedIdle, fmt.Sprintf("It was idle for %v.", idle), now, idle) {
		return 0
	}
	return nextLook(quiet, idle)
}

// nextLook is when an agent is looked at again: every two seconds while it is in
// use, every ten later, and at the moment when its idle time is over.
func nextLook(quiet, idle time.Duration) time.Duration {
	wait := lookOften
	if quiet > time.Minute {
		wait = lookSeldom
	}
	return max(min(wait, idle-quiet), time.Millisecond)
}

// load says whether calls are under way, and whether the agent called itself busy.
func (n *session) load() (working, busy bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls > 0, n.busy
}
