package runtime

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const (
	defaultSessions = 1000
	defaultArrivals = 600 // sessions that a principal may begin in a minute
	maxArrivals     = 10_000
)

// admit refuses a session more than there may be. The last tenth of the places is
// not for a principal that has a tenth of them already, and the last twentieth not
// for an account that has half: nobody can take them all.
func (s *Service) admit(who owner) error {
	most := s.options.MaxSessions
	total, ofPrincipal, ofAccount := len(s.live.all), 0, 0
	if total >= most-most/10 {
		for _, n := range s.live.all {
			if n.owner.account == who.account {
				ofAccount++
				if n.owner.principal == who.principal {
					ofPrincipal++
				}
			}
		}
	}
	switch {
	case total >= most:
		return fault.New(fault.Throttled, "%d sessions are running, which is this server's limit. Try again later, or stop some (StopRuntimeSession).", most)
	case most >= 10 && total >= most-most/10 && ofPrincipal >= most/10, most >= 20 && total >= most-most/20 && ofAccount >= most/2:
		return fault.New(fault.Throttled, "This server's places for sessions are nearly all taken, and you have many of them: the rest is kept for others. Stop some (StopRuntimeSession), or try again later.")
	case !s.live.arrivals.admit(who, s.options.NewSessions, s.now()):
		return fault.New(fault.Throttled, "You have begun too many sessions: %d in a minute are allowed. Go on with those that you have, or try again later.", s.options.NewSessions)
	}
	return nil
}

// arrivals counts how often principals begin sessions.
type arrivals struct {
	buckets map[[2]string]*rate.Limiter
}

func (a *arrivals) admit(who owner, perMinute int, now time.Time) bool {
	key := [2]string{who.account, who.principal}
	bucket := a.buckets[key]
	if bucket == nil {
		if a.buckets == nil || len(a.buckets) >= maxArrivals {
			a.sweep(now)
		}
		bucket = rate.NewLimiter(rate.Limit(float64(perMinute)/60), perMinute)
		a.buckets[key] = bucket
	}
	return bucket.AllowN(now, 1)
}

// sweep forgets who has not begun a session for a minute, and all if nobody else can be.
func (a *arrivals) sweep(now time.Time) {
	kept := map[[2]string]*rate.Limiter{}
	for key, bucket := range a.buckets {
		if bucket.TokensAt(now) < float64(bucket.Burst()) {
			kept[key] = bucket
		}
	}
	if len(kept) >= maxArrivals {
		kept = map[[2]string]*rate.Limiter{}
	}
	a.buckets = kept
}
