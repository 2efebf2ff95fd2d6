package auth

import (
	"net/netip"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

func newLimits() (*Authenticator, *clock) {
	c := newClock(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	return &Authenticator{limits: newLimiter(c.now, nil)}, c
}

func TestLimit(t *testing.T) {
	t.Parallel()
	a, clock := newLimits()
	addr := netip.MustParseAddr("192.0.2.1")
	for kind, allowed := range allowances {
		for range allowed.remote.burst {
			if err := a.Limit(kind, addr); err != nil {
				t.Fatal(err)
			}
		}
		err := a.Limit(kind, addr)
		wantFault(t, err, fault.Throttled, "Too many requests")
		if fault.Of(err).RetryAfter != time.Second {
			t.Errorf("retry after %s", fault.Of(err).RetryAfter)
		}
		if err := a.Limit(kind, netip.MustParseAddr("192.0.2.2")); err != nil {
			t.Errorf("%s: a neighbour: %v", kind, err)
		}
	}
	clock.add(time.Second)
	for kind := range allowances {
		if err := a.Limit(kind, addr); err != nil {
			t.Errorf("%s: a second later: %v", kind, err)
		}
	}
	if err := a.Limit("no such kind", addr); !fault.Is(err, fault.Throttled) {
		t.Errorf("an unknown kind: %v", err)
	}
}

// A limit below one per second says how long it takes until there is one more.
func TestSlowLimitSaysWhen(t *testing.T) {
	t.Parallel()
	c := newClock(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	a := &Authenticator{limits: newLimiter(c.now, map[string]float64{FamilyOpenGateway: 0.1})}
	addr := netip.MustParseAddr("192.0.2.1")
	if err := a.LimitOpen(addr); err != nil {
		t.Fatal(err)
	}
	err := a.LimitOpen(addr)
	wantFault(t, err, fault.Throttled, "Too many requests")
	if fault.Of(err).RetryAfter != 10*time.Second {
		t.Fatalf("retry after %s", fault.Of(err).RetryAfter)
	}
	c.add(fault.Of(err).RetryAfter)
	if err := a.LimitOpen(addr); err != nil {
		t.Error(err)
	}
}

func TestAddressGroups(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		x, y string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		if same := group(netip.MustParseAddr(c.x)) == group(netip.MustParseAddr(c.y)); same != c.same {
			t.Errorf("%s and %s: one group: %t", c.x, c.y, same)
		}
	}
	a, _ := newLimits()
	for _, loopback := range []string{"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"} {
		if a.limits.kinds[LimitCallback].find(netip.MustParseAddr(loopback)) != a.limits.kinds[LimitCallback].loopback {
			t.Errorf("%s is not the loopback", loopback)
		}
	}
}

// Loopback is generous, and limited.
func TestLoopbackLimit(t *testing.T) {
	t.Parallel()
	a, _ := newLimits()
	allowed := 0
	for a.Limit(LimitAuthorize, netip.MustParseAddr("127.0.0.1")) == nil {
		allowed++
	}
	if allowed != allowances[LimitAuthorize].loopback.burst {
		t.Errorf("%d were allowed", allowed)
	}
}

// A flood from very many networks neither fills the memory, nor makes room by
// forgetting a count, nor shuts out whoever can prove himself.
func TestLimitIsBounded(t *testing.T) {
	t.Parallel()
	a, clock := newLimits()
	offender := netip.MustParseAddr("192.0.2.1")
	for a.limits.spend(LimitSignature, offender) {
	}
	buckets := a.limits.kinds[LimitSignature]
	network := func(i int) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 16), byte(i >> 8), byte(i), 0})
	}
	for i := range maxAddresses + 10_000 {
		a.limits.spend(LimitSignature, network(i))
	}
	if got := len(buckets.addresses); got != maxAddresses {
		t.Errorf("%d addresses", got)
	}
	if a.limits.exhausted(LimitSignature, offender) == nil {
		t.Error("the flood made the offender's count forgotten")
	}
	if a.limits.spend(LimitSignature, network(1<<20)) {
		t.Error("the shared bucket should be empty")
	}
	if err := a.limits.exhausted(LimitSignature, network(1<<20)); err != nil {
		t.Errorf("a newcomer is shut out: %v", err)
	}
	clock.add(time.Minute)
	a.limits.spend(LimitSignature, network(1<<20))
	if got := len(buckets.addresses); got != 1 {
		t.Errorf("%d addresses after a quiet minute", got)
	}
}
