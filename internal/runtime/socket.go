package runtime

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
)

const (
	maxFrame   = 64 << 10 // bytes of one frame, as AWS has it
	farewell   = 5 * time.Second
	tokenInURL = "base64UrlBearerAuthorization" // the subprotocol under which browsers send a token: they cannot set headers
	maxInURL   = 4096                           // characters of such a token
)

const headerProtocols = "Sec-Websocket-Protocol"

// browserToken takes a bearer token out of the subprotocols that a page offers,
// and puts it where tokens belong. The agent sees neither. It reports whether there was one.
func browserToken(r *http.Request) bool {
	var others []string
	token, found := "", false
	for _, line := range r.Header[headerProtocols] {
		for offered := range strings.SplitSeq(line, ",") {
			offered = strings.TrimSpace(offered)
			encoded, is := strings.CutPrefix(offered, tokenInURL+".")
			found = found || is || offered == tokenInURL
			switch {
			case is && token == "" && len(encoded) <= maxInURL:
				if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "=")); err == nil {
					token = string(raw)
				}
			case is, offered == tokenInURL, offered == "":
			default:
				others = append(others, offered)
			}
		}
	}
	if !found {
		return false
	}
	r.Header.Del(headerProtocols)
	if len(others) > 0 {
		r.Header.Set(headerProtocols, strings.Join(others, ", "))
	}
	if token != "" && len(r.Header["Authorization"]) == 0 {
		r.Header["Authorization"] = []string{"Bearer " + token}
	}
	return true
}

// adopt takes what a URL says in place of headers, which browsers cannot set: the
// session, the user, and headers of the allow-list. A URL that is signed says so for good.
func adopt(r *http.Request) (rest url.Values) {
	rest = r.URL.Query()
	const ours, custom = "X-Amzn-Bedrock-Agentcore-Runtime-", "X-Amzn-Bedrock-Agentcore-Runtime-Custom-"
	for name, values := range rest {
		header := http.CanonicalHeaderKey(name)
		switch {
		case header == headerSession || header == headerUser || strings.HasPrefix(header, custom):
			if len(r.Header[header]) == 0 {
				r.Header[header] = values
			}
			delete(rest, name)
		case strings.HasPrefix(header, "X-Amz-") || strings.HasPrefix(header, ours) || name == "qualifier" || name == "accountId":
			delete(rest, name)
		}
	}
	return rest
}

// authenticateSocket finds out who opens a websocket: by signed headers, by a
// signed URL, which this door alone takes, or by a token.
func (s *Service) authenticateSocket(c *call) (err error) {
	if z := c.at.authorizer; z != nil {
		c.caller, err = s.gate.Bearer(c.r.Context(), c.r, c.at.runtime.account, c.at.arn, *z)
		return err
	}
	c.caller, err = s.gate.Upgrade(c.r)
	return err
}

// socket opens a websocket to the session's agent and passes frames on, both ways,
// as they are.
func (s *Service) socket(ctx context.Context, c *call) error {
	if !upgrades(c.r.Header) || c.r.ProtoMajor != 1 {
		return fault.InvalidField("upgrade", "This path opens a websocket: HTTP/1.1, Connection: Upgrade, Upgrade: websocket, Sec-WebSocket-Version: 13.")
	}
	if c.at.speaks != api.ServerProtocolHttp && c.at.speaks != api.ServerProtocolAgui {
		return fault.InvalidField("agentRuntimeArn", "Agents of %s have no websocket.", c.at.speaks)
	}
	n, header, release, err := s.enter(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	s.work.Add(1) // the session's own life is among that work, so nobody waits for nothing yet
	c.counted = true
	ctx, cancel := n.during(ctx, longestRun)
	defer cancel()
	agent, answer, err := n.upgrade(ctx, c, header)
	if err != nil {
		return err
	}
	defer agent.Close()
	client, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return fault.Wrap(err, "taking a connection over")
	}
	defer client.Close()
	c.begun = true
	if err := c.switched(client, answer.Header); err != nil {
		return left(ctx)
	}
	why := splice(ctx, client, buffered.Reader, agent.Conn, agent.reader)
	gate.Detail(ctx, "outcome", why)
	return nil
}

// agentSocket is the agent's side, with what was read beyond its answer.
type agentSocket struct {
	net.Conn
	reader *bufio.Reader
}

// upgrade opens the agent's side. The key is the client's, so that the agent's
// answer is good for it as it is.
func (n *session) upgrade(ctx context.Context, c *call, header http.Header) (agentSocket, *http.Response, error) {
	conn, err := n.process.Dial(ctx)
	if err != nil {
		return agentSocket{}, nil, n.broken(ctx, err)
	}
	for _, name := range []string{"Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions", headerProtocols} {
		if values := c.r.Header[name]; len(values) > 0 {
			header[name] = values
		}
	}
	header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	delete(header, headerType)
	request := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: pathSocket, RawQuery: c.query.Encode()}, Host: n.host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer release()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	head := &io.LimitedReader{R: conn, N: maxHeaders} // http.ReadResponse has no bound of its own
	reader := bufio.NewReaderSize(head, 8<<10)
	if err = request.Write(conn); err == nil {
		var response *http.Response
		if response, err = http.ReadResponse(reader, request); err == nil {
			head.N = math.MaxInt64
			if response.StatusCode == http.StatusSwitchingProtocols {
				_ = conn.SetDeadline(time.Time{})
				return agentSocket{conn, reader}, response, nil
			}
			err := n.refusal(ctx, response)
			_ = conn.Close()
			return agentSocket{}, nil, err
		}
	}
	_ = conn.Close()
	return agentSocket{}, nil, n.broken(ctx, err)
}

// switched sends the answer that makes a websocket of the connection.
func (c *call) switched(client net.Conn, from http.Header) error {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%s: %s\r\n", headerSession, c.session)
	for _, name := range []string{"Sec-Websocket-Accept", "Sec-Websocket-Extensions", headerProtocols} {
		if value := from.Get(name); value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	if c.browser && from.Get(headerProtocols) == "" {
		fmt.Fprintf(&b, "%s: %s\r\n", headerProtocols, tokenInURL) // browsers want one of those that they offered
	}
	if id := c.w.Header().Get("X-Amzn-Requestid"); id != "" {
		fmt.Fprintf(&b, "X-Amzn-RequestId: %s\r\n", id)
	}
	b.WriteString("\r\n")
	_ = client.SetWriteDeadline(time.Now().Add(time.Minute))
	_, err := io.WriteString(client, b.String())
	_ = client.SetWriteDeadline(time.Time{})
	return err
}

// upgrades reports whether a request asks for a websocket.
func upgrades(header http.Header) bool {
	has := func(name, word string) bool {
		for _, line := range header[name] {
			for part := range strings.SplitSeq(line, ",") {
				if strings.EqualFold(strings.TrimSpace(part), word) {
					return true
				}
			}
		}
		return false
	}
	return has("Connection", "upgrade") && has("Upgrade", "websocket") && has("Sec-Websocket-Version", "13") && header.Get("Sec-Websocket-Key") != ""
}

// direction is one way of a websocket.
type direction struct {
	from   *bufio.Reader
	to     net.Conn
	closed bool // a close frame was passed on
	inside bool // it ended in the midst of a frame
	err    error
}

var errFrame = errors.New("runtime: a frame is longer than frames may be")

// splice passes frames on until either side has done, or ctx ends, and says how
// it ended. When it returns, both directions have.
func splice(ctx context.Context, client net.Conn, fromClient *bufio.Reader, agent net.Conn, fromAgent *bufio.Reader) string {
	in, out := &direction{from: fromClient, to: agent}, &direction{from: fromAgent, to: client}
	until := func(at time.Time) {
		_ = client.SetDeadline(at)
		_ = agent.SetDeadline(at)
	}
	past := time.Unix(1, 0)
	defer context.AfterFunc(ctx, func() { until(past) })()
	var both sync.WaitGroup
	for _, d := range []*direction{in, out} {
		both.Go(func() {
			if err := fault.Contain("passing on frames", func() error { d.run(); return nil }); err != nil {
				slog.ErrorContext(ctx, "a websocket's frames are not passed on any more", "error", err)
				d.err = err
			}
			d.ended(until)
		})
	}
	both.Wait()

	why, code := "closed", uint16(0)
	switch {
	case errors.Is(context.Cause(ctx), errOver):
		why, code = "time-limit", 1001
	case errors.Is(context.Cause(ctx), errStopped):
		why, code = "session-ended", 1001
	case errors.Is(in.err, errFrame), errors.Is(out.err, errFrame):
		why, code = "frame-too-long", 1009
	case in.closed || out.closed:
	case out.err != nil && !errors.Is(out.err, os.ErrDeadlineExceeded):
		why, code = "agent-broke-off", 1011
	default:
		why, code = "caller-left", 1001
	}
	if code != 0 {
		until(time.Now().Add(time.Second))
		if !out.closed && !out.inside {
			_, _ = client.Write(binary.BigEndian.AppendUint16([]byte{0x88, 2}, code))
		}
		if !in.closed && !in.inside {
			// a client's frames are masked; with zeros, they are themselves
			_, _ = agent.Write(binary.BigEndian.AppendUint16([]byte{0x88, 0x82, 0, 0, 0, 0}, code))
		}
		// Who closes with unread bytes resets the connection, and the client may
		// lose the good-bye: what it is still sending is read away for a moment.
		if half, is := client.(interface{ CloseWrite() error }); is && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, fromClient, 1<<20)
		}
	}
	return why
}

// ended gives the other direction no time, or the time for its own farewell.
func (d *direction) ended(until func(time.Time)) {
	if d.closed {
		until(time.Now().Add(farewell))
		return
	}
	until(time.Unix(1, 0))
}

// run passes frames on. What they say is not looked at: their lengths are, and
// whether one of them is the last.
func (d *direction) run() {
	to := bufio.NewWriterSize(d.to, 8<<10)
	for {
		d.inside = false
		if d.from.Buffered() == 0 {
			if d.err = to.Flush(); d.err != nil || d.closed {
				return
			}
		}
		header, left, err := frameHeader(d.from)
		if err != nil {
			d.err = errors.Join(err, to.Flush())
			return
		}
		d.inside = true
		if _, d.err = to.Write(header); d.err != nil {
			return
		}
		for left > 0 {
			if d.from.Buffered() == 0 {
				if d.err = to.Flush(); d.err != nil {
					return
				}
				if _, d.err = d.from.Peek(1); d.err != nil {
					return
				}
			}
			piece, _ := d.from.Peek(min(left, d.from.Buffered()))
			if _, d.err = to.Write(piece); d.err != nil {
				return
			}
			_, _ = d.from.Discard(len(piece))
			left -= len(piece)
		}
		if header[0]&0x0f == 8 {
			d.closed, d.inside = true, false
			d.err = to.Flush()
			return
		}
	}
}

// frameHeader reads a frame's header, mask included, and the length of what follows.
func frameHeader(from *bufio.Reader) (header []byte, length int, err error) {
	first, err := from.Peek(2)
	if err != nil {
		return nil, 0, err
	}
	size := 2
	switch first[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if first[1]&0x80 != 0 {
		size += 4
	}
	peeked, err := from.Peek(size)
	if err != nil {
		return nil, 0, err
	}
	header = append(make([]byte, 0, 14), peeked...)
	long := uint64(header[1] & 0x7f)
	switch long {
	case 126:
		long = uint64(binary.BigEndian.Uint16(header[2:]))
	case 127:
		long = binary.BigEndian.Uint64(header[2:])
	}
	if long > maxFrame {
		return nil, 0, errFrame
	}
	_, _ = from.Discard(size)
	return header, int(long), nil
}
