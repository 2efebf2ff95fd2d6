package runtime

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
)

// transport reaches the session's agent, and nothing else.
func (n *session) transport() *http.Transport {
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return n.process.Dial(ctx) },
		MaxIdleConnsPerHost:    128,             // as many calls at once keep their connections
		IdleConnTimeout:        3 * time.Second, // before the agent does: the servers of Python and Node close after five
		DisableCompression:     true,            // bytes are passed on as they are
		MaxResponseHeaderBytes: 256 << 10,
		ResponseHeaderTimeout:  callLimit,
	}
}

// hostOf is what agents are called by: servers that keep DNS rebinding out take
// localhost for what it is, and refuse other names.
func hostOf(settings *api.UpdateAgentRuntimeRequest) string {
	_, port, _ := protocol(settings)
	return "localhost:" + strconv.Itoa(port)
}
