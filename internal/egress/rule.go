package egress

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// rule is one Allow entry: a host or a range, and a port.
type rule struct {
	host   string       // as asked for, lower case; empty where prefix is set
	prefix netip.Prefix // of canonical addresses
	port   uint16       // 0 is any
}

func parseRules(entries []string) ([]rule, error) {
	rules := make([]rule, 0, len(entries))
	for _, entry := range entries {
		r, err := parseRule(entry)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(entry string) (rule, error) { return parseRuleOf("--egress-allow", entry) }

// parseRuleOf reads an entry of the flag, which its errors name.
func parseRuleOf(flag, entry string) (rule, error) {
	bad := func(why string) (rule, error) {
		return rule{}, fault.New(fault.Invalid, "%s %q: %s. Write HOST-OR-CIDR:PORT, for example idp.corp.example:443, 10.1.0.0/16:443, [fd00::1]:8443 or 127.0.0.1:*.", flag, entry, why)
	}
	colon := strings.LastIndexByte(entry, ':')
	if colon < 0 {
		return bad("the port is missing")
	}
	where, portText := entry[:colon], entry[colon+1:]
	var r rule
	if portText != "*" {
		port, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || port == 0 {
			return bad("the port is neither a number from 1 to 65535 nor *")
		}
		r.port = uint16(port)
	}
	bracketed := strings.HasPrefix(where, "[") && strings.HasSuffix(where, "]")
	if bracketed {
		where = where[1 : len(where)-1]
	} else if strings.Contains(where, ":") && !strings.Contains(where, "/") {
		return bad("an IPv6 address needs brackets") // else its last group would be read as the port
	}

	if prefix, err := netip.ParsePrefix(where); err == nil {
		if prefix.Addr().Is4In6() {
			return bad("write the IPv4 range as IPv4")
		}
		r.prefix = prefix.Masked()
		return r, nil
	}
	if addr, err := netip.ParseAddr(where); err == nil {
		addr = canonical(addr)
		r.prefix = netip.PrefixFrom(addr, addr.BitLen())
		return r, nil
	}
	if bracketed || !isHostName(where) {
		return bad("this is neither a host name nor an address range")
	}
	r.host = hostName(where)
	return r, nil
}

// isHostName accepts what DNS and hosts files hold. Wildcards are refused: they
// would let whoever controls one name of a domain choose the address.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	letters := false
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			letters = true
		case '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return letters // digits and dots alone are a mistyped address
}

// hostName is the form in which names are compared.
func hostName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// names reports whether the rule is for the host that was asked for.
func (r rule) names(host string, port uint16) bool {
	return r.host != "" && r.host == hostName(host) && (r.port == 0 || r.port == port)
}

// covers reports whether the rule is for the address, which may be given as
// dialled or canonical.
func (r rule) covers(addr netip.Addr, port uint16) bool {
	return r.host == "" && r.prefix.Contains(addr) && (r.port == 0 || r.port == port)
}
