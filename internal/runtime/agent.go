package runtime

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
)

// maxHeaders is how many bytes the headers of an agent's answer may have.
const maxHeaders = 256 << 10

// transport reaches the session's agent, and nothing else.
func (n *session) transport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := n.process.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return &hearing{Conn: conn}, nil
		},
		MaxIdleConnsPerHost:    128,             // as many calls at once keep their connections
		IdleConnTimeout:        3 * time.Second, // before the agent does: the servers of Python and Node close after five
		DisableCompression:     true,            // bytes are passed on as they are
		MaxResponseHeaderBytes: maxHeaders,
		ResponseHeaderTimeout:  callLimit,
	}
}

// hearing is a connection that goes on being read when nothing more can be written
// to it. An agent may answer and close before it has read a call to its end: one
// whose body is too long for it does. Its answer is there then, but http.Transport
// gives up at the failed write, unless it has read the answer by chance before.
//
// Writes come from one goroutine, the transport's.
type hearing struct {
	net.Conn
	deaf error // why the agent takes no more of the call
}

// Write drops what the agent does not want. The beginning of another call is not
// dropped: a connection that is found closed there is given up for a new one.
func (c *hearing) Write(p []byte) (int, error) {
	begins := bytes.HasPrefix(p, []byte("POST /")) || bytes.HasPrefix(p, []byte("GET /"))
	if c.deaf != nil && begins {
		return 0, c.deaf
	}
	if c.deaf != nil {
		return len(p), nil
	}
	count, err := c.Conn.Write(p)
	if !begins && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
		c.deaf = err
		return len(p), nil
	}
	return count, err
}

// hostOf is what agents are called by: servers that keep DNS rebinding out take
// localhost for what it is, and refuse other names.
func hostOf(settings *api.UpdateAgentRuntimeRequest) string {
	_, port, _ := protocol(settings)
	return "localhost:" + strconv.Itoa(port)
}
