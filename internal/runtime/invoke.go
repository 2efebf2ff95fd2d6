package runtime

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const (
	maxPayload = 100 << 20        // bytes, as AWS has it
	callLimit  = 15 * time.Minute // until an agent begins to answer
	longestRun = time.Hour        // of an answer that streams
	told       = 4 << 10          // bytes of an agent's error that the caller is told
	wordsLimit = 5 * time.Second  // for these
)

// invoke hands one call to a session's agent, once, and its answer back as it
// comes. It runs inside the act: an error is one before the first byte of an answer.
func (s *Service) invoke(ctx context.Context, c *call) error {
	if c.at.speaks == api.ServerProtocolMcp {
		s.stick(c)
		gate.Detail(ctx, "session", c.session)
	}
	n, header, release, err := s.enter(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := n.during(ctx, longestRun)
	defer cancel()
	request := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: n.host, Path: n.path}, Host: n.host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(c.body), ContentLength: c.body.Size(),
	}
	if request.ContentLength == 0 {
		request.Body = http.NoBody
	}
	request.GetBody = func() (io.ReadCloser, error) { // for a kept connection that the agent has closed: nothing was written to it
		_, err := c.body.Seek(0, io.SeekStart)
		return io.NopCloser(c.body), err
	}
	response, err := n.agent.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return n.broken(ctx, err)
	}
	defer response.Body.Close()
	gate.Detail(ctx, "status", strconv.Itoa(response.StatusCode))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return n.refusal(ctx, response)
	}
	s.answerHeaders(c, response)
	c.begun = true
	c.w.WriteHeader(response.StatusCode)
	return s.relay(ctx, c, n, response)
}

// enter finds or begins the call's session and counts the call in. The intent is
// durable before anything is begun or the agent hears of the call; where a token
// is to be made, that happens meanwhile.
func (s *Service) enter(ctx context.Context, c *call) (n *session, header http.Header, release func(), err error) {
	if c.at.version.status != api.AgentRuntimeStatusReady {
		return nil, nil, nil, fault.New(fault.Conflict, "The agent runtime is %s: %s", c.at.version.status, c.at.version.failure)
	}
	var token secret.Text
	var unkept error
	if c.caller.User.IsZero() {
		if unkept = s.intend(ctx, c); unkept == nil {
			header, token, err = s.outgoing(ctx, c)
		}
	} else {
		intended := make(chan error, 1)
		go func() { intended <- fault.Contain("recording an intent", func() error { return s.intend(ctx, c) }) }()
		header, token, err = s.outgoing(ctx, c)
		unkept = <-intended
	}
	switch {
	case unkept != nil:
		return nil, nil, nil, unkept
	case err != nil:
		return nil, nil, nil, err
	}
	if n, release, err = s.acquire(ctx, c.holder(), c.at, c.session); err != nil {
		return nil, nil, nil, err
	}
	if !token.Empty() {
		n.secrets.add(token.Reveal())
	}
	for _, presented := range header["Authorization"] { // where the runtime lets the user's own token through
		_, bearer, _ := strings.Cut(presented, " ")
		n.secrets.add(strings.TrimSpace(bearer))
	}
	return n, header, release, nil
}

func (s *Service) intend(ctx context.Context, c *call) error {
	return s.gate.Intent(ctx, c.caller, gate.Check{Action: c.op.action, Resource: c.at.arn},
		map[string]string{"session": c.session, "endpoint": c.at.endpoint, "version": c.at.number})
}

// outgoing are the headers toward the agent: what the caller may send, who asks,
// and for whom. Without a person there is no token: the agent is told of nobody
// whom it may act for.
func (s *Service) outgoing(ctx context.Context, c *call) (header http.Header, token secret.Text, err error) {
	if header, err = incoming(c.at.forwarded, c.r.Header); err != nil {
		return nil, token, err
	}
	header[headerSession] = []string{c.session}
	header[headerRequest] = []string{c.caller.Request.ID}
	if c.caller.User.IsZero() {
		return header, token, nil
	}
	// The token is the runtime's: it opens for the account whose agent it is, also
	// where the caller is of another one that the runtime's policy lets in.
	minted := c.caller
	minted.Account, minted.Workload = c.at.runtime.account, c.at.workload
	if token, err = s.identity.Mint(ctx, minted); err != nil {
		return nil, token, err
	}
	header[headerToken] = []string{token.Reveal()}
	header[headerOldToken] = header[headerToken]
	if c.at.callback != "" {
		header[headerCallback] = []string{c.at.callback}
	}
	return header, token, nil
}

// answerHeaders are those of an agent's answer that reach the caller.
func (s *Service) answerHeaders(c *call, response *http.Response) {
	header := c.w.Header()
	for _, name := range passedOut {
		if values := response.Header[name]; len(values) > 0 {
			header[name] = values
		}
	}
	if header[headerType] == nil && response.ContentLength != 0 {
		header[headerType] = []string{"application/octet-stream"} // else net/http guesses
	}
	if response.ContentLength >= 0 {
		header["Content-Length"] = []string{strconv.FormatInt(response.ContentLength, 10)}
	}
	header["X-Content-Type-Options"] = []string{"nosniff"}
	if c.at.speaks == api.ServerProtocolMcp {
		s.stuck(c, header)
	}
}

// The causes for which a call ends before its agent has done.
var (
	errOver    = errors.New("runtime: the call took longer than calls may")
	errStopped = errors.New("runtime: the session was ended")
)

// How long a broken connection may wait for the news of a crash: lateNews where
// nobody listens on the agent's port any more.
const (
	untilKnown = time.Second
	lateNews   = 15 * time.Second
)

// lastWords is how long an answer may go on whose agent has ended.
const lastWords = 2 * time.Second

// during is a context for a call of the session: it ends with the caller, with
// the session, or when the time is up.
func (n *session) during(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	over := time.AfterFunc(limit, func() { end(errOver) })
	detach := context.AfterFunc(n.until, func() {
		select {
		case <-n.process.Ended():
			// What an agent has written before it ended is on its way still.
			select {
			case <-time.After(lastWords):
			case <-ctx.Done():
			}
		default:
		}
		end(errStopped)
	})
	return ctx, func() {
		detach()
		over.Stop()
		end(nil)
	}
}

// broken says why an agent did not answer. A crash breaks the connection a moment
// before it is known for one, and is the better answer.
func (n *session) broken(ctx context.Context, err error) error {
	known := time.NewTimer(untilKnown)
	defer known.Stop()
	crashed := false
	select {
	case <-n.process.Ended():
		crashed = true
	case <-ctx.Done():
	case <-known.C:
		crashed = n.dies(ctx)
	}
	if crashed {
		return fault.New(fault.RuntimeClient, "The agent ended during the call. %s", n.process.End()).Because(printed(n.log.tail()))
	}
	var late interface{ Timeout() bool }
	switch cause := context.Cause(ctx); {
	case cause == errStopped:
		return fault.New(fault.RuntimeClient, "The session was ended during the call: %s", n.stopped()).Because(printed(n.log.tail()))
	case cause == errOver, cause == nil && errors.As(err, &late) && late.Timeout():
		return fault.New(fault.RuntimeClient, "The agent did not begin to answer within %d minutes.", int(callLimit.Minutes())).Because(printed(n.log.tail()))
	case cause != nil:
		return fault.New(fault.Unavailable, "The request was cancelled.").Because(cause)
	}
	return fault.New(fault.RuntimeClient, "The agent did not answer.").Because(errors.Join(printed(n.log.tail()), err))
}

// dies waits until an agent has ended that broke a call off, and reports whether it
// has. One that nobody finds at its port any more is ending, which a busy machine may
// take seconds for.
func (n *session) dies(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lateNews)
	defer cancel()
	for {
		conn, err := n.process.Dial(ctx)
		if err == nil {
			_ = conn.Close()
			return false
		}
		again := time.NewTimer(untilKnown)
		select {
		case <-n.process.Ended():
			again.Stop()
			return true
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return false
		}
	}
}

// refusal is an agent's own error, in its words. What it says may hold what the
// session was handed; that is taken out. Its words are waited for only so long: the
// answer is an error already.
//
// An agent that says nothing there, as the published TypeScript server to callers who
// take events, has said it in its log at best: that is waited for.
func (n *session) refusal(ctx context.Context, response *http.Response) error {
	enough := time.AfterFunc(wordsLimit, func() { _ = response.Body.Close() })
	defer enough.Stop()
	body, _ := io.ReadAll(io.LimitReader(response.Body, told))
	text := strings.TrimSpace(strings.ToValidUTF8(n.secrets.hide(string(body)), ""))
	if text == "" {
		n.log.calm(ctx)
		text = "It said nothing more; its logs may (GetAgentRuntimeLogs)."
	}
	return fault.New(fault.RuntimeClient, "Received error (%d) from runtime. %s", response.StatusCode, text).Because(printed(n.log.tail()))
}
