package runtime

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
)

// BenchmarkInvoke is a warm call through the door and, for comparison, through a
// bare reverse proxy before the same sort of agent. Client, door and agent share
// this process; bench has the numbers that count.
func BenchmarkInvoke(b *testing.B) {
	answering := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"answer":"four"}`)
	}
	client := &http.Transport{MaxIdleConnsPerHost: 64}
	run := func(b *testing.B, request func() *http.Request) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				response, err := client.RoundTrip(request())
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != 200 {
					b.Error(response.Status)
					return
				}
			}
		})
	}
	const body = `{"prompt":"How much is 2X2?"}`
	b.Run("door", func(b *testing.B) {
		h := serving(b, answering)
		made := h.create(b, "bench", nil)
		session := api.NewUUID()
		run(b, func() *http.Request {
			return h.sign(b, h.request(b, "POST", invocationsPath(made.AgentRuntimeArn), body, headerSession, session), body)
		})
	})
	b.Run("proxy", func(b *testing.B) {
		h := serving(b, answering)
		agent := httptest.NewServer(http.HandlerFunc(answering))
		b.Cleanup(agent.Close)
		to, _ := url.Parse(agent.URL)
		proxy := httputil.NewSingleHostReverseProxy(to)
		proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
		h.door.Config.Handler = proxy
		run(b, func() *http.Request { return h.sign(b, h.request(b, "POST", "/", body), body) })
	})
}
