package egress

import "net/netip"

// reach says what kind of place an address is, as far as the guard cares.
type reach int

const (
	public  reach = iota // anybody's: let through
	private              // somebody's own network: opened by an Allow entry for its name or its address
	special              // metadata, link-local, multicast and the like: opened by its address alone, so that no name can be pointed at it
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// The ranges follow IANA's special-purpose registries. Of IPv6 only 2000::/3
// has been given out, so all else is special without being listed.
var (
	privateRanges = prefixes(
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
		"127.0.0.0/8", "::1/128", // loopback
		"100.64.0.0/10", // carrier-grade NAT
		"fc00::/7",      // unique local
	)
	specialRanges = prefixes(
		"0.0.0.0/8",                     // this network: connects to this machine
		"169.254.0.0/16",                // link-local; 169.254.169.254 and .170.2 are cloud metadata
		"168.63.129.16/32",              // Azure's metadata, on a public address
		"100.100.100.200/32",            // Alibaba's metadata, within CGNAT
		"fd00:ec2::/64", "fd20:ce::/64", // EC2's and Google's metadata, within unique local
		"192.0.0.0/24",                                      // protocol assignments; 192.0.0.192 is Oracle's metadata
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // documentation
		"192.88.99.0/24",             // 6to4 relays, withdrawn
		"198.18.0.0/15",              // benchmarking
		"224.0.0.0/4",                // multicast
		"240.0.0.0/4",                // reserved, and broadcast
		"2001::/23",                  // protocol assignments, Teredo among them: an IPv4 address in disguise
		"2001:db8::/32", "3fff::/20", // documentation
	)
	givenOutIPv6 = netip.MustParsePrefix("2000::/3")
	nat64        = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour    = netip.MustParsePrefix("2002::/16")
)

// canonical is the address that the packets end up at: IPv4 that is mapped
// into IPv6, or embedded in a NAT64 or 6to4 address, comes out as IPv4.
func canonical(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return addr
}

// reachOf classifies a canonical address. Special ranges go first, since
// some lie within private ones.
func reachOf(addr netip.Addr) reach {
	for _, prefix := range specialRanges {
		if prefix.Contains(addr) {
			return special
		}
	}
	for _, prefix := range privateRanges {
		if prefix.Contains(addr) {
			return private
		}
	}
	if addr.Is6() && !givenOutIPv6.Contains(addr) {
		return special
	}
	return public
}
