package auth

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// The kinds of limit, each counted apart.
const (
	LimitSignature = "signature" // failed signatures
	LimitBearer    = "bearer"    // bearer tokens that did not verify
	LimitAuthorize = "authorize" // openings of an authorize URL
	LimitCallback  = "callback"  // returns from a provider
	LimitOpen      = "open"      // messages to a gateway without inbound authorization
)

// allowance is a token bucket: so many at once, and so many per second after.
type allowance struct {
	perSecond rate.Limit
	burst     int
}

// The numbers. An address may be one person, an office behind one NAT or a
// fleet behind one egress gateway, so they are set where a machine that guesses
// or floods is held and an office is not.
var allowances = map[string]struct{ remote, loopback allowance }{
	// Nobody guesses a 240-bit secret at any rate: this keeps a broken or hostile
	// client from making the server hash bodies and read key rows. A deployment
	// with a wrong secret fails a few times per second and hears about it as 403s,
	// not as 429s.
	LimitSignature: {remote: allowance{20, 100}, loopback: allowance{500, 2000}},
	// As above; verifying costs a public-key operation, and an unknown key id a
	// look at the provider (which oauth bounds by itself). A missing token, the
	// first step of every MCP client, is not counted.
	LimitBearer: {remote: allowance{20, 100}, loopback: allowance{500, 2000}},
	// A person opens a link once or twice, a mail scanner some more; each opening
	// writes a row. An office of hundreds shares the burst.
	LimitAuthorize: {remote: allowance{5, 60}, loopback: allowance{2000, 10000}},
	LimitCallback:  {remote: allowance{5, 60}, loopback: allowance{2000, 10000}},
}

// maxAddresses bounds the buckets of each kind, about 100 bytes each.
const maxAddresses = 16384

// sweepPause is how long a full table is left alone after a sweep that freed nothing.
const sweepPause = time.Second

// limiter holds the buckets: one per kind and address, IPv6 by /64 because that
// is what one customer gets, loopback as one address. Counts are per process
// and forgotten at a restart.
//
// When a kind's table is full of buckets in use, newcomers share one more, so
// that memory stays bounded and nobody's count is forgotten to make room. Where
// only failures count, a newcomer is not refused for that shared bucket: a flood
// from many networks must not shut out those who can prove themselves.
type limiter struct {
	now   func() time.Time
	kinds map[string]*buckets
}

type buckets struct {
	remote allowance

	mu        sync.Mutex
	loopback  *rate.Limiter
	addresses map[netip.Prefix]*rate.Limiter
	others    *rate.Limiter // shared by the addresses that found the table full
	swept     time.Time
}

func newLimiter(now func() time.Time, rates map[string]float64) *limiter {
	l := &limiter{now: now, kinds: map[string]*buckets{}}
	if rates == nil {
		rates = defaultRates
	}
	kinds := maps.Clone(allowances)
	if perSecond := rates[FamilyOpenGateway]; perSecond > 0 { // otherwise the kind is unknown to OpenLimit, and nobody is held back
		// A gateway that asks nobody who he is can at least not be taken by one
		// address alone; each call may go on to a target.
		kinds[LimitOpen] = struct{ remote, loopback allowance }{remote: perAddress(perSecond, 1), loopback: perAddress(perSecond, 10)}
	}
	for kind, a := range kinds {
		l.kinds[kind] = &buckets{
			remote:    a.remote,
			loopback:  rate.NewLimiter(a.loopback.perSecond, a.loopback.burst),
			addresses: map[netip.Prefix]*rate.Limiter{},
			others:    rate.NewLimiter(a.remote.perSecond*10, a.remote.burst*10),
		}
	}
	return l
}

func perAddress(perSecond float64, times int) allowance {
	return allowance{rate.Limit(perSecond) * rate.Limit(times), max(int(perSecond*burstSeconds), 1) * times}
}

// LimitOpen is Limit for messages to a gateway without inbound authorization,
// which an operator may leave unlimited.
func (a *Authenticator) LimitOpen(addr netip.Addr) error {
	if a.limits.kinds[LimitOpen] == nil {
		return nil
	}
	return a.Limit(LimitOpen, addr)
}

// Limit takes one from the address's bucket of that kind; fault.Throttled when
// it is empty. Call it before the work it protects.
func (a *Authenticator) Limit(kind string, addr netip.Addr) error {
	if !a.limits.spend(kind, addr) {
		return a.limits.throttled(kind)
	}
	return nil
}

// spend takes one, and reports whether there was one to take.
func (l *limiter) spend(kind string, addr netip.Addr) bool {
	b := l.kinds[kind]
	if b == nil {
		return false // an unknown kind is a mistake in the caller: it must show
	}
	now := l.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	bucket := b.find(addr)
	if bucket == nil {
		bucket = b.add(addr, now)
	}
	return bucket.AllowN(now, 1)
}

// exhausted is an error when the address's bucket is empty, and takes nothing.
// An address that never failed has no bucket, and needs none.
func (l *limiter) exhausted(kind string, addr netip.Addr) error {
	b, now := l.kinds[kind], l.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if bucket := b.find(addr); bucket != nil && bucket.TokensAt(now) < 1 {
		return l.throttled(kind)
	}
	return nil
}

func (l *limiter) throttled(kind string) error {
	err := fault.New(fault.Throttled, "Too many requests from this address. Wait a moment and try again.")
	err.RetryAfter = time.Second
	if b := l.kinds[kind]; b != nil && b.remote.perSecond < 1 { // by when the bucket has gained one
		err.RetryAfter = time.Duration(float64(time.Second) / float64(b.remote.perSecond))
	}
	return err
}

func (b *buckets) find(addr netip.Addr) *rate.Limiter {
	if addr.Unmap().IsLoopback() {
		return b.loopback
	}
	return b.addresses[group(addr)]
}

func (b *buckets) add(addr netip.Addr, now time.Time) *rate.Limiter {
	if len(b.addresses) >= maxAddresses && now.Sub(b.swept) >= sweepPause {
		b.swept = now
		for key, bucket := range b.addresses {
			if bucket.TokensAt(now) >= float64(bucket.Burst()) { // full again: as if it had never been
				delete(b.addresses, key)
			}
		}
	}
	if len(b.addresses) >= maxAddresses {
		return b.others
	}
	bucket := rate.NewLimiter(b.remote.perSecond, b.remote.burst)
	b.addresses[group(addr)] = bucket
	return bucket
}

// group is what counts as one address. Whoever's address is unknown is one together.
func group(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	switch {
	case !addr.IsValid():
		return netip.Prefix{}
	case addr.Is4():
		return netip.PrefixFrom(addr, 32)
	default:
		return netip.PrefixFrom(addr, 64).Masked()
	}
}
