package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// goodName is what the names of gateways, workload identities and providers have in common.
var goodName = regexp.MustCompile(`^[0-9a-zA-Z](-?[0-9a-zA-Z]){2,40}$`)

// check says what does not fit together, before anything is started.
func (s *Settings) check() error {
	complain := func(what, hint string) error { return &ConfigurationError{Problem{What: what, Hint: hint}} }
	switch {
	case (s.Google.ClientID == "") != (s.Google.ClientSecret == ""):
		return complain("only one of GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET is set", "Set both, or neither to use the demo provider.")
	case !s.embedded() && s.Backend != backendAWS && !isWebURL(s.Backend):
		return complain(fmt.Sprintf("--backend %q is neither embedded, aws nor a URL", s.Backend), "For a platform on this machine: --backend http://127.0.0.1:7080")
	case !s.embedded() && (s.Addr != "" || s.Data != ""):
		return complain("--addr and --data belong to the embedded platform", "Leave them out, or leave out --backend.")
	case s.DemoProvider != "" && (s.embedded() || s.Backend == backendAWS):
		return complain("--demo-provider belongs to a platform that runs with --dev", "The embedded platform brings its own, and AWS could not reach it.")
	case s.DemoProvider != "" && !isWebURL(s.DemoProvider):
		return complain(fmt.Sprintf("--demo-provider %q is not a URL", s.DemoProvider), "onbehalf serve --dev prints it: http://127.0.0.1:7081")
	case s.Google.ClientID == "" && !s.usesDemo():
		return complain("no provider to ask for a name", "Set GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET, or with a platform that runs with --dev: --demo-provider http://127.0.0.1:7081")
	case (s.Inbound.DiscoveryURL == "") != (s.Inbound.ClientID == ""):
		return complain("only one of INBOUND_DISCOVERY_URL and INBOUND_CLIENT_ID is set", "A sign-in needs both: the provider's discovery document and this application's client there.")
	case s.Inbound.DiscoveryURL != "" && (!isWebURL(s.Inbound.DiscoveryURL) || !strings.HasSuffix(s.Inbound.DiscoveryURL, discoveryPath)):
		return complain("INBOUND_DISCOVERY_URL does not end in "+discoveryPath, "It is the one URL of your provider that shows JSON with an issuer in it.")
	case !s.demoSignIn() && s.UserToken == "" && s.Inbound.ClientID == "":
		return complain("nobody is signed in", "Set USER_TOKEN to an ID token, or INBOUND_DISCOVERY_URL and INBOUND_CLIENT_ID to sign in at your provider.")
	case s.AutoConsent && !s.usesDemo():
		return complain("--auto-consent plays the demo person only", "Leave it out: Google asks you yourself.")
	case s.AutoConsent && !s.playable():
		return complain("--auto-consent cannot sign in at your own provider", "Leave it out and sign in yourself, or leave out INBOUND_DISCOVERY_URL and INBOUND_CLIENT_ID.")
	case s.Backend == backendAWS && s.RoleARN == "":
		return complain("GATEWAY_ROLE_ARN is not set", "AWS runs a gateway under an IAM role that you name.")
	case (s.CallbackTLS[0] == "") != (s.CallbackTLS[1] == ""):
		return complain("--callback-tls-cert and --callback-tls-key go together", "Name both files, or neither.")
	case s.MCPVersion != "2025-11-25" && s.MCPVersion != "2026-07-28":
		return complain(fmt.Sprintf("--mcp-version %q is not spoken here", s.MCPVersion), "Use 2025-11-25 or 2026-07-28.")
	case s.Timeout <= 0:
		return complain("--timeout is no time to wait", "For example --timeout 5m.")
	case !goodName.MatchString(s.Name):
		return complain(fmt.Sprintf("--name %q cannot name a gateway", s.Name), "Use 3 to 40 letters, digits and single hyphens.")
	}
	return nil
}

func (s *Settings) embedded() bool { return s.Backend == backendEmbedded }

// usesDemo reports whether the demo provider stands in for Google.
func (s *Settings) usesDemo() bool {
	return s.Google.ClientID == "" && (s.embedded() || s.DemoProvider != "")
}

// demoSignIn reports whether the user's own sign-in is the demo provider's.
func (s *Settings) demoSignIn() bool {
	return s.UserToken == "" && s.Inbound.DiscoveryURL == "" && (s.embedded() || s.DemoProvider != "")
}

// withoutSignIn reports whether consents are completed for the owner of
// USER_TOKEN without asking who sits at the browser.
func (s *Settings) withoutSignIn() bool { return s.UserToken != "" && s.Inbound.ClientID == "" }

// playable reports whether the demo person can go the whole way: the consent and
// the sign-in at the callback server are both the demo provider's.
func (s *Settings) playable() bool {
	own := s.Inbound.DiscoveryURL != "" && s.Inbound.DiscoveryURL == strings.TrimSuffix(s.DemoProvider, "/")+discoveryPath
	return s.usesDemo() && (s.demoSignIn() || s.withoutSignIn() || own)
}

func isWebURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func isLoopbackHost(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && address.IsLoopback())
}

// bracketed puts an IPv6 address in brackets, as URLs want it.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// portOf is a URL's port, 0 if it is none.
func portOf(u *url.URL) int {
	switch {
	case u.Port() == "" && u.Scheme == "http":
		return 80
	case u.Port() == "" && u.Scheme == "https":
		return 443
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return 0
	}
	return int(port)
}

// prefixes reads a list of addresses and CIDRs.
func prefixes(list string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			address, addrErr := netip.ParseAddr(item)
			if addrErr != nil {
				return nil, &ConfigurationError{Problem{What: fmt.Sprintf("--callback-allow: %q is neither an address nor a CIDR", item), Hint: "For example --callback-allow 127.0.0.1,10.0.0.0/8"}}
			}
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		out = append(out, prefix.Masked())
	}
	return out, nil
}

func or(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}
