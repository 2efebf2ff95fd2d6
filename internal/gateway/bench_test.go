package gateway_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/gateway"
)

// BenchmarkCall measures tools/call over HTTP beside its floor: the same load
// directly at the target, and through a bare reverse proxy with a tuned
// transport. "user" injects the user's token from the vault, "open" has no
// credential. Run it with -cpu 4 -benchtime 3s and compare the ratios, not the
// numbers; the load generator and the target share the machine.
func BenchmarkCall(b *testing.B) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	const answer = `{"resourceName":"people/ada","names":[{"displayName":"Ada Lovelace","familyName":"Lovelace","givenName":"Ada","metadata":{"primary":true}}]}`
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
	b.Cleanup(target.Close)
	r := newRig(b)
	document := document(target.URL, `{"/v1/people/me":{"get":{"operationId":"get_profile","parameters":[{"name":"personFields","in":"query","schema":{"type":"string"}}],"responses":{"200":{"description":"ok"}}}}}`)
	open := r.open(b)
	r.target(b, open.GatewayId, "google", document, nil)
	guarded := r.createGateway(b, r.gatewayRequest("guarded"))
	r.target(b, guarded.GatewayId, "google", document, userCredential(r.provider(b)))
	ada := r.token(b, "ada-lovelace")
	r.consent(b, r.link(b, guarded.GatewayId, ada), "ada-lovelace", ada)

	parsed, err := url.Parse(target.URL)
	ok(b, err)
	proxy := httputil.NewSingleHostReverseProxy(parsed)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}
	proxied := httptest.NewServer(proxy)
	b.Cleanup(proxied.Close)

	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"google___get_profile","arguments":{"personFields":"names"}}}`
	for _, way := range []struct{ name, method, address, body, token string }{
		{"direct", http.MethodGet, target.URL + "/v1/people/me?personFields=names", "", ""},
		{"proxy", http.MethodGet, proxied.URL + "/v1/people/me?personFields=names", "", ada},
		{"open", http.MethodPost, r.mcp.URL + "/gateway/" + open.GatewayId + "/mcp", call, ""},
		{"user", http.MethodPost, r.mcp.URL + "/gateway/" + guarded.GatewayId + "/mcp", call, ada},
	} {
		for _, connections := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/connections=%d", way.name, connections), func(b *testing.B) {
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}}
				defer client.CloseIdleConnections()
				work := make(chan struct{}, 1024)
				done := make(chan struct{})
				b.ReportAllocs()
				b.ResetTimer()
				for range connections {
					go func() {
						defer func() {
							for range work { // who failed must not keep the rest waiting
							}
							done <- struct{}{}
						}()
						for range work {
							request, _ := http.NewRequest(way.method, way.address, strings.NewReader(way.body))
							request.Header["Content-Type"] = []string{"application/json"}
							request.Header["Mcp-Protocol-Version"] = []string{"2025-11-25"}
							if way.token != "" {
								request.Header["Authorization"] = []string{"Bearer " + way.token}
							}
							response, err := client.Do(request)
							if err != nil {
								b.Error(err)
								return
							}
							content, _ := io.ReadAll(response.Body)
							response.Body.Close()
							if response.StatusCode != http.StatusOK || !strings.Contains(string(content), "Ada Lovelace") {
								b.Errorf("%d %s", response.StatusCode, content)
								return
							}
						}
					}()
				}
				for range b.N {
					work <- struct{}{}
				}
				close(work)
				for range connections {
					<-done
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			})
		}
	}
}

// BenchmarkRelay is the relay's own part: a message read, a result rendered.
func BenchmarkRelay(b *testing.B) {
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"google___get_profile","arguments":{"personFields":"names"},"_meta":{"progressToken":1}}}`
	for _, size := range []int{200, 20_000, 1_000_000} {
		body := []byte(`{"a":"` + strings.Repeat("lorem ipsum \\\"x\\\" ", size/16) + `"}`)
		b.Run(fmt.Sprintf("answer=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := gateway.Relayed([]byte(call), body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
