package egress

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkRelay sets the guarded client beside its floor: a bare transport with the same pool.
func BenchmarkRelay(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1024)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(body) }))
	b.Cleanup(server.Close)
	guarded, err := New(Options{Allow: []string{server.Listener.Addr().String()}, LoopbackHTTP: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(guarded.Close)
	bare := &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}
	b.Cleanup(bare.CloseIdleConnections)
	for name, transport := range map[string]http.RoundTripper{"bare": bare, "guarded": guarded.Relay().Transport} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL, nil)
					resp, err := transport.RoundTrip(req)
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		})
	}
}
