package server

import (
	"net/netip"
	"strings"
	"testing"
)

func TestConfigRefusesWhatIsUnsafe(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config Config
		want   string // part of the error; empty where the configuration is good
	}{
		"zero":                             {Config{}, ""},
		"dev":                              {Config{Dev: true}, ""},
		"ipv6 loopback":                    {Config{Addr: "[::1]:0"}, ""},
		"everybody, without a name":        {Config{Addr: ":7080"}, "set --public-url https"},
		"private network":                  {Config{Addr: "192.168.1.4:7080"}, "set --public-url https"},
		"everybody, with TLS":              {Config{Addr: ":443", PublicURL: "https://agents.example.com", TLSCert: "c", TLSKey: "k"}, ""},
		"everybody, behind a proxy":        {Config{Addr: ":7080", PublicURL: "https://agents.example.com/", TrustedProxies: []string{"10.0.0.0/8"}}, ""},
		"https that nobody speaks":         {Config{PublicURL: "https://agents.example.com"}, "--trusted-proxy"},
		"http to the world":                {Config{PublicURL: "http://agents.example.com"}, "must be https"},
		"http said, https spoken":          {Config{PublicURL: "http://127.0.0.1:7080", TLSCert: "c", TLSKey: "k"}, "says http"},
		"URL with a path":                  {Config{PublicURL: "https://agents.example.com/x", TrustedProxies: []string{"::1"}}, "not of the form"},
		"URL with a password":              {Config{PublicURL: "https://a:b@agents.example.com", TrustedProxies: []string{"::1"}}, "not of the form"},
		"http within, to the world":        {Config{Addr: ":7080", PublicURL: "http://127.0.0.1:7080"}, "reachable from other machines"},
		"http within, to the network":      {Config{Addr: "192.168.1.4:7080", PublicURL: "http://localhost:7080"}, "reachable from other machines"},
		"another name for loopback":        {Config{Addr: "127.0.0.1:7080", PublicURL: "http://localhost:7080"}, ""},
		"dev behind a proxy":               {Config{Dev: true, PublicURL: "https://agents.example.com", TrustedProxies: []string{"127.0.0.1"}}, "loopback only"},
		"dev under another name":           {Config{Dev: true, PublicURL: "http://localhost:7080"}, ""},
		"dev for the world":                {Config{Dev: true, Addr: ":7080", PublicURL: "https://agents.example.com", TrustedProxies: []string{"::1"}}, "loopback only"},
		"demo provider for the world":      {Config{Dev: true, DemoAddr: "0.0.0.0:7081"}, "loopback only"},
		"issuer for any audience":          {Config{TrustedIssuers: []string{"https://accounts.example.com"}}, "--trusted-issuer"},
		"issuer for named audiences":       {Config{TrustedIssuers: []string{"https://accounts.example.com=one,two"}}, ""},
		"issuer whose keys anybody forges": {Config{TrustedIssuers: []string{"http://accounts.example.com=one"}}, "must be https"},
		"issuer on loopback":               {Config{TrustedIssuers: []string{"http://127.0.0.1:9=one"}}, "must be https"},
		"issuer on loopback, with dev":     {Config{Dev: true, TrustedIssuers: []string{"http://127.0.0.1:9=one"}}, ""},
		"a region that is no name":         {Config{Region: "eu:west"}, "--region"},
		"an address to reach, half said":   {Config{EgressAllow: []string{"10.0.0.0/8"}}, "--egress-allow"},
		"what agents may take":             {Config{AgentMemory: "512MiB", AgentDisk: "1GiB", AgentCPU: 0.5, AgentProcesses: 64, AgentMaxSessions: 3, AgentEgressAllow: []string{"*.example.com:443", "10.0.0.0/8:443"}}, ""},
		"memory without a unit that is":    {Config{AgentMemory: "2GB"}, "--agent-memory"},
		"too little memory":                {Config{AgentMemory: "1MiB"}, "at least 64MiB"},
		"more disk than there is":          {Config{AgentDisk: "9999999999GiB"}, "--agent-disk"},
		"no disk":                          {Config{AgentDisk: "-1MiB"}, "--agent-disk"},
		"no processor":                     {Config{AgentCPU: -1}, "--agent-cpu"},
		"one process":                      {Config{AgentProcesses: 1}, "--agent-processes"},
		"fewer than no sessions":           {Config{AgentMaxSessions: -1}, "--agent-max-sessions"},
		"agents may reach, half said":      {Config{AgentEgressAllow: []string{"example.com"}}, "--agent-egress-allow"},
		"an account that is no account":    {Config{Account: "12345678901x"}, "12-digit"},
		"a proxy that is not an address":   {Config{TrustedProxies: []string{"proxy.example.com"}}, "--trusted-proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.config.WithDefaults().Check()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestFreePortsGoTogether(t *testing.T) {
	t.Parallel()
	if got := (Config{Dev: true, Addr: "127.0.0.1:0"}).WithDefaults().DemoAddr; got != "127.0.0.1:0" {
		t.Errorf("with a free port the demo provider listens on %s, which may be taken", got)
	}
	if got := (Config{Dev: true}).WithDefaults().DemoAddr; got != DefaultDemoAddr {
		t.Errorf("the demo provider listens on %s, want %s", got, DefaultDemoAddr)
	}
}

func TestIssuerWithEqualSigns(t *testing.T) {
	t.Parallel()
	got, err := Config{TrustedIssuers: []string{"https://a.example.com/?t=1=x,y"}}.issuers()
	if err == nil && (len(got) != 1 || got[0].URL != "https://a.example.com/?t=1" || len(got[0].Audiences) != 2) {
		t.Errorf("got %+v", got)
	}
}

func TestProxies(t *testing.T) {
	t.Parallel()
	got, err := Config{TrustedProxies: []string{"10.1.2.3/8", "::1"}}.proxies()
	if err != nil || len(got) != 2 || got[0] != netip.MustParsePrefix("10.0.0.0/8") || got[1] != netip.MustParsePrefix("::1/128") {
		t.Errorf("got %v, %v", got, err)
	}
}
