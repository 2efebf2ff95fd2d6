package auth

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// The families of actions that principals are limited in, each counted apart.
const (
	FamilyWorkloadTokens = "workload-tokens" // each of the three calls
	FamilyResourceTokens = "resource-tokens" // GetResourceOauth2Token and GetResourceApiKey, each
	FamilyCompletions    = "completions"
	FamilyInvoke         = "invoke"        // calls of hosted agents, each: InvokeAgentRuntime…, StopRuntimeSession, GetAgentCard
	FamilyRead           = "control-read"  // Get… and List… of everything else
	FamilyWrite          = "control-write" // all others
	FamilyOpenGateway    = "open-gateway"  // messages to a gateway without inbound authorization, per address
)

// Rates are requests per second, by family: AWS's quotas, which there are an
// account's, for each principal. For ten seconds a principal may do ten times as
// much at once. Zero means no limit.
var defaultRates = map[string]float64{
	FamilyWorkloadTokens: 200,
	FamilyResourceTokens: 200,
	FamilyCompletions:    100,
	FamilyInvoke:         200,
	FamilyRead:           20,
	FamilyWrite:          20,
	FamilyOpenGateway:    200,
}

// burstSeconds is how many seconds' worth may come at once.
const burstSeconds = 10

// ParseRates reads "FAMILY=PER-SECOND", as --limit has it, on top of the
// defaults; "off" for a family, or alone for all, takes the limit away.
func ParseRates(settings []string) (map[string]float64, error) {
	rates := map[string]float64{}
	for family, perSecond := range defaultRates {
		rates[family] = perSecond
	}
	for _, setting := range settings {
		if setting == "off" {
			for family := range rates {
				rates[family] = 0
			}
			continue
		}
		family, text, found := strings.Cut(setting, "=")
		if _, known := rates[family]; !found || !known {
			return nil, fault.New(fault.Invalid, "A limit is written FAMILY=PER-SECOND or FAMILY=off; the families are %s.", strings.Join(families(), ", "))
		}
		perSecond, err := strconv.ParseFloat(text, 64)
		if text != "off" && (err != nil || !(perSecond > 0 && perSecond <= 1e6)) {
			return nil, fault.New(fault.Invalid, "The limit %s is a number of requests per second, or off.", family)
		}
		rates[family] = perSecond
	}
	return rates, nil
}

func families() (names []string) {
	for family := range defaultRates {
		names = append(names, family)
	}
	slices.Sort(names)
	return names
}

// familyOf is the family of an action, and the name it is counted under.
func familyOf(action string) (family, counted string) {
	service, name, _ := strings.Cut(action, ":")
	switch {
	case strings.HasPrefix(name, "GetWorkloadAccessToken"):
		return FamilyWorkloadTokens, name
	case name == "GetResourceOauth2Token" || name == "GetResourceApiKey":
		return FamilyResourceTokens, name
	case name == "CompleteResourceTokenAuth":
		return FamilyCompletions, name
	case strings.HasPrefix(name, "InvokeAgentRuntime") || name == "StopRuntimeSession" || name == "GetAgentCard":
		return FamilyInvoke, name
	case service == ServiceSTS, strings.HasPrefix(name, "Get"), strings.HasPrefix(name, "List"):
		return FamilyRead, FamilyRead
	}
	return FamilyWrite, FamilyWrite
}

// counter is what one bucket counts.
type counter struct{ principal, counted string }

// throttle holds the buckets of principals, per process and forgotten at a
// restart. A principal is a user or a role, with all its keys and sessions: who
// takes another key gets no more. The table is bounded; when it is full of
// buckets in use, newcomers share one.
type throttle struct {
	rates map[string]float64

	mu      sync.Mutex
	buckets map[counter]*rate.Limiter
	others  map[string]*rate.Limiter // by family
	swept   time.Time
}

const maxCounters = 16384

func newThrottle(rates map[string]float64) *throttle {
	if rates == nil {
		rates = defaultRates
	}
	return &throttle{rates: rates, buckets: map[counter]*rate.Limiter{}, others: map[string]*rate.Limiter{}}
}

// Throttle takes one of what a user or role may do per second; fault.Throttled
// when there is none left. The root key is the operator's and has no limit, nor
// has what the platform does by itself; callers of gateways are limited by their
// addresses.
func (a *Authenticator) Throttle(caller principal.Caller, action string) error {
	if caller.Root || caller.Kind != principal.Key && caller.Kind != principal.Role {
		return nil
	}
	family, counted := familyOf(action)
	t := a.throttle
	perSecond := t.rates[family]
	if perSecond == 0 {
		return nil
	}
	who := caller.ARN
	if caller.Kind == principal.Role {
		who = who[:strings.LastIndexByte(who, '/')+1] // without the session
	}
	now := a.now()
	if wait := t.take(counter{caller.Account + " " + who, counted}, family, perSecond, now); wait > 0 {
		err := fault.New(fault.Throttled, "Rate exceeded: %s may do %s (%s) at most %s times a second. Try again later.", caller.ARN, action, family, strconv.FormatFloat(perSecond, 'g', -1, 64))
		err.RetryAfter = wait
		return err
	}
	return nil
}

// take is zero where there was one to take, and otherwise when there will be.
func (t *throttle) take(c counter, family string, perSecond float64, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	bucket := t.buckets[c]
	if bucket == nil {
		bucket = t.add(c, family, perSecond, now)
	}
	if bucket.AllowN(now, 1) {
		return 0
	}
	return max(time.Duration((1-bucket.TokensAt(now))/perSecond*float64(time.Second)), time.Millisecond)
}

func (t *throttle) add(c counter, family string, perSecond float64, now time.Time) *rate.Limiter {
	if len(t.buckets) >= maxCounters && now.Sub(t.swept) >= sweepPause {
		t.swept = now
		for key, bucket := range t.buckets {
			if bucket.TokensAt(now) >= float64(bucket.Burst()) { // full again: as if it had never been
				delete(t.buckets, key)
			}
		}
	}
	burst := max(int(perSecond*burstSeconds), 1)
	if len(t.buckets) >= maxCounters {
		if t.others[family] == nil {
			t.others[family] = rate.NewLimiter(rate.Limit(perSecond*10), burst*10)
		}
		return t.others[family]
	}
	bucket := rate.NewLimiter(rate.Limit(perSecond), burst)
	t.buckets[c] = bucket
	return bucket
}
