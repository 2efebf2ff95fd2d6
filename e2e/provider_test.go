package e2e

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// provider is a demo provider in the test's own process: reached over HTTP like
// any other, and with levers that a test can pull.
type provider struct {
	*demoidp.Provider
	url    string
	host   string    // HOST:PORT
	tokens *tokenLog // what went over the token endpoint
}

func startProvider(t testing.TB) *provider {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	idp, err := demoidp.New(demoidp.Options{Address: server.Listener.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	tokens := &tokenLog{next: &exchanger{next: idp}}
	server.Config.Handler = tokens
	server.Start()
	t.Cleanup(server.Close)
	return &provider{Provider: idp, url: server.URL, host: strings.TrimPrefix(server.URL, "http://"), tokens: tokens}
}

// flags make a platform trust the provider's sign-ins and reach it.
func (p *provider) flags() []string {
	return []string{"--dev", "--egress-allow", p.host, "--trusted-issuer", p.url + "=" + demoidp.SignInClientID}
}
