package runtime

import (
	"context"
	"net"
	"net/http"
	"time"
)

// transport reaches the session's agent, and nothing else.
func (n *session) transport() *http.Transport {
	return &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return n.process.Dial(ctx) },
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true, // bytes are passed on as they are
		ResponseHeaderTimeout: callLimit,
	}
}
