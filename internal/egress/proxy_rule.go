package egress

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// proxyFlag is what an operator permits targets of agents with.
const proxyFlag = "--agent-egress-allow"

// MachineName is what agents call the machine that the platform runs on: their own
// 127.0.0.1 is their session's. As any private address it is reached where it is named.
const MachineName = "host.onbehalf.internal"

// proxyRule is one Allow entry of a Proxy: as a Client's, or *.SUFFIX, or *.
type proxyRule struct {
	rule
	suffix string // with its dot; "." is any name and any public address
}

func parseProxyRules(entries []string) ([]proxyRule, error) {
	rules := make([]proxyRule, 0, len(entries))
	for _, entry := range entries {
		r, err := parseProxyRule(entry)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseProxyRule(entry string) (proxyRule, error) {
	where, port, _ := strings.Cut(entry, ":")
	domain, wild := strings.CutPrefix(where, "*")
	if !wild {
		r, err := parseRuleOf(proxyFlag, entry)
		return proxyRule{rule: r}, err
	}
	if domain != "" && (domain[0] != '.' || !isHostName(domain[1:]) || domain[1] == '.') {
		return proxyRule{}, fault.New(fault.Invalid, "%s %q: a star stands for everything, or for whole labels at the front. Write for example *.example.com:443 or *:443.", proxyFlag, entry)
	}
	// The port is read, and refused, as everybody's.
	r, err := parseRuleOf(proxyFlag, "any.example:"+port)
	if err != nil {
		return proxyRule{}, fault.New(fault.Invalid, "%s %q: the port is neither a number from 1 to 65535 nor *.", proxyFlag, entry)
	}
	return proxyRule{rule: rule{port: r.port}, suffix: "." + hostName(strings.TrimPrefix(domain, "."))}, nil
}

// matches reports whether a rule with a star is for the host.
func (r proxyRule) matches(host string, port uint16) bool {
	if r.suffix == "" || r.port != 0 && r.port != port {
		return false
	}
	return r.suffix == "." || strings.HasSuffix(hostName(host), r.suffix)
}

// named judges a target by what it is called, so that nobody is asked for the
// address of what cannot be reached anyway: a question carries words away, too.
func (p *Proxy) named(name string, port uint16) error {
	if p.guard.isOwnHost(name, port) {
		return ownRefusal(name, port)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return nil // permit hears of it next
	}
	if p.names(name, port) || p.wide(name, port) {
		return nil
	}
	if slices.ContainsFunc(p.rules, func(r proxyRule) bool { return r.prefix.IsValid() && (r.port == 0 || r.port == port) }) {
		return nil // its address decides
	}
	return p.refusal(name, port, public)
}

// permit judges the address that a name came out at. Which name was asked for opens
// a private address only where an entry says the whole of it: whoever has one
// name below a star could point it at anything.
func (p *Proxy) permit(name string, dialled netip.AddrPort) error {
	addr, port := canonical(dialled.Addr()), dialled.Port()
	if p.guard.isOwn(addr, port) {
		return ownRefusal(name, port)
	}
	plain := dialled.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(p.rules, func(r proxyRule) bool {
		return r.prefix.IsValid() && (r.covers(plain, port) || r.covers(addr, port))
	}) {
		return nil
	}
	class := reachOf(addr)
	if class != special && p.names(name, port) || class == public && p.wide(name, port) {
		return nil
	}
	return p.refusal(name, port, class)
}

// names reports whether an entry is the name itself.
func (p *Proxy) names(name string, port uint16) bool {
	return slices.ContainsFunc(p.rules, func(r proxyRule) bool { return r.rule.names(name, port) })
}

// wide reports whether the name is below a star, or nothing has been said and the
// port is one of the web's.
func (p *Proxy) wide(name string, port uint16) bool {
	if len(p.rules) == 0 {
		return port == 80 || port == 443
	}
	return slices.ContainsFunc(p.rules, func(r proxyRule) bool { return r.matches(name, port) })
}

func ownRefusal(name string, port uint16) error {
	return fault.New(fault.Denied, "%s leads to the platform, which a session reaches by AWS_ENDPOINT_URL_BEDROCK_AGENTCORE alone", joined(name, port))
}

func (p *Proxy) refusal(name string, port uint16, class reach) error {
	target := joined(name, port)
	how := proxyFlag + " " + target
	if len(p.rules) == 0 {
		how += " (and *:80 and *:443 for what is permitted now)"
	}
	switch class {
	case special:
		return fault.New(fault.Denied, "The address of %s is reserved (link-local, metadata, multicast or the like); an operator can permit it by the address alone, with %s ADDRESS:%d", target, proxyFlag, port)
	case private:
		return fault.New(fault.Denied, "The address of %s is private; an operator can permit it with %s", target, how)
	}
	return fault.New(fault.Denied, "%s is not among the hosts that agents may reach; an operator can permit it with %s", target, how)
}

func joined(name string, port uint16) string {
	return net.JoinHostPort(name, strconv.Itoa(int(port)))
}

// targetOf takes a target apart: a host name or an address, and a port.
func targetOf(authority, without string) (name string, port uint16, err error) {
	bad := fault.New(fault.Invalid, "The target is not a host with a port from 1 to 65535")
	host, text, splitErr := net.SplitHostPort(authority)
	if splitErr != nil {
		if without == "" {
			return "", 0, bad
		}
		if host, text, splitErr = net.SplitHostPort(authority + ":" + without); splitErr != nil {
			return "", 0, bad
		}
	}
	number, portErr := strconv.ParseUint(text, 10, 16)
	if portErr != nil || number == 0 {
		return "", 0, bad
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
		return addr.String(), uint16(number), nil
	}
	if !isHostName(host) || hostName(host) == "" {
		return "", 0, bad
	}
	return hostName(host), uint16(number), nil
}
