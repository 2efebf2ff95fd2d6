package egress

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

func TestReach(t *testing.T) {
	t.Parallel()
	for want, addresses := range map[reach][]string{
		public: {"8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.0", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"},
		private: {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.255.254", "100.64.0.1", "::1", "fd12:3456::1", "fc00::1",
			"::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.1.2.3", "64:ff9b::127.0.0.1", "2002:7f00:1::", "2002:c0a8:101::1"},
		special: {"0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255",
			"224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254", "2001:db8::1", "3fff::1", "2001::1", "2001:10::1",
			"100::1", "64:ff9b:1::1", "::7f00:1", "5f00::1", "4000::1", "64:ff9b::169.254.169.254", "::ffff:169.254.169.254", "2002:a9fe:a9fe::1"},
	} {
		for _, address := range addresses {
			if got := reachOf(canonical(netip.MustParseAddr(address))); got != want {
				t.Errorf("%s: reach %d, want %d", address, got, want)
			}
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254, 169, 254})
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		end := canonical(addr)
		if canonical(end) != end {
			t.Errorf("canonical(%v) is not stable", addr)
		}
		if end.IsPrivate() || end.IsLoopback() || end.IsLinkLocalUnicast() || end.IsMulticast() || end.IsUnspecified() {
			if reachOf(end) == public {
				t.Errorf("%v is let through", addr)
			}
		}
	})
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "host", "host:", ":443", "host:0", "host:65536", "host:https", "*:443", "*.corp.example:443", "fd00::1:443", "[host]:443", "10.0.0.0/33:443", "10.0.0:443", "host/8:443", "::ffff:10.0.0.0/104:443", "a b:1", "https://host:443"} {
		if _, err := New(Options{Allow: []string{bad}}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v; want fault.Invalid", bad, err)
		}
	}
	for entry, reached := range map[string]string{
		"10.1.0.0/16:443": "10.1.2.3", "10.1.2.3/16:443": "10.1.9.9", "[fd00::/8]:443": "fd00::1", "fd00::/8:443": "fd00::1", "[fd00::1]:*": "fd00::1",
		"10.1.2.3:443": "64:ff9b::10.1.2.3", "[::ffff:10.1.2.3]:443": "10.1.2.3", "169.254.0.0/16:443": "169.254.169.254", "64:ff9b::/96:443": "64:ff9b::10.1.2.3",
	} {
		rules, err := parseRules([]string{entry})
		if err != nil {
			t.Errorf("%q: %v", entry, err)
			continue
		}
		g := &guard{rules: rules}
		if err := g.permit("x", netip.AddrPortFrom(netip.MustParseAddr(reached), 443)); err != nil {
			t.Errorf("%q does not allow %s: %v", entry, reached, err)
		}
		if err := g.permit("x", netip.MustParseAddrPort("192.168.7.7:443")); err == nil {
			t.Errorf("%q allows 192.168.7.7", entry)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	strict, _ := New(Options{})
	dev, err := New(Options{Allow: []string{"127.0.0.1:9000", "localhost:9001", "10.0.0.0/8:443"}, LoopbackHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		url         string
		strict, dev bool
	}{
		{"https://example.com", true, true},
		{"https://example.com:8443/a?b=c", true, true},
		{"https://8.8.8.8/", true, true},
		{"http://example.com", false, false},
		{"http://127.0.0.1:9000/x", false, true},
		{"http://127.0.0.1:9001/x", false, false},
		{"http://localhost:9000/x", false, true}, // by the address
		{"http://localhost:9001/x", false, true}, // by the name
		{"http://localhost:9002/x", false, false},
		{"https://localhost/x", false, false},
		{"https://10.1.1.1/x", false, true},
		{"https://10.1.1.1:444/x", false, false},
		{"https://192.168.0.1/x", false, false},
		{"https://169.254.169.254/latest", false, false},
		{"https://[::1]/", false, false},
		{"https://[::ffff:127.0.0.1]/", false, false},
		{"https://[fe80::1%25eth0]/", false, false},
		{"https://user:CANARY@example.com", false, false},
		{"https://user@example.com", false, false},
		{"https://example.com/#CANARY", false, false},
		{"https://example.com/#", false, false},
		{"https://example.com:0/", false, false},
		{"https://example.com:99999/", false, false},
		{"https://example.com:/", false, false},
		{"https:///x", false, false},
		{"https:example.com", false, false},
		{"//example.com", false, false},
		{"ftp://example.com", false, false},
		{"javascript:alert(1)", false, false},
		{"https://exa mple.com/CANARY", false, false},
		{"", false, false},
	} {
		for name, c := range map[string]struct {
			client *Client
			ok     bool
		}{"strict": {strict, test.strict}, "dev": {dev, test.dev}} {
			err := c.client.CheckURL(test.url)
			if (err == nil) != c.ok || err != nil && (!fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "CANARY")) {
				t.Errorf("%s %s: %v; want ok %v", name, test.url, err, c.ok)
			}
		}
	}
}

func FuzzCheckURL(f *testing.F) {
	f.Add("https://example.com/a?b")
	f.Add("http://[::ffff:7f00:1]:80")
	f.Add("https://u:p@127.1:443/#x")
	c, _ := New(Options{})
	f.Fuzz(func(t *testing.T, raw string) {
		if c.CheckURL(raw) == nil && !strings.HasPrefix(strings.ToLower(raw), "https://") {
			t.Errorf("%q passes", raw)
		}
	})
}

func FuzzParseRule(f *testing.F) {
	f.Add("10.0.0.0/8:443")
	f.Add("[fd00::1]:*")
	f.Fuzz(func(t *testing.T, entry string) {
		r, err := parseRule(entry)
		if err == nil && (r.host == "") != r.prefix.IsValid() {
			t.Errorf("%q: %+v", entry, r)
		}
	})
}

// names is a DNS server that gives each name its addresses, one per question, the last one for ever.
type names struct {
	mu        sync.Mutex
	addresses map[string][]string
}

func (n *names) resolver(t *testing.T) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 512)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := n.answer(buffer[:size]); answer != nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (n *names) answer(query []byte) []byte {
	name, end := "", 12
	for end < len(query) && query[end] != 0 {
		length := int(query[end])
		name += string(query[end+1:end+1+length]) + "."
		end += 1 + length
	}
	question := query[12 : end+5]
	answer := append([]byte{query[0], query[1], 0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
	if binary.BigEndian.Uint16(query[end+1:]) != 1 { // A records alone
		return answer
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.addresses[name]
	if len(list) == 0 {
		return answer
	}
	if len(list) > 1 {
		n.addresses[name] = list[1:]
	}
	four := netip.MustParseAddr(list[0]).As4()
	answer[7] = 1
	answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
	return append(answer, four[:]...)
}

func TestNamesAreJudgedByWhatTheyResolveTo(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	t.Cleanup(server.Close)
	dns := &names{addresses: map[string][]string{
		"rebind.test.":   {"127.0.0.1", "10.0.0.1"},
		"inside.test.":   {"192.168.3.4"},
		"metadata.test.": {"169.254.169.254"},
		"allowed.test.":  {"127.0.0.1"},
	}}
	client := clientFor(t, server, Options{Allow: []string{"127.0.0.1:PORT", "allowed.test:*", "metadata.test:*"}})
	client.guard.resolver = dns.resolver(t)
	// The dialers were made with the resolver's place empty: make them again.
	for _, c := range []*http.Client{client.pooled, client.single, client.relay} {
		c.Transport.(*guarded).transport.DialContext = client.guard.dialer()
	}
	at := func(host string) string { return "https://" + host + ":" + portText(server) + "/" }

	_, err := get(t, client, at("rebind.test"))
	wantFault(t, err, fault.Upstream, "certificate") // connected: httptest's certificate has another name
	_, err = get(t, client, at("rebind.test"))
	wantFault(t, err, fault.Upstream, "The address of rebind.test is private and not allowed; an operator can allow it with --egress-allow rebind.test:"+portText(server))
	_, err = get(t, client, at("inside.test"))
	wantFault(t, err, fault.Upstream, "private")
	_, err = get(t, client, at("allowed.test"))
	wantFault(t, err, fault.Upstream, "certificate")
	_, err = get(t, client, at("metadata.test"))
	wantFault(t, err, fault.Upstream, "by its address alone") // a name does not open metadata
	_, err = get(t, client, at("nowhere.test"))
	wantFault(t, err, fault.Upstream, "does not resolve")
}
